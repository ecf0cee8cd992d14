"""Executes the erasures of all workspaces, one after another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final
from uuid import uuid4

import structlog

from headwater.base.clock import Clock
from headwater.base.errors import Unavailable
from headwater.base.waiting import wait
from headwater.catalog import Catalog
from headwater.log import EventLog
from headwater.processing.erasing.erasure import Erasure
from headwater.processing.erasing.note import remove_ended_notes
from headwater.processing.erasing.stores import Stores
from headwater.state import StateStore
from headwater.state.deliveries import DeliveryStore
from headwater.state.lanestore import LaneStore
from headwater.state.operations import ERASURE_KINDS, Operation, OperationLost, OperationStore
from headwater.state.profiles.resolving import ProfileUpdater
from headwater.state.runs import RunStore
from headwater.warehouse import Warehouse

POLL_SECONDS: Final = 1.0
"""Interval at which the next erasure is looked for."""
HEARTBEAT_SECONDS: Final = 3.0
"""Interval at which the lease of an operation is prolonged."""

_log = structlog.get_logger(__name__)


class Eraser:
    """Executes erasures, one after another, while this process holds the lease of the consumer."""

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        state: StateStore,
        warehouse: Warehouse,
        operations: OperationStore,
        clock: Clock,
        *,
        keep: timedelta,
        deliveries: DeliveryStore | None = None,
        store: LaneStore | None = None,
        runs: RunStore | None = None,
        updater: ProfileUpdater,
    ) -> None:
        """`keep` is how long entries stay in the log after every consumer has finished them. `updater` takes erased
        identities out of their profiles."""
        self._stores = Stores(
            log=log,
            catalog=catalog,
            state=state,
            warehouse=warehouse,
            operations=operations,
            clock=clock,
            keep=keep,
            deliveries=deliveries,
            lanes=store,
            runs=runs,
            updater=updater,
        )
        self._operations = operations
        self._owner = f"worker-{uuid4()}"

    async def run(self, stop: asyncio.Event) -> None:
        """Erase until `stop` is set. An erasure that is interrupted continues at the next start."""
        has_lost = True
        while not stop.is_set():
            try:
                if has_lost:
                    await remove_ended_notes(self._stores.state, self._operations)
                    has_lost = False
                operation = await self._operations.claim(self._owner, kinds=ERASURE_KINDS)
                if operation is not None:
                    await self.execute(operation, stop)
                    continue
            except OperationLost as error:
                _log.warning("an erasure was deleted or is executed by another process", reason=error.message)
                has_lost = True
            except Unavailable as error:
                _log.warning("an erasure waits", reason=error.message)
            await wait(stop, POLL_SECONDS)

    async def execute(self, operation: Operation, stop: asyncio.Event) -> None:
        """Execute an erasure to its end, or until `stop` is set. Raises Unavailable; it can be continued then."""
        running = Erasure(self._stores, operation, self._owner)
        try:
            async with self._holding(operation):
                await running.run(stop)
        except Unavailable:
            with suppress(Unavailable):
                await self._operations.release(operation.id, self._owner)
            raise
        except Exception as error:
            _log.exception("an erasure failed", operation=operation.id)
            await running.fail(f"internal error ({type(error).__name__})")

    @asynccontextmanager
    async def _holding(self, operation: Operation) -> AsyncIterator[None]:
        """Prolong the lease of the operation during the block."""

        async def prolong() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS)
                with suppress(Unavailable):
                    await self._operations.advance(operation.id, self._owner, done=0, enqueued=0, total=None)

        heartbeat = asyncio.create_task(prolong())
        try:
            yield
        finally:
            heartbeat.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeat
