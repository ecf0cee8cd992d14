"""The processes that the scheduler starts: what happens to them, and to their runs."""

import asyncio
import os
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import Metrics, RunEnd, RunKind
from headwater.catalog import Catalog, open_catalog
from headwater.runs.scheduling import Ticker
from headwater.server import run_process, scheduler
from headwater.server.processes import Child, Program, describe_ending, start
from headwater.server.scheduler import Scheduler
from headwater.server.settings import Settings, read
from headwater.state.runs import MAX_ATTEMPTS, Run, RunRequest, RunStatus, RunStore, open_runs
from headwater.storage.database import sqlite_url
from tests.harness import add_workspace
from tests.runs.test_scheduling import add_pipeline
from tests.sqlite import migrated_url

pytestmark = pytest.mark.process

IGNORES_SIGNALS = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read({"HEADWATER_DATA_DIR": str(tmp_path), "HEADWATER_WATCHDOG_SECONDS": "0", "HEADWATER_RUNS": "2"})


@pytest.fixture
async def catalog(settings: Settings) -> AsyncIterator[Catalog]:
    migrated_url(settings.catalog_path)
    async with open_catalog(
        sqlite_url(settings.catalog_path), clock=SystemClock(), identifiers=Identifiers()
    ) as catalog:
        yield catalog


@pytest.fixture
async def runs(settings: Settings) -> AsyncIterator[RunStore]:
    migrated_url(settings.runs_path)
    async with open_runs(sqlite_url(settings.runs_path), clock=SystemClock(), identifiers=Identifiers()) as runs:
        yield runs


class Counts(Metrics):
    """Counts what the scheduler measures."""

    def __init__(self) -> None:
        self.found = Counter[str]()
        self.present = list[int]()

    def run_process_started(self, kind: RunKind) -> None:
        self.found[f"{kind} started"] += 1

    def run_process_failed(self, kind: RunKind) -> None:
        self.found[f"{kind} failed"] += 1

    def run_ended(self, kind: RunKind, end: RunEnd, seconds: float | None) -> None:
        self.found[f"{kind} {end}"] += 1

    def run_processes_present(self, processes: int) -> None:
        self.present.append(processes)


class Started:
    """A scheduler whose run processes execute other programs."""

    def __init__(self, settings: Settings, catalog: Catalog, runs: RunStore) -> None:
        self.metrics = Counts()
        self.runs = runs
        self.catalog = catalog
        self.stop = asyncio.Event()
        self.code = SLEEPS
        """The program of run processes."""
        self.programs = list[Program]()
        self.children = list[Child]()
        self.task = asyncio.create_task(
            Scheduler(settings, catalog, runs, SystemClock(), self.start, {}, self.metrics).run(self.stop)
        )

    async def start(self, program: Program) -> Child:
        self.programs.append(program)
        child = await start(Program(program.name, (sys.executable, "-I", "-S", "-c", self.code), program.environment))
        self.children.append(child)
        return child

    async def wait_for_ends(self) -> set[int]:
        """Return the exit statuses of all run processes."""
        return {await child.wait() for child in self.children}

    async def create(self) -> Run:
        workspaces = self.catalog.workspaces()
        workspace = workspaces[0] if workspaces else await add_workspace(self.catalog)
        pipeline = await add_pipeline(self.catalog, workspace.id, period=None)
        request = RunRequest(workspace=workspace.id, pipeline=pipeline.id, connection=pipeline.connection)
        return await self.runs.create(request)

    async def wait_for(self, run: Run, status: RunStatus) -> Run:
        async with asyncio.timeout(60):
            while True:
                found = await self.runs.find(run.id)
                assert found is not None
                if found.status == status:
                    return found
                await asyncio.sleep(0.01)


@pytest.fixture
async def started(
    settings: Settings, catalog: Catalog, runs: RunStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Started]:
    monkeypatch.setattr(scheduler, "ROUND_SECONDS", 0.01)
    started = Started(settings, catalog, runs)
    yield started
    started.stop.set()
    await started.task


async def test_a_process_that_ignores_a_cancel_is_killed(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "CANCEL_SECONDS", 0.2)
    run = await started.create()
    await started.wait_for(run, "Running")
    await started.runs.cancel(run.id)
    await started.wait_for(run, "Cancelled")
    assert await started.wait_for_ends() == {-signal.SIGKILL}


