"""Reads and writes the rows of profiles in a transaction of the worker.

Every method is set-based: its number of statements does not depend on the number of rows. `profile_values` follows the
attributes of the written profiles.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, delete, insert, select

from headwater.state import bulk
from headwater.state.profiles import tables, values
from headwater.state.profiles.model import (
    NO_SUCCESSORS,
    Alias,
    Evidence,
    IdentityName,
    IdentityRow,
    LinkValue,
    Member,
    ProfileChanges,
    ProfileRow,
    RefusedEvidence,
    RefusedReason,
    Separation,
)
from headwater.state.tables import identities as identity_table
from headwater.storage.statements import fetch, run

MAX_REMOVED_CHANGES: Final = 10_000
"""Maximum number of changes of profiles that `shorten_history` deletes per call."""

SCHEMA_NOTE: Final = "profile schema"
SPLIT_NOTE: Final = "split"
"""The owners of the checkpoints of a workspace begin with these: one has the version of the profile schema that its
identities follow, the other its last split."""
_decode_evidence: Final = msgspec.json.Decoder(Evidence).decode
_encode: Final = msgspec.json.Encoder().encode


class ProfileRows:
    """The rows of profiles, on the connection of a transaction. The worker alone writes them.

    The methods do not check that ids belong to a workspace: their caller found them in one.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._counters: dict[str, range] = {}
        """The next numbers of counters: on PostgreSQL those that are taken and unused, on SQLite an empty range that
        begins with the next one, because nothing else moves them in the transaction."""

    def identities(self, ids: Collection[int]) -> list[IdentityRow]:
        """Return the identities with these ids that exist."""
        rows = bulk.lookup(self._connection, _IDENTITY_COLUMNS, (identity_table.c.id,), _singles(ids))
        return [
            IdentityRow(id_, workspace, IdentityName(source, identity_id, bool(is_anonymous)), *rest)
            for id_, workspace, source, identity_id, is_anonymous, *rest in rows
        ]

    def identities_named(self, names: Collection[IdentityName]) -> dict[IdentityName, list[int]]:
        """Return the ids of all identities with each of the names, the oldest first; no entry for a name without."""
        table = identity_table.c
        name = (table.connection, table.identity_id, table.is_anonymous)
        found: dict[IdentityName, list[int]] = {}
        for id_, *parts in bulk.lookup(self._connection, (table.id, *name), name, self._keys(names)):
            found.setdefault(_name(parts), []).append(id_)
        for ids in found.values():
            ids.sort()
        return found

    def members(self, identities: Collection[int]) -> list[Member]:
        """Return the members for these identities."""
        rows = bulk.lookup(self._connection, _MEMBER_COLUMNS, (tables.members.c.identity,), _singles(identities))
        return list(map(read_member, rows))

    def find_members(self, profiles: Collection[int], limit: int | None = None) -> list[Member]:
        """Return the members of these profiles, of each the oldest, at most `limit` + 1."""
        table = tables.members.c
        rows = bulk.lookup_first(
            self._connection,
            _MEMBER_COLUMNS,
            (table.profile,),
            _singles(profiles),
            order=table.identity,
            limit=_most(limit),
        )
        return list(map(read_member, rows))

    def holders(
        self, workspace: int, values: Collection[LinkValue], limit: int | None = None
    ) -> dict[LinkValue, list[tuple[int, int]]]:
        """Return the identities that have each value, with their masks, the oldest first, at most `limit` + 1 of each;
        no entry for a value without."""
        table = tables.links.c
        columns = (table.identifier, table.value, table.identity, table.mask)
        keys = {(workspace, value.identifier, value.value) for value in values}
        found: dict[LinkValue, list[tuple[int, int]]] = {}
        rows = bulk.lookup_first(self._connection, columns, _VALUE_KEY, keys, order=table.identity, limit=_most(limit))
        for identifier, value, identity, mask in rows:
            found.setdefault(LinkValue(identifier, value), []).append((identity, mask))
        for holders in found.values():
            holders.sort()
        return found

    def separations(self, workspace: int, names: Collection[IdentityName]) -> list[Separation]:
        """Return the separations of the workspace with a side that has one of the names, the oldest first."""
        table = tables.separation_members.c
        key = (table.connection, table.identity_id, table.is_anonymous)
        found = bulk.lookup(self._connection, (table.separation,), key, self._keys(names))
        return read_separations(self._connection, {id_ for (id_,) in found}, workspace)

    def profiles(self, ids: Collection[int]) -> list[ProfileRow]:
        """Return the profiles with these ids."""
        rows = bulk.lookup(self._connection, PROFILE_COLUMNS, (tables.profiles.c.id,), _singles(ids))
        return list(map(read_profile, rows))

    def aliases(self, profiles: Collection[int]) -> list[Alias]:
        """Return the aliases of these profiles."""
        table = tables.profile_aliases.c
        return [Alias(*row) for row in bulk.lookup(self._connection, list(table), (table.profile,), _singles(profiles))]

    def refused(
        self, workspace: int, identities: Collection[int], values: Collection[LinkValue]
    ) -> list[RefusedEvidence]:
        """Return the refused evidence whose `identity` or `other` is one of the identities, and that for the reason
        TooManyIdentities whose value is one of the values."""
        table = tables.resolution_refusals.c
        columns = list(table)
        rows = bulk.lookup(self._connection, columns, (table.identity,), _singles(identities))
        rows += bulk.lookup(self._connection, columns, (table.other,), _singles(identities))
        rows += self._refused_values(workspace, "TooManyIdentities", values)
        return [read_refused(row) for row in {row[0]: row for row in rows}.values()]

    def blocked(self, workspace: int, values: Collection[LinkValue]) -> list[RefusedEvidence]:
        """Return the refused evidence for the reason BlockedValue whose value is one of the values."""
        return list(map(read_refused, self._refused_values(workspace, "BlockedValue", values)))

    def _refused_values(self, workspace: int, reason: RefusedReason, values: Collection[LinkValue]) -> list[Any]:
        table = tables.resolution_refusals.c
        key = (table.workspace, table.identifier, table.value, table.reason)
        keys = {(workspace, value.identifier, value.value, reason) for value in values}
        return bulk.lookup(self._connection, list(table), key, keys)

    def new_profile_ids(self, count: int) -> list[int]:
        """Return ids for new profiles, ascending. No id is returned twice."""
        if count <= 0:
            return []
        last = self._count(tables.profile_counter, count)
        return list(range(last - count + 1, last + 1))

    def new_version(self) -> int:
        """Return a version for the profiles that the transaction writes, above all that were committed before.

        On PostgreSQL other transactions that call it wait for the end of this one: versions become visible in order.
        """
        return self._count(tables.profile_version_counter, 1)

    def _count(self, counter: Table, more: int) -> int:
        """Add to a counter, and return its value."""
        known = self._counters.pop(counter.name, None)
        if known is not None and self._is_sqlite:
            last = known.stop - 1 + more
            run(self._connection, f"UPDATE {counter.name} SET last = {last}")
            self._counters[counter.name] = range(last + 1, last + 1)
            return last
        if known is not None and len(known) >= more:
            self._counters[counter.name] = known[more:]
            return known[more - 1]
        move = f"UPDATE {counter.name} SET last = last + {int(more)}"
        if self._is_sqlite:  # RETURNING takes as long as three statements
            run(self._connection, move)
            moved = fetch(self._connection, f"SELECT last FROM {counter.name}")
        else:
            moved = fetch(self._connection, f"{move} RETURNING last")
        if not moved:
            self._connection.execute(insert(counter).values(id=1, last=more))
            return more
        found: int = moved[0][0]
        return found

    def guards(self, workspace: int) -> tuple[bool, bool]:
        """Return whether the workspace has separations, and whether it has refused evidence."""
        _, has_separations, has_refused = self.status(workspace)
        return has_separations, has_refused

    def status(self, workspace: int, *, changes: int = 0) -> tuple[str | None, bool, bool]:
        """Return what `applied` and `guards` return. `changes` is the number of identities that are resolved next, in
        this transaction: it also gets ready a version, and an id for a profile of each."""
        # Once in each batch with a change: without the parameter the statement takes half the time.
        query = (
            f"SELECT (SELECT applied FROM resolutions WHERE workspace = {int(workspace)}), "
            f"EXISTS (SELECT 1 FROM separations WHERE workspace = {int(workspace)}), "
            f"EXISTS (SELECT 1 FROM resolution_refusals WHERE workspace = {int(workspace)})"
        )
        counters = (tables.profile_counter.name, tables.profile_version_counter.name) if changes else ()
        numbers = (changes, 1)
        for index, counter in enumerate(counters):
            query += f", (SELECT last FROM {counter if self._is_sqlite else f'counter{index}'})"
        if counters and not self._is_sqlite:
            moves = (
                f"counter{index} AS (UPDATE {counter} SET last = last + {int(numbers[index])} RETURNING last)"
                for index, counter in enumerate(counters)
            )
            query = f"WITH {', '.join(moves)} {query}"
        [(applied, has_separations, has_refused, *lasts)] = fetch(self._connection, query)
        for counter, number, last in zip(counters, numbers, lasts, strict=False):
            if last is not None:
                self._counters[counter] = range(last + 1 - (0 if self._is_sqlite else number), last + 1)
        return applied, bool(has_separations), bool(has_refused)

    def write(self, changes: ProfileChanges, stored: Mapping[int, ProfileRow] | None = None) -> None:
        """Write the changes. Deletions come first, so a profile may take the kpid of one that is deleted.

        `stored` has at least those of the written and deleted profiles that exist, if the caller has read them in this
        transaction.
        """
        workspace = changes.workspace
        counted, values = self._change_values(changes, self._stored(changes) if stored is None else stored)
        self._remove(changes)
        version = self.new_version() if changes.profiles else 0
        profiles = [
            (row.id, row.workspace, row.kpid, row.founder, row.updated_at, row.attributes, row.is_constrained, version)
            for row in changes.profiles
        ]
        members = [
            (
                member.identity,
                workspace,
                (name := member.name).connection,
                name.identity_id,
                name.is_anonymous,
                _encode(member.evidence).decode(),
                member.profile,
            )
            for member in changes.members
        ]
        links = [
            (workspace, (value := link.value).identifier, value.value, link.identity, link.mask)
            for link in changes.links
        ]
        aliases = [(alias.kpid, alias.profile, alias.founder, alias.since) for alias in changes.aliases]
        history = [(each.workspace, each.at, each.kind, each.profile, each.other) for each in changes.history]
        refused = [(*_refused_key(each), each.at) for each in changes.refused]
        inserts: list[tuple[bulk.Insert, bulk.Rows]] = [
            (_COUNTS, [(workspace, counted)] if counted else []),
            (_VALUES, values),
            (_PROFILES, profiles),
            (_MEMBERS, members),
            (_LINKS, sorted(links)),
            (_ALIASES, aliases),
            (_HISTORY, history),
            (_REFUSALS, refused),
        ]
        bulk.insert_all(self._connection, inserts)

    def unresolved(self, workspace: int, limit: int, *, after: int = 0) -> list[int]:
        """Return at most `limit` identities of the workspace with ids above `after` that wait for a resolution, the
        oldest first."""
        table = tables.unresolved.c
        query = select(table.identity).where(table.workspace == workspace, table.identity > after)
        return list(self._connection.scalars(query.order_by(table.identity).limit(limit)))

    def waiting(self, identities: Collection[int]) -> dict[int, int]:
        """Return those of the identities that wait for a resolution, with their successors; 0 for none."""
        table = tables.unresolved.c
        columns = (table.identity, table.successor)
        return dict(map(tuple, bulk.lookup(self._connection, columns, (table.identity,), _singles(identities))))

    def move_successors(self, successors: Mapping[int, int]) -> None:
        """Let each successor of this mapping take the place of its key as a successor of identities that wait."""
        table = tables.unresolved.c
        columns = list(tables.unresolved.c)
        found = bulk.lookup(self._connection, columns, (table.successor,), _singles(successors))
        rows = [(identity, workspace, successors[successor]) for identity, workspace, successor in sorted(found)]
        bulk.upsert(self._connection, columns, rows, key=("identity",))

    def add_unresolved(
        self, workspace: int, identities: Collection[int], successors: Mapping[int, int] = NO_SUCCESSORS
    ) -> None:
        """Let the identities, changed or deleted, wait for a resolution. `successors` are those of deleted ones."""
        rows = [(identity, workspace, successors.get(identity, 0)) for identity in sorted(identities)]
        bulk.upsert(self._connection, list(tables.unresolved.c), rows, key=("identity",))

    def remove_unresolved(self, identities: Collection[int]) -> None:
        """Delete identities from those that wait for a resolution."""
        bulk.remove(self._connection, (tables.unresolved.c.identity,), _singles(identities))

    def applied(self, workspace: int) -> str | None:
        """Return the digest of the settings and the schema that the profiles of the workspace follow; None before the
        end of the first resolution."""
        query = f"SELECT applied FROM resolutions WHERE workspace = {int(workspace)}"
        found = fetch(self._connection, query)
        return found[0][0] if found else None

    def checkpoint(self, workspace: int) -> bytes | None:
        """Return the checkpoint of the resolution of all identities of the workspace; None if none executes."""
        table = tables.resolutions.c
        found: bytes | None = self._connection.scalar(select(table.checkpoint).where(table.workspace == workspace))
        return found

    def set_resolution(self, workspace: int, applied: str | None, checkpoint: bytes | None) -> None:
        """Store the applied digest and the checkpoint of the workspace."""
        columns = list(tables.resolutions.c)
        bulk.upsert(self._connection, columns, [(workspace, applied, checkpoint)], key=("workspace",))

    def add_separation(self, separation: Separation) -> int:
        """Store a separation, and return its id. The given id is ignored."""
        new = insert(tables.separations).returning(tables.separations.c.id)
        id_: int = self._connection.execute(
            new, {"workspace": separation.workspace, "created_at": separation.created_at, "kpid": separation.kpid}
        ).scalar_one()
        rows = [(id_, *_parts(name), side) for side, names in enumerate(separation.sides) for name in names]
        bulk.insert(self._connection, list(tables.separation_members.c), rows)
        return id_

    def remove_separation(self, workspace: int, id_: int) -> Separation | None:
        """Delete a separation, and return it; None if the workspace has no such separation."""
        found = read_separations(self._connection, {id_}, workspace)
        if not found:
            return None
        members = tables.separation_members
        self._connection.execute(delete(members).where(members.c.separation == id_))
        self._connection.execute(delete(tables.separations).where(tables.separations.c.id == id_))
        return found[0]

    def shorten_history(self, before: int) -> int:
        """Delete the oldest changes of profiles if they are from before this time, at most `MAX_REMOVED_CHANGES`.
        Return their number."""
        table = tables.profile_changes.c
        oldest = select(table.id, table.at).where(table.id > 0).order_by(table.id).limit(MAX_REMOVED_CHANGES)
        old = [id_ for id_, at in self._connection.execute(oldest) if at < before]
        return bulk.remove(self._connection, (table.id,), _singles(old))

    def _remove(self, changes: ProfileChanges) -> None:
        connection = self._connection
        if changes.removed_profiles:
            removed_ids = _singles(changes.removed_profiles)
            bulk.remove(connection, (tables.profiles.c.id,), removed_ids)
            bulk.remove(connection, (tables.exports.c.profile,), removed_ids)
        if changes.removed_members:
            bulk.remove(connection, (tables.members.c.identity,), _singles(changes.removed_members))
        if changes.removed_links:
            workspace, links = changes.workspace, tables.links.c
            keys = [(workspace, value.identifier, value.value, identity) for value, identity in changes.removed_links]
            bulk.remove(connection, [links[name] for name in _LINK_KEY], sorted(keys))
        if changes.removed_aliases:
            bulk.remove(connection, (tables.profile_aliases.c.kpid,), _singles(changes.removed_aliases))
        if changes.removed_refused:
            refusals = tables.resolution_refusals.c
            removed = map(_refused_key, changes.removed_refused)
            bulk.remove(connection, [refusals[name] for name in _REFUSED_KEY], removed)

    def _stored(self, changes: ProfileChanges) -> dict[int, ProfileRow]:
        ids = [*(row.id for row in changes.profiles), *changes.removed_profiles]
        return {row.id: row for row in self.profiles(ids)}

    def _change_values(
        self, changes: ProfileChanges, profiles: Mapping[int, ProfileRow]
    ) -> tuple[int, list[values.ValueRow]]:
        """Delete the values that profiles lose. Return by how many the number of profiles changes, and the values that
        differ from those of the stored profiles, sorted."""
        new = {row.id: row.attributes for row in changes.profiles}
        stored = {id_: profiles[id_] for id_ in (*new, *changes.removed_profiles) if id_ in profiles}
        rows: list[tuple[int, int, str]] = []
        removed: list[tuple[int, int]] = []
        counted = len(new.keys() - stored.keys()) - len(stored.keys() - new.keys())
        read_values, workspace = values.read_values, changes.workspace
        for id_, attributes in new.items():
            if id_ not in stored:
                for property, value in read_values(workspace, attributes).items():
                    rows.append((property, id_, value))
        for id_, row in stored.items():
            if row.attributes == new.get(id_):
                continue
            before = values.read_values(row.workspace, row.attributes)
            after = values.read_values(changes.workspace, new.get(id_, "{}"))
            rows += [(property, id_, value) for property, value in after.items() if before.get(property) != value]
            removed += [(property, id_) for property in before.keys() - after.keys()]
        if removed:
            key = (tables.profile_values.c.property, tables.profile_values.c.profile)
            bulk.remove(self._connection, key, sorted(removed))
        rows.sort()
        return counted, rows

    def _count_profiles(self, workspace: int, more: int) -> None:
        """Add to the number of profiles."""
        if more:
            bulk.insert_all(self._connection, [(_COUNTS, [(workspace, more)])])

    def _keys(self, names: Iterable[IdentityName]) -> set[tuple[int, str, bool]]:
        return {_parts(name) for name in names if self._is_sqlite or "\0" not in name.identity_id}


