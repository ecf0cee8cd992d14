"""The transactions of one run of an import. Each begins with the fence of the run."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from headwater.state import imports, runprogress
from headwater.state.imports import Imported, ImportTarget, Written
from headwater.state.runprogress import StoredRunProgress
from headwater.state.runs.model import RunProgress
from headwater.state.store import StateStore

_Result = TypeVar("_Result")


class ImportRun:
    """Writes what a run imports. Each method is one transaction, and raises RunTaken if another process has the run,
    and Unavailable. If the outcome of a commit is unknown, repeat the call: it has no further effect."""

    def __init__(self, state: StateStore, run: int, fence: int, pipeline: int) -> None:
        self._state = state
        self._run = run
        self._fence = fence
        self._pipeline = pipeline

    async def take(self, digest: bytes) -> tuple[StoredRunProgress, int | None]:
        """Take the run. Return its progress, and the cursor of the pipeline for a definition with this digest."""

        def take(connection: Connection) -> tuple[StoredRunProgress, int | None]:
            stored = runprogress.take(connection, self._run, self._pipeline, self._fence)
            return stored, imports.cursor(connection, self._pipeline, digest)

        return await self._transact(take, holds=False)

    async def write(
        self,
        target: ImportTarget,
        users: Mapping[str, Imported],
        kept: Collection[str],
        *,
        now: int,
        is_tracked: bool,
        cursor: int | None,
        position: bytes,
        count: Callable[[Written], RunProgress],
    ) -> tuple[Written, RunProgress]:
        """Write a batch of users as `imports.write` does, with the progress that `count` returns for the outcome."""

        def write(connection: Connection) -> tuple[Written, RunProgress]:
            written = imports.write(
                connection, target, users, kept, self._state.suppressions, now=now, is_tracked=is_tracked
            )
            progress = count(written)
            runprogress.write(
                connection, self._run, cursor=cursor, position=position, progress=progress, changed=written.changed
            )
            return written, progress

        return await self._transact(write)

    async def save(self, *, cursor: int | None, position: bytes, progress: RunProgress) -> None:
        """Write the progress of the run."""
        await self._transact(
            lambda connection: runprogress.write(
                connection, self._run, cursor=cursor, position=position, progress=progress
            )
        )

    async def find_unseen(self, *, after: int) -> tuple[list[int], int | None]:
        """Return the ids of some identities of the pipeline that the run has not seen, above `after`, and the id after
        which to continue; None at the end."""
        return await self._state.read(
            lambda connection: imports.find_unseen(connection, self._pipeline, self._run, after=after)
        )

    async def remove(self, target: ImportTarget, ids: Sequence[int]) -> None:
        """Delete those of the identities that the run has not seen."""
        await self._transact(lambda connection: imports.remove(connection, target, ids))

    async def pass_on(self, target: ImportTarget, *, resolves: bool) -> bool:
        """Let some of the changed identities wait for a resolution, or forget them. Return whether none is left."""
        return await self._transact(lambda connection: imports.pass_on(connection, target, resolves=resolves))

    async def finish_changes(self, workspace: int, *, requests: bool, now: int) -> None:
        """Forget the number of changes, after they were passed on. Let all identities of the workspace be resolved if
        the run `requests` it."""

        def finish(connection: Connection) -> None:
            if requests:
                imports.request_resolution(connection, workspace, now=now)
            runprogress.forget_changes(connection, self._run)

        await self._transact(finish)

    async def complete(self, digest: bytes, *, cursor: int | None, position: bytes, progress: RunProgress) -> None:
        """End the run, and move the cursor of the pipeline."""

        def complete(connection: Connection) -> None:
            imports.set_cursor(connection, self._pipeline, digest, cursor)
            runprogress.write(connection, self._run, cursor=cursor, position=position, progress=progress)

        await self._transact(complete)

    async def _transact(self, work: Callable[[Connection], _Result], *, holds: bool = True) -> _Result:
        def hold_and_work(connection: Connection) -> _Result:
            if holds:
                runprogress.hold(connection, self._run, self._fence)
            return work(connection)

        async with self._state.transaction() as transaction:
            return await transaction.run(hold_and_work)
