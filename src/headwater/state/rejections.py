"""Rejected events as they were sent, of which the newest are kept, and how often each rule was broken.

The cost of keeping them few depends on how many arrive, not on how many there are.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.clock import microseconds
from headwater.events import MAX_REJECTED_BYTES
from headwater.state import bulk, tables

MAX_REJECTED: Final = 100_000
"""Rejected events kept per workspace, or a few more; the oldest are removed first, and stay counted."""
MAX_UNKNOWN_REJECTED: Final = 1_000
"""Rejected calls with an unknown key kept per installation; the oldest are removed first."""
_SLACK: Final = 100
"""A workspace may have this part of `MAX_REJECTED` more: finding the oldest one to keep reads past all younger ones."""
_MAX_COUNTED_PATH: Final = 200
"""Characters of a path by which counts are kept apart: the sender decides the path, so its size is bounded."""
_REMOVED_AT_ONCE: Final = 1_000
"""Of 64 KiB each, if they are large; events wait meanwhile."""
_SOURCES_AT_ONCE: Final = 200
_CHECKED_AT_ONCE: Final = 50
"""Workspaces whose rejected events are counted in one call after a start: up to 5 ms for each."""


class RejectedEvent(Struct, frozen=True):
    """An event, or a whole call, that was rejected."""

    position: int
    workspace: int
    """0 when the key was unknown."""
    connection: int
    """0 when the key was unknown."""
    protocol: str
    received_at: datetime
    code: str
    path: str
    message: str
    body: bytes
    """The bytes that were sent, cut at `MAX_REJECTED_BYTES`."""
    message_id: str | None = None
    """None when it has none that can be read."""


class RejectionCount(Struct, frozen=True):
    """How often a source was sent what breaks one rule."""

    workspace: int
    connection: int
    protocol: str
    code: str
    path: str
    count: int
    first_at: datetime
    last_at: datetime


class RejectionCountCursor(Struct, frozen=True, array_like=True):
    """A place in a list of counts: after the count with these values."""

    count: int
    connection: int
    protocol: str
    code: str
    path: str


class Rejections:
    """For the process that writes them, which counts how many arrive for each workspace.

    A transaction that fails leaves a count too high, at worst: then a workspace is checked too early.
    """

    def __init__(self) -> None:
        self._added: Counter[int] = Counter()
        """By workspace, since it was known to have at most `MAX_REJECTED`."""
        self._unchecked: list[int] | None = None
        """Workspaces that were not counted since the start; None before they are listed."""

    async def add(self, connection: AsyncConnection, rejected: Sequence[RejectedEvent]) -> None:
        """Keep and count rejected events; of those whose key is unknown only the newest `MAX_UNKNOWN_REJECTED`."""
        if not rejected:
            return
        rows = [
            (
                row.position,
                row.workspace,
                row.connection,
                row.protocol,
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
            list(tables.rejection_counts.c),
            _counted(rejected),
            key=[column.name for column in tables.rejection_counts.primary_key],
            adding=("count",),
            keeping=("first_at",),
        )
        workspaces = Counter(row.workspace for row in rejected)
        if workspaces.pop(0, 0):
            await _shorten(connection, 0, MAX_UNKNOWN_REJECTED)
        self._added += workspaces

    async def remove_except(
        self, connection: AsyncConnection, *, sources: Collection[int], workspaces: Collection[int]
    ) -> int:
        """Remove some of the rejected events and counts of sources and workspaces that are not given. Return how many.

        The counts are removed last, since they tell which sources there were.
        """
        removed = 0
        for name, present in (("connection", sources), ("workspace", workspaces)):
            known = await bulk.distinct(connection, tables.rejection_counts.c[name])
            gone = sorted(known - set(present) - {0})[:_SOURCES_AT_ONCE]
            for table in (tables.rejected_events, tables.rejection_counts):
                left = _REMOVED_AT_ONCE - removed
                if left > 0:
                    removed += await bulk.remove_some(connection, table.c[name], gone, limit=left)
        return removed

    async def shorten(self, connection: AsyncConnection) -> None:
        """Remove the oldest rejected events of workspaces that have clearly more than `MAX_REJECTED` of them."""
        if self._unchecked is None:
            self._unchecked = sorted(await bulk.distinct(connection, tables.rejected_events.c.workspace) - {0})
        crowded = [each for each, added in self._added.items() if added > MAX_REJECTED // _SLACK]
        for workspace in [*crowded, *self._unchecked[:_CHECKED_AT_ONCE]]:
            await _shorten(connection, workspace, MAX_REJECTED)
            self._added.pop(workspace, None)
        del self._unchecked[:_CHECKED_AT_ONCE]


async def _shorten(connection: AsyncConnection, workspace: int, kept: int) -> None:
    table = tables.rejected_events.c
    mine = table.workspace == workspace
    oldest = select(table.position).where(mine).order_by(table.position.desc()).offset(kept - 1).limit(1)
    await connection.execute(delete(tables.rejected_events).where(mine, table.position < oldest.scalar_subquery()))


def _counted(rejected: Sequence[RejectedEvent]) -> list[tuple[object, ...]]:
    """Return rows of `rejection_counts`."""
    counts: dict[tuple[object, ...], tuple[int, int, int]] = {}
    for row in rejected:
        key = (row.workspace, row.connection, row.protocol, row.code, _text(row.path)[:_MAX_COUNTED_PATH])
        at = microseconds(row.received_at)
        count, first, last = counts.get(key, (0, at, at))
        counts[key] = (count + 1, min(first, at), max(last, at))
    return [(*key, *counted) for key, counted in counts.items()]


def _text(text: str) -> str:
    """What was sent may be repeated in it, and PostgreSQL has no NUL in texts."""
    return text.replace("\0", "\ufffd")
