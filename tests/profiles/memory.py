"""The rows of profiles in memory, for tests of the algorithm without a database."""

from collections.abc import Collection, Mapping
from typing import TypeVar

from msgspec.structs import replace

from headwater.state.profiles.model import (
    Alias,
    ChangedIdentity,
    IdentityName,
    IdentityRow,
    LinkValue,
    Member,
    ProfileChange,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    Separation,
)

Row = TypeVar("Row")


class MemoryRows:
    """Rows of one workspace that check what is written, and count what is read."""

    def __init__(self) -> None:
        self.identity_rows: dict[int, IdentityRow] = {}
        self.member_rows: dict[int, Member] = {}
        self.links: dict[LinkValue, dict[int, int]] = {}
        self.profile_rows: dict[int, ProfileRow] = {}
        self.alias_rows: dict[bytes, Alias] = {}
        self.separation_rows: dict[int, Separation] = {}
        self.refused_rows: dict[RefusedEvidence, int] = {}
        """The time by the evidence without it."""
        self.history: list[ProfileChange] = []
        self.last_profile = 0
        self.last_identity = 0
        self.last_separation = 0
        self.reads: dict[str, int] = {}
        """The number of rows that each query has read."""
        self.queries = 0
        self.writes = 0

    def copy(self) -> "MemoryRows":
        """Return a copy in memory. The rows themselves are immutable."""
        copied = MemoryRows()
        for name in vars(copied):
            value = getattr(self, name)
            setattr(copied, name, value.copy() if isinstance(value, dict | list) else value)
        copied.links = {value: holders.copy() for value, holders in self.links.items()}
        return copied

    # --- Identities -----------------------------------------------------------------------------------------------

    def put(
        self, name: IdentityName, pipeline: int, attributes: str, updated_at: int, id: int | None = None
    ) -> ChangedIdentity:
        """Insert or change the identity, with this id if it is new."""
        found = self.find(name, pipeline)
        if found is None:
            self.last_identity += 1
            id = self.last_identity if id is None else id
            is_new, attributes_changed = True, True
        else:
            id, is_new, attributes_changed = found.id, False, found.attributes != attributes
        self.identity_rows[id] = IdentityRow(id, 1, name, pipeline, updated_at, attributes, "[]")
        return ChangedIdentity(id, 1, name, pipeline, attributes, updated_at, is_new, attributes_changed)

    def delete(self, id: int) -> ChangedIdentity:
        row = self.identity_rows.pop(id)
        return ChangedIdentity(id, 1, row.name, row.pipeline, None, row.updated_at, False, True)

    def find(self, name: IdentityName, pipeline: int) -> IdentityRow | None:
        return next((row for row in self.identity_rows.values() if (row.name, row.pipeline) == (name, pipeline)), None)

    # --- Separations ----------------------------------------------------------------------------------------------

    def add_separation(self, separation: Separation) -> int:
        """Insert a separation, and return its id."""
        self.last_separation += 1
        self.separation_rows[self.last_separation] = replace(separation, id=self.last_separation)
        return self.last_separation

    def remove_separation(self, id: int) -> Separation:
        return self.separation_rows.pop(id)

    def replaced(self) -> None:
        """Note that a test has set all rows."""

    # --- Rows -----------------------------------------------------------------------------------------------------

    def identities(self, ids: Collection[int]) -> list[IdentityRow]:
        return self._read("identities", [self.identity_rows[id] for id in ids if id in self.identity_rows])

    def members(self, identities: Collection[int]) -> list[Member]:
        return self._read("members", [self.member_rows[id] for id in identities if id in self.member_rows])

    def find_members(self, profiles: Collection[int], limit: int | None = None) -> list[Member]:
        found: dict[int, list[Member]] = {id: [] for id in profiles}
        for member in self.member_rows.values():
            if member.profile in found and (limit is None or len(found[member.profile]) <= limit):
                found[member.profile].append(member)
        return self._read("find_members", [member for members in found.values() for member in members])

    def holders(
        self, workspace: int, values: Collection[LinkValue], limit: int | None = None
    ) -> dict[LinkValue, list[tuple[int, int]]]:
        count = None if limit is None else limit + 1
        found = {value: sorted(self.links[value].items())[:count] for value in values if value in self.links}
        self._read("holders", [holder for holders in found.values() for holder in holders])
        return found

    def identities_named(self, names: Collection[IdentityName]) -> dict[IdentityName, list[int]]:
        found: dict[IdentityName, list[int]] = {}
        for row in self.identity_rows.values():
            if row.name in names:
                found.setdefault(row.name, []).append(row.id)
        self._read("identities_named", [id for ids in found.values() for id in ids])
        return found

    def guards(self, workspace: int) -> tuple[bool, bool]:
        return bool(self.separation_rows), bool(self.refused_rows)

    def separations(self, workspace: int, names: Collection[IdentityName]) -> list[Separation]:
        return self._read(
            "separations",
            [
                separation
                for separation in self.separation_rows.values()
                if any(name in names for side in separation.sides for name in side)
            ],
        )

    def profiles(self, ids: Collection[int]) -> list[ProfileRow]:
        return self._read("profiles", [self.profile_rows[id] for id in ids if id in self.profile_rows])

    def aliases(self, profiles: Collection[int]) -> list[Alias]:
        return self._read("aliases", [alias for alias in self.alias_rows.values() if alias.profile in profiles])

    def refused(
        self, workspace: int, identities: Collection[int], values: Collection[LinkValue]
    ) -> list[RefusedEvidence]:
        return self._read(
            "refused",
            [
                replace(one, at=at)
                for one, at in self.refused_rows.items()
                if one.identity in identities
                or one.other in identities
                or (one.reason == "TooManyIdentities" and one.value in values)
            ],
        )

    @property
    def has_round_trips(self) -> bool:
        return False

    def near(
        self,
        workspace: int,
        identities: Collection[int],
        values: Collection[LinkValue],
        names: Collection[IdentityName],
    ) -> "MemoryRows":
        return self

    def new_profile_ids(self, count: int) -> list[int]:
        self.last_profile += count
        return list(range(self.last_profile - count + 1, self.last_profile + 1))

    def write(self, changes: ProfileChanges, stored: Mapping[int, ProfileRow] | None = None) -> None:
        """Write the changes, none of which is without effect."""
        self.writes += 1
        for id in changes.removed_profiles:
            del self.profile_rows[id]
        for id in changes.removed_members:
            del self.member_rows[id]
        for value, identity in changes.removed_links:
            del self.links[value][identity]
            if not self.links[value]:
                del self.links[value]
        for kpid in changes.removed_aliases:
            del self.alias_rows[kpid]
        for one in changes.removed_refused:
            assert self.refused_rows.pop(replace(one, at=0)) == one.at
        for profile in changes.profiles:
            assert self.profile_rows.get(profile.id) != profile
            self.profile_rows[profile.id] = profile
        for member in changes.members:
            assert self.member_rows.get(member.identity) != member
            self.member_rows[member.identity] = member
        for link in changes.links:
            masks = self.links.setdefault(link.value, {})
            assert masks.get(link.identity) != link.mask
            masks[link.identity] = link.mask
        for alias in changes.aliases:
            assert self.alias_rows.get(alias.kpid) != alias
            self.alias_rows[alias.kpid] = alias
        for one in changes.refused:
            self.refused_rows.setdefault(replace(one, at=0), one.at)
        self.history.extend(changes.history)

    def _read(self, query: str, rows: list[Row]) -> list[Row]:
        self.queries += 1
        self.reads[query] = self.reads.get(query, 0) + len(rows)
        return rows
