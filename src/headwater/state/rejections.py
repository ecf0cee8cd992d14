"""Refused events as they were sent, of which the newest are kept, and how often each rule was broken;
until the source is removed.

What it costs to keep them few depends on how many come, not on how many there are.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.clock import microseconds
from headwater.events import MAX_REJECTED_BYTES
from headwater.state import bulk, tables
from headwater.state.rows import MAX_REJECTED, MAX_UNKNOWN_REJECTED, RejectedEvent

_SLACK: Final = 100
"""A workspace may have this part of `MAX_REJECTED` more, since finding the oldest that is kept takes going past all
that are younger."""
_MAX_COUNTED_PATH: Final = 200
"""How many characters of a path tell refusals apart: what is sent decides it, and nobody may fill our disk by that."""
_REMOVED_AT_ONCE: Final = 1_000
"""Of 64 KiB each, if they are large; events wait meanwhile."""
_SOURCES_AT_ONCE: Final = 200


class Rejections:
    """For the process that writes them, which remembers how many have come to each workspace.

    A transaction that fails leaves that too high, at worst: then a workspace is looked at too early.
    """

    def __init__(self) -> None:
        self._added: Counter[int] | None = None
        """Since a workspace was last known to have no more than `MAX_REJECTED`; None before all were looked at."""
        self._gone: dict[str, list[int]] = {}
        """The connections and the workspaces that are no more, of which there may be something left."""

    async def add(self, connection: AsyncConnection, rejected: Sequence[RejectedEvent]) -> None:
        """Keep and count refused events; of those whose key is unknown only the newest `MAX_UNKNOWN_REJECTED`."""
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
        if self._added is not None:
            self._added += workspaces

    async def remove_except(
        self, connection: AsyncConnection, *, sources: Collection[int], workspaces: Collection[int]
    ) -> None:
        """From now on `shorten` removes what there is of all others, some of it each time."""
        for name, ids in (("connection", sources), ("workspace", workspaces)):
            known = set(await connection.scalars(select(tables.rejection_counts.c[name]).distinct()))
            self._gone[name] = sorted(known - set(ids) - {0})

    async def shorten(self, connection: AsyncConnection) -> None:
        """Remove the oldest refused events of every workspace that has clearly more than `MAX_REJECTED` of them, and
        some of those whose source is no more."""
        for name, gone in self._gone.items():
            if gone:
                await _remove(connection, name, gone)
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


async def _remove(connection: AsyncConnection, name: str, gone: list[int]) -> None:
    """Remove some of what there is of those that are `gone`, and them from the list when there is nothing left.

    The counts go last, since by them it is known who there was.
    """
    events, counts = tables.rejected_events.c, tables.rejection_counts.c
    some = gone[:_SOURCES_AT_ONCE]
    found = select(events.position).where(events[name].in_(some)).limit(_REMOVED_AT_ONCE)
    removed = await connection.execute(delete(tables.rejected_events).where(events.position.in_(found)))
    if removed.rowcount < _REMOVED_AT_ONCE:
        counted = await connection.execute(delete(tables.rejection_counts).where(counts[name].in_(some)))
        if removed.rowcount == counted.rowcount == 0:  # then what was removed was also committed
            del gone[: len(some)]


async def _shorten(connection: AsyncConnection, workspace: int, kept: int) -> None:
    table = tables.rejected_events.c
    mine = table.workspace == workspace
    oldest = select(table.position).where(mine).order_by(table.position.desc()).offset(kept - 1).limit(1)
    await connection.execute(delete(tables.rejected_events).where(mine, table.position < oldest.scalar_subquery()))


def _counted(rejected: Sequence[RejectedEvent]) -> list[tuple[object, ...]]:
    """Rows of `refusals`."""
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
