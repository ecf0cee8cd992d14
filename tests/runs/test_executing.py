"""The execution of one run, with works of the test instead of an import."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from headwater.base.clock import SystemClock
from headwater.base.errors import Unavailable
from headwater.connectors.environment import DEFAULT_ENVIRONMENT
from headwater.runs import executing
from headwater.runs.executing import Execution
from headwater.runs.job import Job, Report, RunFailed
from headwater.runs.scheduling import make_request
from headwater.state.runs import Run, RunError, RunProgress
from tests.harness import Harness, open_harness
from tests.runs.test_scheduling import add_pipeline

Work = Callable[[Job], Awaitable[None]]


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        yield harness


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PROGRESS_SECONDS", 0.02), ("HEARTBEAT_SECONDS", 0.05), ("STOP_SECONDS", 1.0)):
        monkeypatch.setattr(executing, name, seconds)


async def claimed_job(harness: Harness, report: Report | None = None, run: Run | None = None) -> Job:
    """Claim a run, created unless it is given, and return its job."""
    if run is None:
        pipeline = await add_pipeline(harness.catalog, harness.workspace)
        connection = harness.catalog.connection(harness.workspace, pipeline.connection)
        assert connection is not None
        await harness.runs.create(make_request(pipeline, connection))
    claimed = await harness.runs.claim(harness.workspace)
    assert claimed is not None
    pipeline_, connection_ = (
        harness.catalog.pipeline(None, claimed.pipeline),
        harness.catalog.connection(harness.workspace, claimed.connection),
    )
    assert pipeline_ is not None and connection_ is not None
    return Job(
        run=claimed,
        pipeline=pipeline_,
        connection=connection_,
        connector=harness.catalog.connectors["dummy"],
        catalog=harness.catalog,
        state=harness.state,
        environment=DEFAULT_ENVIRONMENT,
        functions=harness.functions,
        clock=SystemClock(),
        report=report or Report(),
        scratch=harness.folder,
    )


async def execute(harness: Harness, job: Job, work: Work, stop: asyncio.Event | None = None, **options: Any) -> Any:
    execution = Execution(job, harness.runs, execute=work, **{"timeout_seconds": 60.0, **options})
    async with asyncio.timeout(30):
        return await execution.run(stop or asyncio.Event())


async def get(harness: Harness, job: Job) -> Run:
    found = await harness.runs.find(job.run.id)
    assert found is not None
    return found


async def counts(harness: Harness, job: Job) -> list[int]:
    found = await harness.state.pipeline_counts([job.run.pipeline], start=0, end=2**62, unit_seconds=86_400)
    return [sum(column) for column in zip(*found.values(), strict=True)] if found else []


def test_samples_go_on_after_the_first_errors_were_stored() -> None:
    report = Report()
    report.failed("Finalize", "it is locked", id="a")
    assert [each.id for each in report.take_errors()["Finalize", "it is locked"].samples] == ["a"]
    report.failed("Finalize", "it is locked", id="b")
    report.failed("Finalize", "it is locked", id="c")
    assert [each.id for each in report.take_errors()["Finalize", "it is locked"].samples] == ["b", "c"]


async def test_a_run_that_returns_has_succeeded(harness: Harness) -> None:
    async def work(job: Job) -> None:
        job.report.expect(rows=3)
        for number in range(3):
            job.report.read(rows=1)
            job.report.passed("Receive")
            if number:
                job.report.passed("Finalize")
            else:
                job.report.failed("Filter", "bad e-mail", number=7, id="a", path="email")
            await asyncio.sleep(0.05)

    job = await claimed_job(harness)
    assert await execute(harness, job, work) == "Succeeded"
    run = await get(harness, job)
    assert (run.status, run.error, run.error_step) == ("Succeeded", "", None)
    assert run.progress == RunProgress(passed=(3, 0, 0, 0, 0, 2), failed=(0, 0, 1, 0, 0, 0), rows=3, total_rows=3)
    [error] = await harness.runs.errors(run.id, limit=9)
    assert (error.step, error.message, error.count, error.samples[0].number) == ("Filter", "bad e-mail", 1, 7)
    assert await counts(harness, job) == [3, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0]
    [counted] = await harness.state.pipeline_errors([run.pipeline], start=0, end=2**62, step=None, limit=9)
    assert (counted.message, counted.count) == ("bad e-mail", 1)


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RunFailed("Receive", "the file is empty"), ("Failed", "the file is empty", "Receive")),
        (RunFailed(None, "it does not exist"), ("Failed", "it does not exist", None)),
        (Unavailable("s3 does not respond"), ("Failed", "s3 does not respond", None)),
        (ZeroDivisionError("a secret"), ("Failed", "internal error (ZeroDivisionError)", None)),
    ],
)
async def test_a_failure_has_a_reason(harness: Harness, error: Exception, expected: tuple[str, str, Any]) -> None:
    job = await claimed_job(harness)
    assert await execute(harness, job, lambda _: fail(error)) == "Failed"
    run = await get(harness, job)
    assert (run.status, run.error, run.error_step) == expected


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def has_progress(harness: Harness, job: Job) -> bool:
    return (await get(harness, job)).progress.rows > 0


async def until_cancelled(job: Job) -> None:
    while True:
        job.report.read(rows=1)
        job.report.check()
        await asyncio.sleep(0.01)


async def test_a_cancel_ends_a_run(harness: Harness) -> None:
    job = await claimed_job(harness)
    execution = asyncio.create_task(execute(harness, job, until_cancelled))
    await until(lambda: has_progress(harness, job))
    await harness.runs.cancel(job.run.id)
    assert await execution == "Cancelled"
    assert (await get(harness, job)).status == "Cancelled"


async def test_a_cancel_ends_a_run_that_does_nothing(harness: Harness) -> None:
    job = await claimed_job(harness)
    execution = asyncio.create_task(execute(harness, job, lambda _: asyncio.sleep(3600)))
    await harness.runs.cancel(job.run.id)
    assert await execution == "Cancelled"


async def test_a_run_without_progress_fails(harness: Harness) -> None:
    """The thread does not end, so the process must."""
    job = await claimed_job(harness)
    end = threading.Event()

    async def work(job: Job) -> None:
        await asyncio.to_thread(end.wait)

    execution = Execution(job, harness.runs, execute=work, timeout_seconds=0.2)
    try:
        assert await execution.run(asyncio.Event()) == "Failed"
    finally:
        end.set()
    assert execution.is_stuck
    assert (await get(harness, job)).error == "the run made no progress for 0.2 seconds"


async def test_a_run_that_hangs_in_a_transaction_fails(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts cannot be stored, because the transaction holds the state store."""
    monkeypatch.setattr(executing, "STORE_SECONDS", 0.05)
    job = await claimed_job(harness)
    hangs = asyncio.Event()

    async def work(job: Job) -> None:
        async with job.state.transaction():
            job.report.read(rows=1)
            job.report.passed("Receive")
            while not hangs.is_set():  # as a driver that does not end
                with suppress(asyncio.CancelledError):
                    await hangs.wait()

    execution = Execution(job, harness.runs, execute=work, timeout_seconds=0.2)
    assert await execution.run(asyncio.Event()) == "Failed"
    assert execution.is_stuck
    hangs.set()
    await until(lambda: counts(harness, job))


