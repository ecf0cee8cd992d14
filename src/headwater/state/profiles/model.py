"""The rows of profiles. Times are microseconds since the epoch.

An identity is a row of the table `identities`; its id grows with its age, so the oldest identity has the smallest. A
member is an identity as identity resolution saw it last: its profile, and its evidence. Members and links may be behind
identities while a full resolution runs; `unresolved` has the identities that changed in the meantime.

Rows cannot be parts of cycles, so the garbage collector does not track those of which there are many (`gc=False`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct

NO_SUCCESSORS: Final[Mapping[int, int]] = MappingProxyType({})
"""The successors of identities that have none."""


class IdentityName(Struct, frozen=True, gc=False, cache_hash=True):
    """A person in one connection. All identities with one name, of different pipelines, are the same person."""

    connection: int
    identity_id: str
    is_anonymous: bool


class IdentityRow(Struct, frozen=True, gc=False):
    """An identity, with what a profile takes from it."""

    id: int
    workspace: int
    name: IdentityName
    pipeline: int
    updated_at: int
    attributes: str
    """A JSON object."""
    anonymous_ids: str
    """A JSON array of strings."""


MergedRow = tuple[int, int, int, str, str, int]
"""The parts of an identity that a profile takes: its time, id, connection and attributes; and its identity id, and
whether it is anonymous. The latest one sorts last."""


class ChangedIdentity(Struct, frozen=True, gc=False):
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
    successor: int = 0
    """The identity of the user who owns a deleted one since a claim or an alias; 0 for none."""


Evidence = tuple[str | None, ...]
"""The value of each identifier of the workspace, in their order; None where the identity has none, or a blocked one."""


class Member(Struct, frozen=True, gc=False):
    """An identity in its profile."""

    identity: int
    name: IdentityName
    evidence: Evidence
    profile: int


class LinkValue(Struct, frozen=True, gc=False, cache_hash=True):
    """A value by which identities may be linked."""

    identifier: int
    """The index of the identifier in the settings, from 0."""
    value: str


class Link(Struct, frozen=True, gc=False, cache_hash=True):
    """An identity has a value."""

    value: LinkValue
    identity: int
    mask: int
    """The stronger identifiers that the identity has too: bit k for identifier k."""


class ProfileRow(Struct, frozen=True, gc=False):
    """A profile."""

    id: int
    """An ascending internal id: the oldest profile has the smallest."""
    workspace: int
    kpid: bytes
    """The 16 bytes of the public id, a random UUID."""
    founder: int
    """The identity for which the profile was made, or that took its place."""
    updated_at: int
    attributes: str
    """A JSON object with the attributes of the profile schema that it has."""
    is_constrained: bool = False
    """Whether a guard or a separation refused a link of a member, so that a link leads out of the profile."""


class Alias(Struct, frozen=True):
    """The public id of a profile that was merged into another."""

    kpid: bytes
    profile: int
    """The profile that is returned for it."""
    founder: int
    """The founder of the merged profile: the part of a split that holds it takes the id back."""
    since: int


class Separation(Struct, frozen=True):
    """A decision of a person: identities of different sides are never in one profile."""

    id: int
    workspace: int
    created_at: int
    sides: tuple[tuple[IdentityName, ...], ...]
    """The sides, each with at least one name. A name is on one side at most."""
    kpid: bytes = b""
    """The profile that was split."""


RefusedReason = Literal["BlockedValue", "TooManyIdentities", "TooManyValues", "Separated"]
"""Why evidence links no identities: the value is blocked; too many identities have it; the profile would have too many
values of the identifier; the identities were separated by a split."""


class RefusedEvidence(Struct, frozen=True):
    """Evidence that a guard refused."""

    workspace: int
    reason: RefusedReason
    value: LinkValue
    identity: int
    """For TooManyValues and Separated the identity that the value would have linked; 0 otherwise."""
    other: int = 0
    """For TooManyValues and Separated the identity to which it would have been linked; 0 otherwise."""
    at: int = 0
    """The first time."""


ProfileChangeKind = Literal["Merge", "Split"]


class ProfileChange(Struct, frozen=True):
    """A merge or a split of a profile."""

    workspace: int
    at: int
    kind: ProfileChangeKind
    profile: int
    """The profile that stays."""
    other: bytes
    """The kpid of the profile that was merged into it, or that left it."""


class ProfileChanges(Struct, frozen=True):
    """The rows that one resolution of a workspace writes. Rows that do not differ are not among them."""

    workspace: int
    profiles: list[ProfileRow]
    """Profiles to write."""
    removed_profiles: list[int]
    members: list[Member]
    """Members to write."""
    removed_members: list[int]
    links: list[Link]
    """Links to write."""
    removed_links: list[tuple[LinkValue, int]]
    """Links to delete: their value and identity."""
    aliases: list[Alias]
    """Aliases to write."""
    removed_aliases: list[bytes]
    history: list[ProfileChange]
    refused: list[RefusedEvidence]
    """Refused evidence to write, unless it exists."""
    removed_refused: list[RefusedEvidence]

    @property
    def are_none(self) -> bool:
        """Return whether nothing is written."""
        return not any(getattr(self, name) for name in self.__struct_fields__[1:])


def no_changes(workspace: int) -> ProfileChanges:
    """Return changes to which rows can be added."""
    return ProfileChanges(workspace, [], [], [], [], [], [], [], [], [], [], [])
