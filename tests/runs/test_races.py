"""Four processes race for the ticks of schedules on PostgreSQL, and one of them is killed."""

import asyncio
import signal
from collections import Counter
from datetime import timedelta

from headwater.base.clock import microseconds
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.runs.scheduling import Ticker
from headwater.state.runs import open_runs
from headwater.state.runs.store import START_LEASE_SECONDS
from headwater.state.runs.tables import runs as runs_table
from tests.forked import start_program
from tests.harness import MovableClock, add_workspace
from tests.leases import age_leases
from tests.postgresql import PostgresqlServer
from tests.runs import racer
from tests.runs.racer import FIRST, TICKS
from tests.runs.test_scheduling import add_pipeline

PIPELINES = 3


async def test_each_tick_has_one_run_and_each_run_one_end(postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.create()
    clock, identifiers = MovableClock(FIRST), Identifiers()
    async with (
        open_catalog(url, clock=clock, identifiers=identifiers) as catalog,
        open_runs(url, clock=clock, identifiers=identifiers) as runs,
    ):
        workspace = await add_workspace(catalog)
        for _ in range(PIPELINES):
            await add_pipeline(catalog, workspace.id, period="5m", start=0)
        assert await Ticker(catalog, runs, clock).fire() == []
        racers = [await start_program(racer.__name__, url) for _ in range(4)]
        async with asyncio.timeout(120):
            killed, output = racers[0]
            first = await output.readline()
            killed.kill()
            outputs = [await output.read() for _, output in racers]
        assert [process.wait(60) for process, _ in racers] == [-signal.SIGKILL, 0, 0, 0]
        lines = (first + b"".join(outputs)).splitlines()
        ended = Counter(int(line) for line in lines if line.isdigit())  # the others are logs
        await age_leases(url, runs_table, "runs", START_LEASE_SECONDS + 1)
        while (run := await runs.claim(workspace.id)) is not None:  # of the process that was killed
            await runs.finish(run.id, run.fence, "Succeeded")
            ended[run.id] += 1
        found = await runs.page(limit=1_000)
        due = Counter((run.pipeline, run.due_at) for run in found)
        ticks = {microseconds(FIRST + timedelta(minutes=5 * number)) for number in range(1, TICKS + 1)}
        assert set(due.values()) == {1}
        assert {tick for _, tick in due} == ticks and len(due) == PIPELINES * TICKS
        succeeded = {run.id for run in found if run.status == "Succeeded"}
        assert {run.status for run in found} <= {"Succeeded", "Skipped"}
        # The process that was killed may have ended a run without printing it.
        assert ended.keys() <= succeeded and len(succeeded - ended.keys()) <= 1
        assert set(ended.values()) == {1}
    postgresql_server.drop(url)
