"""A trace returns the state of each delivery of an event: queued, delivered, dead."""

import pytest
from msgspec.structs import replace

from headwater.state.deliveries import AttemptRecord, ChunkProgress, QueuedChunk, TracedDelivery
from headwater.state.deliveries.records import DeadSelection
from headwater.state.deliveries.store import SqlDeliveryStore
from tests.state.deliveries.deliveries import WORKSPACE, bits, deliveries, letter, progress


@pytest.fixture
async def chunk(store: SqlDeliveryStore) -> QueuedChunk:
    for first in (1, 11, 21):
        batch = deliveries(range(first, first + 10, 2), {21: {31: None, 32: [1]}, 22: {33: [0]}})
        await store.append([batch], through=first + 9, now=first)
    chunks = await store.read(21, 0, max_bytes=1 << 20)
    return chunks[1]


async def states(store: SqlDeliveryStore, position: int, *destinations: int) -> list[tuple[int, int, str]]:
    found = await store.trace(destinations or (21, 22), position)
    return [(each.destination, each.pipeline, each.state) for each in found]


@pytest.mark.usefixtures("chunk")
async def test_queued_deliveries_are_found_by_position(store: SqlDeliveryStore) -> None:
    assert await states(store, 11) == [(21, 31, "Queued"), (22, 33, "Queued")]
    assert await states(store, 13) == [(21, 31, "Queued"), (21, 32, "Queued")]
    assert await states(store, 12) == []
    assert await states(store, 99) == []
    assert await states(store, 13, 22) == []


async def test_a_delivered_event_has_its_attempts(store: SqlDeliveryStore, chunk: QueuedChunk) -> None:
    """The items of the chunk are, in this order: 11/31, 13/31, 13/32, 15/31, 17/31, 19/31."""
    epoch = await store.claim()
    await store.commit(epoch, [progress(chunk, [1])], now=100)
    assert await states(store, 13, 21) == [(21, 31, "Delivered"), (21, 32, "Queued")]
    attempts = [
        AttemptRecord(90, "Retried", 0, 3, status=503, message="busy", others=[0, 1, 3]),
        AttemptRecord(91, "Delivered", 0, 3, number=2, status=200, others=[0, 1, 3]),
        AttemptRecord(92, "Dead", 2, 2, status=400, message="no email"),
        AttemptRecord(93, "Delivered", 4, 5, status=200),
    ]
    done = ChunkProgress(chunk.id, 21, bits(range(6)), attempts)
    await store.commit(epoch, [done], dead=[letter(chunk, 2, died_at=92)], now=101)
    found = {each.pipeline: each for each in await store.trace([21], 13)}
    assert [(each.at, each.status) for each in found[31].attempts] == [(90, 503), (91, 200)]
    assert (found[31].state, found[31].enqueued_at) == ("Delivered", 11)
    assert (found[32].state, found[32].reason, found[32].message) == ("Dead", "Rejected", "no email")
    assert [each.at for each in found[32].attempts] == [92]
    (last,) = await store.trace([21], 19)
    assert [each.at for each in last.attempts] == [93]


async def test_a_delivery_that_was_sent_again_has_both_lives(store: SqlDeliveryStore, chunk: QueuedChunk) -> None:
    epoch = await store.claim()
    attempts = (AttemptRecord(92, "Dead", 2, 2), AttemptRecord(93, "Delivered", 0, 5, others=[0, 1, 3, 4, 5]))
    dead = [letter(chunk, 2, died_at=92)]
    await store.commit(epoch, [ChunkProgress(chunk.id, 21, bits(range(6)), attempts)], dead=dead, now=101)
    await store.resend("op", DeadSelection(workspace=WORKSPACE), now=102)
    found = [(each.pipeline, each.state, each.origin) for each in await store.trace([21], 13)]
    assert found == [(31, "Delivered", ""), (32, "Dead", ""), (32, "Queued", "op")]


