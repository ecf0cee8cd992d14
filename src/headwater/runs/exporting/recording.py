"""Records what an export has written, in transactions that hold the fence of the run.

A run that is resumed finds the differences again, and counts from 0: the records tell the profiles that an earlier
attempt has written, or could not write.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from headwater.base.errors import Unavailable
from headwater.runs.job import NO_PROGRESS, Job, RunCancelled, RunFailed
from headwater.state import exports, runprogress
from headwater.state.exports import MAX_WRITTEN_RECORDS, ExportCheckpoint
from headwater.state.profiles.exporting import ExportRecord
from headwater.state.runprogress import RunTaken, StoredRunProgress

MAX_ATTEMPTS: Final = 6
"""Number of times that a transaction is tried while the state store is unavailable."""
PAUSE_SECONDS: Final = 1.0
"""Pause after the first failed attempt. Each is twice as long as the one before."""
_Result = TypeVar("_Result")
_DONE: Final = b"done"
"""The position of a run that was executed to its end."""


class Recorder:
    """Writes the records of one run."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._waiting: list[ExportRecord] = []
        self._leaving: list[int] = []
        self._checkpoint: ExportCheckpoint | None = None

    async def start(self) -> bool:
        """Take the run. Return whether an earlier process has executed it to its end; then the report has its counts.

        Raises RunCancelled if another process has it, or the pipeline was deleted.
        """
        run, catalog = self._job.run, self._job.catalog
        await catalog.refresh()
        if catalog.pipeline(run.workspace, run.pipeline) is None:
            raise RunCancelled
        take = partial(runprogress.take, run=run.id, pipeline=run.pipeline, fence=run.fence)
        stored: StoredRunProgress = await self._write(take)
        if stored.position != _DONE:
            self._job.report.commit(NO_PROGRESS)
            return False
        self._job.report.commit(stored.progress)
        return True

    async def complete(self) -> None:
        """Store that the run was executed to its end, with all its counts. Raises RunCancelled, RunFailed."""
        await self._write(partial(_complete, job=self._job, checkpoint=self._checkpoint))

    async def prepare_checkpoint(self, definition: bytes) -> int | None:
        """Return the version above which profiles are read; None if all have to be. Raises RunCancelled, RunFailed.

        All are read by a full run, without a run of the same definition that was executed to its end, and by a run
        that is resumed, because its records count what it has written. The checkpoint of another definition is deleted:
        this run replaces records that it stands for, even if it fails.
        """
        return await self._write(partial(_prepare_checkpoint, job=self._job, definition=definition))

    def set_checkpoint(self, definition: bytes, version: int) -> None:
        """Let `complete` store that all profiles up to a version have records."""
        self._checkpoint = ExportCheckpoint(definition, version)

    async def add(self, records: Sequence[ExportRecord] = (), leaving: Collection[int] = ()) -> None:
        """Write records, and delete those of profiles that left the selection, once there are many."""
        self._waiting += records
        self._leaving += leaving
        if len(self._waiting) + len(self._leaving) >= MAX_WRITTEN_RECORDS:
            await self.flush()

    async def commit(self, records: Sequence[ExportRecord]) -> None:
        """Write records of profiles that the destination has confirmed. Raises RunCancelled, RunFailed."""
        self._waiting += records
        await self.flush()

    async def flush(self) -> None:
        """Write everything that waits."""
        while True:
            records, self._waiting = self._waiting[:MAX_WRITTEN_RECORDS], self._waiting[MAX_WRITTEN_RECORDS:]
            leaving, self._leaving = self._leaving[:MAX_WRITTEN_RECORDS], self._leaving[MAX_WRITTEN_RECORDS:]
            await self._write(partial(_record, job=self._job, records=records, leaving=leaving))
            if not self._waiting and not self._leaving:
                return

    async def check(self) -> None:
        """Raise RunCancelled if the run must end, or if another process has it. Call it right before each call of the
        destination: a process that was suspended for long then sends nothing, unless that happened after the check."""
        run = self._job.run
        self._job.report.check()
        try:
            is_held = await self._job.state.read(lambda connection: runprogress.is_held(connection, run.id, run.fence))
        except Unavailable as error:
            raise RunFailed("Finalize", f"the export cannot be recorded: {error.message}") from error
        if not is_held:
            raise RunCancelled

    async def existing(self, profiles: Sequence[int]) -> set[int]:
        """Return those of the profiles that exist: some may have been erased since they were read."""
        try:
            return await self._job.state.read(lambda connection: exports.existing_profiles(connection, profiles))
        except Unavailable as error:
            raise RunFailed("Receive", f"the profiles cannot be read: {error.message}") from error

    async def kpids(self, profiles: Sequence[int]) -> dict[int, bytes]:
        """Return the public ids of those of the profiles that exist."""
        try:
            return await self._job.state.read(lambda connection: exports.find_kpids(connection, profiles))
        except Unavailable as error:
            raise RunFailed("Receive", f"the profiles cannot be read: {error.message}") from error

    async def _write(self, work: Callable[[Any], _Result]) -> _Result:
        pause = PAUSE_SECONDS
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                async with self._job.state.transaction() as transaction:
                    return await transaction.run(work)
            except RunTaken as error:
                raise RunCancelled from error
            except Unavailable as error:
                if attempt == MAX_ATTEMPTS:
                    raise RunFailed("Finalize", f"the export cannot be recorded: {error.message}") from error
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _record(connection: Any, *, job: Job, records: Sequence[ExportRecord], leaving: Collection[int]) -> None:
    run = job.run
    runprogress.hold(connection, run.id, run.fence)
    exports.write_records(connection, run.pipeline, records)
    exports.remove_records(connection, run.pipeline, leaving)


def _prepare_checkpoint(connection: Any, *, job: Job, definition: bytes) -> int | None:
    run = job.run
    runprogress.hold(connection, run.id, run.fence)
    found = exports.read_checkpoint(connection, run.pipeline)
    if found is not None and found.definition != definition:
        exports.remove_checkpoints(connection, [run.pipeline])
        return None
    return None if found is None or run.is_full or run.fence > 1 else found.version


def _complete(connection: Any, *, job: Job, checkpoint: ExportCheckpoint | None) -> None:
    run = job.run
    runprogress.hold(connection, run.id, run.fence)
    if checkpoint is not None:
        exports.write_checkpoint(connection, run.pipeline, checkpoint)
    runprogress.write(connection, run.id, cursor=None, position=_DONE, progress=job.report.progress)
