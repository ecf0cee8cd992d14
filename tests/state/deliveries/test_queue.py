"""The queue keeps each delivery once, in order, until it is finished."""

from collections.abc import Collection
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from headwater.base.errors import Unavailable
from headwater.state.deliveries import (
    ITEM_BITS,
    LaneHealth,
    NewChunk,
    NewDeliveries,
    Wanted,
    open_delivery_store,
    packing,
)
from headwater.state.deliveries.bodies import read_documents
from headwater.state.deliveries.chunks import is_done, wanted_pairs
from headwater.state.deliveries.counts import read_sizes
from headwater.state.deliveries.packing import join_done, pack, unpack_body, unpack_wanted
from headwater.state.deliveries.records import MAX_RESPONSE_BYTES
from headwater.state.deliveries.store import SqlDeliveryStore
from tests.state.deliveries.deliveries import WORKSPACE, bits, deliveries, event, items, progress

EVERYTHING = 1 << 30


async def test_each_destination_reads_what_it_wants_in_order(store: SqlDeliveryStore) -> None:
    batch = deliveries(range(1, 6), {21: {31: None, 30: [0, 3]}, 22: {32: [4]}, 23: {33: [1, 2, 3, 4]}})
    await store.append([batch], through=9, now=100)
    assert items(await store.read(21, 0, max_bytes=EVERYTHING)) == [
        (1, 30), (1, 31), (2, 31), (3, 31), (4, 30), (4, 31), (5, 31)
    ]  # fmt: skip
    assert items(await store.read(22, 0, max_bytes=EVERYTHING)) == [(5, 32)]
    assert items(await store.read(23, 0, max_bytes=EVERYTHING)) == [(2, 33), (3, 33), (4, 33), (5, 33)]
    assert await store.read(24, 0, max_bytes=EVERYTHING) == []
    ((chunk,), (own,)) = (await store.read(23, 0, max_bytes=1), await store.read(22, 0, max_bytes=1))
    assert (chunk.first_position, chunk.last_position, chunk.enqueued_at, chunk.origin) == (2, 5, 100, "")
    assert chunk.events == [event(position) for position in range(1, 6)]
    assert own.events == [event(5)], "a destination that wants less than half of a body gets its own"
    assert [item.number - (chunk.id << ITEM_BITS) for item in chunk.unfinished()] == [0, 1, 2, 3]


async def test_a_chunk_that_is_deleted_while_it_is_read_hides_no_later_one(url: str) -> None:
    """A session stops reading when there is no chunk."""
    async with open_delivery_store(url) as worker:
        for position in (1, 2):
            await worker.append([deliveries([position], {21: {31: None}})], through=position, now=1)
    deleted: list[Collection[int]] = []

    def delete_first(connection: Connection, bodies: Collection[int]) -> dict[int, bytes]:
        if not deleted:
            deleted.append(bodies)
            return {}
        return read_documents(connection, bodies)

    async with open_delivery_store(url) as store:
        with patch("headwater.state.deliveries.store.read_documents", delete_first):
            assert items(await store.read(21, 0, max_bytes=1)) == [(2, 31)]
    assert len(deleted) == 1


async def test_an_append_that_is_repeated_is_skipped(store: SqlDeliveryStore, url: str) -> None:
    batch = deliveries(range(1, 4), {21: {31: None}})
    await store.append([batch], through=3, now=1)
    await store.append([batch], through=3, now=2)
    async with open_delivery_store(url) as again:  # the worker has restarted, and reads a larger batch
        await again.append([deliveries(range(1, 6), {21: {31: [0, 2, 4]}})], through=5, now=3)
        assert await again.appended() == 5
    assert items(await store.read(21, 0, max_bytes=EVERYTHING)) == [(1, 31), (2, 31), (3, 31), (5, 31)]


async def test_a_chunk_is_deleted_when_all_its_items_are_finished(store: SqlDeliveryStore) -> None:
    await store.append([deliveries(range(1, 11), {21: {31: None}, 22: {32: None}})], through=10, now=1)
    epoch = await store.claim()
    (chunk,) = await store.read(21, 0, max_bytes=1)
    await store.commit(epoch, [progress(chunk, [0, 9])], now=2)
    await store.commit(epoch, [progress(chunk, [9, 3])], now=3)
    (left,) = await store.read(21, 0, max_bytes=1)
    assert [position for position, _ in items([left])] == [2, 3, 5, 6, 7, 8, 9]
    await store.commit(epoch, [progress(chunk)], now=4)
    await store.commit(epoch, [progress(chunk)], now=4)
    assert await store.read(21, 0, max_bytes=1) == []
    (summary,) = await store.summaries()
    assert (summary.destination, summary.open_items, summary.oldest_at) == (22, 10, 1)
    assert summary.newest_chunk == chunk.id + 1
    assert len(items(await store.read(22, 0, max_bytes=1))) == 10, "the shared body is still there"
    (other,) = await store.read(22, 0, max_bytes=1)
    await store.commit(epoch, [progress(other)], now=5)
    assert await store.summaries() == []
    assert await store.newest_chunk() == other.id, "the ids of chunks are never used again"


