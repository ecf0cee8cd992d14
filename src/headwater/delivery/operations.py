"""Executes re-sends and replays: claims them, does their steps, and ends them.

Each operation is leased by one runner at a time, and each step stores the place where the next one continues. After a
crash another runner continues the operation when its lease has ended.
"""

import asyncio
import secrets
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import HeadwaterError, Unavailable
from headwater.base.waiting import wait
from headwater.catalog import Catalog
from headwater.delivery.replaying import Replay
from headwater.delivery.resending import Resend
from headwater.delivery.stepping import Steps
from headwater.delivery.stored import StoredEvents
from headwater.state.deliveries import DeliveryStore
from headwater.state.operations import (
    DELIVERY_KINDS,
    ERASURE_KINDS,
    Operation,
    OperationLost,
    OperationStatus,
    OperationStore,
    ReplayParameters,
    ResendParameters,
)
from headwater.warehouse import Warehouse

MAX_RUNNING: Final = 4
"""Operations that run at the same time, each of another workspace."""
POLL_SECONDS: Final = 0.5
"""Interval at which the runner looks for operations."""
RETRY_SECONDS: Final = 1.0
"""Wait after an outage, and before the next step of an operation whose destination is behind."""
KEEP_DAYS: Final = 30
"""Time that operations are kept after their end."""
TRIM_SECONDS: Final = 3_600.0
"""Interval at which older operations are deleted."""

_log = structlog.get_logger(__name__)


class OperationRunner:
    """Executes the re-sends and replays of an installation."""

    def __init__(
        self,
        catalog: Catalog,
        operations: OperationStore,
        deliveries: DeliveryStore,
        warehouse: Warehouse,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._operations = operations
        self._deliveries = deliveries
        self._warehouse = warehouse
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self._running: dict[int, asyncio.Task[None]] = {}
        """The task of each workspace."""

    async def run(self, stop: asyncio.Event) -> None:
        """Execute operations until `stop` is set. An operation that runs then ends its step, and can be continued."""
        loop = asyncio.get_running_loop()
        next_trim = 0.0
        try:
            while not stop.is_set():
                try:
                    if loop.time() >= next_trim:
                        await self._trim()
                        next_trim = loop.time() + TRIM_SECONDS
                    while len(self._running) < MAX_RUNNING and await self._start(stop):
                        pass
                except Unavailable as error:
                    _log.warning("operations wait", reason=error.message)
                await wait(stop, POLL_SECONDS)
        finally:
            stop.set()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _start(self, stop: asyncio.Event) -> bool:
        """Start the next operation; return False if there is none."""
        operation = await self._operations.claim(
            self._owner, kinds=DELIVERY_KINDS, without=self._running.keys(), after=ERASURE_KINDS
        )
        if operation is None:
            return False
        task = asyncio.create_task(self._execute(operation, stop))
        self._running[operation.workspace] = task
        task.add_done_callback(lambda _: self._running.pop(operation.workspace, None))
        return True

    async def _execute(self, operation: Operation, stop: asyncio.Event) -> None:
        """Execute an operation until it ends, or another runner has taken it."""
        log = _log.bind(operation=operation.id, kind=operation.kind, workspace=operation.workspace)
        steps: Steps | None = None
        try:
            while True:
                try:
                    if await self._operations.unfinished(operation.workspace, ERASURE_KINDS):
                        # It waits for the release, because a step could append what it has read before the erasure.
                        await self._operations.release(operation.id, self._owner)
                        return
                    await self._catalog.refresh()  # its pipeline may have been created or deleted a moment ago
                    if steps is None:
                        steps = self._steps(operation)
                    if await self._advance(operation, steps, stop):
                        return
                except OperationLost as error:
                    log.warning("an operation was taken by another process", reason=error.message)
                    return
                except Unavailable as error:
                    log.warning("an operation waits", reason=error.message)
                    await wait(stop, RETRY_SECONDS)
                except HeadwaterError as error:
                    await self._end(operation, steps, "Failed", error.message)
                    return
                if stop.is_set():
                    with suppress(Unavailable):  # otherwise the lease ends later
                        await self._operations.release(operation.id, self._owner)
                    return
        except Exception as error:
            log.exception("an operation failed")
            try:
                await self._end(operation, steps, "Failed", f"internal error ({type(error).__name__})")
            except HeadwaterError as cause:  # it is executed again when its lease has ended
                log.warning("the failure of an operation cannot be stored", reason=cause.message)

    def _steps(self, operation: Operation) -> Steps:
        stored = StoredEvents(self._catalog, self._warehouse)
        assert isinstance(operation.parameters, ReplayParameters | ResendParameters), "only these kinds are claimed"
        make = Replay if isinstance(operation.parameters, ReplayParameters) else Resend
        return make(operation, self._catalog, stored, self._deliveries, self._clock)

    async def _advance(self, operation: Operation, steps: Steps, stop: asyncio.Event) -> bool:
        """Do one step, unless a cancel was requested; return whether the operation has ended."""
        if operation.is_cancelled:  # requested before a crash
            await self._end(operation, steps, "Cancelled")
            return True
        result = await steps.step()
        is_cancelled = await self._operations.advance(
            operation.id, self._owner, done=result.done, enqueued=result.enqueued, total=result.total
        )
        if result.is_complete or is_cancelled:
            await self._end(operation, steps, "Completed" if result.is_complete else "Cancelled")
            return True
        if result.must_wait:
            await wait(stop, RETRY_SECONDS)
        return False

    async def _end(self, operation: Operation, steps: Steps | None, status: OperationStatus, error: str = "") -> None:
        # First the status: without its place an operation would begin again.
        await self._operations.finish(operation.id, self._owner, status, error)
        if steps is not None:
            with suppress(Unavailable):  # another step would begin again from the start
                await steps.forget()

    async def _trim(self) -> None:
        now = self._clock.now()
        await self._operations.trim(microseconds(now - timedelta(days=KEEP_DAYS)))
        known = await self._operations.workspaces()
        await self._catalog.refresh()  # after the read, so that a workspace that was created meanwhile is found
        await self._operations.remove_workspaces(known - {workspace.id for workspace in self._catalog.workspaces()})
