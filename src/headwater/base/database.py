"""Opens the databases of the catalog and the warehouse, and brings their tables up to date.

SQLite runs in WAL mode with `synchronous=FULL`: a transaction that was committed survives a power cut, and readers in
other processes never wait for the writer.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS = 5_000
"""How long a SQLite writer waits for another process's transaction before it gives up."""


def sqlite_url(path: Path) -> str:
    """The SQLAlchemy URL of a SQLite file."""
    return f"sqlite+aiosqlite:///{path}"


def open_engine(url: str, *, cache_mib: int = 16) -> AsyncEngine:
    """An engine for `url`. The caller disposes of it."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            cursor.execute(f"PRAGMA cache_size=-{cache_mib * 1024}")
            cursor.close()

    return engine


async def migrate(engine: AsyncEngine, migrations: str) -> None:
    """Bring the tables up to `migrations.HEAD`, a package of Alembic revisions.

    Alembic is imported only when there is something to do: it costs a third of a second that a second start can save.
    Several processes may call this at once; one of them does the work.
    """
    package = import_module(migrations)
    if await _revision(engine, package.VERSION_TABLE) == package.HEAD:
        return
    folder = Path(str(package.__file__)).parent
    with _one_at_a_time(engine, package.VERSION_TABLE):
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(folder))

        def upgrade(connection: Any) -> None:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

        async with engine.begin() as connection:
            await connection.run_sync(upgrade)


async def _revision(engine: AsyncEngine, table: str) -> str | None:
    try:
        async with engine.connect() as connection:
            return (await connection.execute(text(f"SELECT version_num FROM {table}"))).scalar_one_or_none()
    except DatabaseError:  # the table does not exist yet
        return None


@contextmanager
def _one_at_a_time(engine: AsyncEngine, table: str) -> Iterator[None]:
    database = make_url(engine.url).database
    if engine.dialect.name != "sqlite" or not database:
        yield
        return
    with open(f"{database}.{table}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
