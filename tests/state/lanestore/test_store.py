"""The courier's state: results in order, progress by compare-and-swap, one courier at a time."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.base.errors import Unavailable
from headwater.state.lanestore import AnotherCourier, LaneProgress, LaneStore, StoredResult, open_lane_store
from tests.sqlite import migrated_url

NEW = LaneProgress()


@pytest.fixture
async def store(tmp_path: Path, database_url: str | None) -> AsyncIterator[LaneStore]:
    async with open_lane_store(database_url or migrated_url(tmp_path / "courier.db")) as store:
        yield store


async def test_results_and_progress_are_stored_together(store: LaneStore) -> None:
    paused = LaneProgress(7, 3, 1_000_000, "too slow", "abc")
    await store.complete(11, NEW, paused, [(4, b"one"), (7, b"two")])
    await store.complete(12, NEW, LaneProgress(9), [(9, b"three")])
    assert await store.progress() == {11: paused, 12: LaneProgress(9)}
    assert await store.results(0, max_bytes=100) == [
        StoredResult(1, 11, 4, b"one"),
        StoredResult(2, 11, 7, b"two"),
        StoredResult(3, 12, 9, b"three"),
    ]


async def test_a_courier_whose_lane_another_one_has_moved_on_stores_nothing(store: LaneStore) -> None:
    await store.complete(11, NEW, LaneProgress(7), [(7, b"one")])
    with pytest.raises(Unavailable, match="another courier works on this lane"):
        await store.complete(11, NEW, LaneProgress(8), [(8, b"again")])
    assert [result.payload for result in await store.results(0, max_bytes=100)] == [b"one"]


@pytest.mark.parametrize(("max_bytes", "count"), [(1, 1), (3, 1), (4, 2), (300, 40)])
async def test_results_are_read_up_to_a_size(store: LaneStore, max_bytes: int, count: int) -> None:
    await store.complete(11, NEW, LaneProgress(1), [(1, b"abc")] * 40)
    assert [result.sequence for result in await store.results(0, max_bytes=max_bytes)] == list(range(1, count + 1))
    assert [result.sequence for result in await store.results(38, max_bytes=300)] == [39, 40]


async def test_applied_results_are_removed_and_their_numbers_never_come_again(store: LaneStore) -> None:
    await store.complete(11, NEW, LaneProgress(1), [(1, b"abc"), (1, b"defg")])
    assert await store.unapplied_bytes(0) == 7
    assert await store.unapplied_bytes(1) == 4
    await store.trim(2)
    assert await store.unapplied_bytes(0) == 0
    await store.complete(11, LaneProgress(1), LaneProgress(2), [(2, b"x")])
    assert [result.sequence for result in await store.results(0, max_bytes=9)] == [3]


async def test_a_store_that_was_lost_gives_no_number_that_was_applied(store: LaneStore) -> None:
    await store.begin_after(500)
    await store.complete(11, NEW, LaneProgress(1), [(1, b"abc")])
    await store.begin_after(100)
    await store.complete(11, LaneProgress(1), LaneProgress(2), [(2, b"abc")])
    assert [result.sequence for result in await store.results(0, max_bytes=9)] == [501, 502]


async def test_progress_of_pipelines_that_are_gone_is_removed(store: LaneStore) -> None:
    for pipeline in (11, 12):
        await store.complete(pipeline, NEW, LaneProgress(1), [])
    await store.remove_progress([11])
    assert set(await store.progress()) == {12}


async def test_on_postgresql_one_courier_is_active(store: LaneStore, database_url: str | None) -> None:
    if database_url is None:
        return  # a SQLite file belongs to the server that has locked the data directory
    async with open_lane_store(database_url) as other:
        async with store.exclusive() as check:
            await check()
            with pytest.raises(AnotherCourier):
                async with other.exclusive():
                    pass
        async with other.exclusive() as check:
            await check()


async def test_the_progress_of_one_lane_is_read_alone(store: LaneStore) -> None:
    for pipeline in (11, 12):
        await store.complete(pipeline, NEW, LaneProgress(pipeline), [])
    assert await store.progress(12) == {12: LaneProgress(12)}
    assert await store.progress(13) == {}
