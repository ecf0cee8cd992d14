"""Opens the databases of the catalog and the warehouse, and brings their tables up to date.

SQLite runs in WAL mode with `synchronous=FULL`: a transaction that was committed survives a power cut, and readers in
other processes never wait for the writer. What is particular to PostgreSQL is in `headwater.storage.postgresql`.
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from headwater.base.errors import Unavailable, UnusableDatabase
from headwater.storage import postgresql

_log = structlog.get_logger(__name__)

BUSY_TIMEOUT_MS = 5_000
"""How long a SQLite writer waits for another process's transaction before it gives up."""

Prepare = Callable[[AsyncConnection], Awaitable[None]]

MIGRATION_TIMEOUT_MS = 60_000
"""How long a start waits while another process brings the tables of the same SQLite file up to date."""


SQLITE_PAGE_BYTES = 4096
"""What SQLite writes at once, where nobody says otherwise. Small rows that change one by one want small pages."""


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file. Quoted: two files below a folder with a question mark would be one."""
    return f"sqlite+aiosqlite:///{quote(str(path))}"


def open_engine(
    url: str, *, schema: str = "public", cache_mib: int = 16, page_bytes: int = SQLITE_PAGE_BYTES
) -> AsyncEngine:
    """An engine for `url`; on PostgreSQL for the tables in `schema`, which SQLite has a file for. The caller disposes
    of it.

    Its errors hide the parameters of statements: they end up in logs, and what people have sent does not belong there.
    """
    if url.startswith("postgresql"):
        return postgresql.open_postgresql(url, schema)
    engine = create_async_engine(url, hide_parameters=True)
    configure_sqlite(engine.sync_engine, cache_mib=cache_mib, page_bytes=page_bytes)
    return engine


def configure_sqlite(engine: Engine, *, cache_mib: int = 16, page_bytes: int = SQLITE_PAGE_BYTES) -> None:
    """Make every connection of the engine a durable and patient one."""

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        # First, since switching a new file to WAL takes a lock that another process may hold just then.
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute(f"PRAGMA page_size={page_bytes}")  # has effect before the first table only
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA cache_size=-{cache_mib * 1024}")
        cursor.close()


@asynccontextmanager
async def open_database(
    url: str,
    migrations: str,
    *,
    cache_mib: int = 16,
    page_bytes: int = SQLITE_PAGE_BYTES,
    prepare: Prepare | None = None,
) -> AsyncIterator[AsyncEngine]:
    """An engine for the tables of `migrations`, which are up to date; disposed of at the end of the block.

    `prepare` runs before the revisions, in their transaction. Raises UnusableDatabase when a PostgreSQL database is out
    of reach, too old, or may not be written.
    """
    engine = open_engine(url, schema=import_module(migrations).SCHEMA, cache_mib=cache_mib, page_bytes=page_bytes)
    try:
        try:
            if engine.dialect.name == "postgresql":
                async with engine.connect() as connection:
                    if reason := await postgresql.check_usable(connection):
                        raise UnusableDatabase(f"the {postgresql.described(url)} cannot be used: {reason}")
            await migrate(engine, migrations, prepare)
        except (DBAPIError, OSError, ValueError) as error:
            if engine.dialect.name != "postgresql" or (reason := postgresql.explain(error, url)) is None:
                raise
            raise UnusableDatabase(f"the {postgresql.described(url)} cannot be used: {reason}") from error
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def as_unavailable(what: str) -> AsyncIterator[None]:
    """Raise Unavailable, naming `what`, when the database is busy for too long or away.

    The database's own text is logged once for each outage, not returned: it is for the operator. Any other error of
    the database is a bug of the statement or its parameters and passes through: the same would fail again, so it must
    not be taken for an outage.
    """
    try:
        yield
    except (PoolTimeout, OSError, DBAPIError) as error:
        if isinstance(error, DBAPIError) and not _is_outage(error):
            raise
        _log_once(what, error)
        raise Unavailable(f"{what} does not answer") from error
    _reported.pop(what, None)


def _log_once(what: str, error: Exception) -> None:
    """Log the text of an outage unless the same was logged since the last success."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    reason = (str(origin).strip() or type(origin).__name__).splitlines()[0][:_MAX_REASON]
    if _reported.get(what) != reason:
        _reported[what] = reason
        _log.warning("a database does not answer", what=what, reason=reason)


_reported: Final[dict[str, str]] = {}
"""The reason that was logged last for each database that does not answer."""
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
"""Primary result codes that say something of the file or its other users, and nothing of the statement."""


def _is_outage(error: DBAPIError) -> bool:
    origin = error.orig
    return is_sqlite_outage(origin) if isinstance(origin, sqlite3.Error) else postgresql.is_outage(error)


def is_sqlite_outage(error: sqlite3.Error) -> bool:
    """Return whether the error says that a SQLite file is busy or cannot be used, not that a statement is wrong."""
    code = getattr(error, "sqlite_errorcode", None)  # absent when Python's own driver complains
    return code is not None and code & 0xFF in _SQLITE_OUTAGES


async def migrate(engine: AsyncEngine, migrations: str, prepare: Prepare | None = None) -> None:
    """Bring the tables up to `migrations.HEAD`, a package of Alembic revisions, in one transaction.

    On PostgreSQL the engine's `schema` is the package's.

    Alembic is imported only when there is something to do: it costs a third of a second that a second start can save.
    Several processes may call this at once: one of them does the work, and the others wait and find it done.
    """
    package = import_module(migrations)
    if await _revision(engine, package.VERSION_TABLE) == package.HEAD:
        return
    folder = Path(str(package.__file__)).parent
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))

    def upgrade(connection: Any) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with engine.connect() as connection, _migration_lock(connection, package.SCHEMA):
        if prepare is not None:
            await prepare(connection)
        await connection.run_sync(upgrade)


@asynccontextmanager
async def _migration_lock(connection: AsyncConnection, schema: str) -> AsyncIterator[None]:
    """One transaction for all revisions, that no other migration of the same tables runs beside."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={MIGRATION_TIMEOUT_MS}")
        # The driver would let each CREATE TABLE commit by itself, and a crash would leave half of them behind.
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        await postgresql.begin_migration(connection, schema, MIGRATION_TIMEOUT_MS)
    yield
    await connection.commit()
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


async def _revision(engine: AsyncEngine, table: str) -> str | None:
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text(f"SELECT version_num FROM {table}"))).scalar_one_or_none()
    except DatabaseError:  # the table does not exist yet
        return None
