"""Reads profiles for pages and other processes. A read sees one state of the database.

Every method takes the workspace, and finds nothing in another one. It raises Unavailable while the database is
unavailable.
"""

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Table, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.base.clock import from_microseconds
from headwater.state import bulk
from headwater.state.identities import Identity, IdentityCursor
from headwater.state.profiles import searching, tables
from headwater.state.profiles.model import (
    IdentityName,
    IdentityRow,
    LinkValue,
    Member,
    ProfileChange,
    ProfileRow,
    RefusedEvidence,
    Separation,
)
from headwater.state.profiles.rows import PROFILE_COLUMNS, ProfileRows, read_profile, read_refused, read_separations
from headwater.state.profiles.searching import ProfilePage, Search
from headwater.state.tables import identities
from headwater.storage.database import as_unavailable
from headwater.storage.sessions import snapshot

MAX_COUNTED_IDENTITIES: Final = 10_000
"""Up to this number the identities that have a refused value are counted."""

_Result = TypeVar("_Result")


class ListedChange(Struct, frozen=True):
    """A merge or a split in the history of a profile."""

    id: int
    """The place in lists: the newest has the highest."""
    change: ProfileChange


class ListedRefusal(Struct, frozen=True):
    """Refused evidence in a list."""

    id: int
    """The place in lists: the newest has the highest."""
    refused: RefusedEvidence
    identities: int | None
    """Number of identities that have the value, counted up to `MAX_COUNTED_IDENTITIES`; None for a blocked value, whose
    identities are not known."""


class ResolutionState(Struct, frozen=True):
    """The state of the resolution of a workspace."""

    applied: str | None
    """The digest of the settings and the schema that the profiles follow; None before the end of the first
    resolution."""
    is_resolving_all: bool
    """Whether a resolution of all identities has not ended."""
    unresolved: int
    """Number of identities that wait for a resolution, counted up to `MAX_COUNTED_IDENTITIES`."""


