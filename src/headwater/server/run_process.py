"""A run process: executes one run of a batch pipeline, and ends.

A fork server of the scheduler forks it. It can be killed at any time: its lease expires, and another process continues
the run. After SIGTERM it gives the run back.
"""

import asyncio
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, open_catalog
from headwater.runs.executing import Execution
from headwater.runs.job import Job, Report
from headwater.server import child
from headwater.server.connectors import connector_environment
from headwater.server.locations import open_locations
from headwater.server.secrets import keyring
from headwater.server.settings import Settings
from headwater.state import StateStore, open_state
from headwater.state.runs import Run, RunLost, RunStore, open_runs
from headwater.transforms.functions import Runner

NICENESS: Final = 10
"""Added to the niceness of the scheduler. Runs use the processor time that events leave."""
STORE_CONNECTIONS: Final = 3
"""Maximum number of connections to PostgreSQL: one for the data of the run, one for its progress, and one to read."""
SWITCH_SECONDS: Final = 0.0005
"""Time after which a waiting thread gets the interpreter lock. Threads of databases need it for microseconds at a
time."""


async def run(id_: int, fence: int, settings: Settings, stop: asyncio.Event) -> None:
    """Execute the run, if it was not taken by another process."""
    with open_scratch(settings.run_scratch(id_, fence)) as scratch:
        await _run(id_, fence, settings, scratch, stop)


@contextmanager
def open_scratch(folder: Path) -> Iterator[Path]:
    """Create a folder in which all temporary files of this process are, also those of libraries, and delete it at the
    end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    _set_folder_of_sqlite(folder)
    try:
        yield folder
    finally:
        _set_folder_of_sqlite("")
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _set_folder_of_sqlite(folder: Path | str) -> None:
    """Set the folder for temporary files of all databases that this process opens. Call it while none is open.

    SQLite reads `SQLITE_TMPDIR` only when its library is loaded. A library without the pragma ignores it, and uses the
    temporary folder of the system.
    """
    with closing(sqlite3.connect(":memory:")) as database:
        quoted = str(folder).replace("'", "''")
        database.execute(f"PRAGMA temp_store_directory = '{quoted}'")


async def _run(id_: int, fence: int, settings: Settings, scratch: Path, stop: asyncio.Event) -> None:
    clock, identifiers = SystemClock(), Identifiers()
    async with (
        open_locations(settings, "run", store_connections=STORE_CONNECTIONS) as locations,
        open_runs(locations.runs, clock=clock, identifiers=identifiers) as runs,
        open_catalog(locations.catalog, clock=clock, identifiers=identifiers, keyring=keyring(settings)) as catalog,
        # It writes no messages, which one process at a time may do.
        open_state(locations.state, writes=False, clock=clock) as state,
        Runner(javascript=1, python=1, require_confinement=settings.sandbox == "require") as functions,
        child.heartbeat(),
    ):
        found = await runs.find(id_)
        if found is None or found.fence != fence or found.ended_at is not None:
            return
        try:
            await runs.renew(id_, fence)
            job = await _make_job(found, catalog, state, functions, settings, scratch)
            if job is None:
                await runs.finish(id_, fence, "Cancelled", error="the pipeline was deleted")
                return
            await _execute(job, runs, settings, stop)
        except RunLost:
            return


async def _execute(job: Job, runs: RunStore, settings: Settings, stop: asyncio.Event) -> None:
    execution = Execution(job, runs, timeout_seconds=settings.run_timeout)
    await execution.run(stop)
    if execution.is_stuck:  # a thread would hold up the end of the process
        shutil.rmtree(job.scratch, ignore_errors=True)
        os._exit(0)


async def _make_job(
    run: Run, catalog: Catalog, state: StateStore, functions: Runner, settings: Settings, scratch: Path
) -> Job | None:
    """Return the job of a run; None if its pipeline does not exist."""
    pipeline = catalog.pipeline(run.workspace, run.pipeline)
    connection = catalog.connection(run.workspace, run.connection)
    if pipeline is None or connection is None:
        return None
    clock, stored = SystemClock(), await state.run_progress(run.id)
    return Job(
        run=run,
        pipeline=pipeline,
        connection=connection,
        connector=catalog.connectors[connection.connector],
        catalog=catalog,
        state=state,
        environment=connector_environment(settings, clock),
        functions=functions,
        clock=clock,
        report=Report() if stored is None else Report(stored.progress),
        scratch=scratch,
    )


def main(id_: str, fence: str) -> None:
    """Run the process for a fence of a run."""
    os.nice(NICENESS)
    sys.setswitchinterval(SWITCH_SECONDS)
    child.run("run", partial(run, int(id_), int(fence)))
