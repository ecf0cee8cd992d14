"""Lists and counts dead letters."""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, func, or_, select

from headwater.base.compression import decompress
from headwater.state.deliveries.bodies import read_bodies
from headwater.state.deliveries.chunks import ITEM_BITS, QueuedEvent, is_done, wanted_pairs
from headwater.state.deliveries.counts import read_dead_counts
from headwater.state.deliveries.packing import event_count, unfinished_by_pipeline, unpack_wanted
from headwater.state.deliveries.records import (
    EXPIRED,
    NO_SPACE,
    DeadCursor,
    DeadLetter,
    DeadPage,
    DeadRange,
    DeadSelection,
)
from headwater.state.deliveries.rows import StoredRow
from headwater.state.deliveries.space import read_range_counts
from headwater.state.deliveries.tables import dead_chunks, dead_letters, dead_ranges

MAX_CHUNKS: Final = 20
"""Maximum number of dead chunks that are unpacked for a page."""


def list_dead(connection: Connection, selection: DeadSelection, *, limit: int, after: DeadCursor | None) -> DeadPage:
    """Return dead letters, the newest first."""
    found = [read_letter(row) for row in select_letters(connection, selection, limit + 1, newest_after=after)]
    chunks = _dead_chunks(connection, selection, after)
    horizon = None
    if len(chunks) == MAX_CHUNKS:  # there may be more, so the page ends with these
        horizon = chunks[-1].died_at, chunks[-1].id << ITEM_BITS
    bodies = read_bodies(connection, {row.body for row in chunks if _may_match(row, selection)})
    for row in chunks:
        found += _items(row, selection, bodies.get(row.body, []), after)
    found.sort(key=lambda letter: (letter.died_at, letter.number), reverse=True)
    shown = found[:limit]
    if horizon is not None:
        shown = [letter for letter in shown if (letter.died_at, letter.number) >= horizon]
    if len(shown) == limit and len(found) > limit:
        return DeadPage(shown, DeadCursor(shown[-1].died_at, shown[-1].number))
    if horizon is not None:
        return DeadPage(shown, DeadCursor(*horizon))
    return DeadPage(shown, None)


def select_letters(
    connection: Connection,
    selection: DeadSelection,
    limit: int,
    *,
    newest_after: DeadCursor | None = None,
    oldest_after: DeadCursor | None = None,
) -> list[StoredRow]:
    """Return rows of dead letters, the newest first; with `oldest_after` the oldest first."""
    ascending = oldest_after is not None
    cursor = oldest_after if ascending else newest_after
    rows: list[StoredRow] = []
    for key in _searches(connection, selection):
        query = _ordered(select(dead_letters), dead_letters, selection, cursor, ascending=ascending).where(*key)
        rows += connection.execute(query.limit(limit)).all()
    rows.sort(key=lambda row: (row.died_at, row.id), reverse=not ascending)
    return rows[:limit]


def _searches(connection: Connection, selection: DeadSelection) -> list[list[ColumnElement[bool]]]:
    """Return the conditions of the searches that together find the selected dead letters, each with an index."""
    table = dead_letters.c
    if selection.pipeline is None and selection.reason is None:
        if selection.destination is None:
            return [[table.workspace == selection.workspace]]
        return [[table.destination == selection.destination, table.workspace == selection.workspace]]
    groups = {
        (each.pipeline, each.reason)
        for each in read_dead_counts(connection, selection.workspace, selection.destination)
        if selection.pipeline in (None, each.pipeline) and selection.reason in (None, each.reason)
    }
    own = [table.workspace == selection.workspace]
    if selection.destination is not None:
        own.append(table.destination == selection.destination)
    return [[table.pipeline == pipeline, table.reason == reason, *own] for pipeline, reason in sorted(groups)]


def _ordered(
    query: Select[Any],
    table: Table,
    selection: DeadSelection,
    cursor: DeadCursor | None,
    *,
    ascending: bool = False,
    shift: int = 0,
) -> Select[Any]:
    """Add the times of the selection, the cursor and the order. `shift` are the bits of a number that an id lacks."""
    died_at, id_ = table.c.died_at, table.c.id
    if selection.since is not None:
        query = query.where(died_at >= selection.since)
    if selection.until is not None:
        query = query.where(died_at < selection.until)
    if cursor is not None and ascending:
        later = id_ > cursor.number >> shift
        query = query.where(died_at >= cursor.died_at, or_(died_at > cursor.died_at, later))
    elif cursor is not None:
        earlier = id_ <= cursor.number >> shift if shift else id_ < cursor.number
        query = query.where(died_at <= cursor.died_at, or_(died_at < cursor.died_at, earlier))
    return query.order_by(died_at, id_) if ascending else query.order_by(died_at.desc(), id_.desc())


def _dead_chunks(connection: Connection, selection: DeadSelection, cursor: DeadCursor | None) -> list[StoredRow]:
    if selection.reason not in (None, EXPIRED):
        return []
    query = _ordered(select(dead_chunks), dead_chunks, selection, cursor, shift=ITEM_BITS)
    return list(connection.execute(query.where(*_of_chunks(selection)).limit(MAX_CHUNKS)).all())


