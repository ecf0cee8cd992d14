"""The rows of profiles as resolutions of all identities, splits and the worker's batches need them."""

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from msgspec import Struct
from sqlalchemy import Connection, func, select, update

from headwater.state import bulk
from headwater.state.profiles import tables, values
from headwater.state.profiles.model import (
    ChangedIdentity,
    IdentityName,
    LinkValue,
    MergedRow,
    ProfileRow,
    RefusedEvidence,
    RefusedReason,
    Separation,
)
from headwater.state.profiles.neighbours import NeighbourRows
from headwater.state.profiles.rows import (
    PROFILE_COLUMNS,
    SCHEMA_NOTE,
    ProfileRows,
    read_profile,
    read_refused,
    read_separations,
)
from headwater.state.tables import checkpoints, identities
from headwater.storage.sessions import attempt
from headwater.storage.statements import fetch

MAX_ID: Final = 2**63 - 1
LinkKey = tuple[int, str, int]
"""The identifier, the value and the identity of a link. Links are sorted by it."""


_LINK_KEY: Final = ("workspace", "identifier", "value", "identity")
_LINK_ORDER: Final = (tables.links.c.identifier, tables.links.c.value, tables.links.c.identity)
_MERGED_COLUMNS: Final = [
    identities.c[name] for name in ("updated_at", "id", "connection", "attributes", "identity_id", "is_anonymous")
]


ScannedRow = tuple[int, int, str, int, str, int | None, str | None]
"""An identity as a resolution of all identities reads it: its id, connection, identity id, whether it is anonymous, and
its attributes; the profile that it is in, and the evidence of the last resolution as JSON, or None. Rows of which there
are a million are tuples: objects take a tenth of the time of a resolution."""
LinkRow = tuple[int, str, int, int]
"""The identifier, value, identity and mask of a link."""
ProfileTuple = tuple[int, int, bytes, int, int, str, bool]
"""A row of `profiles`, without its version."""
MemberTuple = tuple[int, int, int, str, int, str, int]
"""A row of `members`."""


class NewProfiles(Struct, frozen=True):
    """Profiles that never existed, of identities that are in none."""

    workspace: int
    profiles: list[ProfileTuple]
    """The profiles in the order of their ids."""
    values: list[values.ValueRow]
    """The values of the profiles, as `values.new_rows` returns them."""


