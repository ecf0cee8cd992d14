"""The scheduler process: creates the runs that are due, and starts and watches a process for each run.

Start it with `python -m headwater.server.scheduler`. It forks a fork server of its own, which forks the run processes.
It can be killed at any time, and its run processes end with it: runs are rows with a lease, and a scheduler of any
machine continues them when the lease has expired. When it is stopped, its run processes give their runs back, under the
same ids.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Final

from headwater.base.clock import Clock, SystemClock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics, RunKind
from headwater.base.waiting import wait
from headwater.catalog import Catalog, open_catalog
from headwater.runs.launching import choose_workspace
from headwater.runs.scheduling import Ticker
from headwater.server import child, environment
from headwater.server.forking import ForkServer, RunningForkServer, fork_fork_server
from headwater.server.locations import open_locations
from headwater.server.logging import logger
from headwater.server.processes import Child, Program, describe_ending
from headwater.server.settings import Settings
from headwater.state.runs import Run, RunStore, open_runs

ROUND_SECONDS: Final = 0.5
"""Pause after each round."""
SWEEP_SECONDS: Final = 60.0
"""Interval at which runs of deleted pipelines and old runs are deleted."""
CANCEL_SECONDS: Final = 30.0
"""Time after a cancel at which the process of a run is killed."""
STOP_SECONDS: Final = 12.0
"""Time that run processes have to end when the scheduler is stopped. It is above the time of their own work, and below
that of the supervisor."""
START_SECONDS: Final = 10.0
"""Time limit of the start of a run process. It is below the lease of a run, and above a start of the fork server."""
RELAUNCH_SECONDS: Final = 1.0
"""Pause before the fork server is started again."""
KEPT_AGE: Final = timedelta(days=90)
"""Age at which runs are deleted."""
STORE_CONNECTIONS: Final = 2
"""Maximum number of connections to PostgreSQL."""
NICENESS: Final = 5
"""The niceness is that of the worker: accepting events has priority."""
MODULE: Final = "headwater.server.run_process"

Start = Callable[[Program], Awaitable[Child]]


async def run(settings: Settings, stop: asyncio.Event, *, fork_server: RunningForkServer) -> None:
    """Work until `stop` is set, then stop the run processes."""
    clock, identifiers = SystemClock(), Identifiers()
    async with (
        open_locations(settings, "scheduler", store_connections=STORE_CONNECTIONS) as locations,
        open_catalog(locations.catalog, clock=clock, identifiers=identifiers) as catalog,
        open_runs(locations.runs, clock=clock, identifiers=identifiers) as runs,
        AsyncExitStack() as stack,
    ):
        metrics: Metrics = NO_METRICS
        if settings.metrics_port is not None:
            from headwater.server.metrics import (
                SchedulerMetrics,
                serve_metrics,
            )  # importing its library takes time and memory

            metrics = await stack.enter_async_context(
                serve_metrics(SchedulerMetrics(), settings.metrics_socket("scheduler"), runs.count_live)
            )
        shutil.rmtree(settings.scratch_dir, ignore_errors=True)
        start = await stack.enter_async_context(_forking(settings, fork_server))
        variables = environment.run_process(os.environ, settings)
        scheduler = Scheduler(settings, catalog, runs, clock, start, variables, metrics)
        async with child.heartbeat():
            await scheduler.run(stop)


@asynccontextmanager
async def _forking(settings: Settings, fork_server: RunningForkServer) -> AsyncIterator[Start]:
    """Keep a fork server running until the context ends; yield the function that starts run processes."""
    forks = ForkServer(fork_server)
    command = (sys.executable, "-m", "headwater.server.forkserver", MODULE)
    variables = environment.fork_server(os.environ)
    program = Program("fork server of runs", command, variables, patience_seconds=settings.watchdog_seconds or None)
    keeping = asyncio.create_task(_keep(forks, program))
    try:
        yield forks.start
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        forks.close()


async def _keep(forks: ForkServer, program: Program) -> None:
    """Start the fork server again whenever it has ended."""

    def log_stuck(seconds: float) -> None:
        logger().error("the fork server of runs is stuck and is killed", silent_s=seconds)

    while True:
        try:
            child = await forks.launch(program)
        except OSError:
            logger().exception("the fork server of runs cannot be started")
        else:
            try:
                status = await child.wait_or_kill(log_stuck)
            except asyncio.CancelledError:
                forks.close()  # which ends it
                await child.stop(RELAUNCH_SECONDS)
                raise
            logger().error("the fork server of runs ended and is started again", ending=describe_ending(status))
        await asyncio.sleep(RELAUNCH_SECONDS)


class Scheduler:
    """Creates due runs, and starts, watches, cancels and stops run processes."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        runs: RunStore,
        clock: Clock,
        start: Start,
        variables: Mapping[str, str],
        metrics: Metrics = NO_METRICS,
    ) -> None:
        """`start` starts run processes, with the environment variables `variables`."""
        self._settings = settings
        self._catalog = catalog
        self._runs = runs
        self._clock = clock
        self._start_process = start
        self._variables = variables
        self._metrics = metrics
        self._ticker = Ticker(catalog, runs, clock)
        self._processes: dict[int, _RunProcess] = {}
        """The run processes by the id of their run."""
        self._turns: dict[int, int] = {}
        """A number for each workspace that grows with its last start."""
        self._swept_at: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Errors are logged, and the next round tries again."""
        try:
            while not stop.is_set():
                await self._round()
                await wait(stop, ROUND_SECONDS)
        finally:
            await asyncio.gather(*(process.stop() for process in list(self._processes.values())))

    async def _round(self) -> None:
        """Do everything that is due. A step that fails does not hold up the others, except for the first one."""
        if await self._attempt(self._catalog.refresh):
            for step in (self._fire, self._cancel, self._start_runs, self._sweep_if_due):
                await self._attempt(step)

    async def _attempt(self, step: Callable[[], Awaitable[object]]) -> bool:
        """Return whether a step has succeeded."""
        try:
            await step()
        except Unavailable as error:
            logger().warning("runs are not scheduled because a store is unavailable", reason=error.message)
        except Exception:
            logger().exception("scheduling failed and will be retried")
        else:
            return True
        return False

    async def _sweep_if_due(self) -> None:
        loop = asyncio.get_running_loop()
        if self._swept_at is None or loop.time() - self._swept_at >= SWEEP_SECONDS:
            await self._sweep()
            self._swept_at = loop.time()

    async def _fire(self) -> None:
        """Create the runs that are due."""
        for run in await self._ticker.fire():
            self._count_end(run)

    async def _cancel(self) -> None:
        """Cancel the runs of deleted pipelines, and kill processes whose cancel takes too long."""
        for id_, process in list(self._processes.items()):
            if self._catalog.pipeline(None, process.run.pipeline) is None:
                await self._runs.cancel(id_)
        if self._processes:
            cancelled = await self._runs.to_cancel(list(self._processes))
            for process in [self._processes[id_] for id_ in cancelled & self._processes.keys()]:
                process.cancel()

    async def _start_runs(self) -> None:
        places = self._settings.runs
        while (free := places - len(self._processes)) > 0:
            workspace = choose_workspace(
                await self._runs.waiting(),
                free=free,
                places=places,
                is_alone=len(self._catalog.workspaces()) < 2,
                turns=self._turns,
            )
            if workspace is None:
                return
            self._turns[workspace] = max(self._turns.values(), default=0) + 1
            claimed = await self._runs.claim(workspace)
            if claimed is None:
                continue
            if claimed.ended_at is None:
                await self._start(claimed)
            else:
                self._count_end(claimed)

    async def _start(self, claimed: Run) -> None:
        program = Program(
            f"run {claimed.id}",
            (sys.executable, "-m", MODULE, str(claimed.id), str(claimed.fence)),
            self._variables,
            patience_seconds=self._settings.watchdog_seconds or None,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                started = await self._start_process(program)
        except OSError:
            logger().exception("a run process cannot be started", run=claimed.id)
            await self._runs.release(claimed.id, claimed.fence, expected=True)
            raise
        process = _RunProcess(claimed, started, self._runs, self._settings)
        self._processes[claimed.id] = process
        self._metrics.run_process_started(self._kind(claimed))
        self._metrics.run_processes_present(len(self._processes))
        process.watching.add_done_callback(lambda _: self._forget(process))

    def _forget(self, process: "_RunProcess") -> None:
        """Free the place of a process, unless its run has a new one already."""
        if self._processes.get(process.run.id) is process:
            del self._processes[process.run.id]
            self._metrics.run_processes_present(len(self._processes))
        if process.has_failed:
            self._metrics.run_process_failed(self._kind(process.run))
        if process.ended is not None:
            self._count_end(process.ended)

    def _kind(self, run: Run) -> RunKind:
        connection = self._catalog.connection(run.workspace, run.connection)
        return "Export" if connection is not None and connection.role == "Destination" else "Import"

    def _count_end(self, run: Run) -> None:
        """Count a run, if it has ended."""
        if run.ended_at is None or run.status == "Queued" or run.status == "Running":
            return
        seconds = None if run.started_at is None else max(0, run.ended_at - run.started_at) / 1e6
        self._metrics.run_ended(self._kind(run), run.status, seconds)

    async def _sweep(self) -> None:
        """Delete runs of deleted pipelines, and old runs."""
        known = await self._runs.pipelines()
        await self._catalog.refresh()  # after the read, so that a pipeline that was created meanwhile is found
        for pipeline in known:
            while self._catalog.pipeline(None, pipeline) is None and not await self._runs.remove_pipeline(pipeline):
                if pipeline in await self._runs.running([pipeline]):
                    break
        while not await self._runs.trim(microseconds(self._clock.now() - KEPT_AGE)):
            pass


class _RunProcess:
    """A process that executes a run, until it has ended and its run is free for others."""

    def __init__(self, run: Run, started: Child, runs: RunStore, settings: Settings) -> None:
        self.run = run
        self._child = started
        self._runs = runs
        self._scratch = settings.run_scratch(run.id, run.fence)
        self._cancelled_at: float | None = None
        self.has_failed = False
        """Whether the process has ended unexpectedly."""
        self.ended: Run | None = None
        """The run, if this process has ended it."""
        self.watching = asyncio.create_task(self._watch())

    def cancel(self) -> None:
        """Kill the process if this is called for more than `CANCEL_SECONDS`."""
        now = asyncio.get_running_loop().time()
        if self._cancelled_at is None:
            self._cancelled_at = now
        elif now - self._cancelled_at > CANCEL_SECONDS:
            self._child.signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Let the process give its run back, and end; kill it if that takes too long."""
        await self._child.stop(STOP_SECONDS)
        await self.watching

    async def _watch(self) -> None:
        is_stuck = False

        def log_stuck(seconds: float) -> None:
            nonlocal is_stuck
            is_stuck = True
            logger().error("a run process is stuck and is killed", run=self.run.id, silent_s=seconds)

        status = await self._child.wait_or_kill(log_stuck)
        how = "it was stuck" if is_stuck else describe_ending(status)
        if status != 0:
            self.has_failed = True
            logger().error("a run process ended unexpectedly", run=self.run.id, ending=how)
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        with suppress(Unavailable):  # then the lease expires
            await self._runs.release(self.run.id, self.run.fence, expected=False, ending=how)
            found = await self._runs.find(self.run.id)
            if found is not None and found.fence == self.run.fence and found.ended_at is not None:
                self.ended = found


def main() -> None:
    """Run the process."""
    os.nice(NICENESS)
    child.run("scheduler", partial(run, fork_server=fork_fork_server([MODULE])))


if __name__ == "__main__":
    main()
