"""Opens databases, and migrates their tables.

SQLite runs in WAL mode with `synchronous=FULL`: a committed transaction survives a power cut, and readers in other
processes never wait for the writer. `headwater.storage.postgresql` has the specifics of PostgreSQL.
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog
from sqlalchemy import AdaptedConnection, Connection, Engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from headwater.base.errors import Unavailable, UnusableDatabase
from headwater.storage import postgresql
from headwater.storage.longmigrations import MAX_MIGRATION_SECONDS, watch_migration
from headwater.storage.postgresql import milliseconds
from headwater.storage.scrubbing import SECURE_DELETE
from headwater.storage.statements import BUSY_TIMEOUT_SECONDS as BUSY_TIMEOUT_SECONDS

_log = structlog.get_logger(__name__)

Location = str | postgresql.ProcessConnections
"""The URL of a database, or the connections of a process to PostgreSQL, which all of its stores share."""

Prepare = Callable[[AsyncConnection], Awaitable[None]]

LOCK_POLL_SECONDS: Final = 1.0
"""Time of one try to lock a SQLite file that another process migrates."""
MIGRATION_TIMEOUT_SECONDS = 60.0
"""Time limit of a start that waits while another process creates the same SQLite file.

Syncing a new file takes many seconds when the disk is busy, for example right after an installation.
"""

OLDEST_USABLE_COLUMN: Final = "oldest_usable"
"""The column of a table of revisions with the oldest revision whose code can use the tables."""

SQLITE_PAGE_BYTES = 4096
"""Default page size of SQLite files. Single changes of small rows need small pages."""


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of a SQLite file. It is quoted, because a question mark would end the path."""
    return f"sqlite+aiosqlite:///{quote(str(path))}"


def open_engine(
    url: str, *, schema: str = "public", cache_mib: int = 16, page_bytes: int = SQLITE_PAGE_BYTES
) -> AsyncEngine:
    """Return an engine for `url`. On PostgreSQL its tables are in `schema`. The caller disposes of it.

    Its errors hide the parameters of statements, because errors are logged and parameters contain data of users.
    """
    if url.startswith("postgresql"):
        return postgresql.open_postgresql(url, schema)
    engine = create_async_engine(url, hide_parameters=True)
    configure_sqlite(engine.sync_engine, cache_mib=cache_mib, page_bytes=page_bytes)
    return engine


