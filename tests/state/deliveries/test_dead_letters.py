"""Dead letters are listed, counted, kept for a time and a size, and moved back into the queue."""

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from headwater.state.deliveries import (
    EXPIRED,
    NO_SPACE,
    AttemptRecord,
    DeadCount,
    DeadCursor,
    DeadLetter,
    DeadSelection,
    NewChunk,
    NewDeliveries,
    Owners,
    QueuedChunk,
    QueuedEvent,
    open_delivery_store,
)
from headwater.state.deliveries.chunks import ITEM_BITS
from headwater.state.deliveries.contract import MAX_STEP_ITEMS
from headwater.state.deliveries.counts import read_sizes
from headwater.state.deliveries.store import SqlDeliveryStore
from tests.state.deliveries.deliveries import WORKSPACE, deliveries, items, letter, progress

LARGE = 1 << 30
ALL = DeadSelection(workspace=WORKSPACE)


async def add(store: SqlDeliveryStore, first: int, count: int, *, now: int, size: int = 100) -> None:
    """Append events for destination 21 (pipelines 31 and 32) and 22 (pipeline 33)."""
    positions = range(first, first + count)
    batch = deliveries(positions, {21: {31: None, 32: [0]}, 22: {33: None}}, size=size)
    await store.append([batch], through=first + count - 1, now=now)


async def find_chunk(store: SqlDeliveryStore, destination: int) -> QueuedChunk:
    (chunk, *_) = await store.read(destination, 0, max_bytes=1)
    return chunk


async def kill(store: SqlDeliveryStore, epoch: int, chunk: QueuedChunk, letters: Sequence[DeadLetter]) -> None:
    """Finish a chunk: these letters are dead, and the other items are delivered."""
    await store.commit(epoch, [progress(chunk)], dead=letters, now=max(each.died_at for each in letters))


@pytest.fixture
async def dead(store: SqlDeliveryStore) -> SqlDeliveryStore:
    """Return a store with dead letters of both kinds: some of destination 21 alone, and an expired chunk of 22."""
    await add(store, 1, 5, now=100)
    epoch = await store.claim()
    chunk = await find_chunk(store, 21)
    letters = [
        letter(chunk, 0, died_at=200),
        letter(chunk, 1, died_at=201, reason="Transformation"),
        letter(chunk, 4, died_at=202),
    ]
    await kill(store, epoch, chunk, letters)
    other = await find_chunk(store, 22)
    await store.commit(epoch, [progress(other, [0, 4])], now=203)
    expired = await store.expire(epoch, before=101, now=300)
    assert [each.id for each in expired.chunks] == [other.id]
    assert sum(expired.items.values()) == other.item_count - 2
    return store


async def listed(
    store: SqlDeliveryStore, selection: DeadSelection, *, limit: int = 100
) -> list[tuple[int, int, int, str]]:
    """Return all pages of dead letters as time, position, pipeline and reason."""
    found: list[tuple[int, int, int, str]] = []
    after: DeadCursor | None = None
    while True:
        page = await store.dead_letters(selection, limit=limit, after=after)
        assert len(page.letters) <= limit
        found += [(each.died_at, each.event.position, each.pipeline, each.reason) for each in page.letters]
        if page.next is None:
            return found
        after = page.next


EVERY = [
    (300, 4, 33, EXPIRED),
    (300, 3, 33, EXPIRED),
    (300, 2, 33, EXPIRED),
    (202, 4, 31, "Rejected"),
    (201, 1, 32, "Transformation"),
    (200, 1, 31, "Rejected"),
]


SELECTIONS: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, EVERY),
    ({"destination": 22}, EVERY[:3]),
    ({"destination": 21}, EVERY[3:]),
    ({"pipeline": 31}, [EVERY[3], EVERY[5]]),
    ({"pipeline": 33}, EVERY[:3]),
    ({"reason": "Rejected"}, [EVERY[3], EVERY[5]]),
    ({"reason": EXPIRED}, EVERY[:3]),
    ({"destination": 22, "reason": "Rejected"}, []),
    ({"pipeline": 31, "reason": "Rejected", "destination": 21}, [EVERY[3], EVERY[5]]),
    ({"since": 201, "until": 300}, EVERY[3:5]),
    ({"since": 300}, EVERY[:3]),
    ({"workspace": 8}, []),
    ({"workspace": 8, "destination": 21}, []),
]


