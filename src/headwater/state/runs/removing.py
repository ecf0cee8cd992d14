"""Deletes runs, with their errors."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.state.runs.tables import run_errors, runs

MAX_REMOVED: Final = 500
"""Maximum number of runs that one transaction deletes."""
_c: Final = runs.c


async def shorten(connection: AsyncConnection, pipeline: int, kept: int) -> None:
    """Delete the oldest ended runs of a pipeline that has more than `kept`, at most `MAX_REMOVED`."""
    own = select(_c.created_at).where(_c.pipeline == pipeline).order_by(_c.created_at.desc(), _c.id.desc())
    edge = (await connection.execute(own.offset(kept).limit(1))).scalar_one_or_none()
    if edge is not None:
        old = select(_c.id).where(_c.pipeline == pipeline, _c.created_at <= edge, _c.ended_at.is_not(None))
        await remove_runs(connection, list(await connection.scalars(old.limit(MAX_REMOVED))))


async def remove_runs(connection: AsyncConnection, ids: Collection[int]) -> None:
    """Delete runs and their errors."""
    if ids:
        await connection.execute(delete(run_errors).where(run_errors.c.run.in_(ids)))
        await connection.execute(delete(runs).where(_c.id.in_(ids)))
