"""Reads and writes many rows with few calls, in the way that suits each database.

SQLite searches many keys with one statement, and writes many rows with one prepared statement, in half the time of a
statement for each row. The numbers of rows are fixed, because a statement is compiled once for each of them. While a
statement executes, other threads of Python do.
PostgreSQL gets one statement with an array for each column, which saves a message per row, and is not limited to the
32,767 parameters of a statement. The arrays are texts: the driver takes half a microsecond for each element of a list.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Boolean, Column, Connection, Dialect, Integer, String, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from headwater.storage.statements import copy, fetch, run, run_each

Columns = Sequence[Column[Any]]
Rows = Sequence[tuple[Any, ...]]
"""Values in the order of the columns, as the driver accepts them."""
Value = TypeVar("Value")

_KEYS_PER_QUERY: Final = 1_000
_ROWS_PER_INSERT: Final = 50
"""Number of rows of a statement of SQLite for some rows."""
_MAX_ROWS_PER_INSERT: Final = 2_000
"""Maximum number of rows of a statement of SQLite for many rows: other threads execute during a statement. With more
rows its parameters do not fit in the processor's cache, and a row takes up to a quarter longer."""
_MIN_MANY_ROWS: Final = 1_000
_MIN_COPIED_ROWS: Final = 500
"""Minimum number of rows that are inserted with COPY on PostgreSQL."""
_MAX_PARAMETERS: Final = 32_000
_HIGHEST: Final = 2**63 - 1
_encode: Final = msgspec.json.Encoder().encode
_POSTGRESQL: Final[Dialect] = postgresql.dialect()  # type: ignore[no-untyped-call]


class Insert(Struct, frozen=True, cache_hash=True):
    """An insert into the table of the columns; with a `key`, as `upsert` does it."""

    columns: tuple[Column[Any], ...]
    key: tuple[str, ...] = ()
    adding: frozenset[str] = frozenset()
    keeping: frozenset[str] = frozenset()

    def text(self, values: str, *, fails_in_part: bool = False) -> str:
        """Return the statement with these values, which both databases accept.

        With `fails_in_part` it is one of SQLite which, without a key, keeps the rows before one that violates a
        constraint, until the transaction is rolled back. So SQLite need not copy each page that it changes.
        """
        table, names = self.columns[0].table.name, [column.name for column in self.columns]
        if not self.key:
            verb = "INSERT OR FAIL" if fails_in_part else "INSERT"
            return f"{verb} INTO {table} ({', '.join(names)}) {values}"
        statement = f"INSERT INTO {table} ({', '.join(names)}) {values}"
        changed = ", ".join(
            f"{name} = {table}.{name} + excluded.{name}" if name in self.adding else f"{name} = excluded.{name}"
            for name in names
            if name not in self.key and name not in self.keeping
        )
        action = f"UPDATE SET {changed}" if changed else "NOTHING"
        return f"{statement} ON CONFLICT ({', '.join(self.key)}) DO {action}"


def insert(connection: Connection, columns: Columns, rows: Rows) -> None:
    """Insert rows into the table of the columns. If it raises an error, the transaction or its savepoint must be rolled
    back: SQLite may keep some of the rows."""
    if rows:
        _run(connection, Insert(tuple(columns)), rows)


def upsert(
    connection: Connection,
    columns: Columns,
    rows: Rows,
    *,
    key: Collection[str],
    adding: Collection[str] = (),
    keeping: Collection[str] = (),
) -> None:
    """Insert rows, or update those with the same `key`. No two of the given rows have the same key.

    Columns in `adding` are added to the stored value, and columns in `keeping` keep it.
    """
    if rows:
        _run(connection, Insert(tuple(columns), tuple(key), frozenset(adding), frozenset(keeping)), rows)