async def test_dead_letters_are_listed_newest_first(dead: SqlDeliveryStore) -> None:
    for chosen, expected in SELECTIONS:
        selection = DeadSelection(**{"workspace": WORKSPACE, **chosen})
        for limit in (1, 2, 4, 100):
            assert await listed(dead, selection, limit=limit) == expected, (chosen, limit)
        assert await dead.count_dead(selection) == len(expected), chosen


async def test_a_dead_letter_has_its_event_and_its_reason(dead: SqlDeliveryStore) -> None:
    page = await dead.dead_letters(DeadSelection(workspace=WORKSPACE, destination=21), limit=1)
    (found,) = page.letters
    assert (found.message, found.status, found.attempts, found.enqueued_at) == ("no email", 400, 1, 100)
    assert found.event.document.startswith(b'{"n":"4"}')
    assert (found.event.message_id, found.event.user_id) == ("m4", "u1")


async def test_dead_letters_are_counted_by_reason(dead: SqlDeliveryStore) -> None:
    assert await dead.dead_counts(WORKSPACE) == [
        DeadCount(22, 33, EXPIRED, 3),
        DeadCount(21, 31, "Rejected", 2),
        DeadCount(21, 32, "Transformation", 1),
    ]
    assert [each.count for each in await dead.dead_counts(WORKSPACE, destination=22)] == [3]
    assert await dead.dead_counts(8) == []
    summaries = {each.destination: each for each in await dead.summaries()}
    assert (summaries[21].dead_items, summaries[22].dead_items, summaries[22].open_items) == (3, 3, 0)


async def test_a_commit_that_is_repeated_adds_no_dead_letter(store: SqlDeliveryStore) -> None:
    await add(store, 1, 5, now=100)
    epoch = await store.claim()
    chunk = await find_chunk(store, 21)
    for _ in range(2):
        await kill(store, epoch, chunk, [letter(chunk, 0, died_at=200)])
    assert len(await listed(store, ALL)) == 1
    assert [each.count for each in await store.dead_counts(WORKSPACE)] == [1]


async def test_items_that_were_under_way_when_their_chunk_expired_are_not_dead(store: SqlDeliveryStore) -> None:
    await add(store, 1, 3, now=100)
    epoch = await store.claim()
    chunk = await find_chunk(store, 22)
    assert len((await store.expire(epoch, before=100, now=300)).chunks) == 0
    assert len((await store.expire(epoch, before=101, now=300)).chunks) == 2
    await store.commit(epoch, [progress(chunk, [1])], now=301)
    assert [(position, pipeline) for _, position, pipeline, _ in await listed(store, ALL)] == [
        (3, 33), (1, 33), (3, 31), (2, 31), (1, 32), (1, 31)
    ]  # fmt: skip
    await store.commit(epoch, [progress(chunk)], now=302)
    assert await store.dead_counts(WORKSPACE, destination=22) == []


async def test_a_resend_moves_the_selected_dead_letters_behind_the_queue(dead: SqlDeliveryStore) -> None:
    await add(dead, 6, 1, now=400)
    selection = DeadSelection(workspace=WORKSPACE, pipeline=31)
    steps = [await dead.resend("op", selection, now=500) for _ in range(2)]
    assert [(step.items, step.is_complete) for step in steps] == [(2, False), (2, True)]
    assert items(await dead.read(21, 0, max_bytes=LARGE)) == [(6, 31), (6, 32), (1, 31), (4, 31)]
    again = (await dead.read(21, 0, max_bytes=LARGE))[-1]
    assert (again.origin, again.enqueued_at) == ("op", 500)
    assert await listed(dead, ALL) == [*EVERY[:3], EVERY[4]]
    assert (await dead.resend("op", selection, now=600)).items == 2
    assert await dead.operation_progress("op") == steps[-1]
    await dead.forget_operation("op")
    assert (await dead.operation_progress("op")).items == 0


async def test_an_expired_chunk_is_moved_as_a_whole(dead: SqlDeliveryStore) -> None:
    while not (progressed := await dead.resend("op", ALL, now=500)).is_complete:
        pass
    assert progressed.items == 6
    assert items(await dead.read(22, 0, max_bytes=LARGE)) == [(2, 33), (3, 33), (4, 33)]
    assert items(await dead.read(21, 0, max_bytes=LARGE)) == [(1, 31), (1, 32), (4, 31)]
    assert await listed(dead, ALL) == []
    assert await dead.dead_counts(WORKSPACE) == []
    epoch = await dead.claim()
    for destination in (21, 22):
        chunks = await dead.read(destination, 0, max_bytes=LARGE)
        await dead.commit(epoch, [progress(chunk) for chunk in chunks], now=600)
    assert await dead.summaries() == []
    assert (await dead._read(read_sizes))[0].open_bytes == 0


async def test_a_resend_of_one_pipeline_leaves_the_others_in_an_expired_chunk(store: SqlDeliveryStore) -> None:
    await add(store, 1, 3, now=100)
    epoch = await store.claim()
    await store.expire(epoch, before=101, now=300)
    selection = DeadSelection(workspace=WORKSPACE, pipeline=32)
    while not (progressed := await store.resend("op", selection, now=400)).is_complete:
        pass
    assert progressed.items == 1
    assert items(await store.read(21, 0, max_bytes=LARGE)) == [(1, 32)]
    left = await listed(store, DeadSelection(workspace=WORKSPACE, destination=21))
    assert [(position, pipeline) for _, position, pipeline, _ in left] == [(3, 31), (2, 31), (1, 31)]


async def test_a_resend_has_steps_of_limited_size_and_goes_on_after_a_crash(store: SqlDeliveryStore, url: str) -> None:
    count = MAX_STEP_ITEMS + 200
    await store.append([deliveries(range(1, count + 1), {21: {31: None}})], through=count, now=100)
    epoch = await store.claim()
    for chunk in await store.read(21, 0, max_bytes=LARGE):
        await kill(store, epoch, chunk, [letter(chunk, index, died_at=200) for index in range(chunk.item_count)])
    assert (await store.resend("op", ALL, now=300)).items == MAX_STEP_ITEMS
    async with open_delivery_store(url) as other:
        assert (await other.resend("op", ALL, now=300)).items == count
        assert (await other.resend("op", ALL, now=300)).is_complete
        moved = items(await other.read(21, 0, max_bytes=LARGE))
    assert moved == [(position, 31) for position in range(1, count + 1)]


async def test_what_dies_during_a_resend_is_not_sent_again(store: SqlDeliveryStore) -> None:
    await add(store, 1, 1, now=100)
    epoch = await store.claim()
    chunk = await find_chunk(store, 22)
    await kill(store, epoch, chunk, [letter(chunk, 0, died_at=200)])
    selection = DeadSelection(workspace=WORKSPACE, destination=22)
    assert (await store.resend("op", selection, now=300)).items == 1
    chunk = await find_chunk(store, 22)
    await kill(store, epoch, chunk, [letter(chunk, 0, died_at=301)])
    progressed = await store.resend("op", selection, now=400)
    assert (progressed.items, progressed.is_complete) == (1, True)
    assert len(await listed(store, selection)) == 1


async def test_a_replay_appends_each_step_once(store: SqlDeliveryStore) -> None:
    batch = deliveries([5, 9], {21: {31: None}})
    first = await store.append_again("op", [batch], expected=b"", cursor=b"9", now=1)
    again = await store.append_again("op", [batch], expected=b"", cursor=b"9", now=2)
    assert first == again
    last = deliveries([11], {21: {31: None}})
    done = await store.append_again("op", [last], expected=b"9", cursor=b"11", now=3, is_complete=True)
    assert (done.items, done.cursor, done.is_complete) == (3, b"11", True)
    assert items(await store.read(21, 0, max_bytes=LARGE)) == [(5, 31), (9, 31), (11, 31)]
    assert await store.appended() == 0, "the worker still appends all events of the log"


async def test_old_dead_letters_and_attempts_are_deleted(dead: SqlDeliveryStore) -> None:
    assert await dead.trim(dead_before=200, attempts_before=0) == 0
    assert await dead.trim(dead_before=202, attempts_before=0) == 2
    assert await listed(dead, ALL) == EVERY[:4]
    while await dead.trim(dead_before=301, attempts_before=0):
        pass
    assert await listed(dead, ALL) == []
    assert await dead.summaries() == []
    assert (await dead._read(read_sizes))[0].open_bytes == 0