def read_separations(connection: Connection, ids: Collection[int], workspace: int) -> list[Separation]:
    """Return those of the separations that exist in the workspace, the oldest first."""
    table, members = tables.separations.c, tables.separation_members.c
    sides: dict[int, dict[int, list[IdentityName]]] = {}
    for separation, *name, side in bulk.lookup(connection, list(members), (members.separation,), _singles(ids)):
        sides.setdefault(separation, {}).setdefault(side, []).append(_name(name))
    rows = bulk.lookup(connection, list(table), (table.id,), _singles(ids))
    return [
        Separation(id_, workspace, created_at, _sides(sides.get(id_, {})), kpid)
        for id_, found_in, created_at, kpid in sorted(rows)
        if found_in == workspace
    ]


def read_profile(row: Any) -> ProfileRow:
    """Return the profile in a row of `PROFILE_COLUMNS`."""
    id_, workspace, kpid, founder, updated_at, attributes, is_constrained = row
    return ProfileRow(id_, workspace, kpid, founder, updated_at, attributes, bool(is_constrained))


def read_member(row: Any) -> Member:
    """Return the member in a row of its identity, name, evidence and profile."""
    identity, source, identity_id, is_anonymous, evidence, profile = row
    return Member(identity, IdentityName(source, identity_id, bool(is_anonymous)), _decode_evidence(evidence), profile)


