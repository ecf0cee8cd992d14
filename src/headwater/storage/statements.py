"""Runs statements as text, with positional parameters as the driver accepts them.

In a thread of SQLite, and in a transaction of PostgreSQL that has begun, they go to the driver: SQLAlchemy takes
several times as long as a short statement of SQLite itself, and as long as the driver of PostgreSQL. It sees them only
if something listens for statements.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Iterable, Sequence
from functools import cache
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
        if (direct := _postgresql_driver(connection)) is not None:
            response = direct.fetch(text, *parameters, record_class=_record_class())
            found: list[Any] = _await(connection, text, response)
            return found
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
        if (direct := _postgresql_driver(connection)) is not None:
            last = str(_await(connection, text, direct.execute(text, *parameters))).rpartition(" ")[2]
            return int(last) if last.isdigit() else -1  # a status such as "INSERT 0 2" or "SAVEPOINT"
        return connection.exec_driver_sql(text, parameters).rowcount
    try:
        return driver.execute(text, parameters).rowcount
    except sqlite3.Error as error:
        raise _as_sqlalchemy(text, error) from error


def copy(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> bool:
    """Insert rows into a table with COPY, if the statement would go to the driver of PostgreSQL. Return whether it did.

    COPY takes a fraction of the time of an INSERT, here and in the server.
    """
    driver = _postgresql_driver(connection)
    if driver is None:
        return False
    copied = driver.copy_records_to_table(table, records=rows, columns=columns)
    _await(connection, f"COPY {table} FROM STDIN", copied)
    return True


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
        self._connection, self._text = connection, str(compiled)
        driver: Any = connection.connection.driver_connection
        self._cursor: Any = _await(connection, self._text, driver.cursor(self._text, *parameters))

    def fetchmany(self, size: int) -> list[Any]:
        rows: list[Any] = _await(self._connection, self._text, self._cursor.fetch(size, timeout=MAX_READ_SECONDS))
        return rows

    def close(self) -> None:
        """Leave the cursor to the end of the transaction."""


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
    if connection.dialect.driver != "pysqlite" or _has_listeners(connection):
        return None
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection.dbapi_connection
    found: sqlite3.Connection | None = driver
    return found


def _postgresql_driver(connection: Connection) -> Any:
    """Return the connection of asyncpg in a transaction that SQLAlchemy has begun; None for another driver, before the
    first statement of a transaction, and if something listens for statements."""
    if connection.dialect.driver != "asyncpg" or _has_listeners(connection):
        return None
    driver: Any = connection.connection.driver_connection
    return driver if driver is not None and driver.is_in_transaction() else None


def _has_listeners(connection: Connection) -> bool:
    """Return whether something listens for statements, as SQLAlchemy finds it. Asking its dispatcher takes as long as
    a short statement."""
    return connection._has_events or connection.engine._has_events


@cache
def _record_class() -> Any:
    """Return the class of rows of asyncpg whose columns are attributes too, as those of SQLAlchemy."""
    import asyncpg  # an installation on SQLite need not load it

    class Row(asyncpg.Record):
        __slots__ = ()

        def __getattr__(self, name: str) -> Any:
            try:
                return self[name]
            except KeyError:
                raise AttributeError(name) from None

    return Row


def _await(connection: Connection, text: str, response: Awaitable[Any]) -> Any:
    """Wait for a response of PostgreSQL. Raises its errors as SQLAlchemy does, without parameters.

    A connection that is closed, or whose statement was cancelled, does not return to the pool.
    """
    try:
        return await_only(response)
    except asyncio.CancelledError as error:
        connection.invalidate(error)
        raise
    except Exception as error:
        if not type(error).__module__.startswith("asyncpg."):
            raise
        driver = connection.connection.driver_connection
        is_closed = driver is None or driver.is_closed()
        if is_closed:
            connection.invalidate(error)
        raise DBAPIError(text, None, error, hide_parameters=True, connection_invalidated=is_closed) from error


def _as_sqlalchemy(text: str, error: sqlite3.Error) -> BaseException:
    """Return the error of SQLAlchemy for an error of SQLite. It hides the parameters."""
    return DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True)
