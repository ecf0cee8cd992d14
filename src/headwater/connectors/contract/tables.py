"""Databases: `QuerySource` reads rows with a query, `TableSink` writes rows into a table.

Calls are synchronous, because database drivers stream better that way. They run in the process of a run or in a thread,
never on an event loop. Both are closed by their user.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

import msgspec

from headwater.base.errors import BadRequest
from headwater.connectors.contract.results import ItemResult
from headwater.schemas import Type, Value

MAX_COLUMNS: Final = 1_600
MAX_BATCH_ROWS: Final = 1_000

Row = tuple[Value, ...]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column. `type` is None for a type that is not supported; `issue` then explains this to users.

    If `read_optional` is set, a row may lack a value. `description` is the heading if `name` had to differ from it.
    """

    name: str
    type: Type | None
    nullable: bool = True
    writable: bool = True
    issue: str = ""
    read_optional: bool = False
    description: str = ""


class QueryRejected(BadRequest):
    """The database does not accept the query, the query writes, or it returns two columns of one name."""


class Rows(Protocol):
    """The result of a query: columns first, then rows, in batches of at most `MAX_BATCH_ROWS`."""

    @property
    def columns(self) -> tuple[Column, ...]: ...

    def batches(self) -> Iterator[list[Row]]:
        """Return the rows in batches that are not empty, in constant memory. Raises Unavailable."""
        ...


class QuerySource(Protocol):
    """A database that rows are read from."""

    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> AbstractContextManager[Rows]:
        """Run a query that only reads, with at most `limit` rows; None means all.

        `${name}` in the text stands for the parameter of that name, which is passed as a value and never as text.
        Leaving the context ends the query. Raises QueryRejected, also for an unknown or missing parameter; Unavailable.
        """
        ...

    def close(self) -> None: ...


class TableWrite(msgspec.Struct, frozen=True, kw_only=True):
    """The table, the columns in the order of the rows' values, and the columns that identify a row."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


class TableSink(Protocol):
    """A database that rows are written to."""

    def columns(self, table: str) -> tuple[Column, ...]:
        """Return the table's columns. Raises BadRequest if there is no such table, Unavailable."""
        ...

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        """Write at most `MAX_BATCH_ROWS` rows: insert, or update the row with the same key.

        Other columns keep their values. Either all rows are written or none, so the results are all delivered, or
        rejected for the rows at fault and not attempted for the others. Raises Unavailable.
        """
        ...

    def close(self) -> None: ...
