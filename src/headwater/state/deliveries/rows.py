"""Small pieces of statements: transactions, locks, and lists of ids."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, Final, Literal, TypeAlias, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Delete, Insert, Table, bindparam, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from headwater.state.deliveries.tables import delivery_locks

StoredRow: TypeAlias = Any
"""A row of a query, with its columns as attributes."""
Lock = Literal["append", "finish", "count"]
"""A caller that takes several locks takes them in this order."""
_IDS_PER_QUERY: Final = 500
_Value = TypeVar("_Value")


def with_ids(column: "Column[Any]") -> ColumnElement[bool]:
    """Return the condition that a column has one of the values of the parameter `ids`.

    Statements of every batch are made once, with parameters: making one takes longer than SQLite's work.
    """
    return column.in_(bindparam("ids", expanding=True))


_LOCK: Final = select(delivery_locks.c.epoch).where(delivery_locks.c.name == bindparam("name")).with_for_update()


def begin(connection: Connection) -> None:
    """Begin a transaction that writes."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # else a statement that reads first could find the file locked


def lock(connection: Connection, name: Lock) -> int:
    """Exclude other transactions that take this lock; return its epoch.

    A lock on a row leaves no version of it behind, as an update would on PostgreSQL.
    """
    return int(connection.execute(_LOCK, {"name": name}).scalar_one())


def in_steps(values: Iterable[_Value]) -> Iterator[list[_Value]]:
    """Yield the values in lists that a statement can have as parameters."""
    left = iter(values)
    while some := list(islice(left, _IDS_PER_QUERY)):
        yield some


@cache
def _insert(table: Table) -> Insert:
    return insert(table)


@cache
def _delete(column: "Column[Any]") -> Delete:
    return delete(column.table).where(with_ids(column))


def insert_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows."""
    if rows:
        connection.execute(_insert(table), rows)


def upsert_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, or replace those with the same primary key."""
    if not rows:
        return
    statement: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
    key = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


def delete_ids(connection: Connection, column: "Column[Any]", ids: Iterable[Any]) -> None:
    """Delete the rows with these values in a column that an index begins with."""
    for some in in_steps(ids):
        connection.execute(_delete(column), {"ids": some})