async def test_progress_keeps_a_run_alive(harness: Harness) -> None:
    async def work(job: Job) -> None:
        for _ in range(20):
            job.report.read(rows=1)
            await asyncio.sleep(0.05)

    job = await claimed_job(harness)
    assert await execute(harness, job, work, timeout_seconds=0.3) == "Succeeded"


async def test_a_stop_gives_the_run_back_under_its_id(harness: Harness) -> None:
    job, stop = await claimed_job(harness), asyncio.Event()
    execution = asyncio.create_task(execute(harness, job, until_cancelled, stop))
    await until(lambda: has_progress(harness, job))
    stop.set()
    assert await execution is None
    run = await get(harness, job)
    assert (run.status, run.ended_at) == ("Running", None)
    again = await claimed_job(harness, run=run)
    assert (again.run.id, again.run.fence) == (run.id, 2)
    assert await execute(harness, again, lambda _: asyncio.sleep(0)) == "Succeeded"


async def test_a_process_whose_run_was_taken_changes_nothing(harness: Harness) -> None:
    job = await claimed_job(harness)
    execution = asyncio.create_task(execute(harness, job, until_cancelled))
    await until(lambda: has_progress(harness, job))
    other = None
    while other is None:  # the process may prolong its lease in between
        await harness.runs.release(job.run.id, 1, expected=True)
        other = await harness.runs.claim(harness.workspace)
    await harness.runs.save(other.id, 2, RunProgress(rows=1_000))
    assert await execution is None
    run = await get(harness, job)
    assert (run.status, run.progress.rows, run.ended_at) == ("Running", 1_000, None)


