"""One workspace in a real database, whose identities change as batches change them."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
from sqlalchemy import Connection, select
from sqlalchemy.engine import make_url

from headwater.catalog import Catalog, Workspace
from headwater.catalog.profiles import ProfileSchema, ResolutionSettings
from headwater.profiles.full import FullResolution, Report
from headwater.profiles.settings import ResolutionContext
from headwater.profiles.unresolved import resolve_unresolved
from headwater.profiles.updating import ProfileResolver
from headwater.state import StateStore, open_state
from headwater.state.identities import IdentityChanges, IdentityKey, IdentityState, StoredIdentity
from headwater.state.profiles import tables
from headwater.state.profiles.model import IdentityName, Separation
from headwater.state.profiles.removing import remove_workspaces_except
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.profiles.rows import PROFILE_COLUMNS, read_member, read_profile, read_refused
from headwater.state.tables import identities
from tests.harness import NOW, MovableClock
from tests.profiles.definition import define, merged, read_evidence
from tests.profiles.history import SCHEMA
from tests.sqlite import migrated_url

WORKSPACE: Final = 1
Change = tuple[str, IdentityName, int, str, int]
"""The kind (put, delete, or claim by a user with the name and an apostrophe), the name, the pipeline, the attributes
and the time."""
Contents = dict[str, Any]


class Installation:
    """The state store of an installation with one workspace."""

    def __init__(self, state: StateStore, settings: ResolutionSettings, schema: ProfileSchema | None = SCHEMA) -> None:
        self.state = state
        self.clock = MovableClock()
        self.kpids = 0
        self.workspace = Workspace(id=WORKSPACE, name="Shop", created_at=NOW)
        self.resolver = ProfileResolver(cast(Catalog, SimpleNamespace(workspace=self._find)), self.clock)
        self.change_settings(settings, schema)

    def _find(self, workspace: int) -> Workspace | None:
        return self.workspace if workspace == WORKSPACE else None

    def change_settings(self, settings: ResolutionSettings, schema: ProfileSchema | None = SCHEMA) -> None:
        self.workspace = Workspace(
            id=WORKSPACE, name="Shop", created_at=NOW, resolution=settings, profile_schema=schema
        )

    @property
    def context(self) -> ResolutionContext:
        context = self.resolver.context(WORKSPACE)
        assert context is not None
        return context

    def new_kpid(self) -> bytes:
        self.kpids += 1
        return self.kpids.to_bytes(16)

    async def batch(self, operations: Sequence[Change]) -> None:
        """Change identities in one transaction, and update their profiles."""
        changes = IdentityChanges({}, {}, {})
        async with self.state.transaction() as transaction:
            stored = await transaction.run(_stored)
            for kind, name, pipeline, attributes, time in operations:
                own = 10 * name.connection + pipeline  # a pipeline has one connection
                key = IdentityKey(name.connection, name.identity_id, name.is_anonymous, own)
                if kind == "put":
                    changes.changed[key] = IdentityState(WORKSPACE, [], time, attributes)
                    if key in stored:
                        changes.stored[key] = stored[key]
                else:
                    claimed = kind == "claim"
                    user = msgspec.structs.replace(key, identity_id=f"{key.identity_id}'", is_anonymous=False)
                    changes.removed[key] = user if claimed else None
                    changes.changed.pop(key, None)
                    if claimed:
                        changes.changed[user] = IdentityState(WORKSPACE, [], time, attributes)
                        if user in stored:
                            changes.stored[user] = stored[user]
            await transaction.change_identities(changes, self.resolver)

    async def remove_silently(self, pipelines: Sequence[int]) -> None:
        """Delete identities as the janitor does."""
        async with self.state.transaction() as transaction:
            await transaction.remove_identities_except(pipelines)

    async def delete_workspace(self) -> None:
        """Delete everything of the workspace but its identities, as the janitor does."""
        removed = 1
        while removed:
            async with self.state.transaction() as transaction:
                removed = await transaction.run(lambda connection: remove_workspaces_except(connection, (), limit=100))

    async def drain(self) -> None:
        """Resolve the identities that wait."""
        async with self.state.transaction() as transaction:
            drained = await transaction.on_profiles(
                lambda rows: resolve_unresolved(rows, self.context, 1, limit=1_000_000)
            )
        assert drained.errors == []

    async def resolve(self, report: Report | None = None) -> None:
        """Resolve all identities, as the companion does."""

        async def ignore(_done: int, _total: int) -> None:
            pass

        async with self.state.transaction():
            self.resolver.paused.add(WORKSPACE)
        try:
            await FullResolution(
                self.state,
                self.context,
                self.workspace.profile_schema,
                self.clock,
                report or ignore,
                new_kpid=self.new_kpid,
            ).run()
        finally:
            self.resolver.paused.discard(WORKSPACE)

    async def separate(self, sides: tuple[tuple[IdentityName, ...], ...]) -> None:
        """Store a separation, and do not resolve it."""
        async with self.state.transaction() as transaction:
            await transaction.on_profiles(lambda rows: rows.add_separation(Separation(0, WORKSPACE, 0, sides)))

    async def contents(self) -> Contents:
        """Return everything of profiles."""
        found: Contents = await self.read(_contents)
        return found

    async def find_names(self, kpid: bytes) -> set[IdentityName]:
        """Return the names in the profile to which a kpid leads."""

        def read(rows: ResolutionRows) -> set[IdentityName]:
            profile = rows.find(WORKSPACE, kpid)
            return set() if profile is None else {member.name for member in rows.find_members([profile.id])}

        return await self.state.read_profiles(read)

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        async with self.state._sessions.open() as session:
            return await session.run(work)

    async def check(self) -> None:
        """Check that the profiles are those of the definition, and complete."""
        found = await self.contents()
        rows = found["identities"]
        settings = self.workspace.resolution
        assert found["unresolved"] == []
        assert found["applied"] == self.context.digest
        evidence = {id_: read_evidence(row.attributes, settings) for id_, row in rows.items()}
        defined = define({id_: row.name for id_, row in rows.items()}, evidence, settings, found["separations"])
        partition: dict[int, set[int]] = {}
        for member in found["members"].values():
            partition.setdefault(member.profile, set()).add(member.identity)
            assert member.evidence == evidence[member.identity]
            assert member.name == rows[member.identity].name
        assert {frozenset(members) for members in partition.values()} == defined.profiles
        assert partition.keys() == found["profiles"].keys()
        assert {one for one in found["refused"] if one.reason != "BlockedValue"} == defined.refused
        constrained = {
            frozenset(partition[id_]) for id_, profile in found["profiles"].items() if profile.is_constrained
        }
        assert constrained == defined.constrained
        assert found["links"] == _links(evidence)
        for id_, profile in found["profiles"].items():
            some = [rows[identity] for identity in partition[id_]]
            if self.workspace.profile_schema is not None:
                assert json.loads(profile.attributes) == merged(some, self.workspace.profile_schema)
            assert profile.updated_at == max(row.updated_at for row in some)
            assert profile.founder in partition[id_]


def _links(evidence: dict[int, tuple[str | None, ...]]) -> dict[tuple[int, str, int], int]:
    links: dict[tuple[int, str, int], int] = {}
    for identity, values in evidence.items():
        mask = 0
        for index, value in enumerate(values):
            if value is not None:
                links[index, value, identity] = mask
                mask |= 1 << index
    return links


def _stored(connection: Connection) -> dict[IdentityKey, StoredIdentity]:
    table = identities.c
    columns = (table.connection, table.identity_id, table.is_anonymous, table.pipeline, table.id, table.attributes)
    return {
        IdentityKey(row[0], row[1], bool(row[2]), row[3]): StoredIdentity(row[4], row[5])
        for row in connection.execute(select(*columns))
    }


def _contents(connection: Connection) -> Contents:
    rows = ResolutionRows(connection)
    ids = list(connection.scalars(select(identities.c.id)))
    members = [column for column in tables.members.c if column.name != "workspace"]
    links = tables.links.c
    return {
        "identities": {row.id: row for row in rows.identities(ids)},
        "members": {member.identity: member for member in map(read_member, connection.execute(select(*members)))},
        "profiles": {row.id: row for row in map(read_profile, connection.execute(select(*PROFILE_COLUMNS)))},
        "links": {
            (row.identifier, row.value, row.identity): row.mask
            for row in connection.execute(select(links.identifier, links.value, links.identity, links.mask))
        },
        "aliases": sorted(tuple(row) for row in connection.execute(select(tables.profile_aliases))),
        "refused": {
            type(one)(one.workspace, one.reason, one.value, one.identity, one.other)
            for one in map(read_refused, connection.execute(select(tables.resolution_refusals)))
        },
        "history": [tuple(row) for row in connection.execute(select(tables.profile_changes))],
        "unresolved": rows.unresolved(WORKSPACE, 1_000),
        "applied": rows.applied(WORKSPACE),
        "separations": rows.all_separations(WORKSPACE),
        "values": sorted(tuple(row) for row in connection.execute(select(tables.profile_values))),
    }


async def clear(state: StateStore) -> None:
    """Delete everything of profiles, and all identities."""

    def delete(connection: Connection) -> None:
        for table in (identities, *tables.members.metadata.sorted_tables):
            if table is identities or "profiles" in str(table.name) or table.name in _TABLES:
                connection.execute(table.delete())

    async with state.transaction() as transaction:
        await transaction.run(delete)


_TABLES: Final = {
    "members",
    "links",
    "profile_values",
    "profile_aliases",
    "separations",
    "separation_members",
    "profile_changes",
    "profile_counts",
    "resolution_refusals",
    "unresolved",
    "resolutions",
    "checkpoints",
}


@asynccontextmanager
async def open_installation(
    url: str, settings: ResolutionSettings, schema: ProfileSchema | None = SCHEMA
) -> AsyncIterator[Installation]:
    """Open the state store at a URL, without rows."""
    async with open_state(url, writes=True, clock=MovableClock()) as state:
        yield Installation(state, settings, schema)


def state_url(database_url: str | None, folder: Path) -> str:
    """Return the URL of a migrated state store."""
    url = database_url or migrated_url(folder / "state.db")
    assert make_url(url)
    return url
