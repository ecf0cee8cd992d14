"""Counts of pipelines: what a last step says about all steps, and sums that stay exact while rows are moved."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.base.steps import ProcessingStep, StepOutcome
from headwater.state import PipelineCounts, PipelineError, StateStore
from headwater.state.counts import (
    COUNT_COLUMNS,
    DAY_SECONDS,
    ERROR_SECONDS,
    HOUR_SECONDS,
    MAX_ERRORS,
    MINUTE_SECONDS,
    OTHER_ERRORS,
    STEPS,
)
from headwater.state.lanestore import open_lane_store
from tests.sqlite import migrated_url

SECOND = 1_000_000
MINUTE, HOUR, DAY = MINUTE_SECONDS * SECOND, HOUR_SECONDS * SECOND, DAY_SECONDS * SECOND
START = 20_000 * DAY


def counted(*records: Any, pipeline: int = 1, **options: Any) -> PipelineCounts:
    counts = PipelineCounts()
    for step, outcome, *more in records:
        counts.add(pipeline, step, outcome, *more, **options)
    return counts


@pytest.mark.parametrize(
    ("step", "outcome", "options", "passed", "failed"),
    [
        ("Finalize", "Passed", {}, [3, 0, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0]),
        ("Finalize", "Passed", {"stores_events": True}, [3, 0, 3, 0, 0, 3], [0, 0, 0, 0, 0, 0]),
        ("Finalize", "Passed", {"has_waited": True}, [0, 0, 0, 3, 3, 3], [0, 0, 0, 0, 0, 0]),
        ("Finalize", "Failed", {}, [3, 0, 3, 3, 3, 0], [0, 0, 0, 0, 0, 3]),
        ("Filter", "Filtered", {}, [3, 0, 0, 0, 0, 0], [0, 0, 3, 0, 0, 0]),
        ("Filter", "Failed", {"stores_events": True}, [3, 0, 0, 0, 0, 0], [0, 0, 3, 0, 0, 0]),
        ("Transformation", "Failed", {}, [3, 0, 3, 0, 0, 0], [0, 0, 0, 3, 0, 0]),
        ("Transformation", "Failed", {"has_waited": True}, [0, 0, 0, 0, 0, 0], [0, 0, 0, 3, 0, 0]),
        ("OutputValidation", "Failed", {"has_waited": True}, [0, 0, 0, 3, 0, 0], [0, 0, 0, 0, 3, 0]),
        ("Transformation", "Pending", {}, [3, 0, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
        ("Finalize", "Pending", {}, [3, 0, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0]),
    ],
)
def test_the_last_step_decides_what_is_counted(
    step: ProcessingStep, outcome: StepOutcome, options: dict[str, bool], passed: list[int], failed: list[int]
) -> None:
    counts = counted((step, outcome, 3), **options)
    assert counts.steps == {1: passed + failed}
    assert counts.errors == ({(1, STEPS.index(step), ""): 3} if outcome == "Failed" else {})


@given(st.sampled_from(STEPS[2:]), st.sampled_from(["Passed", "Failed", "Filtered"]), st.booleans())
def test_a_record_that_has_waited_counts_like_one_that_has_not(step: Any, outcome: Any, has_message: bool) -> None:
    waited = counted(("Transformation", "Pending"))
    if step != "Filter":
        waited.add(1, step, outcome, has_waited=True)
        assert waited.steps == counted((step, outcome)).steps


def test_the_columns_are_those_of_the_steps() -> None:
    assert (COUNT_COLUMNS[0], COUNT_COLUMNS[6]) == ("receive_passed", "receive_failed")
    assert COUNT_COLUMNS[1] == "input_validation_passed"
    assert len(COUNT_COLUMNS) == 2 * len(STEPS)


async def record(state: StateStore, counts: PipelineCounts, now: int) -> None:
    async with state.transaction() as transaction:
        await transaction.record_counts(counts, now=now)


async def received(state: StateStore, pipelines: list[int], start: int, end: int, unit: int) -> dict[int, int]:
    found = await state.pipeline_counts(pipelines, start=start, end=end, unit_seconds=unit)
    return {start: counts[0] for start, counts in found.items()}


async def test_counts_are_added_by_minute_hour_and_day(state: StateStore) -> None:
    for now in (START, START + 59 * SECOND, START + MINUTE, START + HOUR, START + DAY):
        await record(state, counted(("Finalize", "Passed", 2)), now)
        await record(state, counted(("Finalize", "Passed", 5), pipeline=2), now)
    end = START + 2 * DAY
    assert await received(state, [1], START, START + HOUR, MINUTE_SECONDS) == {START: 4, START + MINUTE: 2}
    assert await received(state, [1], START, START + DAY, HOUR_SECONDS) == {START: 6, START + HOUR: 2}
    assert await received(state, [1, 2], START, end, DAY_SECONDS) == {START: 28, START + DAY: 7}
    assert await received(state, [3], START, end, DAY_SECONDS) == {}
    assert await received(state, [1], START + DAY, end, DAY_SECONDS) == {START + DAY: 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 6 * DAY_SECONDS)), max_size=12), st.data())
async def test_moving_counts_into_larger_periods_changes_no_sum(
    state: StateStore, arrivals: list[tuple[int, int]], data: st.DataObject
) -> None:
    expected: defaultdict[int, int] = defaultdict(int)
    start = START + data.draw(st.integers(0, 1_000)) * 10 * DAY
    async with state.transaction() as transaction:
        await transaction.remove_counts_except(())
    for pipeline, second in sorted(arrivals, key=lambda each: each[1]):
        now = start + second * SECOND
        await record(state, counted(("Finalize", "Passed"), pipeline=pipeline), now)
        expected[now - now % DAY] += 1
        async with state.transaction() as transaction:
            await transaction.compact_counts(now=now)
        assert await received(state, [1, 2, 3], start, start + 10 * DAY, DAY_SECONDS) == expected
    last = start + max((second for _, second in arrivals), default=0) * SECOND
    recent = {at for _, second in arrivals if (at := start + second * SECOND) > last - 48 * HOUR}
    hours = await received(state, [1, 2, 3], last - 48 * HOUR - last % HOUR, last + HOUR, HOUR_SECONDS)
    assert set(hours) >= {at - at % HOUR for at in recent}


async def test_counts_and_errors_are_kept_for_a_limited_time(state: StateStore) -> None:
    await record(state, counted(("Filter", "Failed")), START)
    for days in (4, 5, 401):
        async with state.transaction() as transaction:
            await transaction.compact_counts(now=START + days * DAY)
        kept = await received(state, [1], START, START + DAY, DAY_SECONDS)
        assert kept == ({START: 1} if days < 400 else {})
        errors = await state.pipeline_errors([1], start=START, end=START + DAY, step=None, limit=10)
        assert bool(errors) == (days * DAY_SECONDS <= ERROR_SECONDS)


async def test_counts_of_deleted_pipelines_are_deleted(state: StateStore) -> None:
    for pipeline in (1, 2):
        await record(state, counted(("Filter", "Failed"), pipeline=pipeline), START)
    removed = []
    for _ in range(2):
        async with state.transaction() as transaction:
            removed.append(await transaction.remove_counts_except([2]))
    assert removed == [2, 0]
    assert await received(state, [1, 2], START, START + DAY, DAY_SECONDS) == {START: 1}
    assert len(await state.pipeline_errors([1, 2], start=START, end=START + DAY, step=None, limit=10)) == 1


async def test_errors_are_grouped_by_step_and_message(state: StateStore) -> None:
    for now, message in ((START, "a"), (START + MINUTE, "b"), (START + HOUR, "a"), (START + 2 * HOUR, "c")):
        await record(state, counted(("Transformation", "Failed", 2), message=message), now)
    await record(state, counted(("Filter", "Failed"), message="a"), START + MINUTE)

    async def errors(start: int = START, end: int = START + DAY, **options: Any) -> list[PipelineError]:
        return await state.pipeline_errors([1], start=start, end=end, **{"step": None, "limit": 10, **options})

    a = PipelineError(1, "Transformation", "a", 4, START + HOUR)
    assert await errors() == [
        PipelineError(1, "Transformation", "c", 2, START + 2 * HOUR),
        a,
        PipelineError(1, "Filter", "a", 1, START + MINUTE),
        PipelineError(1, "Transformation", "b", 2, START + MINUTE),
    ]
    assert await errors(limit=2) == (await errors())[:2]
    assert [error.message for error in await errors(step="Filter")] == ["a"]
    assert [error.message for error in await errors(start=START + HOUR + 1)] == ["c"]
    assert await errors(start=START + HOUR, end=START + 2 * HOUR) == [
        PipelineError(1, "Transformation", "a", 2, START + HOUR)
    ]


async def test_the_different_errors_of_an_hour_are_bounded(state: StateStore) -> None:
    for first in (0, MAX_ERRORS - 10):
        counts = PipelineCounts()
        for number in range(first, first + MAX_ERRORS):
            counts.add(1, "Finalize", "Failed", message=f"error {number}")
        await record(state, counts, START)
    errors = await state.pipeline_errors([1], start=START, end=START + HOUR, step=None, limit=1_000)
    assert len(errors) == MAX_ERRORS + 1
    assert sum(error.count for error in errors) == 2 * MAX_ERRORS
    (other,) = (error for error in errors if error.message == OTHER_ERRORS)
    assert other.count == MAX_ERRORS - 10


@pytest.mark.parametrize("message", ["\0", "\ud800", "x" * 10_000, "", "ä" * 600])
async def test_any_message_can_be_stored(state: StateStore, message: str) -> None:
    await record(state, counted(("Finalize", "Failed"), message=message), START)
    (error,) = await state.pipeline_errors([1], start=START, end=START + HOUR, step=None, limit=10)
    assert len(error.message) <= 500


async def test_the_courier_records_in_its_own_database(database_url: str | None, tmp_path: Any) -> None:
    async with open_lane_store(database_url or migrated_url(tmp_path / "courier.db")) as store:
        await store.record(PipelineCounts(), now=START)
        await store.record(counted(("Finalize", "Failed"), message="410", has_waited=True), now=START)
        await store.record(counted(("Finalize", "Passed"), has_waited=True), now=START)
        found = await store.pipeline_counts([1], start=START, end=START + HOUR, unit_seconds=MINUTE_SECONDS)
        assert found == {START: [0, 0, 0, 2, 2, 1, 0, 0, 0, 0, 0, 1]}
        assert await store.pipeline_errors([1], start=START, end=START + 1, step="Finalize", limit=1) == [
            PipelineError(1, "Finalize", "410", 1, START)
        ]
        await store.compact_counts(now=START + 3 * HOUR)
        assert await store.counted() == {1}
        assert await store.remove_counts([1]) == 2
        assert await store.remove_counts([1]) == 0
