"""Executes one run: an import or an export, with a lease, progress, errors, cancel, and an end with a reason."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from headwater.base.clock import microseconds
from headwater.base.errors import HeadwaterError, Unavailable
from headwater.base.steps import ProcessingStep
from headwater.base.waiting import wait
from headwater.runs.exporting import execute_export
from headwater.runs.importing import execute_import
from headwater.runs.job import Job, RunCancelled, RunFailed
from headwater.state.runs import RunError, RunLost, RunProgress, RunStatus, RunStore

PROGRESS_SECONDS: Final = 1.0
"""Interval at which the progress is stored, and a cancel is noticed."""
HEARTBEAT_SECONDS: Final = 5.0
"""Interval at which the lease is prolonged while nothing changes. It is below the lease."""
STORE_SECONDS: Final = 5.0
"""Time after which the progress is looked at although the last one is not stored yet."""
STOP_SECONDS: Final = 10.0
"""Time that a run has to stop, after a cancel, a stop of the system, or its last progress."""
FINISH_SECONDS: Final = 60.0
"""Time in which the end of a run is stored, if its database is unavailable."""

Execute = Callable[[Job], Awaitable[None]]

_log = structlog.get_logger(__name__)


async def execute(job: Job) -> None:
    """Import or export, as the role of the connection says. Raises RunFailed and RunCancelled."""
    await (execute_import(job) if job.connection.role == "Source" else execute_export(job))


class Execution:
    """Executes the run of a job once."""

    def __init__(self, job: Job, runs: RunStore, *, timeout_seconds: float, execute: Execute = execute) -> None:
        """A run without progress for `timeout_seconds` fails."""
        self._job = job
        self._runs = runs
        self._timeout_seconds = timeout_seconds
        self._execute = execute
        self._saved: RunProgress | None = None
        """The progress that was stored last."""
        self._attempted: RunProgress | None = None
        """The progress of a save whose outcome is unknown."""
        self._unsaved: list[RunError] = []
        """Errors that are not stored yet."""
        self._uncounted: list[RunError] = []
        """Errors that are not in the counts of the pipeline yet."""
        self._restarts = job.report.restarts
        """The number of restarts whose stored errors are deleted."""
        self._seen = job.report.progress
        """The progress at the last look, and below its time."""
        self._moved_at = time.monotonic()
        self._renewed_at = 0.0
        self._is_cancelled = False
        self._done = asyncio.Event()
        self.is_stuck = False
        """Whether the work did not end although it was asked to."""

    async def run(self, stop: asyncio.Event) -> RunStatus | None:
        """Execute the run, and store its end; return its status.

        Return None if another process is to continue it: `stop` was set, or another process has taken it.
        """
        job, run = self._job, self._job.run
        if run.fence > 1 and job.report.progress.rows == 0:
            await self._runs.clear_errors(run.id, run.fence)
        work = asyncio.ensure_future(self._execute(job))
        watch = asyncio.ensure_future(self._watch())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((work, watch, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                job.report.cancel(continues=stop.is_set() and not self._is_cancelled)
                await asyncio.wait((work,), timeout=STOP_SECONDS)
                self.is_stuck = not work.done()
            failure = await _failure(work)
        finally:
            # A transaction that is cancelled would leave its lock to a connection that nobody closes.
            self._done.set()
            for task in (work, stopping):
                task.cancel()
            await asyncio.wait((watch, stopping))
        watch_failure = watch.exception()
        if isinstance(watch_failure, RunLost):
            _log.warning("a run was taken by another process", run=run.id)
            return None
        if isinstance(watch_failure, RunFailed) and failure is not None:
            failure = watch_failure
        elif watch_failure is not None and failure is not None:
            raise watch_failure
        return await self._end(failure, is_stopping=stop.is_set())

    async def _end(self, failure: BaseException | None, *, is_stopping: bool) -> RunStatus | None:
        run, report = self._job.run, self._job.report
        status: RunStatus = "Succeeded"
        error, step = "", None
        match failure:
            case None:
                pass
            case RunCancelled() if self._is_cancelled:
                status = "Cancelled"
            case RunCancelled():
                await self._runs.release(run.id, run.fence, expected=is_stopping)
                return None
            case RunFailed():
                status, error, step = "Failed", failure.message, failure.step
            case HeadwaterError():
                status, error = "Failed", failure.message
            case _:
                _log.error("a run failed by a bug", run=run.id, pipeline=run.pipeline, exc_info=failure)
                status, error = "Failed", f"internal error ({type(failure).__name__})"
        try:
            await self._finish(status, error, step, report.progress)
        except RunLost:
            return None
        return status

    async def _finish(self, status: RunStatus, error: str, step: ProcessingStep | None, progress: RunProgress) -> None:
        run, deadline = self._job.run, time.monotonic() + FINISH_SECONDS
        is_taken = False
        while True:
            try:
                await self._settle()
                if not is_taken:
                    self._take_errors()
                    is_taken = True
                if not self.is_stuck:  # its work may hold a transaction of the state store
                    await self._count(progress)
                await self._clear_errors()
                await self._runs.finish(
                    run.id, run.fence, status, error=error, step=step, progress=progress, errors=self._unsaved
                )
                return
            except RunLost:
                raise
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(PROGRESS_SECONDS)

    async def _watch(self) -> None:
        """Store the progress until the work is done or a cancel is requested.

        Raises RunLost, and RunFailed without progress, also while a store does not respond.
        """
        storing: asyncio.Future[None] | None = None
        try:
            while not self._is_cancelled:
                await wait(self._done, PROGRESS_SECONDS)
                if self._done.is_set():
                    return
                self._look()
                if storing is None:
                    storing = asyncio.ensure_future(self._store())
                await asyncio.wait((storing,), timeout=STORE_SECONDS)
                if storing.done():
                    self._check(storing)
                    storing = None
        finally:
            if storing is not None:
                await asyncio.wait((storing,), timeout=STOP_SECONDS)

    def _look(self) -> None:
        """Raise RunFailed if the progress has not changed for too long."""
        now, progress = time.monotonic(), self._job.report.progress
        if progress != self._seen:
            self._seen, self._moved_at = progress, now
        elif now - self._moved_at > self._timeout_seconds:
            raise RunFailed(None, f"the run made no progress for {self._timeout_seconds:g} seconds")

    def _check(self, storing: "asyncio.Future[None]") -> None:
        """Raise RunLost, and what is a bug. After an outage the next round tries again: the fence protects the data."""
        try:
            storing.result()
        except RunLost:
            raise
        except Unavailable as error:
            _log.warning("the progress of a run cannot be stored", run=self._job.run.id, reason=error.message)

    async def _store(self) -> None:
        """Store the progress if it has changed; otherwise prolong the lease at times."""
        await self._settle()
        run, now, progress = self._job.run, time.monotonic(), self._job.report.progress
        if not self._unsaved and not self._uncounted:  # the report is bounded, and collects further ones
            self._take_errors()
        await self._clear_errors()
        if self._unsaved or self._uncounted or progress != self._saved:
            self._attempted = progress
            self._is_cancelled = await self._runs.save(run.id, run.fence, progress, self._unsaved)
            self._attempted, self._unsaved = None, []
            await self._count(progress)
            self._saved, self._renewed_at = progress, now
        elif now - self._renewed_at >= HEARTBEAT_SECONDS:
            self._is_cancelled = await self._runs.renew(run.id, run.fence)
            self._renewed_at = now
        else:
            self._is_cancelled = bool(await self._runs.to_cancel([run.id]))

    async def _settle(self) -> None:
        """Find out whether the last save has succeeded although it failed, so that no error is added twice."""
        if self._attempted is None:
            return
        found = await self._runs.find(self._job.run.id)
        if found is not None and found.progress == self._attempted != self._saved:
            self._unsaved, self._saved = [], self._attempted
        self._attempted = None

    async def _clear_errors(self) -> None:
        """Delete the stored errors if the source is read from its start again. Call it after `_take_errors`: no error
        is reported before a restart."""
        restarts = self._job.report.restarts
        if restarts != self._restarts:
            await self._runs.clear_errors(self._job.run.id, self._job.run.fence)
            self._restarts = restarts

    def _take_errors(self) -> None:
        """Take the errors since the last call from the report."""
        run, now = self._job.run.id, microseconds(self._job.clock.now())
        errors = [
            RunError(
                run=run,
                step=step,
                message=message,
                count=summary.count,
                first_at=now,
                last_at=now,
                samples=tuple(summary.samples),
            )
            for (step, message), summary in self._job.report.take_errors().items()
        ]
        self._unsaved = [*self._unsaved, *errors]
        self._uncounted = [*self._uncounted, *errors]

    async def _count(self, progress: RunProgress) -> None:
        """Add what is new to the counts of the pipeline. Raises RunLost."""
        run, now = self._job.run, microseconds(self._job.clock.now())
        async with self._job.state.transaction() as transaction:
            is_own = await transaction.record_run_counts(run, progress, self._uncounted, now=now)
        if not is_own:
            raise RunLost(f"run {run.id} is executed by another process")
        self._uncounted = []


async def _failure(work: "asyncio.Future[None]") -> BaseException | None:
    """Return the exception of the work; RunCancelled if it has not ended."""
    if not work.done():
        return RunCancelled()
    return RunCancelled() if work.cancelled() else work.exception()
