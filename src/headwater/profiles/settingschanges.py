"""Decides when changed settings of a workspace are applied to its profiles without a request."""

import time
from collections.abc import Sequence
from typing import Final

from headwater.catalog import Workspace
from headwater.profiles.settings import digest

DEBOUNCE_SECONDS: Final = 2.0
"""Time for which settings must be unchanged before they are applied without a request."""
RETRY_SECONDS: Final = 300.0
"""Time after a failed or cancelled resolution before one is started without a request."""


class SettingsChanges:
    """Knows since when the settings of workspaces differ from those that their profiles follow."""

    def __init__(self) -> None:
        self._digests: dict[int, tuple[Workspace, str]] = {}
        self._known: dict[int, bool] = {}
        """Whether a workspace had identities at the first look. If not, batches resolve its first ones."""
        self._since: dict[int, tuple[str, float]] = {}
        self._failed: dict[int, tuple[str, float]] = {}

    def is_unknown(self, workspace: int) -> bool:
        return workspace not in self._known

    def know(self, workspaces: Sequence[int], with_identities: Sequence[int]) -> None:
        self._known.update((workspace, workspace in with_identities) for workspace in workspaces)

    def had_identities(self, workspace: int) -> bool:
        return self._known.get(workspace, False)

    def is_due(self, workspace: Workspace, applied: str | None) -> bool:
        """Return whether the settings differ from the applied ones, and have not changed for some time."""
        id_, wanted, now = workspace.id, self._digest(workspace), time.monotonic()
        if applied == wanted:
            self._since.pop(id_, None)
            return False
        since = self._since.get(id_)
        if since is None or since[0] != wanted:
            self._since[id_] = wanted, now
            return False
        failed = self._failed.get(id_)
        if failed is not None and failed[0] == wanted and now < failed[1]:
            return False
        return now - since[1] >= DEBOUNCE_SECONDS

    def retry_later(self, workspace: int) -> None:
        """Wait after a failed or cancelled operation, unless the settings change."""
        if (known := self._digests.get(workspace)) is not None:
            self._failed[workspace] = known[1], time.monotonic() + RETRY_SECONDS

    def _digest(self, workspace: Workspace) -> str:
        known = self._digests.get(workspace.id)
        if known is None or known[0] is not workspace:
            known = workspace, digest(workspace.resolution, workspace.profile_schema)
            self._digests[workspace.id] = known
        return known[1]
