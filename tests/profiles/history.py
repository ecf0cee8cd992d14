"""A history of one workspace, with checks of every state against the definition."""

from itertools import count
from typing import Final

import msgspec
from msgspec.structs import replace

from headwater.catalog.profiles import ProfileSchema, ResolutionSettings
from headwater.profiles.evidence import compute_masks
from headwater.profiles.explaining import shortest_chain, spanning_tree
from headwater.profiles.incremental import resolve_again, resolve_changes
from headwater.profiles.settings import ResolutionContext
from headwater.schemas import ArrayType, Property, Schema, StringType
from headwater.state.profiles.model import (
    Alias,
    ChangedIdentity,
    IdentityName,
    IdentityRow,
    LinkValue,
    ProfileRow,
    Separation,
)
from tests.profiles.definition import Defined, define, merged, read_evidence
from tests.profiles.full import resolve_all
from tests.profiles.memory import MemoryRows

SCHEMA: Final = ProfileSchema(
    schema=Schema(
        (
            *(Property(name, StringType(), read_optional=True) for name in ("email", "phone", "ref", "name", "plan")),
            Property("tags", ArrayType(StringType()), read_optional=True),
        )
    ),
    primary_sources={"plan": 1},
)


Operation = tuple[str, IdentityName, int, str, int]
"""The kind (put, touch, delete, or claim by the user with the next name), the name, the pipeline, the attributes and
the time."""


