"""Runs statements as text, with positional parameters as the driver accepts them.

In a thread of SQLite they go to its driver: SQLAlchemy takes several times as long as a short statement itself. It sees
them only if something listens for statements.
"""

import sqlite3
import time
from collections.abc import Awaitable, Iterable
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

BUSY_TIMEOUT_SECONDS: Final = 5.0
"""Time limit of a SQLite writer that waits for another process's transaction."""
MAX_READ_SECONDS: Final = 900.0
"""Time limit of PostgreSQL for the next rows of a query that is read in parts, and for the time between two parts."""
_POLL_SECONDS: Final = 0.0005


def fetch(connection: Connection, text: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    """Run a statement that returns rows, with the parameters of the driver, and return them. SQLite returns booleans as
    0 and 1."""
    driver = _sqlite_driver(connection)
    if driver is None:
        return list(connection.exec_driver_sql(text, parameters))
    try:
        return driver.execute(text, parameters).fetchall()
    except sqlite3.Error as error:
        raise _as_sqlalchemy(text, error) from error


def run(connection: Connection, text: str, parameters: tuple[Any, ...] = ()) -> int:
    """Run a statement that returns no rows, with the parameters of the driver. Return the number of rows that it
    changed."""
    driver = _sqlite_driver(connection)
    if driver is None:
        return connection.exec_driver_sql(text, parameters).rowcount
    try:
        return driver.execute(text, parameters).rowcount
    except sqlite3.Error as error:
        raise _as_sqlalchemy(text, error) from error


def run_each(connection: Connection, text: str, rows: Iterable[tuple[Any, ...]]) -> int:
    """Run a statement of SQLite for each row of parameters, at least one. Return the number of rows that it changed."""
    driver = _sqlite_driver(connection)
    if driver is None:
        return connection.exec_driver_sql(text, list(rows)).rowcount
    try:
        return driver.executemany(text, rows).rowcount
    except sqlite3.Error as error:
        raise _as_sqlalchemy(text, error) from error


def begin_writing(connection: Connection) -> None:
    """Begin the transaction of a SQLite connection as a writing one, unless it has begun. Nothing that is read after
    it changes in another process before its end."""
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection) and not driver.in_transaction:
        run(connection, "BEGIN IMMEDIATE")


class Cursor(Protocol):
    """The result of a query, read in parts."""

    def fetchmany(self, size: int, /) -> Any:
        """Return the next rows as a sequence of tuples, empty at the end."""

    def close(self) -> None:
        """End the query."""


def open_cursor(connection: Connection, query: Select[Any], *, indexed: str = "") -> Cursor:
    """Start a query whose rows are read in parts, in constant memory of this process. SQLite returns booleans as 0 and
    1, and reads the first table by the index `indexed`, if one is given.

    PostgreSQL may take MAX_READ_SECONDS for a part, of which the first waits for the order, instead of the time limits
    of other statements. There the transaction must have begun.
    """
    driver = _sqlite_driver(connection)
    if driver is None and connection.dialect.name == "postgresql":
        return _ServerRows(connection, query)
    if driver is None:
        return connection.execution_options(stream_results=True, max_row_buffer=1_000).execute(query)
    compiled = query.compile(dialect=sqlite.dialect(paramstyle="qmark"), compile_kwargs={"render_postcompile": True})
    text = str(compiled)
    if indexed:
        first = str(query.get_final_froms()[0]).split(maxsplit=1)[0]
        text = text.replace(f"FROM {first} ", f"FROM {first} INDEXED BY {indexed} ", 1)
    parameters = tuple(compiled.params[name] for name in compiled.positiontup or ())
    try:
        return _Rows(text, driver.execute(text, parameters))
    except sqlite3.Error as error:
        raise _as_sqlalchemy(text, error) from error


class _Rows:
    """The rows of SQLite's cursor, with the errors of SQLAlchemy."""

    def __init__(self, text: str, cursor: sqlite3.Cursor) -> None:
        self._text = text
        self._cursor = cursor

    def fetchmany(self, size: int) -> list[Any]:
        try:
            return self._cursor.fetchmany(size)
        except sqlite3.Error as error:
            raise _as_sqlalchemy(self._text, error) from error

    def close(self) -> None:
        self._cursor.close()


class _ServerRows:
    """The rows of a cursor of PostgreSQL. SQLAlchemy's own has the time limit of other statements."""

    def __init__(self, connection: Connection, query: Select[Any]) -> None:
        run(connection, f"SET LOCAL statement_timeout = {round(MAX_READ_SECONDS * 1_000)}")
        compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        parameters = [compiled.params[name] for name in compiled.positiontup or ()]
        self._text = str(compiled)
        driver: Any = connection.connection.driver_connection
        self._cursor: Any = self._wait(driver.cursor(self._text, *parameters))

    def fetchmany(self, size: int) -> list[Any]:
        rows: list[Any] = self._wait(self._cursor.fetch(size, timeout=MAX_READ_SECONDS))
        return rows

    def close(self) -> None:
        """Leave the cursor to the end of the transaction."""

    def _wait(self, response: Awaitable[Any]) -> Any:
        import asyncpg  # an installation on SQLite need not load it

        try:
            return await_only(response)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise _as_sqlalchemy(self._text, error) from error


def begin_writing_soon(connection: Connection) -> None:
    """Begin a writing transaction as `begin_writing` does, between two transactions of a busy process.

    SQLite itself looks for the lock every 100 ms at most, and would miss the short time in which such a process does
    not have it. Raises DBAPIError if the lock is taken for BUSY_TIMEOUT_SECONDS.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection) or driver.in_transaction:
        return
    until = time.monotonic() + BUSY_TIMEOUT_SECONDS
    fetch(connection, "PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                run(connection, "BEGIN IMMEDIATE")
                return
            except DBAPIError as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise
            time.sleep(_POLL_SECONDS)
    finally:
        fetch(connection, f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT_SECONDS * 1_000)}")


def _is_busy(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY


def _sqlite_driver(connection: Connection) -> sqlite3.Connection | None:
    """Return SQLite's own connection, in a transaction of SQLAlchemy; None for another driver, and if something
    listens for statements."""
    if connection.dialect.driver != "pysqlite" or connection.dispatch.before_cursor_execute:
        return None
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection.dbapi_connection
    found: sqlite3.Connection | None = driver
    return found


def _as_sqlalchemy(text: str, error: Exception) -> BaseException:
    """Return the error of SQLAlchemy for an error of a driver. It hides the parameters."""
    return DBAPIError.instance(text, None, error, type(error), hide_parameters=True)