def oldest_dead_chunk(connection: Connection, selection: DeadSelection, after: DeadCursor) -> StoredRow | None:
    """Return the first selected dead chunk after a place in the order of time."""
    if selection.reason not in (None, EXPIRED):
        return None
    query = _ordered(select(dead_chunks), dead_chunks, selection, after, ascending=True, shift=ITEM_BITS)
    return connection.execute(query.where(*_of_chunks(selection)).limit(1)).one_or_none()


def _of_chunks(selection: DeadSelection) -> list[ColumnElement[bool]]:
    table = dead_chunks.c
    chosen: list[ColumnElement[bool]] = [table.workspace == selection.workspace]
    if selection.destination is not None:
        chosen.append(table.destination == selection.destination)
    return chosen


def _may_match(row: StoredRow, selection: DeadSelection) -> bool:
    if selection.reason not in (None, row.reason):
        return False
    return selection.pipeline is None or selection.pipeline in unpack_wanted(row.wanted)


def selected_items(row: StoredRow, selection: DeadSelection) -> Iterator[tuple[int, int, int]]:
    """Yield the selected unfinished items of a dead chunk: index in the chunk, index of the event, and pipeline."""
    if not _may_match(row, selection):
        return
    wanted = unpack_wanted(row.wanted)
    for index, (event, pipeline) in enumerate(wanted_pairs(wanted, event_count(wanted, row.item_count))):
        if selection.pipeline in (None, pipeline) and not is_done(row.done, index):
            yield index, event, pipeline


def _items(
    row: StoredRow, selection: DeadSelection, events: list[QueuedEvent], after: DeadCursor | None
) -> Iterator[DeadLetter]:
    for index, event, pipeline in selected_items(row, selection) if events else ():
        number = row.id << ITEM_BITS | index
        if after is not None and (row.died_at, number) >= (after.died_at, after.number):
            continue
        yield DeadLetter(
            number=number,
            workspace=row.workspace,
            destination=row.destination,
            pipeline=pipeline,
            reason=row.reason,
            enqueued_at=row.enqueued_at,
            died_at=row.died_at,
            event=events[event],
        )


def read_event(row: StoredRow) -> QueuedEvent:
    """Return the event of a row of `dead_letters`."""
    return QueuedEvent(
        row.position,
        row.source,
        row.message_id,
        row.received_at,
        row.user_id,
        row.anonymous_id,
        decompress(row.document),
    )


def read_letter(row: StoredRow) -> DeadLetter:
    """Return a row of `dead_letters`."""
    return DeadLetter(
        number=row.id,
        workspace=row.workspace,
        destination=row.destination,
        pipeline=row.pipeline,
        reason=row.reason,
        message=row.message,
        status=row.status,
        attempts=row.attempts,
        step=row.step,
        enqueued_at=row.enqueued_at,
        died_at=row.died_at,
        event=read_event(row),
    )


def count_dead(connection: Connection, selection: DeadSelection) -> int:
    """Return the number of selected dead letters that can be sent again."""
    if selection.since is None and selection.until is None:
        return sum(
            each.count
            for each in read_dead_counts(connection, selection.workspace, selection.destination)
            if each.reason != NO_SPACE
            and selection.pipeline in (None, each.pipeline)
            and selection.reason in (None, each.reason)
        )
    total = 0
    for key in _searches(connection, selection):
        query = _ordered(select(func.count()), dead_letters, selection, None).order_by(None)
        total += connection.execute(query.where(*key)).scalar_one()
    chunks = _ordered(select(dead_chunks), dead_chunks, selection, None).order_by(None)
    for row in connection.execute(chunks.where(*_of_chunks(selection))):
        if not _may_match(row, selection):
            continue
        left = unfinished_by_pipeline(unpack_wanted(row.wanted), row.item_count, row.done)
        total += sum(left.values()) if selection.pipeline is None else left.get(selection.pipeline, 0)
    return total


def list_ranges(connection: Connection, selection: DeadSelection, *, limit: int, after: int) -> list[DeadRange]:
    """Return ranges in the order of their ids."""
    table = dead_ranges.c
    query = select(dead_ranges).where(table.workspace == selection.workspace, table.id > after)
    if selection.destination is not None:
        query = query.where(table.destination == selection.destination)
    if selection.since is not None:
        query = query.where(table.died_at >= selection.since)
    if selection.until is not None:
        query = query.where(table.died_at < selection.until)
    ranges = []
    for row in connection.execute(query.order_by(table.id).limit(limit)):
        pipelines = read_range_counts(row.pipelines)
        ranges.append(
            DeadRange(
                row.id,
                row.workspace,
                row.destination,
                row.first_position,
                row.last_position,
                pipelines,
                row.enqueued_at,
                row.died_at,
            )
        )
    return ranges
