"""Removes what is old, and what belongs to connections, pipelines and workspaces that were deleted."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog

from headwater.base.errors import Unavailable
from headwater.base.waiting import wait
from headwater.catalog import Catalog
from headwater.log import EventLog
from headwater.state import StateStore
from headwater.warehouse import Warehouse

CLEAN_SECONDS: Final = 5.0
"""How long it pauses after each round."""

_log = structlog.get_logger(__name__)


class Janitor:
    """Works in the process that holds the lease of the consumer: others do not write the state store."""

    def __init__(
        self, log: EventLog, catalog: Catalog, state: StateStore, warehouse: Warehouse, *, keep: timedelta
    ) -> None:
        """`keep` is how long entries stay in the log after every consumer has finished them."""
        self._event_log = log
        self._catalog = catalog
        self._state = state
        self._warehouse = warehouse
        self._keep = keep
        self._swept: tuple[frozenset[int], ...] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Clean until `stop` is set. After an error the next round tries again."""
        while not stop.is_set():
            try:
                await self.clean()
            except Unavailable as error:
                _log.warning("cleaning waits", reason=error.message, seconds=CLEAN_SECONDS)
            except Exception:
                _log.exception("cleaning failed, and is tried again", seconds=CLEAN_SECONDS)
            await wait(stop, CLEAN_SECONDS)

    async def clean(self) -> None:
        """Do one round. Raises Unavailable.

        Batches wait while it writes to the state store, so its transactions are short.
        """
        await self._event_log.trim(older_than=self._keep)
        await self._warehouse.maintain()
        await self._catalog.refresh()
        workspaces = frozenset(workspace.id for workspace in self._catalog.workspaces())
        connections = [connection for workspace in workspaces for connection in self._catalog.connections(workspace)]
        sources = frozenset(connection.id for connection in connections)
        pipelines = frozenset(pipeline.id for connection in connections for pipeline in connection.pipelines)
        async with self._state.transaction() as transaction:
            await transaction.trim_messages()
        async with self._state.transaction() as transaction:
            await transaction.shorten_rejected()
        async with self._state.transaction() as transaction:
            await transaction.remove_lanes_except(pipelines)
        present = workspaces, sources, pipelines
        if present == self._swept:  # looking through all identities takes long: once after each change is enough
            return
        async with self._state.transaction() as transaction:
            removed = await transaction.remove_identities_except(pipelines)
        async with self._state.transaction() as transaction:
            removed += await transaction.remove_sources_except(sources, workspaces=workspaces)
        if not removed:  # each call removes some
            self._swept = present