def insert_all(connection: Connection, inserts: Sequence[tuple[Insert, Rows]]) -> None:
    """Insert rows into different tables, with one statement on PostgreSQL."""
    some = [(insert, rows) for insert, rows in inserts if rows]
    if connection.dialect.name != "postgresql":
        for insert, rows in some:
            _run(connection, insert, rows)
    elif some:
        values = [value for insert, rows in some for value in postgresql_values(insert.columns, rows)]
        run(connection, _postgresql_text(*(insert for insert, _ in some)), tuple(values))


def upsert_and_fetch(
    connection: Connection, columns: Columns, rows: Rows, *, key: Collection[str], returning: Columns
) -> list[Any]:
    """Upsert rows on PostgreSQL as `upsert` does. Return these columns of each, in any order."""
    insert, names = _postgresql_text(Insert(tuple(columns), tuple(key))), ", ".join(each.name for each in returning)
    return fetch(connection, f"{insert} RETURNING {names}", postgresql_values(columns, rows))


def lookup(connection: Connection, columns: Columns, key: Columns, keys: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return the `columns` of the rows whose `key` columns have one of these values. An index must begin with them.

    SQLite returns booleans as 0 and 1.
    """
    found: list[Any] = []
    for text, parameters in _joined(connection, [column.name for column in columns], key, keys):
        found += fetch(connection, text, parameters)
    return found


def lookup_first(
    connection: Connection,
    columns: Columns,
    key: Columns,
    keys: Iterable[tuple[Any, ...]],
    *,
    order: Column[int],
    limit: int | None,
) -> list[Any]:
    """Return rows as `lookup` does, of each key at most `limit`: those with the smallest `order`, in any order.

    An index must begin with the key and continue with `order`, whose values are distinct for one key. None is no limit.
    """
    found: list[Any] = []
    names = [column.name for column in columns]
    for text, parameters in _joined(connection, names, key, keys, order=order.name, limit=limit):
        found += fetch(connection, text, parameters)
    return found


def remove(connection: Connection, key: Columns, keys: Iterable[tuple[Any, ...]]) -> int:
    """Delete the rows whose `key` columns have one of these values. An index must begin with them. Return their
    number."""
    removed = 0
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite and not _has_rowid(key[0]):
        everything = list(keys)
        if everything:
            same = " AND ".join(f"{column.name} = ?" for column in key)
            removed = run_each(connection, f"DELETE FROM {key[0].table.name} WHERE {same}", everything)
        return removed
    row = "rowid" if is_sqlite else "ctid"
    for text, parameters in _joined(connection, [row], key, keys):
        chosen = f"IN ({text})" if is_sqlite else f"= ANY (ARRAY({text}))"
        delete = f"DELETE FROM {key[0].table.name} WHERE {row} {chosen}"
        removed += run(connection, delete, parameters)
    return removed


def take(connection: Connection, columns: Columns, key: Columns, keys: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Delete the rows whose `key` columns have one of these values, and return their `columns`. An index must begin
    with the key. In SQLite the table must have row ids."""
    taken: list[Any] = []
    is_sqlite = connection.dialect.name == "sqlite"
    row = "rowid" if is_sqlite else "ctid"
    names = ", ".join(column.name for column in columns)
    for text, parameters in _joined(connection, [row], key, keys):
        chosen = f"IN ({text})" if is_sqlite else f"= ANY (ARRAY({text}))"
        delete = f"DELETE FROM {key[0].table.name} WHERE {row} {chosen} RETURNING {names}"
        taken += fetch(connection, delete, parameters)
    return taken


def distinct(connection: Connection, column: Column[int]) -> set[int]:
    """Return the distinct values of a column that an index begins with, by one search of the index for each value.

    SELECT DISTINCT would read the whole index.
    """
    name, table = column.name, column.table.name
    query = (
        f"WITH RECURSIVE found(value) AS (SELECT min({name}) FROM {table} UNION ALL "
        f"SELECT (SELECT min({name}) FROM {table} WHERE {name} > found.value) FROM found "
        "WHERE found.value IS NOT NULL) SELECT value FROM found WHERE value IS NOT NULL"
    )
    return {int(value) for (value,) in connection.exec_driver_sql(query)}


def remove_some(connection: Connection, column: Column[int], values: Sequence[int], *, limit: int) -> int:
    """Delete at most `limit` rows with one of these values in a column that an index begins with. Return their
    number."""
    is_sqlite = connection.dialect.name == "sqlite"
    row, table = "rowid" if is_sqlite else "ctid", column.table.name
    if is_sqlite and not _has_rowid(column):
        return _remove_keys(connection, column, values, limit)
    removed = 0
    for value in values:
        chosen = f"SELECT {row} FROM {table} WHERE {column.name} = {int(value)} LIMIT {limit - removed}"
        condition = f"IN ({chosen})" if is_sqlite else f"= ANY (ARRAY({chosen}))"
        text = f"DELETE FROM {table} WHERE {row} {condition}"
        removed += run(connection, text)
        if removed >= limit:
            break
    return removed


def _remove_keys(connection: Connection, column: Column[int], values: Sequence[int], limit: int) -> int:
    """Delete rows as `remove_some` does, in a table without row ids, by their primary keys."""
    key = list(column.table.primary_key.columns)
    removed = 0
    for value in values:
        chosen = connection.execute(select(*key).where(column == value).limit(limit - removed))
        removed += remove(connection, key, [tuple(row) for row in chosen])
        if removed >= limit:
            break
    return removed


def _has_rowid(column: Column[Any]) -> bool:
    return bool(column.table.dialect_options["sqlite"]["with_rowid"])


def chunks(values: Iterable[Value], size: int) -> Iterator[list[Value]]:
    """Yield the values in lists of at most `size`."""
    everything = list(values)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


def _joined(
    connection: Connection,
    names: Sequence[str],
    key: Columns,
    keys: Iterable[tuple[Any, ...]],
    *,
    order: str = "",
    limit: int | None = None,
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield statements with their parameters that select columns of the rows with these keys.

    Each fixes the order of the join to one search of the index per key, independent of the statistics and the version
    of the database. A row-value IN scans the whole table on SQLite before 3.41, and on PostgreSQL with many keys. In
    SQLite CROSS JOIN keeps the order; in PostgreSQL OFFSET 0 keeps the inner query separate.
    """
    everything = list(keys)
    if not everything:
        return
    if connection.dialect.name == "postgresql":
        columns, table = ", ".join(f"t.{name}" for name in names), key[0].table.name
        values = postgresql_values(key, everything)
        arrays = postgresql_arrays(tuple(key))
        same = " AND ".join(f"t.{column.name} = w.c{number}" for number, column in enumerate(key, 1))
        wanted = ", ".join(f"c{number}" for number, _ in enumerate(key, 1))
        first = "OFFSET 0" if limit is None else f"ORDER BY t.{order} LIMIT {int(limit)}"
        yield (
            f"SELECT t.* FROM unnest({arrays}) AS w({wanted}) "
            f"CROSS JOIN LATERAL (SELECT {columns} FROM {table} t WHERE {same} {first}) t",
            values,
        )
        return
    for some in chunks(everything, _KEYS_PER_QUERY):
        yield _sqlite_lookup(tuple(names), tuple(key), len(some), order, limit), tuple(chain.from_iterable(some))


@lru_cache(maxsize=500)
def _sqlite_lookup(
    names: tuple[str, ...], key: tuple[Column[Any], ...], keys: int, order: str, limit: int | None
) -> str:
    """Return the statement of `_joined` for SQLite and that many keys."""
    columns, table = ", ".join(f"t.{name}" for name in names), key[0].table.name
    same = " AND ".join(f"t.{column.name} = w.column{number}" for number, column in enumerate(key, 1))
    if limit is not None:
        behind = f"SELECT t.{order} FROM {table} t WHERE {same} ORDER BY t.{order} LIMIT 1 OFFSET {int(limit)}"
        same += f" AND t.{order} < coalesce(({behind}), {_HIGHEST})"
    values = ", ".join([f"({', '.join('?' * len(key))})"] * keys)
    return f"SELECT {columns} FROM (VALUES {values}) w CROSS JOIN {table} t ON {same}"


def _run(connection: Connection, insert: Insert, rows: Rows) -> None:
    if connection.dialect.name == "postgresql":
        if insert.key or len(rows) < _MIN_COPIED_ROWS or not _copy(connection, insert, rows):
            run(connection, _postgresql_text(insert), postgresql_values(insert.columns, rows))
        return
    width, done = len(insert.columns), 0
    if len(rows) >= _MIN_MANY_ROWS and not insert.columns[0].nullable:
        size = min(_MAX_ROWS_PER_INSERT, _MAX_PARAMETERS // width)
        text = _sqlite_text(insert, size)
        while len(rows) - done >= _MIN_MANY_ROWS:
            some = rows[done : done + size]
            values = tuple(chain.from_iterable(some))
            if len(values) != width * len(some):  # padding would hide it
                raise ValueError(f"rows of {insert.columns[0].table.name} do not have {width} values each")
            run(connection, text, values + (None,) * (size * width - len(values)))
            done += size
    size = _ROWS_PER_INSERT
    if len(rows) - done >= size:
        together = len(rows) - (len(rows) - done) % size
        groups = (rows[start : start + size] for start in range(done, together, size))
        run_each(connection, _sqlite_text(insert, size), map(tuple, map(chain.from_iterable, groups)))
        done = together
    if done < len(rows):
        run_each(connection, _sqlite_text(insert, 1), rows[done:])


def _copy(connection: Connection, insert: Insert, rows: Rows) -> bool:
    """Insert rows with COPY. Return False if that is not possible."""
    return copy(connection, insert.columns[0].table.name, [column.name for column in insert.columns], rows)


@cache
def _sqlite_text(insert: Insert, rows: int) -> str:
    """Return the text of the statement for that many rows. The code has a dozen different inserts.

    More than `_ROWS_PER_INSERT` are a maximum: rows that begin with null are left out.
    """
    row = f"({', '.join('?' * len(insert.columns))})"
    values = f"VALUES {', '.join([row] * rows)}"
    if rows <= _ROWS_PER_INSERT:
        return insert.text(values)
    return insert.text(f"SELECT * FROM ({values}) WHERE column1 IS NOT NULL", fails_in_part=True)


@cache
def _postgresql_text(*inserts: Insert) -> str:
    """Return the text of one statement for an array of each column of each insert."""
    texts: list[str] = []
    first = 1
    for insert in inserts:
        texts.append(insert.text(f"SELECT * FROM unnest({postgresql_arrays(insert.columns, first)})"))
        first += len(insert.columns)
    *others, last = texts
    before = ", ".join(f"insert{number} AS ({text})" for number, text in enumerate(others))
    return f"WITH {before} {last}" if others else last


@cache
def postgresql_arrays(columns: tuple[Column[Any], ...], first: int = 1) -> str:
    """Return the arrays of values that `postgresql_values` returns, as expressions. `first` is the number of the first
    parameter."""
    arrays: list[str] = []
    for number, column in enumerate(columns, first):
        type_ = _plain(column.type).compile(dialect=_POSTGRESQL)
        if isinstance(column.type, Integer | Boolean):
            arrays.append(f"${number}::text::{type_}[]")
        elif isinstance(column.type, String):
            arrays.append(f"ARRAY(SELECT json_array_elements_text(${number}::text::json)::{type_})")
        else:
            arrays.append(f"${number}::{type_}[]")
    return ", ".join(arrays)


def postgresql_values(columns: Columns, rows: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the values of each column as a parameter: integers and booleans as an array's text, and texts as JSON."""
    parameters: list[Any] = []
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        if isinstance(column.type, Integer | Boolean):
            parameters.append("{" + _encode(values).decode()[1:-1] + "}")
        else:
            parameters.append(_encode(values).decode() if isinstance(column.type, String) else list(values))
    return tuple(parameters)


def _plain(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type without a collation, which the type of an array cannot have."""
    return String() if isinstance(type_, String) else type_
