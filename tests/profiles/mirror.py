"""Rows in memory that compare each of their results with those of a database."""

from collections.abc import Collection, Mapping

from sqlalchemy import delete

from headwater.state import bulk
from headwater.state.profiles import tables
from headwater.state.profiles.model import (
    Alias,
    ChangedIdentity,
    IdentityName,
    IdentityRow,
    Link,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    Separation,
)
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.profiles.rows import ProfileRows
from headwater.state.tables import identities as identity_table
from tests.profiles.memory import MemoryRows, Row


class MirroredRows(MemoryRows):
    """Rows in memory and in a transaction of a database, which agree."""

    def __init__(self, stored: ResolutionRows) -> None:
        super().__init__()
        self._rows = stored
        self._stored: ProfileRows = stored
        """The same rows, which have read what is near until the next write."""

    def put(
        self, name: IdentityName, pipeline: int, attributes: str, updated_at: int, id: int | None = None
    ) -> ChangedIdentity:
        self._stored = self._rows
        change = super().put(name, pipeline, attributes, updated_at, id)
        values = {
            "id": change.id,
            "workspace": 1,
            "connection": name.connection,
            "pipeline": pipeline,
            "identity_id": name.identity_id,
            "is_anonymous": name.is_anonymous,
            "anonymous_ids": "[]",
            "updated_at": updated_at,
            "attributes": attributes,
            "run": 0,
        }
        columns = list(identity_table.c)
        row = tuple(values[column.name] for column in columns)
        bulk.upsert(self._stored._connection, columns, [row], key=("id",))
        return change

    def delete(self, id: int) -> ChangedIdentity:
        self._stored = self._rows
        self._stored._connection.execute(delete(identity_table).where(identity_table.c.id == id))
        return super().delete(id)

    def add_separation(self, separation: Separation) -> int:
        id = self._stored.add_separation(separation)
        self.last_separation = id - 1
        return super().add_separation(separation)

    def remove_separation(self, id: int) -> Separation:
        self._stored.remove_separation(1, id)
        return super().remove_separation(id)

    def replaced(self) -> None:
        connection = self._stored._connection
        for table in (
            tables.members,
            tables.links,
            tables.profiles,
            tables.profile_aliases,
            tables.resolution_refusals,
        ):
            connection.execute(delete(table))
        connection.execute(delete(tables.profile_values))
        connection.execute(delete(tables.profile_counts))
        self._stored.new_profile_ids(self.last_profile)
        refused = [RefusedEvidence(one.workspace, one.reason, one.value, one.identity, one.other, at) for one, at in self.refused_rows.items()]  # fmt: skip  # noqa: E501
        links = [Link(value, id, mask) for value, holders in self.links.items() for id, mask in holders.items()]
        self._stored.write(
            ProfileChanges(
                workspace=1, profiles=list(self.profile_rows.values()), removed_profiles=[],
                members=list(self.member_rows.values()), removed_members=[], links=links, removed_links=[],
                aliases=list(self.alias_rows.values()), removed_aliases=[], history=[], refused=refused,
                removed_refused=[],
            )
        )  # fmt: skip

    def identities(self, ids: Collection[int]) -> list[IdentityRow]:
        return self._same(super().identities(ids), self._stored.identities(ids))

    def members(self, identities: Collection[int]) -> list[Member]:
        return self._same(super().members(identities), self._stored.members(identities))

    def find_members(self, profiles: Collection[int], limit: int | None = None) -> list[Member]:
        found = super().find_members(profiles, limit)
        stored = self._stored.find_members(profiles, limit)
        return stored if limit is not None and len(found) == len(stored) else self._same(found, stored)

    def holders(
        self, workspace: int, values: Collection[LinkValue], limit: int | None = None
    ) -> dict[LinkValue, list[tuple[int, int]]]:
        found, stored = super().holders(workspace, values, limit), self._stored.holders(workspace, values, limit)
        assert found == stored
        return stored

    def identities_named(self, names: Collection[IdentityName]) -> dict[IdentityName, list[int]]:
        found, stored = super().identities_named(names), self._stored.identities_named(names)
        assert {name: sorted(ids) for name, ids in found.items()} == stored
        return stored

    def separations(self, workspace: int, names: Collection[IdentityName]) -> list[Separation]:
        found, stored = super().separations(workspace, names), self._stored.separations(workspace, names)
        assert {(one.id, frozenset(map(frozenset, one.sides))) for one in found} == {
            (one.id, frozenset(map(frozenset, one.sides))) for one in stored
        }
        return stored

    def profiles(self, ids: Collection[int]) -> list[ProfileRow]:
        return self._same(super().profiles(ids), self._stored.profiles(ids))

    def aliases(self, profiles: Collection[int]) -> list[Alias]:
        return self._same(super().aliases(profiles), self._stored.aliases(profiles))

    def refused(
        self, workspace: int, identities: Collection[int], values: Collection[LinkValue]
    ) -> list[RefusedEvidence]:
        return self._same(super().refused(1, identities, values), self._stored.refused(1, identities, values))

    def new_profile_ids(self, count: int) -> list[int]:
        stored = self._stored.new_profile_ids(count)
        self.last_profile = stored[0] - 1 if stored else self.last_profile
        assert super().new_profile_ids(count) == stored
        return stored

    @property
    def has_round_trips(self) -> bool:
        return self._rows.has_round_trips

    def near(
        self,
        workspace: int,
        identities: Collection[int],
        values: Collection[LinkValue],
        names: Collection[IdentityName],
    ) -> MemoryRows:
        self._stored = self._rows.near(workspace, identities, values, names)
        return self

    def guards(self, workspace: int) -> tuple[bool, bool]:
        guards = super().guards(1)
        assert self._stored.guards(1) == guards
        return guards

    def write(self, changes: ProfileChanges, stored: Mapping[int, ProfileRow] | None = None) -> None:
        super().write(changes, stored)
        self._stored.write(changes, stored)
        self._stored = self._rows

    def _same(self, found: list[Row], stored: list[Row]) -> list[Row]:
        assert sorted(found, key=repr) == sorted(stored, key=repr)
        return stored
