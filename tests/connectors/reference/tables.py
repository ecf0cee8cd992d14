"""A database in memory: the reference implementations of `QuerySource` and `TableSink` for their suites."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from headwater.base.errors import BadRequest
from headwater.connectors.contract import (
    DELIVERED,
    MAX_BATCH_ROWS,
    NOT_ATTEMPTED,
    Column,
    ItemResult,
    QueryRejected,
    Row,
    TableWrite,
    rejected,
)
from headwater.schemas import IntType, StringType, Type, Value

PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
TYPES: dict[str, Type] = {"INTEGER": IntType(64), "TEXT": StringType()}


def open_database(create: str) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute(create)
    return database


class SqliteRows:
    def __init__(self, cursor: sqlite3.Cursor, limit: int | None) -> None:
        self.columns = tuple(Column(name=each[0], type=StringType()) for each in cursor.description)
        self._cursor = cursor
        self._limit = limit

    def batches(self) -> Iterator[list[Row]]:
        left = self._limit
        while left is None or left > 0:
            batch = self._cursor.fetchmany(MAX_BATCH_ROWS if left is None else min(left, MAX_BATCH_ROWS))
            if not batch:
                return
            left = None if left is None else left - len(batch)
            yield batch


class SqliteSource:
    """Implements `QuerySource`."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.database = open_database("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
        self.database.executemany("INSERT INTO people VALUES (?, ?)", rows)
        self.database.execute("PRAGMA query_only = 1")

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator[SqliteRows]:
        cursor = self.database.cursor()
        try:
            yield self.run(cursor, text, parameters, limit)
        finally:
            cursor.close()

    def run(self, cursor: sqlite3.Cursor, text: str, parameters: Mapping[str, Value], limit: int | None) -> SqliteRows:
        used = {match[1] for match in PLACEHOLDER.finditer(text)}
        if unknown := used - set(parameters):
            raise QueryRejected(f"the query uses {', '.join(sorted(unknown))}, which does not exist")
        try:
            cursor.execute(PLACEHOLDER.sub(r":\1", text), {name: parameters[name] for name in used})
        except sqlite3.Error as error:
            raise QueryRejected(f"the database rejects the query: {error}") from error
        if cursor.description is None:
            raise QueryRejected("the query returns no rows")
        names = [each[0] for each in cursor.description]
        for name in names:
            if names.count(name) > 1:
                raise QueryRejected(f"column {name} occurs {names.count(name)} times")
        return SqliteRows(cursor, limit)

    def close(self) -> None:
        self.database.close()


class SqliteSink:
    """Implements `TableSink`."""

    def __init__(self) -> None:
        self.database = open_database(
            "CREATE TABLE people (id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, note TEXT)"
        )

    def columns(self, table: str) -> tuple[Column, ...]:
        found = self.database.execute('SELECT name, type, "notnull" FROM pragma_table_info(?)', (table,)).fetchall()
        if not found:
            raise BadRequest(f"table {table!r} does not exist")
        return tuple(Column(name=name, type=TYPES[type_], nullable=not notnull) for name, type_, notnull in found)

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        self.database.execute("BEGIN")
        for index, row in enumerate(rows):
            try:
                self.database.execute(self.statement(write), row)
            except sqlite3.IntegrityError as error:
                self.database.execute("ROLLBACK")
                results = [NOT_ATTEMPTED] * len(rows)
                results[index] = rejected("ConstraintViolated", str(error))
                return results
        self.database.execute("COMMIT")
        return [DELIVERED] * len(rows)

    def statement(self, write: TableWrite) -> str:
        others = [name for name in write.columns if name not in write.key]
        return (
            f"INSERT INTO {write.table} ({', '.join(write.columns)}) VALUES ({', '.join('?' * len(write.columns))}) "
            f"ON CONFLICT ({', '.join(write.key)}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in others)
        )

    def close(self) -> None:
        self.database.close()