async def test_a_courier_that_was_replaced_stores_nothing(store: SqlDeliveryStore) -> None:
    await store.append([deliveries([1], {21: {31: None}})], through=1, now=1)
    (chunk,) = await store.read(21, 0, max_bytes=1)
    old, new = await store.claim(), await store.claim()
    with pytest.raises(Unavailable, match="another courier has taken over"):
        await store.commit(old, [progress(chunk)], now=2)
    with pytest.raises(Unavailable):
        await store.expire(old, before=9, now=2)
    assert len(await store.read(21, 0, max_bytes=1)) == 1
    await store.commit(new, [progress(chunk)], now=2)


async def test_chunks_are_read_after_an_id_and_up_to_a_size(store: SqlDeliveryStore) -> None:
    for position in range(1, 101):
        await store.append([deliveries([position], {21: {31: None}}, size=100)], through=position, now=position)
    chunks = await store.read(21, 0, max_bytes=550)
    assert [chunk.first_position for chunk in chunks] == [1, 2, 3, 4, 5]
    chunks = await store.read(21, chunks[-1].id, max_bytes=EVERYTHING)
    assert chunks[0].first_position == 6
    heads = await store.heads(chunks[-1].id)
    assert [head.destination for head in heads] == [21] * (100 - 5 - len(chunks))
    assert heads[-1].id == await store.newest_chunk() == await store.wait_for_chunk(0, timeout_seconds=1)
    assert await store.wait_for_chunk(heads[-1].id, timeout_seconds=0.01) == heads[-1].id


async def test_a_body_has_a_limited_size(store: SqlDeliveryStore) -> None:
    batch = deliveries(range(1, 2_501), {21: {31: None}, 22: {32: [0, 1_500, 2_499]}})
    await store.append([batch], through=2_500, now=1)
    chunks = await store.read(21, 0, max_bytes=EVERYTHING)
    assert [chunk.item_count for chunk in chunks] == [1_000, 1_000, 500]
    assert [position for position, _ in items(await store.read(22, 0, max_bytes=EVERYTHING))] == [1, 1_501, 2_500]
    large = deliveries(range(2_501, 2_504), {21: {31: None}}, size=700_000)
    await store.append([large], through=2_504, now=2)
    assert [chunk.item_count for chunk in await store.read(21, chunks[-1].id, max_bytes=EVERYTHING)] == [1, 1, 1]


async def test_health_is_kept(store: SqlDeliveryStore) -> None:
    epoch = await store.claim()
    sick = LaneHealth(
        destination=21, workspace=WORKSPACE, state="open", failing_since=3, paused_until=9, failures=4,
        last_status=503, last_error="503\0", last_response=b"x" * 5_000, last_success_at=1, learned=b"\x00",
    )  # fmt: skip
    well = LaneHealth(destination=22, workspace=WORKSPACE)
    await store.commit(epoch, [], health=[sick, well], now=5)
    await store.commit(epoch, [], health=[well], now=6)
    health = await store.health()
    assert health[22] == well
    assert (health[21].last_error, len(health[21].last_response)) == ("503\ufffd", MAX_RESPONSE_BYTES)
    assert await store.summaries() == []


async def test_sizes_are_counted_exactly(store: SqlDeliveryStore) -> None:
    epoch = await store.claim()
    for position in range(1, 400):
        await store.append([deliveries([position], {21: {31: None}, 22: {32: None}})], through=position, now=1)
        if position % 2:
            (chunk, *_) = await store.read(21, 0, max_bytes=1)
            await store.commit(epoch, [progress(chunk)], now=1)
    await store.append([deliveries(range(400, 405), {21: {31: [2]}})], through=405, now=1)
    one, two = await store.summaries()
    assert (one.open_items, two.open_items) == (200, 399)
    for destination in (21, 22):
        while chunks := await store.read(destination, 0, max_bytes=EVERYTHING):
            await store.commit(epoch, [progress(chunk) for chunk in chunks], now=2)
    assert await store.summaries() == []
    sizes = await store._read(read_sizes)
    assert sizes[0].open_bytes == 0


WANTED = st.dictionaries(
    st.integers(21, 23),
    st.dictionaries(st.integers(31, 33), st.none() | st.sets(st.integers(0, 29), min_size=1).map(sorted), min_size=1),
    min_size=1,
)


@given(WANTED, st.integers(0, 31), st.integers(1, 12))
def test_packing_loses_and_doubles_nothing(wanted: dict[int, Wanted], after: int, most: int) -> None:
    events = [event(position) for position in range(1, 31)]
    batch = NewDeliveries(WORKSPACE, events, [NewChunk(21 + n, WORKSPACE, w) for n, w in enumerate(wanted.values())])
    with patch.object(packing, "MAX_CHUNK_EVENTS", most):
        packed = pack([batch], after=after)
    found: dict[int, list[tuple[int, int]]] = {}
    for chunk in packed.chunks:
        inside = unpack_body(packed.bodies[chunk.body].documents)
        pairs = wanted_pairs(unpack_wanted(chunk.wanted), len(inside))
        assert len(pairs) == chunk.item_count
        here = [(inside[index].position, pipeline) for index, pipeline in pairs]
        assert (here[0][0], here[-1][0]) == (chunk.first_position, chunk.last_position)
        found.setdefault(chunk.destination, []).extend(here)
    for new in batch.chunks:
        expected = [
            (events[index].position, pipeline)
            for index, pipeline in wanted_pairs(new.wanted, 30)
            if events[index].position > after
        ]
        assert found.get(new.destination, []) == expected


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_done_bits_are_joined(one: set[int], other: set[int]) -> None:
    joined = join_done(bits(one), bits(other))
    assert {index for index in range(48) if is_done(joined, index)} == one | other
