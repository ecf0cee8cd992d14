"""Many rows at once, as each database takes them best.

SQLite runs one prepared statement for each row. PostgreSQL gets one statement with an array for each column, which
saves it a message a row, and is not bound by the 32,767 parameters that a statement may have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Column, ColumnElement, Select, Table, bindparam, exists, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

Row = Mapping[str, Any]
Value = TypeVar("Value")

_KEYS_PER_QUERY: Final = 200


async def insert(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that have all the same columns."""
    if rows:
        await _run(connection, _insert(connection, table), table, rows)


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert the rows that break no unique constraint; of rows that exclude each other, the first."""
    if rows:
        await _run(connection, _insert(connection, table).on_conflict_do_nothing(), table, rows)


async def upsert(connection: AsyncConnection, table: Table, rows: Sequence[Row], *, key: Sequence[str]) -> None:
    """Insert rows, or overwrite what is there under their `key`. No two of them have the same."""
    if rows:
        new = _insert(connection, table)
        changed = {name: new.excluded[name] for name in rows[0] if name not in key}
        await _run(connection, new.on_conflict_do_update(index_elements=key, set_=changed), table, rows)


def among(
    connection: AsyncConnection, columns: Sequence[Column[Any]], keys: Iterable[tuple[Any, ...]]
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


def _insert(connection: AsyncConnection, table: Table) -> Any:
    """An insert that understands ON CONFLICT, which both databases spell the same and SQLAlchemy does not."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


async def _run(connection: AsyncConnection, statement: Any, table: Table, rows: Sequence[Row]) -> None:
    if connection.dialect.name == "postgresql":
        columns = [table.c[name] for name in rows[0]]
        source = _arrays(columns, [tuple(row.values()) for row in rows])
        await connection.execute(statement.from_select(list(rows[0]), source))
    else:
        await connection.execute(statement, rows)


def _arrays(columns: Sequence[Column[Any]], rows: Sequence[tuple[Any, ...]]) -> Select[Any]:
    """The rows as a SELECT from arrays, one for each column."""
    arrays = [
        bindparam(None, list(values), type_=ARRAY(column.type), unique=True)
        for column, values in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    names = [column.name for column in columns]
    unnested = func.unnest(*arrays).table_valued(*names).render_derived()
    return select(*(unnested.c[name] for name in names))
