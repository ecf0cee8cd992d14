"""Runs in a real SQLite file, and in PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, event

from headwater.base.errors import Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.state.runs import (
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    MAX_ERRORS,
    RUNNING,
    Run,
    RunCursor,
    RunError,
    RunErrorSample,
    RunLost,
    RunProgress,
    RunRequest,
    RunStore,
    Schedule,
    WaitingRuns,
    open_runs,
)
from headwater.state.runs import store as run_store
from headwater.state.runs.tables import runs
from tests.harness import MovableClock
from tests.leases import age_leases
from tests.sqlite import migrated_url

MINUTE = 60_000_000
OF_LIVE_RUNS = {"runs_live", "runs_waiting"}
"""Indexes of the runs that have not ended."""


def request(pipeline: int = 1, workspace: int = 7, **values: Any) -> RunRequest:
    return RunRequest(workspace=workspace, pipeline=pipeline, connection=100 + pipeline, **values)


@pytest.fixture
def url(database_url: str | None, tmp_path: Path) -> str:
    return database_url or migrated_url(tmp_path / "runs.db")


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def store(url: str, clock: MovableClock) -> AsyncIterator[RunStore]:
    async with open_runs(url, clock=clock, identifiers=Identifiers(Random(7))) as store:
        yield store


async def get(store: RunStore, id_: int) -> Run:
    found = await store.find(id_)
    assert found is not None
    return found


async def claim(store: RunStore, workspace: int = 7) -> Run:
    found = await store.claim(workspace)
    assert found is not None
    return found


async def test_a_created_run_is_found_in_its_workspace(store: RunStore) -> None:
    created = await store.create(request(is_incremental=True))
    assert (created.status, created.trigger, created.fence, created.is_incremental) == ("Queued", "Request", 0, True)
    assert await store.find(created.id, 7) == await store.find(created.id) == created
    assert await store.find(created.id, 8) is None
    assert await store.cancel(created.id, 8) is None
    assert await store.find(created.id + 1) is None
    assert await store.running([1, 2]) == {1}
    assert await store.pipelines() == {1}


async def test_a_pipeline_has_one_run_that_has_not_ended(store: RunStore) -> None:
    first = await store.create(request())
    with pytest.raises(Unprocessable) as refused:
        await store.create(request())
    assert refused.value.code == "RunInProgress"
    await store.cancel(first.id)
    assert (await store.create(request())).id != first.id


async def test_concurrent_requests_create_one_run(store: RunStore) -> None:
    results = await asyncio.gather(*(store.create(request()) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(each, Run) for each in results) == 1
    assert sum(isinstance(each, Unprocessable) for each in results) == 4


async def test_a_tick_has_one_run(store: RunStore) -> None:
    first = await store.create_due(request(), 5 * MINUTE)
    assert first is not None and (first.trigger, first.status, first.due_at) == ("Schedule", "Queued", 5 * MINUTE)
    assert await store.create_due(request(), 5 * MINUTE) is None
    assert await store.skip(request(), 5 * MINUTE, "x") is None
    skipped = await store.create_due(request(), 10 * MINUTE)
    assert skipped is not None and (skipped.status, skipped.error) == ("Skipped", RUNNING)
    assert skipped.ended_at is not None
    await store.cancel(first.id)
    assert await store.create_due(request(), 5 * MINUTE) is None
    assert await store.create_due(request(), 10 * MINUTE) is None
    later = await store.create_due(request(), 15 * MINUTE)
    assert later is not None and later.status == "Queued"
    refused = await store.skip(request(), 20 * MINUTE, "no resources")
    assert refused is not None and (refused.status, refused.error) == ("Skipped", "no resources")


async def test_an_identifier_that_exists_is_not_used_twice(url: str, clock: MovableClock) -> None:
    for pipeline in (1, 2):
        async with open_runs(url, clock=clock, identifiers=Identifiers(Random(3))) as store:
            await store.create(request(pipeline))
    assert len(await _all(url, clock)) == 2


async def _all(url: str, clock: MovableClock) -> set[int]:
    async with open_runs(url, clock=clock, identifiers=Identifiers()) as store:
        return {run.id for run in await store.page(limit=100)}


async def test_pages_are_in_the_order_of_time(store: RunStore, clock: MovableClock) -> None:
    created = []
    for number in range(12):
        run = await store.create(request(number % 3, 7 + number % 2))
        await store.cancel(run.id)
        created.append(run)
        clock.advance(number % 3)
    newest = sorted(created, key=lambda each: (each.created_at, each.id), reverse=True)
    for workspace, pipeline in ((None, None), (7, None), (7, 2), (None, 1)):
        expected = [
            each.id for each in newest if workspace in (None, each.workspace) and pipeline in (None, each.pipeline)
        ]
        found: list[Run] = []
        after = None
        while page := await store.page(workspace, pipeline=pipeline, after=after, limit=2):
            found += page
            after = RunCursor(page[-1].created_at, page[-1].id)
        assert [each.id for each in found] == expected


async def test_a_claimed_run_has_a_lease(store: RunStore, url: str) -> None:
    run = await store.create(request())
    assert await store.waiting() == [WaitingRuns(7, run.created_at, 0)]
    claimed = await claim(store)
    assert (claimed.id, claimed.status, claimed.fence) == (run.id, "Running", 1)
    assert claimed.started_at == run.created_at
    assert await store.claim(7) is None
    assert await store.waiting() == []
    assert not await store.renew(run.id, 1)
    await age_leases(url, runs, "runs", LEASE_SECONDS / 2)
    assert not await store.renew(run.id, 1)
    await age_leases(url, runs, "runs", LEASE_SECONDS / 2)
    assert await store.claim(7) is None
    await age_leases(url, runs, "runs", LEASE_SECONDS)
    again = await claim(store)
    assert (again.id, again.fence, again.started_at) == (run.id, 2, run.created_at)


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_machine_with_a_wrong_clock_neither_takes_nor_keeps_a_run(
    store: RunStore, url: str, database_url: str | None, hours: int
) -> None:
    if database_url is None:
        pytest.skip("a SQLite file belongs to one machine")
    clock = MovableClock()
    clock.advance(hours * 3600)
    async with open_runs(url, clock=clock, identifiers=Identifiers(Random(8))) as wrong:
        await store.create(request(1))
        await store.create(request(2))
        owners = await claim(store), await claim(wrong)
        for first, second in ((store, wrong), (wrong, store)):
            assert await first.waiting() == await second.waiting() == []
            assert await first.claim(7) is await second.claim(7) is None
        await store.renew(owners[0].id, 1)
        await wrong.renew(owners[1].id, 1)
        assert await store.claim(7) is await wrong.claim(7) is None
        await age_leases(url, runs, "runs", LEASE_SECONDS)
        taken = {(await claim(store)).id, (await claim(wrong)).id}
    assert taken == {each.id for each in owners}


async def test_writes_of_an_earlier_process_have_no_effect(store: RunStore, clock: MovableClock) -> None:
    run = await store.create(request())
    await store.claim(7)
    await store.release(run.id, 1, expected=False)
    await store.claim(7)
    for write in (
        store.renew(run.id, 1),
        store.save(run.id, 1, RunProgress(rows=5), [_error("x")]),
        store.finish(run.id, 1, "Succeeded"),
        store.clear_errors(run.id, 1),
    ):
        with pytest.raises(RunLost):
            await write
    await store.release(run.id, 1, expected=True)
    assert await store.claim(7) is None
    await store.save(run.id, 2, RunProgress(rows=9, passed=(9, 0, 0, 0, 0, 0)))
    await store.finish(run.id, 2, "Succeeded")
    found = await get(store, run.id)
    assert (found.status, found.progress.rows, found.progress.passed[0]) == ("Succeeded", 9, 9)
    assert await store.errors(run.id, limit=10) == []
    with pytest.raises(RunLost):
        await store.renew(run.id, 2)


async def test_one_process_claims_a_run(store: RunStore) -> None:
    for pipeline in range(3):
        await store.create(request(pipeline))
    claimed = [run for run in await asyncio.gather(*(store.claim(7) for _ in range(9))) if run is not None]
    while (run := await store.claim(7)) is not None:
        claimed.append(run)
    assert sorted(run.pipeline for run in claimed) == [0, 1, 2]


@pytest.mark.parametrize(
    ("endings", "reason"),
    [
        (["a", "b", "c"], "c"),
        (["a", "b", None], "its machine or its scheduler ended, too"),
    ],
)
async def test_a_run_fails_when_its_processes_end_unexpectedly(
    store: RunStore, url: str, endings: list[str | None], reason: str
) -> None:
    run = await store.create(request())
    assert len(endings) == MAX_ATTEMPTS
    for ending in endings:
        claimed = await claim(store)
        assert claimed.status == "Running"
        await store.save(run.id, claimed.fence, RunProgress(rows=10))  # the same as before
        if ending is None:
            await age_leases(url, runs, "runs", LEASE_SECONDS + 1)
        else:
            await store.release(run.id, claimed.fence, expected=False, ending=ending)
    failed = await claim(store)
    assert failed.status == "Failed"
    assert failed.error == f"the run process ended unexpectedly {MAX_ATTEMPTS} times; the last time: {reason}"
    assert await store.running([1]) == frozenset()


async def test_a_run_that_gets_further_has_its_attempts_again(store: RunStore) -> None:
    run = await store.create(request())
    for number in range(3 * MAX_ATTEMPTS):
        claimed = await claim(store)
        assert claimed.status == "Running"
        await store.save(run.id, claimed.fence, RunProgress(rows=10 + number))
        await store.release(run.id, claimed.fence, expected=False)


async def test_stops_are_no_failures(store: RunStore) -> None:
    run = await store.create(request())
    for _ in range(3 * MAX_ATTEMPTS):
        claimed = await claim(store)
        assert claimed.status == "Running"
        await store.release(run.id, claimed.fence, expected=True)


async def test_cancels(store: RunStore, clock: MovableClock) -> None:
    queued, running, dead = [await store.create(request(pipeline)) for pipeline in (1, 2, 3)]
    cancelled = await store.cancel(queued.id)
    assert cancelled is not None and cancelled.status == "Cancelled" and cancelled.ended_at is not None
    first, second = await claim(store), await claim(store)
    by_id = {each.id: each for each in (first, second)}
    for each in (running, dead):
        found = await store.cancel(each.id)
        assert found is not None and (found.status, found.is_cancelled, found.ended_at) == ("Running", True, None)
    assert await store.to_cancel([queued.id, running.id, dead.id]) == {running.id, dead.id}
    assert await store.renew(running.id, by_id[running.id].fence)
    assert await store.save(running.id, by_id[running.id].fence, RunProgress())
    await store.finish(running.id, by_id[running.id].fence, "Cancelled")
    await store.release(dead.id, by_id[dead.id].fence, expected=False)
    assert (await claim(store)).status == "Cancelled"
    again = await store.cancel(running.id)
    assert again is not None and again.status == "Cancelled"


def _error(message: str, count: int = 1, *, step: Any = "Receive", samples: int = 1, at: int = 5) -> RunError:
    return RunError(
        run=0,
        step=step,
        message=message,
        count=count,
        first_at=at,
        last_at=at,
        samples=tuple(RunErrorSample(number, f"id{number}", "email") for number in range(samples)),
    )


async def test_errors_of_one_step_and_message_are_one(store: RunStore) -> None:
    run = await store.create(request())
    await store.claim(7)
    await store.save(run.id, 1, RunProgress(), [_error("bad", 2, samples=3), _error("worse\0", 7)])
    await store.save(run.id, 1, RunProgress(), [_error("bad", 4, samples=4, at=9), _error("bad", step="Filter")])
    found = await store.errors(run.id, limit=10)
    assert [(each.step, each.message, each.count) for each in found] == [
        ("Receive", "worse\ufffd", 7),
        ("Receive", "bad", 6),
        ("Filter", "bad", 1),
    ]
    bad = found[1]
    assert (bad.first_at, bad.last_at, len(bad.samples)) == (5, 9, 5)
    assert bad.samples[0] == RunErrorSample(0, "id0", "email")
    pages = []
    after = None
    while page := await store.errors(run.id, after=after, limit=1):
        pages += page
        after = page[-1].cursor
    assert pages == found
    await store.clear_errors(run.id, 1)
    assert await store.errors(run.id, limit=10) == []


async def test_the_number_of_errors_is_limited(store: RunStore) -> None:
    run = await store.create(request())
    await store.claim(7)
    for start in range(0, MAX_ERRORS + 200, 400):
        await store.save(run.id, 1, RunProgress(), [_error(f"e{start + n}", samples=9) for n in range(400)])
    found = await store.errors(run.id, limit=2 * MAX_ERRORS)
    assert len(found) == MAX_ERRORS
    assert {len(each.samples) for each in found} == {5}
    await store.save(run.id, 1, RunProgress(), [_error("e0")])
    assert (await store.errors(run.id, limit=1))[0].count == 2


async def test_waiting_runs_by_workspace(store: RunStore, clock: MovableClock) -> None:
    for pipeline, workspace in ((1, 7), (2, 7), (3, 8), (4, 9)):
        await store.create(request(pipeline, workspace))
        clock.advance(1)
    await store.claim(7)
    await store.claim(9)
    waiting = {each.workspace: each.running for each in await store.waiting()}
    assert waiting == {7: 1, 8: 0}


async def test_schedules_are_followed_from_the_first_sight(store: RunStore, clock: MovableClock) -> None:
    first = await store.follow(1, 60, 5)
    clock.advance(10)
    assert await store.follow(1, 60, 5) == first
    changed = await store.follow(1, 30, 5)
    assert changed == Schedule(30, 5, first.since + 10_000_000)
    await store.follow(2, 60, 5)
    assert set(await store.schedules()) == {1, 2}
    await store.forget([2])
    assert await store.schedules() == {1: changed}


async def test_runs_of_deleted_pipelines_are_removed(store: RunStore, clock: MovableClock) -> None:
    ended = await store.create(request(1))
    await store.cancel(ended.id)
    running = await store.create(request(1))
    clock.advance(1)
    other = await store.create(request(2))
    claimed = await claim(store)
    await store.follow(1, 60, 5)
    await store.save(claimed.id, 1, RunProgress(), [_error("x")])
    assert not await store.remove_pipeline(1)
    assert (await get(store, running.id)).is_cancelled and await store.find(ended.id) is None
    assert await store.schedules() == {}
    await store.finish(running.id, claimed.fence, "Cancelled")
    assert await store.remove_pipeline(1)
    assert [each.id for each in await store.page(limit=9)] == [other.id]
    assert await store.errors(running.id, limit=9) == []


async def test_old_runs_are_deleted(store: RunStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_store, "MAX_KEPT", 3)
    live = await store.create(request(2))
    created = []
    for _ in range(6):
        run = await store.create(request(1))
        await store.cancel(run.id)
        created.append(run)
        clock.advance(1)
    assert [each.id for each in await store.page(pipeline=1, limit=9)] == [each.id for each in created[:-4:-1]]
    assert await store.trim(created[-1].created_at)
    assert {each.id for each in await store.page(limit=9)} == {created[-1].id, live.id}


async def test_no_statement_of_a_process_or_a_page_reads_all_runs(tmp_path: Path, clock: MovableClock) -> None:
    path = tmp_path / "runs.db"
    statements: list[tuple[str, Any]] = []
    async with open_runs(migrated_url(path), clock=clock, identifiers=Identifiers()) as store:

        @event.listens_for(Engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            statements.append((statement, parameters))

        try:
            run = await store.create(request())
            await store.create_due(request(), 5)
            await store.page(7, limit=5, after=RunCursor(1, 1))
            await store.page(7, pipeline=1, limit=5, after=RunCursor(1, 1))
            await store.page(limit=5)
            await store.running([1, 2])
            await store.waiting()
            await store.claim(7)
            await store.save(run.id, 1, RunProgress(), [_error("x")])
            await store.errors(run.id, limit=5)
            await store.cancel(run.id, 7)
            await store.to_cancel([run.id, 2])
            await store.release(run.id, 1, expected=True)
            await store.pipelines()
            await store.finish(run.id, 1, "Cancelled")
            await store.trim(1)
            await store.remove_pipeline(1)
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    with closing(sqlite3.connect(path)) as connection:
        for statement, parameters in statements:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scans = [step for step in plan if step.startswith("SCAN run") and not OF_LIVE_RUNS & {*step.split()}]
            if "LIMIT" in statement:  # in the order of an index
                scans = [step for step in scans if "USING" not in step]
            assert not scans, (statement, plan)
    assert len(statements) > 20