class History:
    def __init__(self, settings: ResolutionSettings, rows: MemoryRows | None = None) -> None:
        self.rows = MemoryRows() if rows is None else rows
        self.kpids = count(1)
        self.now = 0
        self.successors: dict[int, int] = {}
        """The successors of the identities that the last step deleted."""
        self.before = self.rows.copy()
        self.settings = settings
        self.context = ResolutionContext.compile(1, settings, SCHEMA)

    def new_kpid(self) -> bytes:
        return next(self.kpids).to_bytes(16)

    def start_step(self) -> None:
        self.before = self.rows.copy()
        self.successors = {}
        self.now += 1

    def batch(self, operations: list[Operation], limit: int | None) -> None:
        self.start_step()
        changed: list[ChangedIdentity] = []
        for kind, name, pipeline, attributes, time in operations:
            row = self.rows.find(name, pipeline)
            if kind == "put":
                changed.append(self.rows.put(name, pipeline, attributes, time))
            elif row is not None and kind == "touch":
                changed.append(self.rows.put(name, pipeline, row.attributes, time))
            elif row is not None and kind == "claim":
                changed += self.claim(row, attributes, time)
            elif row is not None:
                changed.append(self.rows.delete(row.id))
        postponed = resolve_changes(self.rows, self.context, changed, self.now, limit=limit, new_kpid=self.new_kpid)
        assert (limit != 10_000 and limit is not None) or not postponed
        if postponed:
            check_ids(self.before, self.rows, self.partition(), self.successors)
            self.before = self.rows.copy()
            later = [self.unresolved(id) for id in postponed]
            resolve_changes(self.rows, self.context, later, self.now, limit=None, new_kpid=self.new_kpid)

    def claim(self, row: IdentityRow, attributes: str, time: int) -> list[ChangedIdentity]:
        """Let the user with the next name take the place of an identity."""
        name = IdentityName(row.name.connection, "abcd"[("abcd".index(row.name.identity_id) + 1) % 4], False)
        user = self.rows.find(name, row.pipeline)
        changed: list[ChangedIdentity] = []
        if user is None or time % 2:  # an identity that does not change is not written
            changed.append(self.rows.put(name, row.pipeline, attributes if user is None else user.attributes, time))
        user = self.rows.find(name, row.pipeline)
        assert user is not None
        self.successors[row.id] = user.id
        return [replace(self.rows.delete(row.id), successor=user.id), *changed]

    def unresolved(self, id: int) -> ChangedIdentity:
        """Return the change of an identity of which only the id and the name is known."""
        row, member = self.rows.identity_rows.get(id), self.rows.member_rows.get(id)
        if row is None:
            name = IdentityName(1, "", False) if member is None else member.name
            return ChangedIdentity(id, 1, name, 0, None, 0, False, True, last_successor(id, self.successors))
        return ChangedIdentity(id, 1, row.name, row.pipeline, row.attributes, row.updated_at, False, True)

    def split(self, profile: int, leaving: list[IdentityName]) -> None:
        """Separate the leaving names of a profile from its others."""
        self.start_step()
        named = self.names_by_profile()[profile]
        staying = [name for name in named if name not in leaving]
        self.rows.add_separation(Separation(0, 1, self.now, (tuple(leaving), tuple(staying))))
        self.resolve_named(named)
        by_name = {member.name: member.profile for member in self.rows.member_rows.values()}
        assert not {by_name[name] for name in leaving} & {by_name[name] for name in staying}

    def undo(self, separation: int) -> None:
        self.start_step()
        sides = self.rows.remove_separation(separation).sides
        self.resolve_named([name for side in sides for name in side])

    def resolve_named(self, named: list[IdentityName]) -> None:
        ids = [row.id for row in self.rows.identity_rows.values() if row.name in named]
        resolve_again(self.rows, self.context, ids, self.now, new_kpid=self.new_kpid)

    def change_settings(self, settings: ResolutionSettings) -> None:
        self.start_step()
        self.settings = settings
        self.context = ResolutionContext.compile(1, settings, SCHEMA)
        resolve_all(self.rows, self.context, self.now, self.new_kpid)
        self.rows.replaced()

    def names_by_profile(self) -> dict[int, list[IdentityName]]:
        found: dict[int, list[IdentityName]] = {}
        for member in self.rows.member_rows.values():
            if member.name not in found.setdefault(member.profile, []):
                found[member.profile].append(member.name)
        return found

    def defined(self) -> Defined:
        rows = self.rows.identity_rows
        return define(
            {id: row.name for id, row in rows.items()},
            {id: read_evidence(row.attributes, self.settings) for id, row in rows.items()},
            self.settings,
            list(self.rows.separation_rows.values()),
        )

    def partition(self) -> dict[int, frozenset[int]]:
        found: dict[int, set[int]] = {}
        for member in self.rows.member_rows.values():
            found.setdefault(member.profile, set()).add(member.identity)
        return {profile: frozenset(members) for profile, members in found.items()}

    def check(self) -> None:
        """Check everything that a state and the last step must fulfil."""
        self.profiles_are_those_of_the_definition()
        self.members_and_links_are_those_of_the_identities()
        self.attributes_are_merged()
        self.blocked_values_are_listed()
        check_ids(self.before, self.rows, self.partition(), self.successors)
        self.resolving_everything_again_changes_nothing()
        self.explanations_are_links()

    def profiles_are_those_of_the_definition(self) -> None:
        defined, partition = self.defined(), self.partition()
        assert set(partition.values()) == defined.profiles
        assert partition.keys() == self.rows.profile_rows.keys()
        refused = {one for one in self.rows.refused_rows if one.reason != "BlockedValue"}
        assert refused == defined.refused
        constrained = {partition[id] for id, profile in self.rows.profile_rows.items() if profile.is_constrained}
        assert constrained == defined.constrained

    def members_and_links_are_those_of_the_identities(self) -> None:
        links: dict[LinkValue, dict[int, int]] = {}
        for id, row in self.rows.identity_rows.items():
            member = self.rows.member_rows[id]
            assert member.evidence == read_evidence(row.attributes, self.settings)
            assert member.name == row.name
            for value, mask in compute_masks(member.evidence):
                links.setdefault(value, {})[id] = mask
        assert self.rows.links == links

    def attributes_are_merged(self) -> None:
        for id, members in self.partition().items():
            rows = [self.rows.identity_rows[identity] for identity in members]
            profile = self.rows.profile_rows[id]
            assert msgspec.json.decode(profile.attributes) == merged(rows, SCHEMA)
            assert profile.updated_at == max(row.updated_at for row in rows)

    def blocked_values_are_listed(self) -> None:
        listed = {one.value for one in self.rows.refused_rows if one.reason == "BlockedValue"}
        for row in self.rows.identity_rows.values():
            for index, identifier in enumerate(self.settings.identifiers):
                value = msgspec.json.decode(row.attributes).get(identifier.path)
                if value is not None and value.strip() and value in identifier.blocked_values:
                    assert LinkValue(index, value) in listed

    def resolving_everything_again_changes_nothing(self) -> None:
        again = self.rows.copy()
        for one in [one for one in again.refused_rows if one.reason == "BlockedValue"]:
            del again.refused_rows[one]
        refused = dict(again.refused_rows)
        resolve_all(again, self.context, self.now + 1, self.new_kpid)
        assert again.member_rows == self.rows.member_rows
        assert again.profile_rows == self.rows.profile_rows
        assert again.alias_rows == self.rows.alias_rows
        assert again.links == self.rows.links
        assert again.history == self.rows.history
        assert {one: at for one, at in again.refused_rows.items() if one.reason != "BlockedValue"} == refused

    def explanations_are_links(self) -> None:
        over = {one.value for one in self.rows.refused_rows if one.reason == "TooManyIdentities"}
        for members in self.partition().values():
            rows = [self.rows.member_rows[id] for id in members]
            steps = spanning_tree(rows, over)
            assert len(steps) == len(rows) - 1
            reached = {min(members)}
            for _ in steps:
                for step in steps:
                    self.check_link(step.identity, step.other, step.value, over)
                    if {step.identity, step.other} & reached:
                        reached |= {step.identity, step.other}
            assert reached == members
            first, last = min(members), max(members)
            chain = shortest_chain(rows, over, first, last)
            assert chain is not None
            assert [first, *(step.other for step in chain)] == [*(step.identity for step in chain), last]
            for step in chain:
                self.check_link(step.identity, step.other, step.value, over)

    def check_link(self, first: int, second: int, value: LinkValue, over: set[LinkValue]) -> None:
        one, other = self.rows.member_rows[first], self.rows.member_rows[second]
        if one.name == other.name:
            assert value == LinkValue(-1, one.name.identity_id)
            return
        deciding = [
            (index, pair[0], pair[1])
            for index, pair in enumerate(zip(one.evidence, other.evidence, strict=True))
            if None not in pair
        ]
        assert deciding[0] == (value.identifier, value.value, value.value)
        assert value not in over