def read_refused(row: Any) -> RefusedEvidence:
    """Return the refused evidence in a row of the table."""
    _, workspace, identifier, value, reason, identity, other, at = row
    return RefusedEvidence(workspace, reason, LinkValue(identifier, value), identity, other, at)


def encode_evidence(evidence: Evidence) -> str:
    """Return evidence as it is stored."""
    return _encode(evidence).decode()


def _sides(names: dict[int, list[IdentityName]]) -> tuple[tuple[IdentityName, ...], ...]:
    return tuple(tuple(sorted(names[side], key=_parts)) for side in sorted(names))


def _name(parts: Iterable[Any]) -> IdentityName:
    connection, identity_id, is_anonymous = parts
    return IdentityName(connection, identity_id, bool(is_anonymous))


def _parts(name: IdentityName) -> tuple[int, str, bool]:
    return name.connection, name.identity_id, name.is_anonymous


def _most(limit: int | None) -> int | None:
    return None if limit is None else limit + 1


def _singles(values: Iterable[Any]) -> list[tuple[Any]]:
    """Return the distinct values as keys, in ascending order."""
    return [(value,) for value in sorted(set(values))]


def _refused_key(refused: RefusedEvidence) -> tuple[int, int, str, str, int, int]:
    value = refused.value
    return refused.workspace, value.identifier, value.value, refused.reason, refused.identity, refused.other


_IDENTITY_COLUMNS: Final = [
    identity_table.c[name]
    for name in (
        "id", "workspace", "connection", "identity_id", "is_anonymous", "pipeline", "updated_at", "attributes",
        "anonymous_ids",
    )
]  # fmt: skip
PROFILE_COLUMNS: Final = tuple(column for column in tables.profiles.c if column.name != "version")
_MEMBER_COLUMNS: Final = [column for column in tables.members.c if column.name != "workspace"]
_VALUE_KEY: Final = (tables.links.c.workspace, tables.links.c.identifier, tables.links.c.value)
_LINK_KEY: Final = ("workspace", "identifier", "value", "identity")
_COUNTS: Final = bulk.Insert(tuple(tables.profile_counts.c), ("workspace",), frozenset({"profiles"}))
_VALUES: Final = bulk.Insert(tuple(tables.profile_values.c), ("property", "profile"))
_PROFILES: Final = bulk.Insert((*PROFILE_COLUMNS, tables.profiles.c.version), ("id",))
_MEMBERS: Final = bulk.Insert(tuple(tables.members.c), ("identity",))
_LINKS: Final = bulk.Insert(tuple(tables.links.c), _LINK_KEY)
_ALIASES: Final = bulk.Insert(tuple(tables.profile_aliases.c), ("kpid",))
_HISTORY: Final = bulk.Insert(tuple(column for column in tables.profile_changes.c if column.name != "id"))
_REFUSED_KEY: Final = ("workspace", "identifier", "value", "reason", "identity", "other")
_REFUSALS: Final = bulk.Insert(
    tuple(tables.resolution_refusals.c[name] for name in (*_REFUSED_KEY, "at")), _REFUSED_KEY, keeping=frozenset({"at"})
)
