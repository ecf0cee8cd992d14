"""Files: `FileStorage` has files by name, `FileFormat` reads and writes their content.

Calls are synchronous; they run in the process of a run or in a thread, never on an event loop.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Protocol

import msgspec

from headwater.base.errors import BadRequest, NotFound
from headwater.connectors.contract.tables import Column, Row


class InvalidFileName(BadRequest):
    """The name is not valid in this storage, or leads out of it."""


class FileMissing(NotFound):
    """The storage has no file of that name."""


class InvalidFile(BadRequest):
    """The content is not in the format. The message names the row, or the byte, at which reading ended."""


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """An open file.

    `stream` returns the content as the storage has it; `size` is in bytes, None if it is not known; `updated_at` is in
    UTC, None if it is not known. `version` differs between two contents of one name; empty if it is not known.
    """

    stream: BinaryIO
    size: int | None = None
    updated_at: datetime | None = None
    version: str = ""


class FileStorage(Protocol):
    """A storage of files."""

    def absolute_path(self, name: str) -> str:
        """Return the full path of the file, for display. Raises InvalidFileName."""
        ...

    def open(self, name: str) -> AbstractContextManager[StoredFile]:
        """Open a snapshot of a file for reading. Raises InvalidFileName, FileMissing, Unavailable."""
        ...

    def create(self, name: str, content_type: str) -> AbstractContextManager[BinaryIO]:
        """Write a file, replacing the one of that name.

        It appears, complete, when the context is left. If the context is left by an exception the storage is as before.
        Raises InvalidFileName, Unavailable.
        """
        ...


class RowRead(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a file. `number` is the line or the row of the file, from 1. With an `error`, a text for users, the
    row could not be read."""

    number: int
    values: Row = ()
    error: str = ""


class FileReader(Protocol):
    """An open table in a file."""

    @property
    def columns(self) -> tuple[Column, ...]: ...

    @property
    def total_rows(self) -> int | None:
        """The number of rows; None if it is not known before they are read."""
        ...

    def rows(self) -> Iterator[RowRead]:
        """Return the rows in their order, in constant memory. Raises InvalidFile when reading cannot continue."""
        ...


class RowWriter(Protocol):
    """Writes rows to a file."""

    def write(self, rows: Sequence[Row]) -> None: ...


class FileFormat(Protocol):
    """A format of files that have a table, or several if it has sheets."""

    @property
    def content_type(self) -> str:
        """The media type of written files."""
        ...

    @property
    def needs_seeking(self) -> bool:
        """Whether `read` and `sheets` need a stream that can seek; the caller then copies one that cannot."""
        ...

    def sheets(self, stream: BinaryIO) -> tuple[str, ...]:
        """Return the names of the sheets; empty if the format has none. Raises InvalidFile."""
        ...

    def read(self, stream: BinaryIO, sheet: str) -> AbstractContextManager[FileReader]:
        """Open the table; `sheet` is empty if the format has none. Raises InvalidFile, also without that sheet."""
        ...

    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> AbstractContextManager[RowWriter]:
        """Write a table. The content is complete when the context is left; the stream remains open."""
        ...
