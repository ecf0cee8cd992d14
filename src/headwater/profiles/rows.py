"""The rows of profiles that a resolution of changes reads and writes."""

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from headwater.profiles.evidence import compute_masks
from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import (
    Alias,
    ChangedIdentity,
    IdentityName,
    IdentityRow,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    Separation,
)

Guards = tuple[bool, bool]
"""Whether a workspace has separations, and whether it has refused evidence."""
MAX_READ_TOGETHER: Final = 20
"""Maximum number of changed identities whose neighbours are read together. With more, the round trips take a small part
of the time of each."""


class Rows(Protocol):
    """The rows of profiles in one transaction. Reading sees the identities after the batch, and the rest as it was
    written last. Every query has an index, and takes all keys together."""

    def identities(self, ids: Collection[int]) -> list[IdentityRow]:
        """Return those of the identities that exist."""

    def members(self, identities: Collection[int]) -> list[Member]:
        """Return those of the identities that are members of a profile."""

    def find_members(self, profiles: Collection[int], limit: int | None = None) -> list[Member]:
        """Return the members of the profiles; of each profile at most `limit + 1`, any of them."""

    def holders(
        self, workspace: int, values: Collection[LinkValue], limit: int | None = None
    ) -> dict[LinkValue, list[tuple[int, int]]]:
        """Return the identities that have each of the values with their masks, the oldest first, at most `limit + 1` of
        each value. A value that no identity has may be missing."""

    def identities_named(self, names: Collection[IdentityName]) -> dict[IdentityName, list[int]]:
        """Return the ids of the identities with each of the names, in all pipelines."""

    def guards(self, workspace: int) -> Guards:
        """Return whether the workspace has separations, and whether it has refused evidence."""

    def separations(self, workspace: int, names: Collection[IdentityName]) -> list[Separation]:
        """Return the separations that have at least one of the names, complete."""

    def profiles(self, ids: Collection[int]) -> list[ProfileRow]:
        """Return those of the profiles that exist."""

    def aliases(self, profiles: Collection[int]) -> list[Alias]:
        """Return the aliases of the profiles."""

    def refused(
        self, workspace: int, identities: Collection[int], values: Collection[LinkValue]
    ) -> list[RefusedEvidence]:
        """Return the refused evidence whose `identity` or `other` is one of the identities, and that for the reason
        TooManyIdentities whose value is one of the values."""

    def new_profile_ids(self, count: int) -> list[int]:
        """Return ascending ids, higher than every id that a profile ever had."""

    def write(self, changes: ProfileChanges, stored: Mapping[int, ProfileRow] | None = None) -> None:
        """Write the changes. Removed rows are deleted first. `stored` has at least those of the written and deleted
        profiles that exist."""


class ResolvedRows(Rows, Protocol):
    """Rows that can read everything near a few identities together."""

    @property
    def has_round_trips(self) -> bool:
        """Return whether each statement takes a round trip, so that `near` is faster for a few identities."""

    def near(
        self,
        workspace: int,
        identities: Collection[int],
        values: Collection[LinkValue],
        names: Collection[IdentityName],
    ) -> Rows:
        """Return rows for one resolution that have read what is near these identities, values and names."""


def read_near(rows: ResolvedRows, context: ResolutionContext, changed: Collection[ChangedIdentity]) -> Rows:
    """Return rows for a resolution of the changed identities, which may have been read together."""
    if not rows.has_round_trips or len(changed) > MAX_READ_TOGETHER:
        return rows
    values = {
        value
        for change in changed
        if change.attributes is not None and (change.is_new or change.attributes_changed)
        for value, _ in compute_masks(context.reader.read(change.attributes))
    }
    known = [change.id for change in changed if not change.is_new]
    return rows.near(context.workspace, known, values, {change.name for change in changed if change.is_new})
