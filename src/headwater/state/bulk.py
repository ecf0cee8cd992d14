"""Many rows at once, as each database takes them best.

SQLite gets as many rows as fit into a statement: it works on one without Python's lock, and takes the lock again after
it, for which it has to wait. PostgreSQL gets one statement with an array for each column, which saves it a message a
row, and is not bound by the 32,767 parameters that a statement may have.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

from sqlalchemy import Column, ColumnElement, Select, bindparam, exists, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

Columns = Sequence[Column[Any]]
Rows = Sequence[tuple[Any, ...]]
"""Values in the order of the columns, as the driver takes them."""
Value = TypeVar("Value")

_KEYS_PER_QUERY: Final = 200
_SQLITE_PARAMETERS: Final = 32_766


async def insert(connection: AsyncConnection, columns: Columns, rows: Rows) -> None:
    """Insert rows into the table of the columns."""
    if rows:
        await _run(connection, _insert(connection, columns), columns, rows)


async def upsert(
    connection: AsyncConnection,
    columns: Columns,
    rows: Rows,
    *,
    key: Collection[str],
    adding: Collection[str] = (),
    keeping: Collection[str] = (),
) -> None:
    """Insert rows, or overwrite what is there under their `key`; no two of them have the same.

    Values of `adding` are added to what is there, and what is there of `keeping` stays.
    """
    if rows:
        table = columns[0].table
        new = _insert(connection, columns)
        changed = {
            column.name: table.c[column.name] + new.excluded[column.name]
            if column.name in adding
            else new.excluded[column.name]
            for column in columns
            if column.name not in key and column.name not in keeping
        }
        statement = (
            new.on_conflict_do_update(index_elements=key, set_=changed) if changed else new.on_conflict_do_nothing()
        )
        await _run(connection, statement, columns, rows)


def among(
    connection: AsyncConnection, columns: Columns, keys: Iterable[tuple[Any, ...]]
) -> Iterator[ColumnElement[bool]]:
    """Conditions, to be used one after another, for the rows whose `columns` are one of `keys`."""
    everything = list(keys)
    if connection.dialect.name == "postgresql":
        if everything:
            wanted = _arrays(columns, everything).subquery("wanted")
            pairs = (column == wanted.c[column.name] for column in columns)
            yield exists(select(1).select_from(wanted).where(*pairs))
        return
    for some in chunks(everything, _KEYS_PER_QUERY):
        yield tuple_(*columns).in_(some)


def chunks(values: Iterable[Value], size: int) -> Iterator[list[Value]]:
    """The values in lists of at most `size`."""
    everything = list(values)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


def _insert(connection: AsyncConnection, columns: Columns) -> Any:
    """An insert that understands ON CONFLICT, which both databases spell the same and SQLAlchemy does not."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(columns[0].table)


async def _run(connection: AsyncConnection, statement: Any, columns: Columns, rows: Rows) -> None:
    names = [column.name for column in columns]
    if connection.dialect.name == "postgresql":
        await connection.execute(statement.from_select(names, _arrays(columns, rows)))
    else:
        # Past SQLAlchemy's conversion of each value of each row, which takes longer than SQLite's own work.
        compiled = statement.compile(dialect=connection.dialect, column_keys=names)
        assert compiled.positiontup == names, "the rows are in the order of the statement"
        one_row = f"({', '.join('?' * len(names))})"
        before, values, after = str(compiled).partition(f"VALUES {one_row}")
        assert values, "the statement has the values of one row"
        for some in chunks(rows, _SQLITE_PARAMETERS // len(names)):
            text = f"{before}VALUES {', '.join([one_row] * len(some))}{after}"
            await connection.exec_driver_sql(text, tuple(chain.from_iterable(some)))


def _arrays(columns: Columns, rows: Rows) -> Select[Any]:
    """The rows as a SELECT from arrays, one for each column."""
    arrays = [
        bindparam(None, list(values), type_=ARRAY(column.type), unique=True)
        for column, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    names = [column.name for column in columns]
    unnested = func.unnest(*arrays).table_valued(*names).render_derived()
    return select(*(unnested.c[name] for name in names))
