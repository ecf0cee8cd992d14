"""The sizes of queues, and the numbers of dead letters, as changes that are added up.

A change is a row of its own: many transactions that update the same row would leave as many dead versions of it.
"""

from collections import defaultdict
from typing import Final

from sqlalchemy import Connection, delete, func, select

from headwater.state.deliveries.records import DeadCount, LaneSummary
from headwater.state.deliveries.rows import insert_rows, lock
from headwater.state.deliveries.tables import dead_counts, delivery_chunks, delivery_counts

MAX_ROWS: Final = 500
"""Number of written changes after which `Compaction` adds them up."""
EVERYTHING: Final = 0
"""The destination that stands for the whole queue."""
ROW_BYTES: Final = 512
"""Size that a chunk takes on the disk besides its body: its row, and entries of four indexes."""

PAGE_BYTES: Final = 16_384
"""Page size of the SQLite file: bodies have tens of kilobytes."""

_SIZES: Final = ("open_items", "open_bytes", "dead_items", "dead_bytes")
_DEAD: Final = ("workspace", "destination", "pipeline", "reason")


def measure_body(size: int) -> int:
    """Return the space on the disk of a body of this size: a body that is larger than half a page takes whole pages."""
    return size if 2 * size <= PAGE_BYTES else -(-size // PAGE_BYTES) * PAGE_BYTES


class Changes:
    """The changes of one transaction."""

    def __init__(self) -> None:
        self._sizes: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self._dead: defaultdict[tuple[int, int, int, str], int] = defaultdict(int)
        self.size = 0
        """Change of the size of everything, in bytes."""

    def add_open(self, destination: int, items: int, size: int) -> None:
        """Count unfinished deliveries, and the compressed size of their bodies."""
        sizes = self._sizes[destination]
        sizes[0] += items
        sizes[1] += size

    def add_dead(self, destination: int, items: int, size: int) -> None:
        """Count dead letters that can be sent again."""
        sizes = self._sizes[destination]
        sizes[2] += items
        sizes[3] += size

    def add_reason(self, workspace: int, destination: int, pipeline: int, reason: str, count: int) -> None:
        """Count dead letters of a pipeline."""
        self._dead[workspace, destination, pipeline, reason] += count

    def add_size(self, size: int) -> None:
        """Count bytes on the disk."""
        self.size += size

    def add_log(self, size: int) -> None:
        """Count bytes of the log of attempts, which are bytes on the disk, too."""
        self.size += size
        self._sizes[EVERYTHING][3] += size

    def write(self, connection: Connection) -> int:
        """Write the changes; return the number of rows."""
        if self.size:
            self._sizes[EVERYTHING][1] += self.size
        sizes = [
            {"destination": destination, **dict(zip(_SIZES, values, strict=True))}
            for destination, values in sorted(self._sizes.items())
            if any(values)
        ]
        dead = [{**dict(zip(_DEAD, key, strict=True)), "count": count} for key, count in self._dead.items() if count]
        insert_rows(connection, delivery_counts, sizes)
        insert_rows(connection, dead_counts, dead)
        return len(sizes) + len(dead)


def compact(connection: Connection) -> None:
    """Replace the committed changes by their sums."""
    lock(connection, "count")
    sums: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    table = delivery_counts.c
    for row in connection.execute(delete(delivery_counts).returning(table.destination, *(table[n] for n in _SIZES))):
        for index, value in enumerate(row[1:]):
            sums[row.destination][index] += value
    rows = [
        {"destination": destination, **dict(zip(_SIZES, values, strict=True))}
        for destination, values in sums.items()
        if any(values)
    ]
    insert_rows(connection, delivery_counts, rows)
    dead: defaultdict[tuple[int, int, int, str], int] = defaultdict(int)
    counts = dead_counts.c
    for row in connection.execute(delete(dead_counts).returning(*(counts[name] for name in _DEAD), counts.count)):
        dead[tuple(row[:4])] += row[4]
    named = [{**dict(zip(_DEAD, key, strict=True)), "count": count} for key, count in dead.items() if count]
    insert_rows(connection, dead_counts, named)


def read_sizes(connection: Connection) -> dict[int, LaneSummary]:
    """Return the sizes of all queues by destination; of `EVERYTHING`, that of everything."""
    table = delivery_counts.c
    query = select(table.destination, *(func.sum(table[name]).label(name) for name in _SIZES))
    rows = connection.execute(query.group_by(table.destination))
    return {row[0]: LaneSummary(**{name: int(row._mapping[name]) for name in ("destination", *_SIZES)}) for row in rows}


def read_summaries(connection: Connection) -> list[LaneSummary]:
    """Return the sizes of all queues with their oldest and newest chunks."""
    summaries = []
    table = delivery_chunks.c
    for destination, sizes in sorted(read_sizes(connection).items()):
        if destination == EVERYTHING or not (sizes.open_items or sizes.dead_items):
            continue
        mine = select(table.id, table.enqueued_at).where(table.destination == destination).limit(1)
        oldest = connection.execute(mine.order_by(table.id)).one_or_none()
        newest = connection.execute(mine.order_by(table.id.desc())).one_or_none()
        summaries.append(
            LaneSummary(
                destination=destination,
                open_items=sizes.open_items,
                open_bytes=sizes.open_bytes,
                dead_items=sizes.dead_items,
                dead_bytes=sizes.dead_bytes,
                oldest_at=None if oldest is None else oldest.enqueued_at,
                newest_chunk=0 if newest is None else newest.id,
            )
        )
    return summaries


def read_dead_counts(connection: Connection, workspace: int, destination: int | None) -> list[DeadCount]:
    """Return the numbers of dead letters by destination, pipeline and reason, the most frequent first."""
    table = dead_counts.c
    key = (table.destination, table.pipeline, table.reason)
    total = func.sum(table.count)
    query = select(*key, total).where(table.workspace == workspace)
    if destination is not None:
        query = query.where(table.destination == destination)
    rows = connection.execute(query.group_by(*key).having(total > 0).order_by(total.desc(), *key))
    return [DeadCount(row[0], row[1], row[2], int(row[3])) for row in rows]