async def test_data_of_deleted_destinations_and_pipelines_is_deleted(dead: SqlDeliveryStore) -> None:
    await add(dead, 6, 3, now=400)
    assert await dead.owners() == Owners(frozenset({21, 22}), frozenset({31, 32, 33}))
    while await dead.remove(Owners(frozenset({22}), frozenset({32}))):
        pass
    assert await listed(dead, ALL) == [EVERY[3], EVERY[5]]
    assert await dead.read(22, 0, max_bytes=LARGE) == []
    assert [each.destination for each in await dead.summaries()] == [21]
    while await dead.remove(await dead.owners()):
        pass
    assert await dead.summaries() == []
    assert (await dead._read(read_sizes))[0].open_bytes == 0


async def test_a_deleted_workspace_takes_the_log_of_attempts_with_it(store: SqlDeliveryStore) -> None:
    await add(store, 1, 1, now=100)
    epoch = await store.claim()
    chunk = await find_chunk(store, 21)
    done = progress(chunk)
    attempts = (AttemptRecord(150, "Delivered", 0, 1),)
    await store.commit(epoch, [type(done)(done.chunk, done.destination, done.done, attempts)], now=200)
    assert len(await store.trace([21], 1)) == 2
    while await store.remove(await store.owners()):
        pass
    assert await store.trace([21], 1) == []


@pytest.fixture
async def small(url: str) -> AsyncIterator[SqlDeliveryStore]:
    """A store with space for about 60 bodies of 2 KB."""
    async with open_delivery_store(url, max_bytes=200_000) as store:
        yield store


async def test_above_the_maximum_size_the_oldest_chunks_become_ranges(small: SqlDeliveryStore) -> None:
    for position in range(1, 201):
        event = QueuedEvent(position, 1, f"m{position}", 1, "u", None, os.urandom(2_000))
        chunks = [NewChunk(21, WORKSPACE, {31: None})]
        if position % 20 == 0:
            chunks.append(NewChunk(22, WORKSPACE, {33: None}))
        await small.append([NewDeliveries(WORKSPACE, [event], chunks)], through=position, now=position)
    sizes = await small._read(read_sizes)
    assert sizes[0].open_bytes <= 200_000
    read = await small.read(21, 0, max_bytes=LARGE)
    while more := await small.read(21, read[-1].id, max_bytes=LARGE):
        read += more
    large = [position for position, _ in items(read)]
    assert large == list(range(large[0], 201)), "the newest are there"
    assert 50 <= len(large) <= 80
    assert len(items(await small.read(22, 0, max_bytes=LARGE))) == 10, "a small destination loses nothing"
    ranges = await small.dead_ranges(ALL, limit=10)
    assert [(each.first_position, each.last_position, each.pipelines) for each in ranges] == [
        (1, large[0] - 1, {31: large[0] - 1})
    ]
    assert await small.dead_counts(WORKSPACE) == [DeadCount(21, 31, NO_SPACE, large[0] - 1)]
    assert await small.count_dead(ALL) == 0, "their documents are gone"
    (traced,) = await small.trace([21], 3)
    assert traced.state == "Dropped"
    await small.remove_dead_range(ranges[0].id)
    assert await small.dead_counts(WORKSPACE) == []


async def test_dead_letters_go_before_deliveries(small: SqlDeliveryStore) -> None:
    await add(small, 1, 30, now=100, size=100)
    epoch = await small.claim()
    chunk = await find_chunk(small, 21)
    await kill(small, epoch, chunk, [letter(chunk, index, died_at=200 + index) for index in range(31)])
    before = len(await listed(small, ALL))
    small._max_bytes = 15_000
    freed = await small.make_space(now=300)
    assert freed.chunks == []
    left = await listed(small, ALL)
    assert 0 < len(left) < before
    assert left == sorted(left, reverse=True)
    assert left[0][0] == 230, "the oldest are deleted"
    assert (await find_chunk(small, 22)).item_count == 30


async def test_numbers_of_dead_letters_are_those_of_their_items(dead: SqlDeliveryStore) -> None:
    page = await dead.dead_letters(ALL, limit=10)
    numbers = [each.number for each in page.letters]
    assert len(set(numbers)) == len(numbers)
    assert {number >> ITEM_BITS for number in numbers} == {1, 2}
