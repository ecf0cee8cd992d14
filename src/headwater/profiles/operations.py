"""Executes the operations on profiles, starts resolutions that are due, and resolves identities that wait.

It runs in the process that writes the state store. An operation is executed again from its start if the process is
killed: what it has written stays valid, and a split that was written is not written twice.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, Literal
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import HeadwaterError, NotFound, Unavailable, Unprocessable
from headwater.base.waiting import wait
from headwater.catalog import Catalog, Workspace
from headwater.profiles.full import FullResolution
from headwater.profiles.incremental import resolve_again
from headwater.profiles.settings import ResolutionContext
from headwater.profiles.settingschanges import SettingsChanges
from headwater.profiles.unresolved import Drained, resolve_unresolved
from headwater.profiles.updating import ProfileResolver
from headwater.state import StateStore
from headwater.state.operations import (
    NO_SEPARATION,
    PROFILE_KINDS,
    RESOLUTION_KINDS,
    IdentityResolutionParameters,
    Operation,
    OperationLost,
    OperationStore,
    RemoveSeparationParameters,
    SplitParameters,
    SplitResult,
)
from headwater.state.profiles.model import IdentityName, Separation
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.profiles.rows import SPLIT_NOTE

POLL_SECONDS: Final = 0.1
"""Interval at which operations and identities that wait are looked for. It doubles up to `MAX_POLL_SECONDS` while there
are none."""
MAX_POLL_SECONDS: Final = 0.4
CHECK_SECONDS: Final = 1.0
"""Interval at which the settings of workspaces are compared with those that profiles follow."""
PAUSE_SECONDS: Final = 1.0
"""Pause after an outage."""
REPORT_SECONDS: Final = 1.0
"""Interval at which the progress of an operation is stored."""
MAX_RUNNING: Final = 4
"""Operations that run at the same time, each of another workspace, and one resolution among them."""
DRAIN_IDENTITIES: Final = 200
"""Number of waiting identities that one transaction resolves."""
DRAIN_SHARE: Final = 4
"""Time without such a transaction after a slow one, in terms of its duration."""
SLOW_SECONDS: Final = 0.25
"""Duration from which a transaction is slow."""
ERROR_SECONDS: Final = 60.0
"""Time after which identities that cannot be resolved are tried again."""

_Failure = Literal["Failed", "Cancelled"]
_Work = Callable[[ResolutionRows, ResolutionContext], str]
_SHORT_KINDS: Final = tuple(kind for kind in PROFILE_KINDS if kind not in RESOLUTION_KINDS)
_log = structlog.get_logger(__name__)


class ProfileCompanion:
    """Runs in the process of the consumer of the log, and at the same time."""

    def __init__(
        self,
        catalog: Catalog,
        state: StateStore,
        operations: OperationStore,
        resolver: ProfileResolver,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._state = state
        self._operations = operations
        self._resolver = resolver
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self._running: dict[int, asyncio.Task[None]] = {}
        """The operation of each workspace that executes."""
        self._resolving: int | None = None
        """The workspace of the resolution that executes."""
        self._changes = SettingsChanges()
        self._drains: dict[int, _Drain] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. An operation that runs then can be continued."""
        next_check, pause = 0.0, POLL_SECONDS
        try:
            while not stop.is_set():
                try:
                    if time.monotonic() >= next_check:
                        await self.start_due()
                        next_check = time.monotonic() + CHECK_SECONDS
                    while len(self._running) < MAX_RUNNING and await self._start(stop):
                        pass
                    is_busy = await self.drain() or self._running
                    pause = POLL_SECONDS if is_busy else min(2 * pause, MAX_POLL_SECONDS)
                except Unavailable as error:
                    _log.warning("profiles wait", reason=error.message)
                    pause = PAUSE_SECONDS
                except Exception:
                    _log.exception("work on profiles failed and will be retried")
                    pause = PAUSE_SECONDS
                await wait(stop, pause)
        finally:
            stop.set()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    # Resolutions that are due

    async def start_due(self) -> None:
        """Create a resolution for each workspace whose profiles do not follow its settings, or for which an import has
        requested one.

        The former is so after a change of settings, and after the first start of a release that has profiles.
        """
        await self._catalog.refresh()
        await self._start_requested()
        applied, waiting = await self._state.read_profiles(
            lambda rows: (rows.all_applied(), rows.unresolved_workspaces()), key="due"
        )
        workspaces = self._catalog.workspaces()
        unknown = [each.id for each in workspaces if each.id not in applied and self._changes.is_unknown(each.id)]
        if unknown:
            found = await self._state.read_profiles(lambda rows: [id_ for id_ in unknown if rows.has_identities(id_)])
            self._changes.know(unknown, found)
        for workspace in workspaces:
            id_ = workspace.id
            has_identities = id_ in applied or id_ in waiting or self._changes.had_identities(id_)
            if has_identities and self._changes.is_due(workspace, applied.get(id_)):
                await self._request(id_)

    async def _start_requested(self) -> None:
        """Create the resolutions that imports have requested. One that runs began before the end of the import, so the
        request waits for its end."""
        for workspace, requested_at in (await self._state.requested_resolutions()).items():
            if self._catalog.workspace(workspace) is not None and await self._request(workspace):
                async with self._state.transaction() as transaction:
                    await transaction.finish_resolution_request(workspace, requested_at)

    async def _request(self, workspace: int) -> bool:
        """Create a resolution; return whether it was created."""
        if workspace in self._running or await self._operations.unfinished(workspace, RESOLUTION_KINDS):
            return False
        with suppress(Unprocessable):  # as many operations as possible execute already
            await self._operations.create(workspace, IdentityResolutionParameters(), None)
            return True
        return False

    # Operations

    async def _start(self, stop: asyncio.Event) -> bool:
        """Start the next operation; return False if there is none."""
        kinds = PROFILE_KINDS if self._resolving is None else _SHORT_KINDS
        operation = await self._operations.claim(self._owner, kinds=kinds, without=self._running.keys())
        if operation is None:
            return False
        workspace = operation.workspace
        if operation.kind in RESOLUTION_KINDS:
            self._resolving = workspace
        task = asyncio.create_task(self._execute(operation, stop))
        self._running[workspace] = task
        task.add_done_callback(lambda _: self._ended(workspace))
        return True

    def _ended(self, workspace: int) -> None:
        self._running.pop(workspace, None)
        if self._resolving == workspace:
            self._resolving = None

    async def _execute(self, operation: Operation, stop: asyncio.Event) -> None:
        """Execute an operation until it ends, or is stopped."""
        log = _log.bind(operation=operation.id, kind=operation.kind, workspace=operation.workspace)
        progress = _Progress(self._operations, operation, self._owner, stop)
        try:
            while not stop.is_set():
                try:
                    result = await self._do(operation, progress)
                    await self._operations.finish(operation.id, self._owner, "Completed", result=result)
                    return
                except OperationLost as error:
                    log.warning("an operation was taken by another process", reason=error.message)
                    return
                except Unavailable as error:
                    log.warning("an operation waits", reason=error.message)
                    await wait(stop, PAUSE_SECONDS)
        except _Stopped:
            pass
        except _Cancelled:
            self._changes.retry_later(operation.workspace)
            await self._fail(operation, "Cancelled", "")
            return
        except HeadwaterError as error:
            self._changes.retry_later(operation.workspace)
            await self._fail(operation, "Failed", error.message)
            return
        except Exception as error:
            log.exception("an operation failed")
            self._changes.retry_later(operation.workspace)
            await self._fail(operation, "Failed", f"internal error ({type(error).__name__})")
            return
        with suppress(Unavailable):  # otherwise the lease ends later
            await self._operations.release(operation.id, self._owner)

    async def _fail(self, operation: Operation, status: _Failure, error: str) -> None:
        try:
            await self._operations.finish(operation.id, self._owner, status, error)
        except HeadwaterError as cause:  # it is executed again when its lease has ended
            _log.warning("the end of an operation cannot be stored", operation=operation.id, reason=cause.message)

    async def _do(self, operation: Operation, progress: "_Progress") -> str:
        """Execute an operation, and return its result."""
        await progress.report(0, operation.total, is_first=True)
        async with self._catalog.change():  # the change in which it was created may not have ended
            pass
        match operation.parameters:
            case SplitParameters() as parameters:
                return await self._split(operation, parameters, progress)
            case RemoveSeparationParameters() as parameters:
                return await self._remove_separation(operation, parameters, progress)
            case _:
                await self.resolve_all(operation.workspace, progress)
        return ""

    async def resolve_all(self, workspace: int, progress: "_Progress | None" = None) -> None:
        """Resolve all identities of a workspace with its present settings.

        Raises NotFound if the workspace does not exist, and Unavailable.
        """
        present, context = self._settings(workspace)

        async def report(done: int, total: int) -> None:
            if progress is not None:
                await progress.report(done, total)

        async with self._paused(workspace):
            await FullResolution(self._state, context, present.profile_schema, self._clock, report).run()

    @asynccontextmanager
    async def _paused(self, workspace: int) -> AsyncIterator[None]:
        """Let batches store the changed identities of a workspace as unresolved."""
        async with self._state.transaction():  # no batch is being written
            self._resolver.paused.add(workspace)
        try:
            yield
        finally:
            self._resolver.paused.discard(workspace)

    def _settings(self, workspace: int) -> tuple[Workspace, ResolutionContext]:
        present, context = self._catalog.workspace(workspace), self._resolver.context(workspace)
        if present is None or context is None:
            raise NotFound(f"workspace {workspace} does not exist")
        return present, context

    # Splits

    async def _split(self, operation: Operation, parameters: SplitParameters, progress: "_Progress") -> str:
        workspace = operation.workspace
        names = [IdentityName(each.connection, each.identity_id, each.is_anonymous) for each in parameters.identities]

        def split(rows: ResolutionRows, context: ResolutionContext) -> str:
            found = _write_split(rows, context, UUID(parameters.profile).bytes, names, self._now())
            return msgspec.json.encode(found).decode()

        return await self._resolved(workspace, _once(operation, split), progress)

    async def _remove_separation(
        self, operation: Operation, parameters: RemoveSeparationParameters, progress: "_Progress"
    ) -> str:
        """Remove a separation. The result is `NO_SEPARATION` if another operation has removed it."""
        workspace = operation.workspace

        def remove(rows: ResolutionRows, context: ResolutionContext) -> str:
            separation = rows.remove_separation(workspace, parameters.separation)
            if separation is None:
                return NO_SEPARATION
            names = {name for side in separation.sides for name in side}
            resolve_again(rows, context, _identities(rows, names), self._now())
            return ""

        return await self._resolved(workspace, _once(operation, remove), progress)

    async def _resolved(self, workspace: int, work: _Work, progress: "_Progress") -> str:
        """Run `work` in a transaction in which the profiles follow the settings. Resolve all identities before, if they
        do not."""
        while True:
            _, context = self._settings(workspace)
            async with self._state.transaction() as transaction:
                result = await transaction.on_profiles(partial(_work_if_applied, context=context, work=work))
            if result is not None:
                return result
            await self.resolve_all(workspace, progress)

    # Identities that wait

    async def drain(self) -> bool:
        """Resolve some of the identities that wait, of each workspace whose profiles follow its settings.

        Return whether any waited.
        """
        waiting = await self._state.read_profiles(lambda rows: rows.unresolved_workspaces(), key="unresolved")
        for workspace in waiting - self._running.keys():
            context = self._resolver.context(workspace)
            drain = self._drains.setdefault(workspace, _Drain())
            if context is not None and time.monotonic() >= drain.next_at:
                await self._drain(context, drain)
        for workspace in self._drains.keys() - waiting:
            del self._drains[workspace]
        return bool(waiting)

    async def _drain(self, context: ResolutionContext, drain: "_Drain") -> None:
        def resolve(rows: ResolutionRows) -> Drained | None:
            if rows.applied(context.workspace) != context.digest:
                return None
            return resolve_unresolved(rows, context, self._now(), limit=DRAIN_IDENTITIES, after=drain.after)

        async with self._state.transaction() as transaction:
            began = time.monotonic()
            drained = await transaction.on_profiles(resolve)
            seconds = time.monotonic() - began
        if drained is None:
            drain.next_at = time.monotonic() + CHECK_SECONDS
            return
        self._resolver.resolved(drained.resolved)
        for error in drained.errors:
            self._resolver.failed(context.workspace, error)
        drain.has_failed = drain.has_failed or bool(drained.errors)
        drain.after = drained.last
        drain.next_at = time.monotonic() + (DRAIN_SHARE * seconds if seconds >= SLOW_SECONDS else 0.0)
        if drained.is_all:
            drain.after = 0
            if drain.has_failed:
                drain.next_at = time.monotonic() + ERROR_SECONDS
            drain.has_failed = False

    def _now(self) -> int:
        return microseconds(self._clock.now())


