"""Reads everything near changed identities with one statement of PostgreSQL, where a change consists of round trips.

The profiles of most identities have a few members. So the holders of their values, the identities of their names, the
members of the profiles of all these, and the rows of these members and profiles are few too. If they are not, the
reader reads them as it does without this module.
"""

from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Column, String

from headwater.state import bulk
from headwater.state.profiles import tables
from headwater.state.profiles.model import IdentityName, IdentityRow, LinkValue, Member, ProfileRow
from headwater.state.profiles.rows import ProfileRows, read_member, read_profile
from headwater.state.tables import identities as identity_table
from headwater.storage.statements import fetch

MAX_HOLDERS: Final = 20
MAX_PROFILES: Final = 20
MAX_MEMBERS: Final = 50
"""Maximum number of holders of a value, of profiles, and of their members that are read together."""

Holders = dict[LinkValue, list[tuple[int, int]]]


class NeighbourRows(ProfileRows):
    """The rows of profiles for one resolution, some of which have been read. Do not use it after a write."""

    def __init__(
        self,
        base: ProfileRows,
        workspace: int,
        identities: Collection[int],
        values: Collection[LinkValue],
        names: Collection[IdentityName],
    ) -> None:
        super().__init__(base._connection)
        self._counters = base._counters
        found = _read(self, workspace, identities, values, names)
        self._holders: Holders = {value: [] for value in values}
        for identifier, value, identity, mask in found["held"]:
            self._holders[LinkValue(identifier, value)].append((identity, mask))
        self._named: dict[IdentityName, list[int]] = {name: [] for name in names}
        for id_, *parts in found["named"]:
            self._named[IdentityName(*parts)].append(id_)
        self._near = {profile: list[Member]() for (profile,) in found["near"]}
        self._members: dict[int, Member] = {}
        for row in found["mates"]:
            member = read_member(row)
            self._near[member.profile].append(member)
            self._members[member.identity] = member
        self._profiles: dict[int, ProfileRow] = {}
        for id_, owner, kpid, *rest in found["profiles"]:
            self._profiles[id_] = read_profile((id_, owner, bytes.fromhex(kpid), *rest))
        self._identities: dict[int, IdentityRow] = {}
        for id_, owner, source, identity_id, is_anonymous, *rest in found["rows"]:
            self._identities[id_] = IdentityRow(id_, owner, IdentityName(source, identity_id, is_anonymous), *rest)
        near = {*identities, *(id_ for ids in self._named.values() for id_ in ids)}
        near.update(identity for holders in self._holders.values() for identity, _ in holders)
        is_complete = len(self._near) <= MAX_PROFILES and len(self._members) <= MAX_MEMBERS
        self._asked = near if is_complete else set[int]()
        """The identities whose members have been read, if they have one."""
        self._read_ids = set(self._members) if is_complete else set[int]()
        """The members whose identities have been read, if they exist."""

    def identities(self, ids: Collection[int]) -> list[IdentityRow]:
        if not self._read_ids.issuperset(ids):
            return super().identities(ids)
        return [self._identities[id_] for id_ in sorted(set(ids)) if id_ in self._identities]

    def identities_named(self, names: Collection[IdentityName]) -> dict[IdentityName, list[int]]:
        if not self._named.keys() >= set(names):
            return super().identities_named(names)
        return {name: sorted(self._named[name]) for name in names if self._named[name]}

    def members(self, identities: Collection[int]) -> list[Member]:
        if not self._asked.issuperset(identities):
            return super().members(identities)
        return [self._members[id_] for id_ in sorted(set(identities)) if id_ in self._members]

    def find_members(self, profiles: Collection[int], limit: int | None = None) -> list[Member]:
        if not self._asked or not self._near.keys() >= set(profiles):
            return super().find_members(profiles, limit)
        most = None if limit is None else limit + 1
        found = (sorted(self._near[profile], key=_age) for profile in sorted(set(profiles)))
        return [member for members in found for member in members[:most]]

    def holders(self, workspace: int, values: Collection[LinkValue], limit: int | None = None) -> Holders:
        known = self._holders
        if any(len(known.get(value, ())) > MAX_HOLDERS or value not in known for value in values):
            return super().holders(workspace, values, limit)
        most = None if limit is None else limit + 1
        return {value: known[value][:most] for value in values if known[value]}

    def profiles(self, ids: Collection[int]) -> list[ProfileRow]:
        if not self._asked or not self._near.keys() >= set(ids):
            return super().profiles(ids)
        return [self._profiles[id_] for id_ in sorted(set(ids)) if id_ in self._profiles]


