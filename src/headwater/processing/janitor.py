"""Deletes outdated data, and data of connections, pipelines and workspaces that were deleted."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.waiting import wait
from headwater.catalog import Catalog
from headwater.log import EventLog
from headwater.processing.retention import Retention
from headwater.state import StateStore, Transaction
from headwater.state.deliveries import DeliveryStore, Owners
from headwater.warehouse import Warehouse

CLEAN_SECONDS: Final = 5.0
"""Pause after each round."""
SWEEP_SECONDS: Final = 600.0
"""Interval at which data of deleted objects is looked for although no object was created or deleted: calls that were
accepted before the deletion of their source may be processed long after it."""
DEAD_LETTER_AGE: Final = timedelta(days=30)
"""Age at which a dead letter is deleted."""
ATTEMPT_AGE: Final = timedelta(days=7)
"""Age at which the attempts of a delivery are deleted."""
HISTORY_AGE: Final = timedelta(days=90)
"""Age at which merges and splits of profiles are deleted from their history."""

_log = structlog.get_logger(__name__)


class Janitor:
    """Runs in the process that holds the lease of the consumer. No other process writes the state store."""

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        state: StateStore,
        warehouse: Warehouse,
        clock: Clock,
        *,
        keep: timedelta,
        metrics: Metrics = NO_METRICS,
        deliveries: DeliveryStore | None = None,
        retention: Retention | None = None,
    ) -> None:
        """`keep` is how long entries stay in the log after every consumer has finished them. The age of dead letters in
        `deliveries` is judged by `clock`. Without `retention` workspaces keep their data."""
        self._event_log = log
        self._catalog = catalog
        self._state = state
        self._warehouse = warehouse
        self._clock = clock
        self._keep = keep
        self._metrics = metrics
        self._deliveries = deliveries
        self._retention = retention
        self._swept: _Present | None = None
        """The objects at the time when no data of others was left."""
        self._swept_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. Errors are logged and counted, and the next round tries again."""
        while not stop.is_set():
            try:
                await self.clean()
            except Unavailable as error:
                self._metrics.janitor_failed(type(error).__name__)
                _log.warning(
                    "cleaning failed because a store is unavailable; it will be retried",
                    reason=error.message,
                    seconds=CLEAN_SECONDS,
                )
            except Exception as error:
                self._metrics.janitor_failed(type(error).__name__)
                _log.exception("cleaning failed and will be retried", seconds=CLEAN_SECONDS)
            await wait(stop, CLEAN_SECONDS)

    async def clean(self) -> None:
        """Do one round. Raises Unavailable.

        Its transactions are short, because batches wait while it writes to the state store.
        """
        await self._event_log.trim(older_than=self._keep)
        await self._warehouse.maintain()
        async with self._state.transaction() as transaction:
            await transaction.trim_messages()
        async with self._state.transaction() as transaction:
            await transaction.shorten_rejected()
        async with self._state.transaction() as transaction:
            await transaction.compact_counts(now=microseconds(self._clock.now()))
        async with self._state.transaction() as transaction:
            suppressions, now = self._state.suppressions, microseconds(self._clock.now())
            transaction.write_later(lambda connection: suppressions.expire(connection, now=now))
        history = microseconds(self._clock.now() - HISTORY_AGE)
        async with self._state.transaction() as transaction:
            transaction.on_profiles_later(lambda rows: rows.shorten_history(history))
        async with self._removing() as (transaction, present):
            await transaction.remove_lanes_except(present.pipelines)
        if self._deliveries is not None:
            await self._clean_deliveries(self._deliveries)
        if self._retention is not None:
            await self._retention.apply()
        before = present
        began = time.monotonic()
        if before == self._swept and began < self._swept_at + SWEEP_SECONDS:
            return
        async with self._removing() as (transaction, present):
            removed = await transaction.remove_runs_except(present.pipelines)
        async with self._removing() as (transaction, present):
            removed += await transaction.remove_identities_except(present.pipelines)
        async with self._removing() as (transaction, present):
            removed += await transaction.remove_counts_except(present.pipelines)
        async with self._removing() as (transaction, present):
            removed += await transaction.remove_sources_except(present.connections, workspaces=present.workspaces)
        async with self._removing() as (transaction, present):
            removed += await transaction.remove_profiles_except(present.workspaces)
        if not removed and present == before:  # each call removes a limited number
            self._swept, self._swept_at = present, began

    @asynccontextmanager
    async def _removing(self) -> AsyncIterator[tuple[Transaction, "_Present"]]:
        """Open a transaction, and read the catalog inside it: no batch writes for a newer object until its end."""
        async with self._state.transaction() as transaction:
            await self._catalog.refresh()
            yield transaction, _find_present(self._catalog)

    async def _clean_deliveries(self, deliveries: DeliveryStore) -> None:
        """Delete data of deleted destinations and pipelines, and outdated data. Replays write to the queue in another
        process, so the catalog is read after the owners."""
        known = await deliveries.owners()
        await self._catalog.refresh()
        present = _find_present(self._catalog)
        await deliveries.remove(Owners(known.destinations - present.connections, known.pipelines - present.pipelines))
        now = self._clock.now()
        await deliveries.trim(
            dead_before=microseconds(now - DEAD_LETTER_AGE), attempts_before=microseconds(now - ATTEMPT_AGE)
        )


class _Present(Struct, frozen=True):
    """The objects that exist."""

    workspaces: frozenset[int]
    connections: frozenset[int]
    pipelines: frozenset[int]


def _find_present(catalog: Catalog) -> _Present:
    workspaces = frozenset(workspace.id for workspace in catalog.workspaces())
    connections = [connection for workspace in workspaces for connection in catalog.connections(workspace)]
    return _Present(
        workspaces,
        frozenset(connection.id for connection in connections),
        frozenset(pipeline.id for connection in connections for pipeline in connection.pipelines),
    )
