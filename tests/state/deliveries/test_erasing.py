"""Persons are erased from the queue: from bodies, chunks, dead letters, the log of attempts, and responses."""

from collections.abc import Iterable

import pytest

from headwater.base.mentions import Mentions
from headwater.state.deliveries import (
    AttemptRecord,
    ChunkProgress,
    CourierReplaced,
    DeadSelection,
    DeliveryErasure,
    ErasedDeliveries,
    LaneHealth,
    NewChunk,
    NewDeliveries,
    QueuedEvent,
)
from headwater.state.deliveries.store import SqlDeliveryStore
from tests.state.deliveries.deliveries import bits, items, letter

JANE = "jane-4711"
ONE, TWO = 5, 6
"""Destinations."""


def is_jane(connection: int, user_id: str | None, anonymous_id: str | None) -> bool:
    return user_id == JANE or (user_id is None and anonymous_id == JANE)


ERASURE = DeliveryErasure(1, frozenset((ONE, TWO)), is_jane, Mentions([JANE]))


def event(position: int, user: str | None) -> QueuedEvent:
    return QueuedEvent(position, 3, f"m{position}", 100, user, None, f'{{"userId":"{user}","n":{position}}}'.encode())


async def append(store: SqlDeliveryStore, first: int, users: Iterable[str | None]) -> None:
    """Append events for both destinations; the first wants them in two pipelines."""
    events = [event(first + index, user) for index, user in enumerate(users)]
    chunks = [NewChunk(ONE, 1, {8: None, 9: [0, 1]}), NewChunk(TWO, 1, {7: None})]
    await store.append([NewDeliveries(1, events, chunks)], through=events[-1].position, now=1)


async def erase(store: SqlDeliveryStore, *, dry: bool = False) -> ErasedDeliveries:
    cursor: tuple[int, int] | None = (0, 0)
    deliveries = letters = texts = 0
    messages: set[tuple[int, str]] = set()
    while cursor is not None:
        step = await store.erase(ERASURE, cursor, dry=dry)
        deliveries, letters, texts = deliveries + step.deliveries, letters + step.dead_letters, texts + step.texts
        messages |= set(step.messages)
        cursor = step.cursor
    return ErasedDeliveries(deliveries, letters, texts, tuple(sorted(messages)))


@pytest.mark.parametrize("dry", [True, False])
async def test_queued_deliveries_are_finished_and_emptied(store: SqlDeliveryStore, dry: bool) -> None:
    await append(store, 1, ["bob", JANE, None, JANE])
    before = items(await store.read(ONE, 0, max_bytes=1 << 20))
    found = await erase(store, dry=dry)
    assert found == ErasedDeliveries(5, 0, 0, ((3, "m2"), (3, "m4")))
    chunks = await store.read(ONE, 0, max_bytes=1 << 20)
    if dry:
        assert items(chunks) == before
        return
    assert items(chunks) == [(1, 8), (1, 9), (3, 8)]
    assert await erase(store) == ErasedDeliveries()


async def test_a_chunk_of_the_person_alone_is_deleted(store: SqlDeliveryStore) -> None:
    await append(store, 1, [JANE, JANE])
    await erase(store)
    assert await store.read(ONE, 0, max_bytes=1 << 20) == []
    assert await store.summaries() == []


async def test_the_active_courier_has_to_read_again_and_its_letters_have_no_effect(store: SqlDeliveryStore) -> None:
    await append(store, 1, ["bob", JANE])
    epoch = await store.claim()
    (chunk,) = await store.read(TWO, 0, max_bytes=1 << 20)
    await store.check(epoch)
    await erase(store)
    with pytest.raises(CourierReplaced):
        await store.check(epoch)
    late = [letter(chunk, 0), letter(chunk, 1)]
    with pytest.raises(CourierReplaced):
        await store.commit(epoch, [ChunkProgress(chunk.id, TWO, bits([0, 1]))], dead=late, now=2)
    await store.commit(await store.claim(), [ChunkProgress(chunk.id, TWO, bits([0, 1]))], dead=late, now=2)
    page = await store.dead_letters(DeadSelection(workspace=1), limit=10)
    assert [each.event.user_id for each in page.letters] == ["bob"]


async def test_an_erasure_without_deliveries_disturbs_no_courier(store: SqlDeliveryStore) -> None:
    await append(store, 1, ["bob", None])
    epoch = await store.claim()
    assert await erase(store) == ErasedDeliveries()
    (chunk,) = await store.read(TWO, 0, max_bytes=1 << 20)
    await store.commit(epoch, [ChunkProgress(chunk.id, TWO, bits([0, 1]))], now=2)


async def test_dead_letters_dead_chunks_attempts_and_responses_are_erased(store: SqlDeliveryStore) -> None:
    await append(store, 1, ["bob", JANE, "eve"])
    epoch = await store.claim()
    (chunk,) = await store.read(TWO, 0, max_bytes=1 << 20)
    attempt = AttemptRecord(2, "Dead", 0, 2, message=f"Rejected: unknown user {JANE}")
    progress = ChunkProgress(chunk.id, TWO, bits([0, 1, 2]), [attempt])
    health = LaneHealth(
        destination=TWO, workspace=1, last_error=f"{JANE} is unknown", last_response=f'"{JANE}"'.encode()
    )
    await store.commit(epoch, [progress], dead=[letter(chunk, index) for index in range(3)], health=[health], now=2)
    await store.expire(epoch, before=10, now=11)
    counted = await erase(store, dry=True)
    assert counted == ErasedDeliveries(0, 3, 2, ((3, "m2"),))
    assert await erase(store) == counted
    page = await store.dead_letters(DeadSelection(workspace=1), limit=10)
    assert {each.event.user_id for each in page.letters} == {"bob", "eve"}
    assert sum(each.count for each in await store.dead_counts(1)) == len(page.letters)
    assert (await store.health())[TWO].last_response == b""
    (traced,) = await store.trace([TWO], 2)
    assert all(JANE not in each.message for each in traced.attempts)
    assert await erase(store) == ErasedDeliveries()