def _age(member: Member) -> int:
    return member.identity


def _read(
    rows: ProfileRows,
    workspace: int,
    identities: Collection[int],
    values: Collection[LinkValue],
    names: Collection[IdentityName],
) -> dict[str, list[Any]]:
    """Return the rows of each part of the statement."""
    parameters = (
        *_parameters(_VALUE_KEY, ((workspace, value.identifier, value.value) for value in values)),
        *_parameters(_NAME_KEY, rows._keys(names)),
        *_parameters(_ID_KEY, ((identity,) for identity in identities)),
    )
    found: dict[str, list[Any]] = {part: [] for part in _PARTS}
    for part, row in fetch(rows._connection, build_statement(), parameters):
        found[part].append(_decode(row))
    return found


def _parameters(key: tuple[Column[Any], ...], keys: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    if everything := list(keys):
        return bulk.postgresql_values(key, everything)
    return tuple("[]" if isinstance(column.type, String) else "{}" for column in key)


@cache
def build_statement() -> str:
    """Return the statement, whose rows each have the name of their part and a JSON array.

    Each lookup is one search of an index, as in `bulk.lookup`, with and without statistics.
    """
    parts = " UNION ALL ".join(
        f"SELECT '{part}', json_build_array({columns})::text FROM {source}"
        for part, (columns, source) in _PARTS.items()
    )
    return (
        f"WITH held AS (SELECT t.* FROM unnest({bulk.postgresql_arrays(_VALUE_KEY)}) AS w(c1, c2, c3) "
        "CROSS JOIN LATERAL (SELECT t.identifier, t.value, t.identity, t.mask FROM links t WHERE t.workspace = w.c1 "
        f"AND t.identifier = w.c2 AND t.value = w.c3 ORDER BY t.identity LIMIT {MAX_HOLDERS + 1}) t), "
        f"named AS (SELECT t.* FROM unnest({bulk.postgresql_arrays(_NAME_KEY, 4)}) AS w(c1, c2, c3) "
        "CROSS JOIN LATERAL (SELECT t.id, t.connection, t.identity_id, t.is_anonymous FROM identities t "
        "WHERE t.connection = w.c1 AND t.identity_id = w.c2 AND t.is_anonymous = w.c3 OFFSET 0) t), "
        "near AS (SELECT DISTINCT t.profile FROM (SELECT identity FROM held UNION SELECT id FROM named UNION "
        f"SELECT * FROM unnest({bulk.postgresql_arrays(_ID_KEY, 7)})) AS w(identity) CROSS JOIN LATERAL "
        f"(SELECT t.profile FROM members t WHERE t.identity = w.identity OFFSET 0) t LIMIT {MAX_PROFILES + 1}), "
        "mates AS (SELECT t.* FROM near w CROSS JOIN LATERAL (SELECT t.identity, t.connection, t.identity_id, "
        f"t.is_anonymous, t.evidence, t.profile FROM members t WHERE t.profile = w.profile OFFSET 0) t "
        f"LIMIT {MAX_MEMBERS + 1}) {parts}"
    )


_decode: Final = msgspec.json.Decoder(list[Any]).decode
_VALUE_KEY: Final = (tables.links.c.workspace, tables.links.c.identifier, tables.links.c.value)
_NAME_KEY: Final = tuple(identity_table.c[name] for name in ("connection", "identity_id", "is_anonymous"))
_ID_KEY: Final = (tables.members.c.identity,)
_PARTS: Final = {
    "held": ("identifier, value, identity, mask", "held"),
    "named": ("id, connection, identity_id, is_anonymous", "named"),
    "near": ("profile", "near"),
    "mates": ("identity, connection, identity_id, is_anonymous, evidence, profile", "mates"),
    "profiles": (
        "t.id, t.workspace, encode(t.kpid, 'hex'), t.founder, t.updated_at, t.attributes, t.is_constrained",
        "near w CROSS JOIN LATERAL (SELECT * FROM profiles t WHERE t.id = w.profile OFFSET 0) t",
    ),
    "rows": (
        "t.id, t.workspace, t.connection, t.identity_id, t.is_anonymous, t.pipeline, t.updated_at, t.attributes, "
        "t.anonymous_ids",
        "mates w CROSS JOIN LATERAL (SELECT * FROM identities t WHERE t.id = w.identity OFFSET 0) t",
    ),
}
"""The columns and the source of each part of the result."""
