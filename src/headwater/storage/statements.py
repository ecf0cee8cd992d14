"""Runs statements as text, with positional parameters as the driver accepts them.

In a thread of SQLite they go to its driver: SQLAlchemy takes several times as long as a short statement itself. It sees
them only if something listens for statements.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


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


def run_each(connection: Connection, text: str, rows: Sequence[tuple[Any, ...]]) -> int:
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


def _sqlite_driver(connection: Connection) -> sqlite3.Connection | None:
    """Return SQLite's own connection, in a transaction of SQLAlchemy; None for another driver, and if something
    listens for statements."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection) or connection.dispatch.before_cursor_execute:
        return None
    if not connection.in_transaction():
        connection.begin()
    return driver


def _as_sqlalchemy(text: str, error: sqlite3.Error) -> BaseException:
    """Return the error of SQLAlchemy for an error of SQLite. It hides the parameters."""
    return DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True)
