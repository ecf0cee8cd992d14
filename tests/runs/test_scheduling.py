"""Ticks of schedules, and the runs that they start."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.catalog.model import SchedulePeriod
from headwater.runs.scheduling import PERIOD_MINUTES, Ticker, due_tick, latest_tick
from headwater.state.runs import RUNNING, Run, RunStore, Schedule, open_runs
from tests.harness import Harness, MovableClock, open_harness

MINUTE = 60_000_000
DAY = 1_440
periods = st.sampled_from(sorted(PERIOD_MINUTES.values()))
starts = st.integers(0, DAY - 1)
moments = st.integers(0, 2**52)


def minute_of_day(tick: int) -> int:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=tick)
    return at.hour * 60 + at.minute


def test_every_documented_period_divides_a_day() -> None:
    assert set(PERIOD_MINUTES) == set(get_args(SchedulePeriod))
    assert [DAY % minutes for minutes in PERIOD_MINUTES.values()] == [0] * 10


@given(moments, periods, starts)
def test_a_tick_is_at_a_documented_minute(now: int, period: int, start: int) -> None:
    tick = latest_tick(now, period, start)
    assert tick % MINUTE == 0
    assert minute_of_day(tick) % period == start % period
    assert tick <= now < tick + period * MINUTE


@given(st.integers(0, 2**30), periods, starts)
def test_a_day_has_all_documented_ticks(day: int, period: int, start: int) -> None:
    first = (day % 30_000) * DAY
    ticks = {latest_tick((first + minute) * MINUTE + 59_999_999, period, start) for minute in range(DAY)}
    found = {minute_of_day(tick) for tick in ticks if tick >= first * MINUTE}
    assert found == {minute for minute in range(DAY) if minute % period == start % period}


@given(moments, periods, starts, moments)
def test_nothing_is_due_before_a_schedule_is_followed(now: int, period: int, start: int, since: int) -> None:
    tick = due_tick(Schedule(period, start, since), now)
    assert tick is None or since < tick <= now


@given(st.lists(st.integers(-3 * DAY * 60, 3 * DAY * 60), max_size=40), periods, starts)
def test_a_clock_that_jumps_fires_no_tick_twice(jumps: list[int], period: int, start: int) -> None:
    """A row exists for each tick that was fired, as in the store."""
    now = 20_000 * DAY * MINUTE
    schedule, fired = Schedule(period, start, now), set[int]()
    for seconds in jumps:
        now += seconds * 1_000_000
        tick = due_tick(schedule, now)
        if tick is not None and tick not in fired:
            fired.add(tick)
    assert all(tick > schedule.since for tick in fired)


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


async def add_pipeline(
    catalog: Catalog, workspace: int, *, period: SchedulePeriod | None = "1h", start: int = 30, enabled: bool = True
) -> Pipeline:
    """Add an import from an application with a schedule."""
    async with catalog.change() as change:
        connection = Connection(
            id=change.new_id(),
            workspace=workspace,
            name="Shop",
            connector="dummy",
            role="Source",
            strategy=None,
            sending_mode=None,
            created_at=change.now,
        )
        change.add_connection(connection)
        pipeline = Pipeline(
            id=change.new_id(),
            workspace=workspace,
            connection=connection.id,
            name="Import",
            target="User",
            enabled=enabled,
            created_at=change.now,
            schedule_start=start,
            schedule_period=period,
        )
        change.add_pipeline(pipeline)
    return pipeline


async def replace(catalog: Catalog, pipeline: Pipeline, **values: object) -> Pipeline:
    async with catalog.change() as change:
        change.update_pipeline(new := msgspec.structs.replace(pipeline, **values))
    return new


def outcomes(runs: list[Run]) -> list[tuple[int, str]]:
    return [(minute_of_day(run.due_at or 0), run.status) for run in runs]


async def end_all(store: RunStore) -> None:
    for run in await store.page(limit=100):
        if run.ended_at is None:
            await store.cancel(run.id)


async def test_ticks_create_runs(harness: Harness) -> None:
    """The clock starts at 12:00:10."""
    ticker = Ticker(harness.catalog, harness.runs, harness.clock)
    pipeline = await add_pipeline(harness.catalog, harness.workspace)
    assert await ticker.fire() == []
    harness.clock.advance(30 * 60)
    [run] = await ticker.fire()
    assert (run.pipeline, run.trigger, outcomes([run])) == (pipeline.id, "Schedule", [(750, "Queued")])
    assert await ticker.fire() == []
    harness.clock.advance(3600)
    skipped = await ticker.fire()
    assert (outcomes(skipped), skipped[0].error) == ([(810, "Skipped")], RUNNING)
    await end_all(harness.runs)
    assert await ticker.fire() == []
    harness.clock.advance(3600)
    assert outcomes(await ticker.fire()) == [(870, "Queued")]


async def test_after_a_pause_of_all_processes_one_run_catches_up(harness: Harness) -> None:
    await add_pipeline(harness.catalog, harness.workspace, period="5m", start=0)
    assert await Ticker(harness.catalog, harness.runs, harness.clock).fire() == []
    harness.clock.advance(3 * 3600)
    restarted = Ticker(harness.catalog, harness.runs, harness.clock)
    assert outcomes(await restarted.fire()) == [(900, "Queued")]
    assert await restarted.fire() == []
    assert await Ticker(harness.catalog, harness.runs, harness.clock).fire() == []


async def test_a_new_schedule_does_not_catch_up(harness: Harness) -> None:
    ticker = Ticker(harness.catalog, harness.runs, harness.clock)
    pipeline = await add_pipeline(harness.catalog, harness.workspace, period="24h", start=600)
    assert await ticker.fire() == []
    changed = await replace(harness.catalog, pipeline, schedule_period="12h")
    assert await ticker.fire() == []
    await replace(harness.catalog, changed, schedule_period=None)
    assert await ticker.fire() == []
    assert await harness.runs.schedules() == {}


async def test_a_disabled_pipeline_has_no_runs_and_catches_none_up(harness: Harness) -> None:
    ticker = Ticker(harness.catalog, harness.runs, harness.clock)
    pipeline = await add_pipeline(harness.catalog, harness.workspace)
    await ticker.fire()
    disabled = await replace(harness.catalog, pipeline, enabled=False)
    harness.clock.advance(2 * 3600)
    assert await ticker.fire() == []
    await replace(harness.catalog, disabled, enabled=True)
    assert await ticker.fire() == []
    harness.clock.advance(3600)
    assert outcomes(await ticker.fire()) == [(870, "Queued")]


async def test_a_clock_that_goes_back_starts_no_second_run(harness: Harness) -> None:
    await add_pipeline(harness.catalog, harness.workspace, period="5m", start=0)
    ticker = Ticker(harness.catalog, harness.runs, harness.clock)
    due = []
    for step in (0, 300, 300, -300, 300, -600, 300, 300, 300):
        harness.clock.advance(step)
        due += [run.due_at for run in await ticker.fire()]
        await end_all(harness.runs)
    assert len(due) == len(set(due)) == 3


async def test_processes_that_race_create_one_run_a_tick(harness: Harness, database_url: str | None) -> None:
    """Each has connections of its own."""
    for number in range(5):
        await add_pipeline(harness.catalog, harness.workspace, period="5m", start=number)
    url = database_url or f"sqlite+aiosqlite:///{harness.folder / 'runs.db'}"

    async def race(clock: MovableClock) -> list[Run]:
        async with open_runs(url, clock=clock, identifiers=Identifiers()) as store:
            return await Ticker(harness.catalog, store, clock).fire()

    assert await race(harness.clock) == []
    for _ in range(6):
        harness.clock.advance(300)
        created = [run for runs in await asyncio.gather(*(race(harness.clock) for _ in range(4))) for run in runs]
        assert sorted(run.status for run in created) == ["Queued"] * 5
        assert len({(run.pipeline, run.due_at) for run in created}) == 5
        await end_all(harness.runs)