async def test_what_a_continued_run_repeats_is_counted_once(harness: Harness) -> None:
    counted_first = asyncio.Event()

    def importing(count: int, failed: int, *, ends: bool = True) -> Work:
        async def work(job: Job) -> None:
            job.report.read(rows=count)
            job.report.passed("Receive", count)
            for _ in range(failed):
                job.report.failed("Finalize", "no")
            if not ends:
                await until(lambda: counts(harness, job))
                counted_first.set()
                await asyncio.Event().wait()

        return work

    job = await claimed_job(harness)
    execution = asyncio.create_task(execute(harness, job, importing(5, 2, ends=False)))
    await counted_first.wait()
    execution.cancel()
    await asyncio.wait([execution])
    await harness.runs.release(job.run.id, 1, expected=False)
    again = await claimed_job(harness, run=job.run)
    assert await execute(harness, again, importing(7, 3)) == "Succeeded"
    assert await counts(harness, again) == [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    [error] = await harness.runs.errors(job.run.id, limit=9)
    assert error.count == 3, "the errors of the first attempt are deleted, because it began again"
    [counted] = await harness.state.pipeline_errors([job.run.pipeline], start=0, end=2**62, step=None, limit=9)
    assert counted.count == 3
    harness.clock.advance(1)
    next_job = await claimed_job(harness, run=await harness.runs.create(make_request(again.pipeline, again.connection)))
    assert await execute(harness, next_job, importing(4, 0)) == "Succeeded"
    assert (await counts(harness, again))[0] == 11
    async with harness.state.transaction() as transaction:
        assert not await transaction.record_run_counts(job.run, RunProgress(rows=9), [], now=1), "of an earlier run"
    assert (await counts(harness, again))[0] == 11


async def test_the_counts_of_deleted_pipelines_are_forgotten(harness: Harness) -> None:
    job = await claimed_job(harness)
    await execute(harness, job, lambda _: asyncio.sleep(0))
    owner = f"run-counts {job.run.pipeline}"
    assert await harness.state.checkpoint(owner) is not None
    for pipelines, remains in (([job.run.pipeline], True), ([], False)):
        async with harness.state.transaction() as transaction:
            await transaction.remove_counts_except(pipelines)
        assert (await harness.state.checkpoint(owner) is not None) == remains


async def test_an_outage_while_progress_is_stored_ends_no_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, save = await claimed_job(harness), harness.runs.save
    failures = iter(range(3))

    async def failing(*arguments: Any) -> bool:
        if next(failures, None) is not None:
            raise Unavailable("the runs' database does not respond")
        return await save(*arguments)

    async def work(job: Job) -> None:
        for _ in range(10):
            job.report.read(rows=1)
            job.report.failed("Receive", "x")
            await asyncio.sleep(0.03)

    monkeypatch.setattr(harness.runs, "save", failing)
    assert await execute(harness, job, work) == "Succeeded"
    [error] = await harness.runs.errors(job.run.id, limit=9)
    assert error.count == 10


async def test_the_errors_before_a_restart_are_deleted_however_short_the_rest_is(harness: Harness) -> None:
    async def work(job: Job) -> None:
        job.report.restart()
        job.report.read(rows=9)
        job.report.failed("Receive", "x")

    job = await claimed_job(harness)
    [error] = _errors(job, count=1)
    await harness.runs.save(job.run.id, 1, RunProgress(rows=5), [error])
    await harness.runs.release(job.run.id, 1, expected=False)
    again = await claimed_job(harness, Report(RunProgress(rows=5)), run=job.run)
    assert await execute(harness, again, work) == "Succeeded"
    [found] = await harness.runs.errors(job.run.id, limit=9)
    assert found.count == 1


async def test_a_run_is_counted_after_the_clock_was_set_back(harness: Harness) -> None:
    async def work(job: Job) -> None:
        job.report.read(rows=1)
        job.report.passed("Receive")

    job = await claimed_job(harness)
    assert await execute(harness, job, work) == "Succeeded"
    harness.clock.advance(-3600)
    created = await harness.runs.create(make_request(job.pipeline, job.connection))
    assert created.created_at > job.run.created_at
    assert [run.id for run in await harness.runs.page(limit=9)] == [created.id, job.run.id]
    assert await execute(harness, await claimed_job(harness, run=created), work) == "Succeeded"
    assert (await counts(harness, job))[0] == 2


@pytest.mark.parametrize("ends", [False, True])
async def test_errors_whose_save_has_an_unknown_outcome_are_added_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    job, save = await claimed_job(harness), harness.runs.save
    failed = asyncio.Event()

    async def save_and_fail(*arguments: Any) -> bool:
        saved = await save(*arguments)
        if arguments[3] and not failed.is_set():
            failed.set()
            raise Unavailable("the connection was closed during the commit")
        return saved

    async def work(job: Job) -> None:
        job.report.failed("Receive", "x")
        await failed.wait()
        if not ends:
            job.report.failed("Receive", "x")
            await asyncio.sleep(0.2)

    monkeypatch.setattr(harness.runs, "save", save_and_fail)
    assert await execute(harness, job, work) == "Succeeded"
    [error] = await harness.runs.errors(job.run.id, limit=9)
    assert error.count == (1 if ends else 2)


def _errors(job: Job, *, count: int) -> list[RunError]:
    return [RunError(run=job.run.id, step="Receive", message="x", count=count, first_at=1, last_at=1)]
