"""Watches a migration that may take hours: reports its progress, logs it, and ends it when its connection is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.functions import func

from headwater.base.startup import report_progress

MAX_MIGRATION_SECONDS: Final = 12 * 3_600.0
"""Time limit of a migration, and of a start that waits for that of another process."""
REPORT_SECONDS: Final = 1.0
LOG_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def watch_migration(connection: AsyncConnection, engine: AsyncEngine, schema: str) -> AsyncIterator[None]:
    """Watch a migration on `connection` until the end of the block. `engine` asks the same database about it.

    Raises TimeoutError after `MAX_MIGRATION_SECONDS`, and if PostgreSQL no longer has the connection.
    """
    pid: int | None = None
    if connection.dialect.name == "postgresql":
        pid = (await connection.execute(select(func.pg_backend_pid()))).scalar_one()
    async with asyncio.timeout(MAX_MIGRATION_SECONDS) as limit:
        watching = asyncio.create_task(_watch(engine, schema, pid, limit))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _watch(engine: AsyncEngine, schema: str, pid: int | None, limit: asyncio.Timeout) -> None:
    loop = asyncio.get_running_loop()
    began = logged = loop.time()
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        report_progress()
        if loop.time() - logged < LOG_SECONDS:
            continue
        logged = loop.time()
        progress = "" if pid is None else await _progress(engine, pid)
        if progress is None:
            _log.error("the connection of a migration is lost", schema=schema)
            limit.reschedule(logged)
            return
        _log.info("a migration takes long", schema=schema, seconds=round(logged - began), progress=progress)


async def _progress(engine: AsyncEngine, pid: int) -> str | None:
    """Return what a connection does; None if there is no such connection, and nothing if the database does not say."""
    try:
        async with engine.connect() as connection:
            return (await connection.execute(_STATE, {"pid": pid})).scalar_one_or_none()
    except (DBAPIError, OSError):
        return ""


_STATE: Final = text("""
    SELECT CASE
        WHEN i.pid IS NOT NULL
        THEN i.phase || coalesce(' ' || 100 * i.blocks_done / nullif(i.blocks_total, 0) || ' %', '')
        WHEN a.wait_event_type = 'Lock' AND a.wait_event = 'advisory'
        THEN 'waiting for the migration of another process'
        WHEN a.wait_event_type = 'Lock' THEN 'waiting for a lock'
        ELSE coalesce(a.state, '')
    END
    FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index i ON i.pid = a.pid
    WHERE a.pid = :pid
""")
