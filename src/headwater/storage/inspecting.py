"""Reads a database without changing it: its revision, and the version and the clock of PostgreSQL.

`open_database` migrates; a diagnosis must not.
"""

import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from headwater.base.errors import UnusableDatabase
from headwater.storage import postgresql
from headwater.storage.database import OLDEST_USABLE_COLUMN

_Result = TypeVar("_Result")

Read: TypeAlias = Callable[[AsyncEngine], Awaitable[_Result]]
"""Reads from a database that is open."""


@dataclass(frozen=True, slots=True)
class PostgresqlServer:
    """The state of a PostgreSQL server."""

    version: str
    time: datetime.datetime
    """The time of its clock."""
    connections: int
    max_connections: int


@dataclass(frozen=True, slots=True)
class Revision:
    """The revision of the tables of a database."""

    number: str
    oldest_usable: str | None
    """The oldest revision whose code can use the tables; None if it is not recorded."""


@asynccontextmanager
async def open_for_reading(location: str | Path, schema: str) -> AsyncIterator[AsyncEngine]:
    """Yield an engine for a file of SQLite, which is opened read-only, or for the URL of a PostgreSQL database.

    Raises UnusableDatabase with the reason, also if a statement in the block fails.
    """
    if isinstance(location, Path):
        engine = create_async_engine(f"sqlite+aiosqlite:///file:{quote(str(location))}?mode=ro&uri=true")
    else:
        engine = postgresql.open_postgresql(location, schema)
    try:
        yield engine
    except (DBAPIError, OSError, ValueError) as error:
        if isinstance(location, Path):
            origin = error.orig if isinstance(error, DBAPIError) else error
            raise UnusableDatabase(f"{location} cannot be read: {origin}") from error
        if (reason := postgresql.explain(error, location)) is None:
            raise
        raise UnusableDatabase(f"the {postgresql.describe_url(location)} cannot be used: {reason}") from error
    finally:
        await engine.dispose()


async def read_revision(engine: AsyncEngine, table: str) -> Revision | None:
    """Return the revision of the tables; None if there are none. Raises DBAPIError if the database is not readable."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        if engine.dialect.name == "sqlite":
            found = text("SELECT count(*) FROM sqlite_master WHERE name = :table")
            if not (await connection.execute(found, {"table": table})).scalar_one():
                return None
        try:
            row = (await connection.execute(text(f"SELECT * FROM {table}"))).mappings().one_or_none()
        except DatabaseError:
            if engine.dialect.name == "sqlite":
                raise
            return None  # the table does not exist yet
    return None if row is None else Revision(row["version_num"], row.get(OLDEST_USABLE_COLUMN))


async def read_server(engine: AsyncEngine) -> PostgresqlServer:
    """Return the state of the server. Raises UnusableDatabase if Headwater cannot use it."""
    async with engine.connect() as connection:
        if reason := await postgresql.check_usable(connection):
            raise UnusableDatabase(f"the database cannot be used: {reason}")
        query = text(
            "SELECT current_setting('server_version'), clock_timestamp(), (SELECT count(*) FROM pg_stat_activity), "
            "current_setting('max_connections')::integer"
        )
        version, now, connections, maximum = (await connection.execute(query)).one()
    return PostgresqlServer(str(version), now, int(connections), int(maximum))
