"""Updates profiles in the worker's transactions, with the settings that the catalog has at the time."""

from collections.abc import Sequence
from typing import Final

import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.throttle import Throttle
from headwater.catalog import Catalog, Workspace
from headwater.profiles.incremental import resolve_changes
from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import ChangedIdentity
from headwater.state.profiles.resolving import ResolutionRows

MAX_BATCH_REGION: Final = 1_000
"""Maximum number of identities of a profile that a batch resolves: some 10 ms. Changes of a larger one wait for the
companion, which resolves many of them together."""

_log = structlog.get_logger(__name__)
_throttle = Throttle()


class _Compiled(Struct, frozen=True):
    workspace: Workspace
    context: ResolutionContext


class ProfileResolver:
    """Resolves the identities that batches change.

    Those of a workspace whose profiles do not follow its settings, or of which all identities are being resolved, are
    stored as unresolved instead.
    """

    def __init__(self, catalog: Catalog, clock: Clock, metrics: Metrics = NO_METRICS) -> None:
        self._catalog = catalog
        self._clock = clock
        self._metrics = metrics
        self._compiled: dict[int, _Compiled] = {}
        self.paused: set[int] = set()
        """The workspaces of which all identities are being resolved. Add one inside a transaction, while no batch is
        being written."""

    def context(self, workspace: int) -> ResolutionContext | None:
        """Return the compiled settings of a workspace; None if it does not exist."""
        present = self._catalog.workspace(workspace)
        if present is None:
            self._compiled.pop(workspace, None)
            return None
        compiled = self._compiled.get(workspace)
        if compiled is not None and compiled.workspace is present:
            return compiled.context
        if compiled is not None and (compiled.workspace.resolution, compiled.workspace.profile_schema) == (
            present.resolution,
            present.profile_schema,
        ):
            context = compiled.context
        else:
            context = ResolutionContext.compile(workspace, present.resolution, present.profile_schema)
        self._compiled[workspace] = _Compiled(present, context)
        return context

    def update(self, rows: ResolutionRows, workspace: int, changed: Sequence[ChangedIdentity]) -> None:
        """Resolve the changed identities of a workspace, or store them as unresolved."""
        context = self.context(workspace)
        if context is None:  # deleted: the janitor removes everything
            return
        successors = {each.id: each.successor for each in changed if each.successor}
        applied, has_separations, has_refused = rows.status(workspace, changes=len(changed))
        if workspace in self.paused or not self._is_applied(rows, context, changed, applied):
            rows.add_unresolved(workspace, [each.id for each in changed], successors)
            self.resolved(0, postponed=len({each.id for each in changed}))
            return
        now = microseconds(self._clock.now())
        guards = has_separations, has_refused
        postponed = resolve_changes(rows, context, changed, now, limit=MAX_BATCH_REGION, guards=guards)
        if postponed:
            rows.add_unresolved(workspace, postponed, successors)
        self.resolved(len({each.id for each in changed}) - len(postponed), postponed=len(postponed))

    def resolved(self, identities: int, *, postponed: int = 0) -> None:
        """Count resolved identities, and those that are stored as unresolved."""
        self._metrics.identities_resolved(identities, postponed=postponed)

    def failed(self, workspace: int, error: Exception) -> None:
        """Log and count an update that failed."""
        name = type(error).__name__
        self._metrics.profiles_failed(name)
        if count := _throttle.passes((workspace, name)):
            _log.error("profiles could not be updated", workspace=workspace, error=name, count=count, exc_info=error)

    def _is_applied(
        self,
        rows: ResolutionRows,
        context: ResolutionContext,
        changed: Sequence[ChangedIdentity],
        applied: str | None,
    ) -> bool:
        """Return whether the profiles follow the present settings. Those of a workspace that had no identity do."""
        if applied is not None:
            return applied == context.digest
        if not all(each.is_new for each in changed):
            return False
        oldest = min(each.id for each in changed)
        if rows.has_identities(context.workspace, before=oldest) or rows.unresolved(context.workspace, 1):
            return False
        rows.set_resolution(context.workspace, context.digest, None)
        return True
