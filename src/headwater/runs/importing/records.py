"""The records of an import on their way from the source to the store, in batches."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from headwater.base.steps import ProcessingStep
from headwater.schemas import Schema
from headwater.state.imports import Imported

MAX_READ_ROWS: Final = 1_000
"""Maximum number of records that are read and mapped together."""
MAX_READ_BYTES: Final = 1 << 20
"""Size of their values from which no more are read."""
TRANSACTION_ROWS: Final = 4_000
"""Number of identities that one transaction stores: some 50 ms."""
MIN_BATCH_ROWS: Final = 4_000
"""Number of records from which a batch is passed on, if the store has time for it."""
MAX_BATCH_ROWS: Final = 32_000
"""Number of records from which a batch is full."""
MAX_BATCH_BYTES: Final = 8 << 20
"""Size of the attributes from which it is full."""


class Place(Struct, frozen=True, array_like=True):
    """A place in a source, at which a run continues. Each source uses what it needs."""

    version: str = ""
    """The version of the file. A file with another one is read from its start."""
    row: int = 0
    """The number of the last row that was read."""
    page: str = ""
    """The cursor of the next page of an application."""


START: Final = Place()


class FailedRecord(Struct, frozen=True):
    """A record that failed."""

    step: ProcessingStep
    message: str
    number: int | None = None
    id: str = ""
    path: str = ""


class RawRecord(Struct, frozen=True):
    """An application's user, as the mapper gets it."""

    id: str
    values: Any
    updated_at: int | None


class RawBatch(Struct):
    """Records as a source returns them, the place after them, and those that the source could not read."""

    place: Place
    rows: Sequence[Any]
    """Rows of values in the order of the columns, or `RawRecord` from applications."""
    numbers: Sequence[int] | None = None
    """The lines or numbers of the rows, from 1; None for users of applications."""
    failed: Sequence[FailedRecord] = ()
    bytes: int | None = None
    """Number of bytes of the file that have been read."""


class MappedBatch(Struct):
    """The identities of a batch, and everything that it counts."""

    place: Place
    users: dict[str, Imported]
    kept: set[str]
    """The ids of records that failed: their identities are not deleted."""
    failed: list[FailedRecord]
    passed: dict[ProcessingStep, int]
    filtered: int = 0
    rows: int = 0
    bytes: int | None = None
    cursor: int | None = None
    """The latest update time."""
    has_unidentified: bool = False
    """Whether a record without a usable id failed: it may be of any identity."""
    size: int = 0
    """Size of the attributes, in characters."""

    @property
    def is_ready(self) -> bool:
        """Whether the batch is worth a transaction."""
        return self.rows >= MIN_BATCH_ROWS

    @property
    def is_full(self) -> bool:
        """Whether the batch is stored before more records are added."""
        return self.rows >= MAX_BATCH_ROWS or self.size >= MAX_BATCH_BYTES

    def split(self) -> list[dict[str, Imported]]:
        """Return the identities of each transaction, in the order of their ids, at least one transaction.

        So each transaction writes only a part of the index by user id.
        """
        ordered = sorted(self.users.items())
        count = max(1, round(len(ordered) / TRANSACTION_ROWS))
        rows = max(1, -(-len(ordered) // count))
        return [dict(ordered[start : start + rows]) for start in range(0, len(ordered), rows)] or [{}]

    def add(self, later: "MappedBatch", *, skips_repeats: bool) -> None:
        """Add the records of a later batch. Of a repeated user the first one stays if `skips_repeats`, or else the last
        one."""
        self.place, self.bytes = later.place, later.bytes
        if skips_repeats:
            self.users = {**later.users, **self.users}
        else:
            self.users.update(later.users)
        self.kept |= later.kept
        self.failed += later.failed
        for step, count in later.passed.items():
            self.passed[step] = self.passed.get(step, 0) + count
        self.filtered += later.filtered
        self.rows += later.rows
        self.size += later.size
        if later.cursor is not None:
            self.cursor = later.cursor if self.cursor is None else max(self.cursor, later.cursor)
        self.has_unidentified = self.has_unidentified or later.has_unidentified


class Source(Protocol):
    """Reads the records of one run, in a thread."""

    @property
    def has_filter(self) -> bool:
        """Whether pipelines of this source count the step Filter."""
        ...

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns of the rows; None if they are `RawRecord`."""
        ...

    @property
    def skips_repeats(self) -> bool:
        """Whether a user that was read before is left out. Otherwise the last one is stored."""
        ...

    def open(self, stored: Schema, since: int | None) -> None:
        """Begin to read, and check that the stored schema is that of the source. Raises RunFailed."""
        ...

    def batches(self, since: int | None, place: Place) -> Iterator[RawBatch]:
        """Read the records from a place on. Those older than `since`, microseconds since the epoch, may be left out.

        Raises RunFailed.
        """
        ...

    def restarts(self, place: Place) -> bool:
        """Return whether reading cannot continue at the place, and starts at the beginning. Call it after `open`."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...