def last_successor(identity: int, successors: dict[int, int]) -> int:
    """Return the end of a chain of successors; 0 for an identity that has none."""
    last = successors.get(identity, 0)
    while last in successors:
        last = successors[last]
    return last


def check_ids(
    before: MemoryRows, rows: MemoryRows, partition: dict[int, frozenset[int]], successors: dict[int, int]
) -> None:
    """Check that the profiles that were before continue by the rule, and that no others are named after them."""
    profile_of = {identity: id for id, members in partition.items() for identity in members}

    def find_founder(old: ProfileRow | Alias) -> int:
        successor = last_successor(old.founder, successors)
        return successor if old.founder not in profile_of and successor in profile_of else old.founder

    by_kpid = {profile.kpid: profile for profile in rows.profile_rows.values()}
    assert len(by_kpid) == len(rows.profile_rows)
    assert not by_kpid.keys() & rows.alias_rows.keys()
    continued: dict[int, list[ProfileRow]] = {}
    for old in sorted(before.profile_rows.values(), key=lambda profile: profile.id):
        remaining = [id for id, member in before.member_rows.items() if member.profile == old.id and id in profile_of]
        if find_founder(old) in profile_of:
            part = profile_of[find_founder(old)]
        elif remaining:
            part = best_part(remaining, profile_of)
        else:
            assert old.kpid not in by_kpid and old.kpid not in rows.alias_rows
            continue
        continued.setdefault(part, []).append(old)
    merges: set[tuple[int, bytes]] = set()
    for part, claims in continued.items():
        assert part == claims[0].id
        assert find_founder(claims[0]) not in profile_of or rows.profile_rows[part].founder == find_founder(claims[0])
        assert rows.profile_rows[part].kpid == claims[0].kpid, "the oldest survives"
        for merged_ in claims[1:]:
            assert rows.alias_rows[merged_.kpid].profile == part
            merges.add((part, merged_.kpid))
    expected_splits: set[tuple[int, bytes]] = set()
    for id, profile in rows.profile_rows.items():
        assert profile_of[profile.founder] == id
        if id in continued:
            continue
        assert id not in before.profile_rows
        candidates = sorted(
            (find_founder(alias), alias.since, kpid)
            for kpid, alias in before.alias_rows.items()
            if profile_of.get(find_founder(alias)) == id
        )
        if candidates:
            assert (profile.founder, profile.kpid) == (candidates[0][0], candidates[0][2])
        else:
            assert profile.founder == min(partition[id])
            assert profile.kpid not in before.alias_rows
            assert all(profile.kpid != old.kpid for old in before.profile_rows.values())
        for identity in partition[id]:
            if identity in before.member_rows:
                left = before.profile_rows[before.member_rows[identity].profile]
                survivor = next(part for part, claims in continued.items() if left in claims)
                expected_splits.add((survivor, profile.kpid))
    for alias in rows.alias_rows.values():
        assert alias.profile in rows.profile_rows
        if alias.founder in profile_of:
            assert alias.profile == profile_of[alias.founder]
    for kpid, alias in before.alias_rows.items():
        assert (
            kpid in by_kpid
            or kpid in rows.alias_rows
            or (
                find_founder(alias) not in profile_of
                and alias.profile not in [p.id for c in continued.values() for p in c]
            )
        )
        if kpid in rows.alias_rows:
            assert rows.alias_rows[kpid].founder == find_founder(alias)
    history = rows.history[len(before.history) :]
    assert {(one.profile, one.other) for one in history if one.kind == "Merge"} == merges
    assert {(one.profile, one.other) for one in history if one.kind == "Split"} == expected_splits


def best_part(remaining: list[int], profile_of: dict[int, int]) -> int:
    """Return the profile that has most of the identities; of several the one with the oldest."""
    by_part: dict[int, list[int]] = {}
    for identity in remaining:
        by_part.setdefault(profile_of[identity], []).append(identity)
    return min(by_part, key=lambda part: (-len(by_part[part]), min(by_part[part])))