async def test_an_expired_delivery_is_dead(store: SqlDeliveryStore, chunk: QueuedChunk) -> None:
    epoch = await store.claim()
    await store.commit(epoch, [progress(chunk, [0, 1])], now=100)
    await store.expire(epoch, before=20, now=100)
    found = [(each.pipeline, each.state, each.reason) for each in await store.trace([21], 13)]
    assert found == [(32, "Dead", "Expired")]
    assert await states(store, 25, 21) == [(21, 31, "Queued")]


async def test_what_ended_without_a_request(store: SqlDeliveryStore, chunk: QueuedChunk) -> None:
    """Items that were rejected in preparation keep their end when their dead letters are sent again."""
    epoch = await store.claim()
    attempts = (
        AttemptRecord(92, "Dead", 0, 2, number=0, message="NoPrice: no: price", step="Transformation", others=[0, 2]),
        AttemptRecord(93, "Delivered", 1, 1, status=200),
        AttemptRecord(94, "Retried", 3, 4, status=503),
        AttemptRecord(95, "Dead", 4, 4, number=0, message="Expired"),
    )
    await store.commit(epoch, [ChunkProgress(chunk.id, 21, bits(range(6)), attempts)], now=101)
    found = {
        (position, each.pipeline): each for position in (11, 13, 15, 17, 19) for each in await trace(store, position)
    }
    assert {
        key: (each.state, each.step, each.reason, each.message, each.attempt_count, each.ended_at)
        for key, each in found.items()
    } == {
        (11, 31): ("Dead", "Transformation", "NoPrice", "no: price", 0, 92),
        (13, 31): ("Delivered", "Finalize", "", "", 1, 93),
        (13, 32): ("Dead", "Transformation", "NoPrice", "no: price", 0, 92),
        (15, 31): ("Ended", "Finalize", "", "", 0, 101),
        (17, 31): ("Dead", "Finalize", "Expired", "", 1, 95),
        (19, 31): ("Ended", "Finalize", "", "", 0, 101),
    }
    assert [each.at for each in found[17, 31].attempts] == [94]
    assert [each.at for each in found[15, 31].attempts] == [94]


async def trace(store: SqlDeliveryStore, position: int) -> list[TracedDelivery]:
    return await store.trace([21], position)


async def test_a_dead_letter_of_an_unfinished_chunk(store: SqlDeliveryStore, chunk: QueuedChunk) -> None:
    """A dead letter is found by its number. When it is sent again, its bit alone does not tell how it ended."""
    epoch = await store.claim()
    dead = replace(letter(chunk, 2, died_at=92), step="OutputValidation")
    await store.commit(epoch, [progress(chunk, [1, 2])], dead=[dead], now=101)
    first, second = await trace(store, 13)
    assert (first.pipeline, first.state) == (31, "Delivered")
    assert (second.state, second.step, second.reason, second.attempt_count, second.ended_at) == (
        "Dead",
        "OutputValidation",
        "Rejected",
        1,
        92,
    )
    await store.resend("7", DeadSelection(workspace=WORKSPACE), now=102)
    found = [(each.pipeline, each.state, each.origin) for each in await trace(store, 13)]
    assert found == [(31, "Delivered", ""), (32, "Ended", ""), (32, "Queued", "7")]


async def test_a_dead_letter_keeps_its_attempts_after_a_restart(store: SqlDeliveryStore, chunk: QueuedChunk) -> None:
    """The attempts of a chunk before a restart are not stored, but its dead letters are."""
    epoch = await store.claim()
    await store.commit(epoch, [progress(chunk, [2])], dead=[letter(chunk, 2, died_at=92)], now=101)
    attempts = (AttemptRecord(93, "Delivered", 0, 5, others=[0, 1, 3, 4, 5]),)
    await store.commit(epoch, [ChunkProgress(chunk.id, 21, bits(range(6)), attempts)], now=102)
    assert [(each.pipeline, each.state, each.attempt_count) for each in await trace(store, 13)] == [
        (31, "Delivered", 1),
        (32, "Dead", 1),
    ]
