"""Resolves the identities that a batch changed, in the transaction of the batch. The result is that of a full
resolution."""

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol
from uuid import uuid4

from msgspec import Struct

from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import (
    Alias,
    IdentityName,
    IdentityRow,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    Separation,
)

MAX_REGION_IDENTITIES: Final = 10_000
"""Default maximum number of identities of a region that a batch resolves. A larger one is postponed, because a batch
would take longer than 100 ms."""


class ChangedIdentity(Struct, frozen=True):
    """An identity that a batch inserted, changed or deleted."""

    id: int
    workspace: int
    name: IdentityName
    pipeline: int
    attributes: str | None
    """The attributes after the batch; None if it deleted the identity."""
    updated_at: int
    is_new: bool
    """Whether the batch inserted the identity. Then no member has its id, and none is read."""
    attributes_changed: bool
    """Whether the attributes may differ from those of the last resolution; if not, the evidence is not read again."""


class Rows(Protocol):
    """The rows of profiles in one transaction. Reading sees the identities after the batch, and the rest as it was
    written last. Every query has an index, and takes all keys together."""

    def identities(self, ids: Collection[int]) -> list[IdentityRow]:
        """Return those of the identities that exist."""

    def members(self, identities: Collection[int]) -> list[Member]:
        """Return those of the identities that are members of a profile."""

    def members_of(self, profiles: Collection[int], limit: int | None = None) -> list[Member]:
        """Return the members of the profiles; of each profile at most `limit + 1`, any of them."""

    def holders(
        self, workspace: int, values: Collection[LinkValue], limit: int | None = None
    ) -> dict[LinkValue, list[tuple[int, int]]]:
        """Return the identities that have each of the values with their masks, the oldest first, at most `limit + 1` of
        each value. A value that no identity has may be missing."""

    def identities_named(self, names: Collection[IdentityName]) -> dict[IdentityName, list[int]]:
        """Return the ids of the identities with each of the names, in all pipelines."""

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

    def write(self, changes: ProfileChanges) -> None:
        """Write the changes. What they remove is deleted first."""


def resolve_changes(
    rows: Rows,
    context: ResolutionContext,
    changed: Sequence[ChangedIdentity],
    now: int,
    *,
    limit: int | None = MAX_REGION_IDENTITIES,
    new_kpid: Callable[[], bytes] = lambda: uuid4().bytes,
) -> list[int]:
    """Resolve the changed identities of one workspace. Several changes of an identity take effect together.

    Returns the identities whose region exceeds the limit. Nothing is written for them, as if they had not changed, and
    the caller adds them to the unresolved identities. None is no limit.
    """
    raise NotImplementedError


def resolve_again(
    rows: Rows,
    context: ResolutionContext,
    identities: Collection[int],
    now: int,
    *,
    new_kpid: Callable[[], bytes] = lambda: uuid4().bytes,
) -> None:
    """Resolve the profiles of these members after a separation that names them was written or deleted."""
    raise NotImplementedError