class ResolutionRows(ProfileRows):
    """Rows for resolutions, on the connection of a transaction. Without a transaction nothing may be written."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._sql = connection
        self.has_round_trips = not self._is_sqlite
        """Whether `near` is faster for a few identities."""

    def near(
        self,
        workspace: int,
        identities: Collection[int],
        values: Collection[LinkValue],
        names: Collection[IdentityName],
    ) -> ProfileRows:
        """Return rows for one resolution that have read what is near these identities, values and names."""
        return NeighbourRows(self, workspace, identities, values, names)

    # Reading

    def count_identities(self, workspace: int) -> int:
        """Return the number of identities of a workspace."""
        query = select(func.count()).select_from(identities).where(identities.c.workspace == workspace)
        return int(self._sql.execute(query).scalar_one())

    def has_identities(self, workspace: int, *, before: int | None = None) -> bool:
        """Return whether the workspace has an identity, older than the id `before` if that is given."""
        query = select(identities.c.id).where(identities.c.workspace == workspace)
        if before is not None:
            query = query.where(identities.c.id < before)
        return self._sql.execute(query.limit(1)).first() is not None

    def last_identity(self, workspace: int) -> int:
        """Return the highest id of an identity of a workspace; 0 if it has none."""
        query = select(func.max(identities.c.id)).where(identities.c.workspace == workspace)
        return self._sql.scalar(query) or 0

    def scan(self, workspace: int, *, after: int, through: int = MAX_ID, limit: int) -> list[ScannedRow]:
        """Return the identities of a workspace with ids above `after` up to `through`, the oldest first."""
        # The bound of members is for a merge join of PostgreSQL, which would read all those before.
        query = (
            "SELECT i.id, i.connection, i.identity_id, i.is_anonymous, i.attributes, m.profile, m.evidence "
            f"FROM identities i LEFT JOIN members m ON m.identity = i.id AND m.identity > {int(after)} "
            f"WHERE i.workspace = {int(workspace)} AND i.id > {int(after)} AND i.id <= {int(through)} "
            f"ORDER BY i.id LIMIT {int(limit)}"
        )
        return fetch(self._sql, query)

    def merged_identities(self, ids: Collection[int]) -> dict[int, MergedRow]:
        """Return what profiles take from the identities with these ids that exist, by id. It is fastest in the order of
        the ids."""
        rows = bulk.lookup(self._sql, _MERGED_COLUMNS, (identities.c.id,), [(id_,) for id_ in ids])
        return {row[1]: row for row in rows}

    def shared_connections(self, workspace: int) -> set[int]:
        """Return the connections with identities of several pipelines, in which several can have one name."""
        pipelines: dict[int, int] = {}
        for pipeline in bulk.distinct(self._sql, identities.c.pipeline):
            query = select(identities.c.connection, identities.c.workspace).where(identities.c.pipeline == pipeline)
            row = self._sql.execute(query.limit(1)).first()
            if row is not None and row.workspace == workspace:
                pipelines[row.connection] = pipelines.get(row.connection, 0) + 1
        return {connection for connection, number in pipelines.items() if number > 1}

    def links_after(self, workspace: int, key: LinkKey | None, limit: int) -> list[tuple[int, str, int, int]]:
        """Return the identifier, value, identity and mask of links after `key`, sorted by the first three."""
        query = f"SELECT identifier, value, identity, mask FROM links WHERE workspace = {int(workspace)}"
        if key is not None:
            query += f" AND (identifier, value, identity) > ({'?, ?, ?' if self._is_sqlite else '$1, $2, $3'})"
        return fetch(self._sql, f"{query} ORDER BY identifier, value, identity LIMIT {int(limit)}", key or ())

    def all_separations(self, workspace: int) -> list[Separation]:
        """Return the separations of a workspace, the oldest first."""
        table = tables.separations.c
        ids = set(self._sql.scalars(select(table.id).where(table.workspace == workspace)))
        return read_separations(self._sql, ids, workspace)

    def refused_for(self, workspace: int, reasons: Collection[RefusedReason]) -> list[RefusedEvidence]:
        """Return the refused evidence of a workspace for these reasons."""
        table = tables.resolution_refusals
        query = select(table).where(table.c.workspace == workspace, table.c.reason.in_(reasons))
        return [read_refused(row) for row in self._sql.execute(query)]

    def count_profiles(self, workspace: int) -> int:
        """Return the number of profiles of a workspace."""
        table = tables.profile_counts.c
        return self._sql.scalar(select(table.profiles).where(table.workspace == workspace)) or 0

    def empty_profiles(self, workspace: int, *, after: int, limit: int) -> tuple[dict[int, int], int | None]:
        """Return those of the next profiles of a workspace with ids above `after` that have no members, with their
        founders; and the last examined id, None at the end. At most `limit` profiles are examined."""
        found = fetch(
            self._sql,
            f"SELECT id, founder FROM profiles WHERE workspace = {int(workspace)} AND id > {int(after)} "
            f"ORDER BY id LIMIT {int(limit)}",
        )
        founders: dict[int, int] = dict(map(tuple, found))
        for member in self.find_members(founders, 0):
            founders.pop(member.profile, None)
        return founders, found[-1][0] if len(found) == limit else None

    def has_refused(self, workspace: int, reasons: Collection[RefusedReason]) -> bool:
        """Return whether the workspace has refused evidence for one of these reasons."""
        table = tables.resolution_refusals.c
        query = select(table.id).where(table.workspace == workspace, table.reason.in_(reasons)).limit(1)
        return self._sql.execute(query).first() is not None

    def find(self, workspace: int, kpid: bytes) -> ProfileRow | None:
        """Return the profile with this kpid, or into which the one with it was merged."""
        table, aliases = tables.profiles.c, tables.profile_aliases.c
        for condition in (
            table.kpid == kpid,
            table.id == select(aliases.profile).where(aliases.kpid == kpid).scalar_subquery(),
        ):
            query = select(*PROFILE_COLUMNS).where(condition, table.workspace == workspace)
            row = self._sql.execute(query).first()
            if row is not None:
                return read_profile(row)
        return None

    def all_applied(self) -> dict[int, str | None]:
        """Return the applied digest of each workspace that has been resolved, or that is being resolved."""
        table = tables.resolutions.c
        rows = self._sql.execute(select(table.workspace, table.applied))
        return {row.workspace: row.applied for row in rows}

    def unresolved_workspaces(self) -> set[int]:
        """Return the workspaces with identities that wait for a resolution."""
        return bulk.distinct(self._sql, tables.unresolved.c.workspace)

    def note(self, owner: str) -> bytes | None:
        """Return what was noted for `owner`; None if nothing was."""
        found: bytes | None = self._sql.scalar(select(checkpoints.c.value).where(checkpoints.c.owner == owner))
        return found

    def schema_version(self, workspace: int) -> int:
        """Return the version of the profile schema whose renames the attributes of identities follow; initially 0."""
        noted = self.note(f"{SCHEMA_NOTE} {workspace}")
        return 0 if noted is None else int.from_bytes(noted)

    # Writing

    def write_links(self, workspace: int, written: Sequence[LinkRow], removed: Sequence[LinkKey]) -> None:
        """Write and delete links, both sorted."""
        links = tables.links.c
        bulk.remove(self._sql, (links.workspace, *_LINK_ORDER), [(workspace, *key) for key in removed])
        bulk.upsert(self._sql, list(links), [(workspace, *row) for row in written], key=_LINK_KEY)

    def insert_profiles(self, new: NewProfiles) -> None:
        """Insert profiles, without members."""
        if not new.profiles:
            return
        self._count_profiles(new.workspace, len(new.profiles))
        version = self.new_version()
        bulk.insert(self._sql, list(tables.profiles.c), [(*row, version) for row in new.profiles])
        bulk.insert(self._sql, list(tables.profile_values.c), new.values)

    def insert_members(self, members: Sequence[MemberTuple]) -> None:
        """Insert members of profiles, given in the order of their identities."""
        bulk.insert(self._sql, list(tables.members.c), members)

    def set_schema_version(self, workspace: int, version: int) -> None:
        """Store the version of the profile schema whose renames the attributes of identities follow."""
        self.set_note(f"{SCHEMA_NOTE} {workspace}", version.to_bytes(8))

    def attempt(self, work: Callable[[], object]) -> Exception | None:
        """Run `work`. If it fails, undo its changes and return its error. The transaction must have written before."""
        return attempt(self._sql, lambda _: work())

    def set_note(self, owner: str, value: bytes) -> None:
        """Note a value for `owner`."""
        bulk.upsert(self._sql, list(checkpoints.c), [(owner, value)], key=("owner",))

    def change_attributes(self, workspace: int, change: Callable[[str], str], *, after: int, limit: int) -> int | None:
        """Change the attributes of at most `limit` identities with ids above `after`, the oldest first.

        Returns the id of the last one; None if there is none.
        """
        i = identities.c
        query = select(i.id, i.attributes).where(i.workspace == workspace, i.id > after).order_by(i.id).limit(limit)
        rows = self._sql.execute(query).all()
        for id_, attributes in rows:
            changed = change(attributes)
            if changed != attributes:
                self._sql.execute(update(identities).where(i.id == id_).values(attributes=changed))
        return rows[-1].id if rows else None


class ProfileUpdater(Protocol):
    """Updates the profiles of identities that a batch changed, in the transaction of the batch."""

    def update(self, rows: ResolutionRows, workspace: int, changed: Sequence[ChangedIdentity]) -> None:
        """Resolve the changed identities of a workspace."""
        ...

    def failed(self, workspace: int, error: Exception) -> None:
        """Report that an update failed. Its changes are undone, and the identities are stored as unresolved."""
        ...


def update_profiles(connection: Connection, changed: Sequence[ChangedIdentity], updater: ProfileUpdater) -> None:
    """Update the profiles of changed identities. An error of one workspace has no effect on others.

    Raises the errors of a database that is unavailable.
    """
    by_workspace: dict[int, list[ChangedIdentity]] = {}
    for each in changed:
        by_workspace.setdefault(each.workspace, []).append(each)
    last = next(reversed(by_workspace), None)
    for workspace, some in by_workspace.items():
        successors = {each.id: each.successor for each in some if each.successor}
        users = {each.id: each.successor for each in some if each.successor and not each.name.is_anonymous}
        if users:  # an anonymous identity is no successor
            ProfileRows(connection).move_successors(users)
        error = attempt(connection, _update(updater, workspace, some), is_last=workspace == last)
        if error is not None:
            ProfileRows(connection).add_unresolved(workspace, [each.id for each in some], successors)
            updater.failed(workspace, error)


def _update(
    updater: ProfileUpdater, workspace: int, changed: Sequence[ChangedIdentity]
) -> Callable[[Connection], None]:
    return lambda connection: updater.update(ResolutionRows(connection), workspace, changed)
