"""The courier on real parts: pauses, changes under a run, outages, and other couriers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.catalog import FunctionDefinition, TransformationDefinition
from headwater.courier import Courier
from headwater.courier.chunkcache import ENTRY_BYTES, ChunkCache
from headwater.processing.transformer import compile_transformer
from headwater.state import Chunk, LaneEntry, PipelineCounts
from headwater.state.lanestore import LaneProgress
from headwater.transforms.functions import FunctionFailed, Runner
from tests.harness import Harness, open_harness
from tests.processing.test_lanes import COPY, add_pipeline, change, function, identify, identities, new_source, send

ENDLESS = function("function transform(e) { for (;;) {} }")


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@asynccontextmanager
async def running(courier: Courier) -> AsyncIterator[None]:
    """Run the courier for the time of the block."""
    stop = asyncio.Event()
    task = asyncio.create_task(courier.run(stop))
    try:
        async with asyncio.timeout(15):
            yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def wait_for_results(harness: Harness, count: int) -> None:
    while len(await harness.store.results(0, max_bytes=1 << 20)) < count:
        await asyncio.sleep(0.01)


async def test_a_change_ends_the_pause_of_a_courier_that_goes_on_running(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.processing.transformer.MAX_FUNCTION_SECONDS", 0.1)
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, ENDLESS)
    await send(harness, source, *(identify(f"u{number}", "") for number in range(10)))
    async with running(harness.courier):
        while not (progress := (await harness.store.progress()).get(pipeline)) or not progress.paused_until:
            await asyncio.sleep(0.01)
        await change(harness, pipeline, function("function transform(e) { return {email: e.userId}; }"))
        await wait_for_results(harness, 2)  # the clock stands still: the pause is not over


async def test_a_pipeline_that_cannot_be_compiled_holds_up_no_other(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await new_source(harness)
    broken = await add_pipeline(harness, source, COPY)
    await add_pipeline(harness, source, COPY)
    await send(harness, source, identify("u", "u@x"))

    def fail(pipeline: Any, runner: Any) -> Any:
        if pipeline.id == broken:
            raise AssertionError("a bug")
        return compile_transformer(pipeline, runner)

    monkeypatch.setattr("headwater.courier.courier.compile_transformer", fail)
    async with running(harness.courier):
        await wait_for_results(harness, 1)


async def test_the_reason_of_a_pause_may_hold_any_character(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, COPY)
    await send(harness, source, identify("u", "u@x"))

    async def fail(*_: object, **__: object) -> Any:
        raise FunctionFailed("bad: \0 \ud800")

    monkeypatch.setattr(Runner, "stream", fail)
    monkeypatch.setattr("headwater.courier.courier.LIMITS_TO_PAUSE", 1)
    async with running(harness.courier):
        while not (progress := (await harness.store.progress()).get(pipeline)) or not progress.paused_until:
            await asyncio.sleep(0.01)
    assert progress.reason == "bad: \ufffd ?"


async def test_a_lane_whose_progress_is_not_known_goes_on(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks during the commit of a result: it happened, and the courier did not learn of it."""
    monkeypatch.setattr("headwater.courier.courier.RETRY_SECONDS", 0.0)
    source = await new_source(harness)
    await add_pipeline(harness, source, COPY)
    complete, calls = harness.store.complete, []

    async def commit_and_fail(pipeline: int, before: LaneProgress, after: LaneProgress, results: Any) -> None:
        calls.append(before.position)
        await complete(pipeline, before, after, results)
        if len(calls) == 1:
            raise Unavailable("the connection was lost")

    monkeypatch.setattr(harness.store, "complete", commit_and_fail)
    async with running(harness.courier):
        await send(harness, source, identify("u", "u@x"))
        await wait_for_results(harness, 1)
        await send(harness, source, identify("v", "v@x"))
        await wait_for_results(harness, 2)
    assert len(calls) == 2, "the record of the first run is not run again"


async def test_counts_of_a_pipeline_that_come_after_its_deletion_are_removed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.courier.courier.COMPACT_SECONDS", 0.0)
    pipeline = await add_pipeline(harness, await new_source(harness), COPY)
    counts = PipelineCounts()
    for each in (pipeline, pipeline + 1):
        counts.add(each, "Finalize", "Failed", message="410")
    has_cleaned, compact = asyncio.Event(), harness.store.compact_counts

    async def compact_and_tell(*, now: int) -> None:
        await compact(now=now)
        has_cleaned.set()

    monkeypatch.setattr(harness.store, "compact_counts", compact_and_tell)
    async with running(harness.courier):
        await has_cleaned.wait()
        await harness.store.record(counts, now=microseconds(harness.clock.now()))
        while await harness.store.counted() != {pipeline}:
            await asyncio.sleep(0.01)


async def test_a_courier_that_waits_for_another_one_can_be_stopped(harness: Harness) -> None:
    async with running(harness.courier):
        await asyncio.sleep(0)
        async with running(harness.courier):
            await asyncio.sleep(0.1)


PYTHON_ENDLESS = TransformationDefinition(
    function=FunctionDefinition(
        language="Python", source="def transform(e):\n    while True: pass", in_paths=("userId",), out_paths=("email",)
    )
)


@pytest.mark.parametrize("endless", [ENDLESS, PYTHON_ENDLESS], ids=["JavaScript", "Python"])
async def test_a_run_does_not_hold_up_a_stop_and_its_records_are_run_later(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, endless: TransformationDefinition
) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, endless)
    await send(harness, source, identify("u", "u@x"))
    with monkeypatch.context() as context:
        context.setattr("headwater.processing.transformer.MAX_FUNCTION_SECONDS", 60.0)
        async with running(harness.courier):  # the end of this block fails when it takes ten seconds
            await asyncio.sleep(1)
    await change(harness, pipeline, COPY)
    await harness.drain_lanes()
    assert [row[0] for row in await identities(harness, pipeline)] == ["u"]


def chunk(entries: int, *documents: bytes) -> Chunk:
    return Chunk(1, entries, 0, [LaneEntry(number, "m", 0, "u", "a") for number in range(1, entries + 1)], [*documents])


def test_the_cache_of_chunks_is_bounded_and_keeps_those_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.courier.chunkcache.MAX_CHUNK_CACHE_BYTES", 10 * ENTRY_BYTES)
    cache = ChunkCache()
    for pipeline in (1, 2):
        cache.put(pipeline, chunk(4))
    assert cache.get(1)
    cache.put(3, chunk(2, b"x" * ENTRY_BYTES))
    assert [pipeline for pipeline in (1, 2, 3) if cache.get(pipeline)] == [1, 3]
    cache.drop(3)
    cache.put(4, chunk(6))
    assert [pipeline for pipeline in (1, 3, 4) if cache.get(pipeline)] == [1, 4]


async def test_lane_entries_become_identities(harness: Harness) -> None:
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, COPY)
    await send(harness, source, identify("u", "u@x"))
    await harness.drain_lanes()
    assert [row[0] for row in await identities(harness, pipeline)] == ["u"]
