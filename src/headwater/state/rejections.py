"""Rejected events as they were sent, of which the newest are kept, and counts of broken rules.

The cost of trimming depends on the number of arrivals, not on the number of stored events.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, delete, select

from headwater.base.clock import microseconds
from headwater.events import MAX_REJECTED_BYTES
from headwater.state import bulk, tables

MAX_REJECTED: Final = 100_000
"""Maximum number of rejected events per workspace, plus some slack. The oldest are deleted first, and remain
counted."""
MAX_UNKNOWN_REJECTED: Final = 1_000
"""Maximum number of rejected calls with an unknown key per installation. The oldest are deleted first."""
_SLACK: Final = 100
"""Slack above `MAX_REJECTED` per workspace, as a fraction: finding the oldest event to keep reads all younger ones."""
_MAX_COUNTED_PATH: Final = 200
"""Maximum length of a path in the counts, in characters. The sender chooses the path."""
_MAX_REMOVED_ROWS: Final = 1_000
"""Maximum number of rows that one call deletes. A row can have 64 KiB, and events wait meanwhile."""
_SOURCES_AT_ONCE: Final = 200
_MAX_CHECKED_WORKSPACES: Final = 50
"""Maximum number of workspaces that one call counts after a start: up to 5 ms for each."""


class RejectedEvent(Struct, frozen=True):
    """An event, or a whole call, that was rejected."""

    position: int
    workspace: int
    """The workspace; 0 if the key was unknown."""
    connection: int
    """The connection; 0 if the key was unknown."""
    protocol: str
    received_at: datetime
    code: str
    path: str
    message: str
    body: bytes
    """The sent bytes, cut at `MAX_REJECTED_BYTES`."""
    message_id: str | None = None
    """The message id; None if there is none that can be read."""


class RejectionCount(Struct, frozen=True):
    """Number of events of a source that broke one rule."""

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
    """The rejected events, for the process that writes them. It counts the arrivals of each workspace.

    A rollback can leave a count too high. A workspace is then checked too early, which is harmless.
    """

    def __init__(self) -> None:
        self._added: Counter[int] = Counter()
        """Rejected events by workspace, since the workspace had at most `MAX_REJECTED` of them."""
        self._unchecked: list[int] | None = None
        """Workspaces that were not counted since the start; None before they are listed."""

    def add(self, connection: Connection, rejected: Sequence[RejectedEvent]) -> None:
        """Store and count rejected events. Only the newest `MAX_UNKNOWN_REJECTED` with an unknown key are kept."""
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
        bulk.insert(connection, list(tables.rejected_events.c), rows)
        bulk.upsert(
            connection,
            list(tables.rejection_counts.c),
            _counted(rejected),
            key=[column.name for column in tables.rejection_counts.primary_key],
            adding=("count",),
            keeping=("first_at",),
        )
        workspaces = Counter(row.workspace for row in rejected)
        if workspaces.pop(0, 0):
            _shorten(connection, 0, MAX_UNKNOWN_REJECTED)
        self._added += workspaces

    def remove_except(self, connection: Connection, *, sources: Collection[int], workspaces: Collection[int]) -> int:
        """Delete some rejected events and counts of sources and workspaces that are not in these sets. Return their
        number.

        The counts are deleted last, because they list the sources.
        """
        removed = 0
        for name, present in (("connection", sources), ("workspace", workspaces)):
            known = bulk.distinct(connection, tables.rejection_counts.c[name])
            absent = sorted(known - set(present) - {0})[:_SOURCES_AT_ONCE]
            for table in (tables.rejected_events, tables.rejection_counts):
                left = _MAX_REMOVED_ROWS - removed
                if left > 0:
                    removed += bulk.remove_some(connection, table.c[name], absent, limit=left)
        return removed

    def shorten(self, connection: Connection) -> None:
        """Delete the oldest rejected events of workspaces that exceed `MAX_REJECTED` by more than the slack."""
        if self._unchecked is None:
            self._unchecked = sorted(bulk.distinct(connection, tables.rejected_events.c.workspace) - {0})
        crowded = [each for each, added in self._added.items() if added > MAX_REJECTED // _SLACK]
        for workspace in [*crowded, *self._unchecked[:_MAX_CHECKED_WORKSPACES]]:
            _shorten(connection, workspace, MAX_REJECTED)
            self._added.pop(workspace, None)
        del self._unchecked[:_MAX_CHECKED_WORKSPACES]


def _shorten(connection: Connection, workspace: int, kept: int) -> None:
    table = tables.rejected_events.c
    mine = table.workspace == workspace
    oldest = select(table.position).where(mine).order_by(table.position.desc()).offset(kept - 1).limit(1)
    connection.execute(delete(tables.rejected_events).where(mine, table.position < oldest.scalar_subquery()))


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
    """Replace NUL, which PostgreSQL texts cannot contain; the text may repeat sent data."""
    return text.replace("\0", "\ufffd")