def configure_sqlite(
    engine: Engine, *, cache_mib: int = 16, page_bytes: int = SQLITE_PAGE_BYTES, temp_in_memory: bool = False
) -> None:
    """Make every connection of the engine durable, and wait for locks.

    `temp_in_memory` keeps temporary data in memory. Otherwise SQLite creates and deletes a file for each savepoint in
    which more than 16 pages change.
    """

    # The longer timeout is for switching a created file to WAL: another process may hold the lock while it syncs.
    pragmas = "; ".join(
        (
            f"PRAGMA busy_timeout={milliseconds(MIGRATION_TIMEOUT_SECONDS)}",
            f"PRAGMA page_size={page_bytes}",  # works only before the first table
            "PRAGMA journal_mode=WAL",
            f"PRAGMA busy_timeout={milliseconds(BUSY_TIMEOUT_SECONDS)}",
            "PRAGMA synchronous=FULL",
            "PRAGMA foreign_keys=ON",
            SECURE_DELETE,
            f"PRAGMA cache_size=-{cache_mib * 1024}",
            *(("PRAGMA temp_store=MEMORY",) if temp_in_memory else ()),
        )
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        if isinstance(connection, AdaptedConnection):  # one change to the thread of the driver
            connection.run_async(lambda driver: driver.executescript(pragmas))
        else:
            connection.executescript(pragmas)


@asynccontextmanager
async def open_database(
    location: Location,
    migrations: str,
    *,
    cache_mib: int = 16,
    page_bytes: int = SQLITE_PAGE_BYTES,
    prepare: Prepare | None = None,
) -> AsyncIterator[AsyncEngine]:
    """Yield an engine whose tables are at the latest revision of `migrations`. The engine of a URL is disposed of at
    the end of the block.

    `prepare` runs before the revisions, in their transaction. Raises UnusableDatabase if a PostgreSQL database cannot
    be reached, is too old, or cannot be written.
    """
    schema = import_module(migrations).SCHEMA
    if isinstance(location, str):
        url, engine = location, open_engine(location, schema=schema, cache_mib=cache_mib, page_bytes=page_bytes)
    else:
        url, engine = location.url, location.engine(schema)
    try:
        try:
            if engine.dialect.name == "postgresql":
                async with engine.connect() as connection:
                    if reason := await postgresql.check_usable(connection):
                        raise UnusableDatabase(f"the {postgresql.describe_url(url)} cannot be used: {reason}")
            await migrate(engine, migrations, prepare, url=url)
        except (DBAPIError, OSError, ValueError) as error:
            if engine.dialect.name != "postgresql" or (reason := postgresql.explain(error, url)) is None:
                raise
            raise UnusableDatabase(f"the {postgresql.describe_url(url)} cannot be used: {reason}") from error
        yield engine
    finally:
        if isinstance(location, str):
            await engine.dispose()


@asynccontextmanager
async def as_unavailable(what: str) -> AsyncIterator[None]:
    """Raise Unavailable with the name in `what` if the database is busy for too long, or unavailable.

    The database's own text is logged once for each outage, not returned: it is for the operator. Any other error of the
    database is a bug of the statement or its parameters and passes through. A retry would not help, so it is not an
    outage.
    """
    try:
        yield
    except (PoolTimeout, OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not is_outage(error):
            raise
        _log_once(what, error)
        raise Unavailable(f"{what} does not respond") from error
    _reported.pop(what, None)


def _log_once(what: str, error: Exception) -> None:
    """Log the text of an outage, unless the same text was logged since the last success."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    reason = (str(origin).strip() or type(origin).__name__).splitlines()[0][:_MAX_REASON]
    if _reported.get(what) != reason:
        _reported[what] = reason
        _log.warning("a database does not respond", what=what, reason=reason)


_reported: Final[dict[str, str]] = {}
"""The last logged reason of each unavailable database."""
_MAX_REASON: Final = 500


_SQLITE_OUTAGES: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_INTERRUPT,
    }
)
"""Primary result codes about the file or its other users, not about the statement."""


def is_outage(error: DBAPIError) -> bool:
    """Return whether the error means that the database is busy or unavailable, not that a statement is wrong."""
    origin = error.orig
    return is_sqlite_outage(origin) if isinstance(origin, sqlite3.Error) else postgresql.is_outage(error)


def is_sqlite_outage(error: sqlite3.Error) -> bool:
    """Return whether the error means that a SQLite file is busy or unusable, not that a statement is wrong."""
    code = getattr(error, "sqlite_errorcode", None)  # absent in errors of Python's own driver
    return code is not None and code & 0xFF in _SQLITE_OUTAGES


async def migrate(
    engine: AsyncEngine, migrations: str, prepare: Prepare | None = None, *, url: str | None = None
) -> None:
    """Migrate the tables to `migrations.HEAD`, in a package of Alembic revisions, in one transaction.

    On PostgreSQL the engine's `schema` is the package's. Alembic is imported only if there is something to do, because
    the import takes a third of a second. Several processes may call this concurrently: one migrates, and the others
    wait for it, for hours if it takes hours. `url` opens a connection whose responses have no time limit.

    Tables that a later version has migrated stay as they are, if that version has recorded that this one can use them.
    Raises UnusableDatabase otherwise.
    """
    package = import_module(migrations)
    revision, oldest_usable = await _read_revision(engine, package.VERSION_TABLE)
    if revision == package.HEAD:
        return
    if revision is not None and revision > package.HEAD:
        if oldest_usable is None or oldest_usable > package.HEAD:
            raise UnusableDatabase(
                f"a later version has migrated the tables of {package.SCHEMA} to revision {revision}, and this version "
                f"knows {package.HEAD}: start the later version, or restore a backup"
            )
        _log.warning(
            "a later version has migrated a database", schema=package.SCHEMA, revision=revision, known=package.HEAD
        )
        return
    folder = Path(str(package.__file__)).parent
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _record_oldest_usable(connection, package.VERSION_TABLE, package.OLDEST_USABLE)

    async with (
        _connect(engine, url, package.SCHEMA) as connection,
        watch_migration(connection, engine, package.SCHEMA),
        _migration_lock(connection, package.SCHEMA),
    ):
        if prepare is not None:
            await prepare(connection)
        await connection.run_sync(upgrade)


@asynccontextmanager
async def _connect(engine: AsyncEngine, url: str | None, schema: str) -> AsyncIterator[AsyncConnection]:
    """Open a connection for a migration."""
    if url is None or engine.dialect.name != "postgresql":
        async with engine.connect() as connection:
            yield connection
        return
    unlimited = postgresql.open_postgresql(
        url, schema, process="migration", max_connections=1, kept_connections=1, command_timeout_seconds=None
    )
    try:
        async with unlimited.connect() as connection:
            yield connection
    finally:
        await unlimited.dispose()


def _record_oldest_usable(connection: Connection, table: str, revision: str) -> None:
    """Write the revision in a column of its own, which Alembic ignores."""
    if OLDEST_USABLE_COLUMN not in {column["name"] for column in inspect(connection).get_columns(table)}:
        connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {OLDEST_USABLE_COLUMN} VARCHAR(32)"))
    connection.execute(text(f"UPDATE {table} SET {OLDEST_USABLE_COLUMN} = :revision"), {"revision": revision})


@asynccontextmanager
async def _migration_lock(connection: AsyncConnection, schema: str) -> AsyncIterator[None]:
    """Open one transaction for all revisions that excludes other migrations of the same tables."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={milliseconds(LOCK_POLL_SECONDS)}")
        # The driver would commit each CREATE TABLE by itself, and a crash would leave some of them.
        while not await _begin_immediate(connection):
            pass
    elif connection.dialect.name == "postgresql":
        await postgresql.begin_migration(connection, schema, MAX_MIGRATION_SECONDS)
    yield
    await connection.commit()
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={milliseconds(BUSY_TIMEOUT_SECONDS)}")


async def _begin_immediate(connection: AsyncConnection) -> bool:
    """Begin a transaction that writes a SQLite file. Return whether no other process writes it."""
    try:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


async def _read_revision(engine: AsyncEngine, table: str) -> tuple[str | None, str | None]:
    """Return the revision of the tables, and the oldest whose code can use them; None if it is not recorded."""
    try:
        async with engine.connect() as connection:
            row = (await connection.execute(text(f"SELECT * FROM {table}"))).mappings().one_or_none()
    except DatabaseError:  # the table does not exist yet
        return None, None
    return (None, None) if row is None else (row["version_num"], row.get(OLDEST_USABLE_COLUMN))