class _Drain(Struct):
    """The place in the unresolved identities of a workspace."""

    after: int = 0
    next_at: float = 0.0
    has_failed: bool = False


class _Cancelled(Exception):
    """A cancel of the operation was requested."""


class _Stopped(Exception):
    """The process ends."""


class _Progress:
    """Stores the progress of an operation, and prolongs its lease."""

    def __init__(self, operations: OperationStore, operation: Operation, owner: str, stop: asyncio.Event) -> None:
        self._operations = operations
        self._operation = operation
        self._owner = owner
        self._stop = stop
        self._next = 0.0

    async def report(self, done: int, total: int | None, *, is_first: bool = False) -> None:
        """Store the progress from time to time. Raises _Cancelled, _Stopped and OperationLost."""
        if self._stop.is_set():
            raise _Stopped
        if time.monotonic() < self._next and not is_first:
            return
        self._next = time.monotonic() + REPORT_SECONDS
        is_cancelled = await self._operations.advance(
            self._operation.id, self._owner, done=done, enqueued=0, total=total
        )
        if is_cancelled:
            raise _Cancelled


class _Noted(Struct, frozen=True, array_like=True):
    """The last split of a workspace, or removal of one: its operation and result."""

    operation: int
    result: str


_encode_noted: Final = msgspec.msgpack.Encoder().encode
_decode_noted: Final = msgspec.msgpack.Decoder(_Noted).decode