def test_temporary_files_of_libraries_are_in_the_folder_of_the_process(settings: Settings) -> None:
    before = tempfile.gettempdir()
    with run_process.open_scratch(settings.run_scratch(1, 2)) as scratch, tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == scratch
    assert (scratch.exists(), tempfile.gettempdir()) == (False, before)


def test_temporary_files_of_sqlite_are_in_the_folder_of_the_process(settings: Settings) -> None:
    with (
        run_process.open_scratch(settings.data_dir / "it's" / "1") as scratch,
        closing(sqlite3.connect("")) as database,
    ):
        database.execute("PRAGMA cache_size = 1")
        database.execute("CREATE TABLE data AS SELECT zeroblob(100000)")
        database.execute("INSERT INTO data SELECT zeroblob(100000)")
        files = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        assert any(file.startswith(f"{scratch}/") for file in files)


async def test_each_process_of_a_run_has_its_own_fence(started: Started) -> None:
    """A process that is late deletes no files of the one that has taken its run."""
    started.code = "raise SystemExit(1)"
    run = await started.create()
    await started.wait_for(run, "Failed")
    assert [program.command[-2:] for program in started.programs] == [
        (str(run.id), str(fence)) for fence in range(1, MAX_ATTEMPTS + 1)
    ]


async def test_ticks_that_fail_hold_up_no_run(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Ticker) -> list[Run]:
        raise ZeroDivisionError

    monkeypatch.setattr(Ticker, "fire", fail)
    monkeypatch.setattr(scheduler, "CANCEL_SECONDS", 0.0)
    run = await started.create()
    await started.wait_for(run, "Running")
    await started.runs.cancel(run.id)
    await started.wait_for(run, "Cancelled")


async def test_further_runs_wait_for_a_free_place(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [await started.create() for _ in range(2)]
    for run in first:
        await started.wait_for(run, "Running")
    third = await started.create()
    await asyncio.sleep(0.2)  # rounds that start nothing
    found = await started.runs.find(third.id)
    assert found is not None and found.status == "Queued"
    for run in first:
        await started.runs.cancel(run.id)
    monkeypatch.setattr(scheduler, "CANCEL_SECONDS", 0.0)
    await started.wait_for(third, "Running")
    assert len(started.children) == 3


async def test_a_stop_kills_processes_that_do_not_end(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "STOP_SECONDS", 0.2)
    started.code = IGNORES_SIGNALS
    run = await started.create()
    await started.wait_for(run, "Running")
    started.stop.set()
    await started.task
    assert await started.wait_for_ends() in ({-signal.SIGKILL}, {-signal.SIGTERM})
    [waiting] = await started.runs.waiting()
    assert (waiting.workspace, waiting.running) == (run.workspace, 0)


async def test_runs_of_deleted_pipelines_are_swept(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(scheduler, "CANCEL_SECONDS", 0.0)
    run = await started.create()
    await started.wait_for(run, "Running")
    async with started.catalog.change() as change:
        pipeline = started.catalog.pipeline(None, run.pipeline)
        assert pipeline is not None
        change.remove_pipeline(pipeline)
    async with asyncio.timeout(60):
        while await started.runs.find(run.id) is not None:
            await asyncio.sleep(0.01)
    assert await started.wait_for_ends() == {-signal.SIGKILL}


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("raise SystemExit(3)", "it ended with exit status 3; the log says why"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "it was killed by SIGKILL: is the machine out of memory?",
        ),
    ],
)
async def test_a_process_that_fails_is_replaced_until_the_run_fails(
    started: Started, monkeypatch: pytest.MonkeyPatch, code: str, ending: str
) -> None:
    started.code = code
    failed = await started.wait_for(await started.create(), "Failed")
    assert failed.error == f"the run process ended unexpectedly {MAX_ATTEMPTS} times; the last time: {ending}"
    assert len(started.children) == MAX_ATTEMPTS
    async with asyncio.timeout(60):
        while not started.metrics.found["Import Failed"]:
            await asyncio.sleep(0.01)
    assert started.metrics.found == {
        "Import started": MAX_ATTEMPTS,
        "Import failed": MAX_ATTEMPTS,
        "Import Failed": 1,
    }
    assert started.metrics.present[-1] == 0 and max(started.metrics.present) == 1


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (0, "it ended with exit status 0; the log says why"),
        (-signal.SIGSEGV, "it was killed by SIGSEGV: a library has crashed"),
        (-signal.SIGTERM, "it was killed by SIGTERM"),
        (-200, "it was killed by signal 200"),
    ],
)
def test_endings_are_described(status: int, ending: str) -> None:
    assert describe_ending(status) == ending
