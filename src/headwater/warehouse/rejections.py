"""Refused events as they were sent, of which the newest are kept, and how often each rule was broken.

What it costs to keep them few depends on how many come, not on how many there are.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.clock import microseconds
from headwater.warehouse import bulk, tables
from headwater.warehouse.rows import MAX_REJECTED, MAX_REJECTED_BYTES, MAX_UNKNOWN_REJECTED, RejectedEvent

_SLACK: Final = 100
"""A workspace may have this part of `MAX_REJECTED` more, since finding the oldest that is kept takes going past all
that are younger."""
_MAX_COUNTED_PATH: Final = 200
"""How many characters of a path tell refusals apart: what is sent decides it, and nobody may fill our disk by that."""


class Rejections:
    """For the process that writes them, which remembers how many have come to each workspace.

    A transaction that fails leaves that too high, at worst: then a workspace is looked at too early.
    """

    def __init__(self) -> None:
        self._added: Counter[int] | None = None
        """Since a workspace was last known to have no more than `MAX_REJECTED`; None before all were looked at."""

    async def add(self, connection: AsyncConnection, rejected: Sequence[RejectedEvent]) -> None:
        """Keep and count refused events; of those whose key is unknown only the newest `MAX_UNKNOWN_REJECTED`."""
        if not rejected:
            return
        rows = [
            (
                row.position,
                row.workspace,
                row.connection,
                row.dialect,
                microseconds(row.received_at),
                row.code,
                _text(row.path),
                _text(row.message),
                row.body[:MAX_REJECTED_BYTES],
                row.message_id,
            )
            for row in rejected
        ]
        await bulk.insert(connection, list(tables.rejected_events.c), rows)
        await bulk.upsert(
            connection,
            list(tables.refusals.c),
            _counted(rejected),
            key=[column.name for column in tables.refusals.primary_key],
            adding=("count",),
            keeping=("first_at",),
        )
        workspaces = Counter(row.workspace for row in rejected)
        if workspaces.pop(0, 0):
            await _shorten(connection, 0, MAX_UNKNOWN_REJECTED)
        if self._added is not None:
            self._added += workspaces

    async def shorten(self, connection: AsyncConnection) -> None:
        """Remove the oldest refused events of every workspace that has clearly more than `MAX_REJECTED` of them."""
        if self._added is None:
            table = tables.rejected_events.c
            crowded = select(table.workspace).group_by(table.workspace).having(func.count() > MAX_REJECTED)
            for workspace in list(await connection.scalars(crowded)):
                await _shorten(connection, workspace, MAX_REJECTED)
            self._added = Counter()
            return
        for workspace in [each for each, added in self._added.items() if added > MAX_REJECTED // _SLACK]:
            await _shorten(connection, workspace, MAX_REJECTED)
            del self._added[workspace]


async def _shorten(connection: AsyncConnection, workspace: int, kept: int) -> None:
    table = tables.rejected_events.c
    mine = table.workspace == workspace
    oldest = select(table.position).where(mine).order_by(table.position.desc()).offset(kept - 1).limit(1)
    await connection.execute(delete(tables.rejected_events).where(mine, table.position < oldest.scalar_subquery()))


def _counted(rejected: Sequence[RejectedEvent]) -> list[tuple[object, ...]]:
    """Rows of `refusals`."""
    counts: Counter[tuple[object, ...]] = Counter()
    at: dict[tuple[object, ...], int] = {}
    for row in rejected:
        key = (row.workspace, row.connection, row.dialect, row.code, _text(row.path)[:_MAX_COUNTED_PATH])
        counts[key] += 1
        at[key] = microseconds(row.received_at)
    return [(*key, count, at[key], at[key]) for key, count in counts.items()]


def _text(text: str) -> str:
    """What was sent may be repeated in it, and PostgreSQL has no NUL in texts."""
    return text.replace("\0", "\ufffd")
