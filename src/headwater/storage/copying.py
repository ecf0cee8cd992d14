"""Copies the tables of SQLite files into the schemas of an empty PostgreSQL database, in a transaction of the caller.

Rows are read as SQLite stores them and written with COPY. Nothing is decoded but booleans and times, so that a row that
the present release cannot decode is copied, too.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeDecorator, TypeEngine

from headwater.base.errors import UnusableDatabase
from headwater.storage import postgresql
from headwater.storage.database import open_database

READ_ROWS: Final = 500
"""Number of rows that are read from a file together. The largest have some MB."""
COPY_SECONDS: Final = 7 * 24 * 3_600.0
"""Time limit of copying one table."""

Driver = Any
"""A connection of asyncpg."""
Count = Callable[[int], None]
"""Called with a number of further rows that were read."""

_INITIAL_ROWS: Final = {
    "catalog_version": "version = 0",
    "profile_version_counter": "last = 0",
    "delivery_locks": "epoch = 0",
    "delivery_appends": "chunk = 0 AND position = 0",
    "lane_counter": "last = 0",
    "event_loading": "position = 0 AND old_position IS NULL",
}
"""The tables that have rows in a new database, with the condition of these rows."""
_PLAIN: Final = (Integer, BigInteger, Float, String, LargeBinary)
"""Types whose values are the same in both drivers. Text and SmallInteger are subclasses."""


@dataclass(frozen=True, slots=True)
class SourceStore:
    """A store on SQLite: its file, the package of its revisions, and its tables."""

    path: Path
    migrations: str
    metadata: MetaData

    @property
    def schema(self) -> str:
        """The schema of the tables on PostgreSQL."""
        schema: str = import_module(self.migrations).SCHEMA
        return schema

    @property
    def tables(self) -> list[Table]:
        """The tables, each after those that its foreign keys refer to."""
        return self.metadata.sorted_tables

    @property
    def names(self) -> list[str]:
        """The names of the tables on PostgreSQL, with their schema."""
        return [f"{self.schema}.{table.name}" for table in self.tables]


def check_revision(store: SourceStore) -> None:
    """Raise UnusableDatabase if the tables of the file are not those of this release."""
    package = import_module(store.migrations)
    try:
        with closing(open_file(store.path)) as source:
            found = source.execute(f"SELECT version_num FROM {package.VERSION_TABLE}").fetchone()
    except sqlite3.Error as error:
        raise UnusableDatabase(f"{store.path} cannot be read: {error}") from error
    revision = "none" if found is None else str(found[0])
    if revision == package.HEAD:
        return
    is_later = found is not None and revision > package.HEAD
    remedy = "use that release" if is_later else "start `headwater serve` of this release on it once"
    release = "of a later release" if is_later else f"and this release needs {package.HEAD}"
    raise UnusableDatabase(f"{store.path} is at revision {revision}, {release}: {remedy}")


def open_file(path: Path) -> sqlite3.Connection:
    """Open an existing file. The caller begins transactions, and closes the connection."""
    if not path.is_file():
        raise UnusableDatabase(f"{path} is missing: start `headwater serve` of this release once, which creates it")
    return sqlite3.connect(path, isolation_level=None)


def count_rows(source: sqlite3.Connection, table: Table) -> int:
    """Return the number of rows of a table in a file."""
    return int(source.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0])


def read_rows(source: sqlite3.Connection, table: Table, count: Count) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table for `copy_table`. Raises TypeError for a column type that it does not know."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    converters = [(index, convert) for index, column in enumerate(table.columns) if (convert := _converter(column))]
    cursor = source.execute(f'SELECT {columns} FROM "{table.name}"')
    while rows := cursor.fetchmany(READ_ROWS):
        count(len(rows))
        if not converters:
            yield from rows
            continue
        for row in rows:
            values = list(row)
            for index, convert in converters:
                if values[index] is not None:
                    values[index] = convert(values[index])
            yield tuple(values)


def _converter(column: "Column[Any]") -> Callable[[Any], Any] | None:
    """Return the function that makes the value of asyncpg from that of SQLite; None if they are the same."""
    type_: TypeEngine[Any] = column.type
    if isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    if isinstance(type_, Boolean):
        return bool
    if isinstance(type_, DateTime):
        return _read_time
    if isinstance(type_, _PLAIN):
        return None
    raise TypeError(f"{column.table.name}.{column.name} has a type that cannot be copied: {type_!r}")


def _read_time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@asynccontextmanager
async def open_target(url: str) -> AsyncIterator[Driver]:
    """Yield a connection to a PostgreSQL database. Raises UnusableDatabase with the reason if it cannot be used, also
    if a statement of the block fails for that."""
    import asyncpg  # an installation on SQLite need not load it

    engine = postgresql.open_postgresql(url, postgresql.WAREHOUSE_SCHEMA)
    try:
        async with engine.connect() as connection:
            if reason := await postgresql.check_usable(connection):
                raise UnusableDatabase(f"the {postgresql.describe_url(url)} cannot be used: {reason}")
            await connection.rollback()
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            yield driver
    except (DBAPIError, OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if (reason := postgresql.explain(error, url)) is None:
            raise
        raise UnusableDatabase(f"the {postgresql.describe_url(url)} cannot be used: {reason}") from error
    finally:
        await engine.dispose()


async def migrate_target(url: str, migrations: str) -> None:
    """Create the tables of a store in the target. Raises UnusableDatabase."""
    async with open_database(url, migrations):
        pass


async def find_rows(driver: Driver, tables: Sequence[str]) -> str | None:
    """Return the first of these tables that exists and has a row other than those of a new database."""
    for table in tables:
        if await driver.fetchval("SELECT to_regclass($1)", table) is None:
            continue
        initial = _INITIAL_ROWS.get(table.rpartition(".")[2], "false")
        if await driver.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE NOT ({initial}))"):
            return table
    return None


async def lock_tables(driver: Driver, tables: Sequence[str]) -> None:
    """Lock tables for the caller's transaction, so that nothing else writes them, and let the transaction take as long
    as it needs. Raises UnusableDatabase if another process uses one of them for LOCK_TIMEOUT_SECONDS."""
    import asyncpg  # an installation on SQLite need not load it

    await driver.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
    names = ", ".join(f"ONLY {table}" for table in tables)
    try:
        await driver.execute(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
    except asyncpg.LockNotAvailableError as error:
        raise UnusableDatabase("another process uses the database: end it, and try again") from error


async def copy_table(driver: Driver, store: SourceStore, table: Table, source: sqlite3.Connection, count: Count) -> int:
    """Copy a table in the caller's transaction, and let its sequence continue after the ids. Return the number of rows.

    Rows of a new database are replaced. Raises UnusableDatabase if the target has another number of rows afterwards.
    """
    name, read = f"{store.schema}.{table.name}", 0

    def add(rows: int) -> None:
        nonlocal read
        read += rows
        count(rows)

    if table.name in _INITIAL_ROWS:
        await driver.execute(f"DELETE FROM {name}")
    await driver.copy_records_to_table(
        table.name,
        schema_name=store.schema,
        columns=[column.name for column in table.columns],
        records=read_rows(source, table, add),
        timeout=COPY_SECONDS,
    )
    await _set_sequence(driver, name, table, source)
    written = await driver.fetchval(f"SELECT count(*) FROM {name}", timeout=COPY_SECONDS)
    if written != read:
        raise UnusableDatabase(f"{name} has {written} rows, and {store.path.name} {read}: nothing was moved")
    return read


async def _set_sequence(driver: Driver, name: str, table: Table, source: sqlite3.Connection) -> None:
    """Let generated ids continue after the last one of the file, which may be deleted."""
    for column in table.primary_key.columns:
        sequence = await driver.fetchval("SELECT pg_get_serial_sequence($1, $2)", name, column.name)
        if sequence is None:
            continue
        (last,) = source.execute(f'SELECT max("{column.name}") FROM "{table.name}"').fetchone()
        if source.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
            used = source.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
            last = max(last or 0, used[0] if used else 0)
        if last:
            await driver.execute("SELECT setval($1::regclass, $2)", sequence, last)


async def analyze(driver: Driver, tables: Sequence[str]) -> None:
    """Collect the statistics with which PostgreSQL plans queries."""
    await driver.execute(f"ANALYZE {', '.join(tables)}", timeout=COPY_SECONDS)