def _once(operation: Operation, work: "_Work") -> "_Work":
    """Return `work` with a note of its result: it is not repeated after a kill before the end of the operation."""
    owner = f"{SPLIT_NOTE} {operation.workspace}"

    def work_once(rows: ResolutionRows, context: ResolutionContext) -> str:
        noted = rows.note(owner)
        if noted is not None and (known := _decode_noted(noted)).operation == operation.id:
            return known.result
        result = work(rows, context)
        rows.set_note(owner, _encode_noted(_Noted(operation.id, result)))
        return result

    return work_once


def _work_if_applied(rows: ResolutionRows, *, context: ResolutionContext, work: _Work) -> str | None:
    """Return the result of `work`; None if the profiles do not follow the settings."""
    return work(rows, context) if rows.applied(context.workspace) == context.digest else None


def _write_split(
    rows: ResolutionRows, context: ResolutionContext, kpid: bytes, names: Sequence[IdentityName], now: int
) -> SplitResult:
    """Separate the names from the other members of a profile. Raises NotFound and Unprocessable."""
    profile = rows.find(context.workspace, kpid)
    if profile is None:
        raise NotFound(f"profile {UUID(bytes=kpid)} does not exist")
    members = rows.find_members([profile.id])
    present = {member.name for member in members}
    chosen = dict.fromkeys(names)
    for name in chosen:
        if name not in present:
            raise Unprocessable("IdentityNotExist", f"the profile has no identity {name.identity_id!r}")
    rest = dict.fromkeys(member.name for member in members if member.name not in chosen)
    if not rest:
        raise Unprocessable("NoIdentityRemains", "the profile would have no identity: at least one must stay")
    separation = rows.add_separation(Separation(0, context.workspace, now, (tuple(rest), tuple(chosen)), profile.kpid))
    identities = [member.identity for member in members]
    resolve_again(rows, context, identities, now)
    after = {member.identity: member.profile for member in rows.members(identities)}
    ordered = sorted(members, key=lambda member: (member.name in chosen, member.identity))
    profiles = dict.fromkeys(after[member.identity] for member in ordered)
    kpids = {row.id: str(UUID(bytes=row.kpid)) for row in rows.profiles(profiles)}
    return SplitResult(kpids=tuple(kpids[id_] for id_ in profiles), separation=separation)


def _identities(rows: ResolutionRows, names: set[IdentityName]) -> list[int]:
    return [id_ for ids in rows.identities_named(names).values() for id_ in ids]
