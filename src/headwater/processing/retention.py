"""Deletes data of workspaces that is older than their retention, a limited part at a time.

Horizons are whole days in UTC: the events of a day then go as whole blocks or partitions, and each horizon is worked
off once.
"""

from datetime import timedelta
from typing import Final

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.catalog import Catalog, Workspace
from headwater.state import StateStore, erasure
from headwater.state.profiles.resolving import ProfileUpdater
from headwater.warehouse import Warehouse

DAY: Final = timedelta(days=1) // timedelta(microseconds=1)
MAX_STEPS: Final = 10
"""Maximum number of steps of one kind and workspace in one round: about a second."""


class _Done(Struct):
    """The horizons that are worked off in a workspace."""

    events: int = 0
    rejected: int = 0
    identities: int = 0
    last_identity: int = 0
    """The last examined identity of the present horizon."""


class Retention:
    """Applies the retention of all workspaces. A new process begins each horizon again."""

    def __init__(
        self, catalog: Catalog, state: StateStore, warehouse: Warehouse, clock: Clock, updater: ProfileUpdater
    ) -> None:
        self._catalog = catalog
        self._state = state
        self._warehouse = warehouse
        self._clock = clock
        self._updater = updater
        self._done: dict[int, _Done] = {}

    async def apply(self) -> None:
        """Do one round. Raises Unavailable."""
        for workspace in self._catalog.workspaces():
            settings = workspace.retention
            done = self._done.setdefault(workspace.id, _Done())
            horizon = self._find_horizon(settings.event_days)
            if horizon > done.events and await self._remove_events(workspace, horizon):
                done.events = horizon
            horizon = self._find_horizon(settings.rejected_event_days)
            if horizon > done.rejected and await self._remove_rejected(workspace, horizon):
                done.rejected = horizon
            horizon = self._find_horizon(settings.anonymous_identity_days)
            if horizon > done.identities and await self._remove_identities(workspace, horizon, done):
                done.identities, done.last_identity = horizon, 0

    def _find_horizon(self, days: int | None) -> int:
        """Return the start of the first day that is kept, in microseconds since the epoch; 0 if all are."""
        return 0 if days is None else microseconds(self._clock.now()) // DAY * DAY - days * DAY

    async def _remove_events(self, workspace: Workspace, horizon: int) -> bool:
        """Remove events; return whether none is left."""
        for _ in range(MAX_STEPS):
            if not await self._warehouse.remove_before(workspace.id, horizon):
                return True
        return False

    async def _remove_rejected(self, workspace: Workspace, horizon: int) -> bool:
        for _ in range(MAX_STEPS):
            async with self._state.transaction() as transaction:
                removed = await transaction.run(
                    lambda connection: erasure.remove_rejected_before(connection, workspace.id, horizon)
                )
            if not removed:
                return True
        return False

    async def _remove_identities(self, workspace: Workspace, horizon: int, done: _Done) -> bool:
        for _ in range(MAX_STEPS):
            async with self._state.transaction() as transaction:
                last = await transaction.run(
                    lambda connection: erasure.remove_anonymous_before(
                        connection, workspace.id, horizon, self._updater, after=done.last_identity
                    )
                )
            if last is None:
                return True
            done.last_identity = last
        return False