class ProfileReader:
    """Reads profiles, and the state of identity resolution."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, workspace: int, kpid: bytes) -> ProfileRow | None:
        """Return the profile with this public id, or the one that it was merged into; None if there is none."""
        return await self._read(lambda connection: _find(connection, workspace, kpid))

    async def page(self, search: Search) -> ProfilePage:
        """Return a part of a list of profiles."""
        return await self._read(lambda connection: searching.search(connection, search))

    async def find_identities(
        self, profile: int, *, first: int, limit: int, after: IdentityCursor | None = None
    ) -> tuple[list[Identity], int]:
        """Return the identities of a profile, the most recently updated first, and their total number."""
        return await self._read(lambda connection: _find_identities(connection, profile, first, limit, after))

    async def find_members(self, profile: int, limit: int | None = None) -> list[Member]:
        """Return the members of a profile, the oldest first, at most `limit`."""

        def read(connection: Connection) -> list[Member]:
            found = ProfileRows(connection).find_members([profile], None if limit is None else limit - 1)
            return sorted(found, key=lambda member: member.identity)

        return await self._read(read)

    async def members_named(self, names: Collection[IdentityName]) -> list[Member]:
        """Return the members with these names, of any profile."""

        def read(connection: Connection) -> list[Member]:
            rows = ProfileRows(connection)
            return rows.members({id_ for ids in rows.identities_named(names).values() for id_ in ids})

        return await self._read(read)

    async def find_named(self, workspace: int, names: Collection[IdentityName], limit: int) -> list[ProfileRow]:
        """Return the profiles of a workspace that have one of these names, the most recently changed first, at most
        `limit`."""

        def read(connection: Connection) -> list[ProfileRow]:
            rows = ProfileRows(connection)
            members = rows.members({id_ for ids in rows.identities_named(names).values() for id_ in ids})
            found = [row for row in rows.profiles({each.profile for each in members}) if row.workspace == workspace]
            return sorted(found, key=lambda row: (row.updated_at, row.id), reverse=True)[:limit]

        return await self._read(read)

    async def history(
        self, workspace: int, profile: int, *, limit: int, after: int | None = None
    ) -> list[ListedChange]:
        """Return the merges and splits of a profile, the newest first. `after` selects those after that id."""
        table = tables.profile_changes.c
        mine = (table.profile == profile, table.workspace == workspace)
        rows = await self._read(lambda connection: _newest(connection, tables.profile_changes, mine, limit, after))
        return [
            ListedChange(row.id, ProfileChange(row.workspace, row.at, row.kind, row.profile, row.other)) for row in rows
        ]

    async def refused(self, workspace: int, *, limit: int, after: int | None = None) -> list[ListedRefusal]:
        """Return the refused evidence of a workspace, the newest first. `after` selects that after that id."""
        table = tables.resolution_refusals

        def read(connection: Connection) -> list[ListedRefusal]:
            rows = _newest(connection, table, (table.c.workspace == workspace,), limit, after)
            return [
                ListedRefusal(row.id, read_refused(row), _count_holders(connection, read_refused(row))) for row in rows
            ]

        return await self._read(read)

    async def find_refused(self, workspace: int, members: Collection[Member]) -> list[RefusedEvidence]:
        """Return the refused evidence of members, and of their values; not that of blocked values, which they lack."""
        ids = {member.identity for member in members}
        held = {
            LinkValue(index, value)
            for member in members
            for index, value in enumerate(member.evidence)
            if value is not None
        }
        return await self._read(lambda connection: ProfileRows(connection).refused(workspace, ids, held))

    async def blocked(self, workspace: int, values: Collection[LinkValue]) -> list[RefusedEvidence]:
        """Return the refused evidence of those of the values that are blocked."""
        return await self._read(lambda connection: ProfileRows(connection).blocked(workspace, values))

    async def count_holders(self, refused: Collection[RefusedEvidence]) -> dict[RefusedEvidence, int | None]:
        """Return the number of identities that have each refused value, as `ListedRefusal.identities`."""
        return await self._read(lambda connection: {each: _count_holders(connection, each) for each in refused})

    async def identities(self, ids: Collection[int]) -> dict[int, IdentityRow]:
        """Return the identities with these ids that exist."""
        found = await self._read(lambda connection: ProfileRows(connection).identities(ids))
        return {identity.id: identity for identity in found}

    async def separations(self, workspace: int, *, limit: int, after: int | None = None) -> list[Separation]:
        """Return the separations of a workspace, the newest first. `after` selects those after that id."""
        table = tables.separations

        def read(connection: Connection) -> list[Separation]:
            rows = _newest(connection, table, (table.c.workspace == workspace,), limit, after)
            return read_separations(connection, [row.id for row in rows], workspace)[::-1]

        return await self._read(read)

    async def separation(self, workspace: int, id_: int) -> Separation | None:
        """Return a separation; None if the workspace has no such separation."""
        found = await self._read(lambda connection: read_separations(connection, [id_], workspace))
        return found[0] if found else None

    async def count(self, workspace: int) -> int:
        """Return the number of profiles of a workspace."""
        return await self._read(lambda connection: searching.count(connection, workspace))

    async def count_identities(self, connections: Collection[int]) -> int:
        """Return the number of identities of connections."""
        query = select(func.count()).select_from(identities).where(identities.c.connection.in_(connections))
        return await self._read(lambda connection: int(connection.execute(query).scalar_one()))

    async def resolution(self, workspace: int) -> ResolutionState:
        """Return the state of the resolution of a workspace."""
        waiting = select(tables.unresolved.c.identity).where(tables.unresolved.c.workspace == workspace)
        count = select(func.count()).select_from(waiting.limit(MAX_COUNTED_IDENTITIES).subquery())

        def read(connection: Connection) -> ResolutionState:
            rows = ProfileRows(connection)
            number = int(connection.execute(count).scalar_one())
            return ResolutionState(rows.applied(workspace), rows.checkpoint(workspace) is not None, number)

        return await self._read(read)

    async def _read(self, work: Callable[[Connection], _Result]) -> _Result:
        def run(connection: Connection) -> _Result:
            with snapshot(connection):
                return work(connection)

        async with as_unavailable("the state store's database"), self._engine.connect() as connection:
            return await connection.run_sync(run)


def _find(connection: Connection, workspace: int, kpid: bytes) -> ProfileRow | None:
    table, aliases = tables.profiles.c, tables.profile_aliases.c
    row = connection.execute(select(*PROFILE_COLUMNS).where(table.kpid == kpid)).one_or_none()
    if row is None:
        survivor = select(aliases.profile).where(aliases.kpid == kpid).scalar_subquery()
        row = connection.execute(select(*PROFILE_COLUMNS).where(table.id == survivor)).one_or_none()
    return None if row is None or row.workspace != workspace else read_profile(row)


def _find_identities(
    connection: Connection, profile: int, first: int, limit: int, after: IdentityCursor | None
) -> tuple[list[Identity], int]:
    """A profile has few identities, so all are found, and the page is chosen from them."""
    ids = connection.scalars(select(tables.members.c.identity).where(tables.members.c.profile == profile)).all()
    table = identities.c
    found = sorted(
        bulk.lookup(connection, (table.updated_at, table.id), (table.id,), ((id_,) for id_ in ids)),
        key=tuple, reverse=True,
    )  # fmt: skip
    chosen = [tuple(row) for row in found if after is None or tuple(row) < (after.updated_at, after.id)]
    page = [id_ for _, id_ in chosen[first : first + limit]]
    columns = list(table)
    rows = {row.id: row for row in bulk.lookup(connection, columns, (table.id,), ((id_,) for id_ in page))}
    return [_identity(rows[id_]) for id_ in page], len(found)


def _identity(row: Any) -> Identity:
    return Identity(
        user_id=None if row.is_anonymous else row.identity_id,
        anonymous_ids=msgspec.json.decode(row.anonymous_ids, type=list[str]),
        connection=row.connection,
        pipeline=row.pipeline,
        updated_at=from_microseconds(row.updated_at),
        id=row.id,
    )


def _newest(
    connection: Connection, table: Table, chosen: tuple[ColumnElement[bool], ...], limit: int, after: int | None
) -> list[Any]:
    query = select(table).where(*chosen).order_by(table.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(table.c.id < after)
    return list(connection.execute(query))


def _count_holders(connection: Connection, refused: RefusedEvidence) -> int | None:
    if refused.reason == "BlockedValue":
        return None
    table = tables.links.c
    value = refused.value
    holders = (
        select(table.identity)
        .where(table.workspace == refused.workspace, table.identifier == value.identifier, table.value == value.value)
        .limit(MAX_COUNTED_IDENTITIES)
    )
    return int(connection.execute(select(func.count()).select_from(holders.subquery())).scalar_one())
