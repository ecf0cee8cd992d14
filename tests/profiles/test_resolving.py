"""One region: against the definition, in any order, with explanations."""

from collections import Counter
from random import Random
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from headwater.catalog.profiles import Identifier, ResolutionSettings
from headwater.profiles.components import Sets, unite_holders
from headwater.profiles.evidence import SAME_NAME, compute_masks
from headwater.profiles.explaining import Step, concerning, shortest_chain, spanning_tree
from headwater.profiles.incremental import resolve_changes
from headwater.profiles.resolving import Region, Resolution, resolve
from headwater.profiles.settings import ResolutionContext
from headwater.state.profiles.model import IdentityName, LinkValue, Member, RefusedEvidence, Separation
from tests.examples import examples
from tests.profiles.definition import define
from tests.profiles.history import SCHEMA, History, Operation
from tests.profiles.memory import MemoryRows
from tests.profiles.test_histories import operations, settings

EMAIL, PHONE, REF = range(3)

evidence = st.tuples(*[st.none() | st.sampled_from("xyzw")] * 3)
names = st.builds(IdentityName, st.just(1), st.sampled_from("abcdefghijklmno"), st.booleans())
guards = st.tuples(*[st.tuples(st.sampled_from([3, 5, 1_000]), st.sampled_from([None, None, 1, 2, 3]))] * 3)


@given(
    st.lists(st.tuples(names, evidence), min_size=1, max_size=30),
    guards,
    st.lists(st.lists(names, min_size=2, unique=True), max_size=3),
)
@hypothesis_settings(max_examples=examples(100))
def test_a_region_is_resolved_as_defined(
    identities: list[tuple[IdentityName, tuple[str | None, ...]]],
    guards: tuple[tuple[int, int | None], ...],
    separated: list[list[IdentityName]],
) -> None:
    settings = ResolutionSettings(
        identifiers=tuple(
            Identifier(path=path, max_identities=identities, max_values=values)
            for path, (identities, values) in zip("epr", guards, strict=True)
        )
    )
    members = [Member(id, name, row, 0) for id, (name, row) in enumerate(identities, start=1)]
    separations = [Separation(id, 1, 0, ((first,), tuple(others))) for id, (first, *others) in enumerate(separated)]
    counts = Counter(value for member in members for value, _ in compute_masks(member.evidence))
    over = {value for value, count in counts.items() if count > settings.identifiers[value.identifier].max_identities}
    resolution = resolve(
        Region(workspace=1, settings=settings, members=members[::-1], over_limit=over, separations=separations)
    )
    defined = define(
        {member.identity: member.name for member in members},
        {member.identity: member.evidence for member in members},
        settings,
        separations,
    )
    parts = {frozenset(member.identity for member in part.members): part for part in resolution.parts}
    assert parts.keys() == defined.profiles
    assert {ids for ids, part in parts.items() if part.is_constrained} == defined.constrained
    refused = {one for one in defined.refused if one.reason != "TooManyIdentities"}
    assert set(resolution.refused) == refused and len(resolution.refused) == len(refused)
    for part in resolution.parts:
        assert part.members == sorted(part.members, key=lambda member: member.identity)
        assert len(spanning_tree(part.members, over)) == len(part.members) - 1


@given(st.lists(st.integers(0, 7), max_size=12))
def test_holders_are_united_as_their_pairs_are(masks: list[int]) -> None:
    by_pairs, by_masks = Sets(len(masks)), Sets(len(masks))
    for first, mask in enumerate(masks):
        for second, other in enumerate(masks[:first]):
            if mask & other == 0:
                by_pairs.unite(first, second)
    unite_holders(list(enumerate(masks)), by_masks.unite)
    assert [by_masks.find(number) for number in range(len(masks))] == [
        by_pairs.find(number) for number in range(len(masks))
    ]


@given(settings, st.lists(operations, max_size=6), st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=examples(40))
def test_the_order_of_arrival_changes_no_profile(
    settings: ResolutionSettings,
    batches: list[list[Operation]],
    random: Random,
) -> None:
    history = History(settings)
    for batch in batches:
        history.batch(batch, None)
    others = MemoryRows()
    identities = list(history.rows.identity_rows.values())
    context = ResolutionContext.compile(1, settings, SCHEMA)
    random.shuffle(identities)
    while identities:
        size = random.randint(1, 3)
        changed = [
            others.put(row.name, row.pipeline, row.attributes, row.updated_at, row.id) for row in identities[:size]
        ]
        resolve_changes(others, context, changed, 1)
        del identities[:size]
    assert partition(others) == partition(history.rows)
    assert {one for one in others.refused_rows if one.reason != "BlockedValue"} == {
        one for one in history.rows.refused_rows if one.reason != "BlockedValue"
    }


def partition(rows: MemoryRows) -> set[tuple[frozenset[int], str, int, bool]]:
    """Return the profiles without their ids."""
    found: dict[int, set[int]] = {}
    for member in rows.member_rows.values():
        found.setdefault(member.profile, set()).add(member.identity)
    return {
        (frozenset(members), row.attributes, row.updated_at, row.is_constrained)
        for id, members in found.items()
        for row in [rows.profile_rows[id]]
    }


# --- Explanations -------------------------------------------------------------------------------------------------


def member(identity: int, *values: str | None, name: str | None = None) -> Member:
    return Member(identity, IdentityName(1, name or str(identity), False), values, 1)


CHAIN: Final = [
    member(1, "a", None, "r"),
    member(2, "a", "5", None),
    member(3, None, "5", None, name="u"),
    member(4, None, None, "s", name="u"),
    member(5, None, None, "s"),
]


def test_a_spanning_tree_has_the_first_links() -> None:
    assert spanning_tree(CHAIN, set()) == [
        Step(4, 3, LinkValue(SAME_NAME, "u")),
        Step(2, 1, LinkValue(EMAIL, "a")),
        Step(3, 2, LinkValue(PHONE, "5")),
        Step(5, 4, LinkValue(REF, "s")),
    ]


@pytest.mark.parametrize(
    ("first", "last", "chain"),
    [
        (2, 2, []),
        (1, 2, [(1, 2, EMAIL, "a")]),
        (1, 5, [(1, 2, EMAIL, "a"), (2, 3, PHONE, "5"), (3, 4, SAME_NAME, "u"), (4, 5, REF, "s")]),
        (5, 3, [(5, 4, REF, "s"), (4, 3, SAME_NAME, "u")]),
        (1, 9, None),
    ],
)
def test_a_chain_is_the_shortest(first: int, last: int, chain: list[tuple[int, int, int, str]] | None) -> None:
    steps = shortest_chain(CHAIN, set(), first, last)
    assert steps == (
        None if chain is None else [Step(one, other, LinkValue(index, value)) for one, other, index, value in chain]
    )


def test_a_value_over_its_limit_explains_nothing() -> None:
    assert shortest_chain(CHAIN, {LinkValue(PHONE, "5")}, 1, 5) is None
    assert len(spanning_tree(CHAIN, {LinkValue(PHONE, "5")})) == 3


def test_a_shorter_chain_of_weak_links_is_preferred_and_then_the_stronger() -> None:
    members = [member(1, "a", None, "s"), member(2, "a", "5", None), member(3, None, "5", "s")]
    assert shortest_chain(members, set(), 1, 3) == [Step(1, 3, LinkValue(REF, "s"))]
    square = [
        member(1, "a", None, "s"),
        member(2, "a", "5", None),
        member(3, None, None, "s"),
        member(4, None, "5", "s"),
    ]
    assert shortest_chain(square[:2] + square[3:], set(), 2, 1) == [Step(2, 1, LinkValue(EMAIL, "a"))]
    assert shortest_chain(square, set(), 2, 3) == [Step(2, 1, LinkValue(EMAIL, "a")), Step(1, 3, LinkValue(REF, "s"))]


@given(st.lists(evidence, min_size=2, max_size=8), st.data())
def test_no_chain_is_shorter(rows: list[tuple[str | None, ...]], data: st.DataObject) -> None:
    members = [member(id, *row) for id, row in enumerate(rows)]
    first, last = data.draw(st.tuples(*[st.integers(0, len(rows) - 1)] * 2))
    distances = {first: 0}
    level = [first]
    while level:
        reached = [
            other
            for here in level
            for other, row in enumerate(rows)
            if other not in distances and are_linked(rows[here], row)
        ]
        distances.update(dict.fromkeys(reached, distances[level[0]] + 1))
        level = list(dict.fromkeys(reached))
    chain = shortest_chain(members, set(), first, last)
    assert (None if chain is None else len(chain)) == distances.get(last)


def are_linked(first: tuple[str | None, ...], second: tuple[str | None, ...]) -> bool:
    return next((one == other for one, other in zip(first, second, strict=True) if None not in (one, other)), False)


def test_refused_evidence_concerns_the_members_that_have_it() -> None:
    shared = RefusedEvidence(1, "TooManyIdentities", LinkValue(PHONE, "5"), 0)
    elsewhere = RefusedEvidence(1, "TooManyIdentities", LinkValue(PHONE, "6"), 0)
    refused = RefusedEvidence(1, "TooManyValues", LinkValue(EMAIL, "a"), 9, 1)
    separated = RefusedEvidence(1, "Separated", LinkValue(EMAIL, "a"), 2, 8)
    other = RefusedEvidence(1, "Separated", LinkValue(EMAIL, "a"), 9, 8)
    assert concerning(CHAIN, [refused, other, shared, elsewhere, separated]) == [separated, shared, refused]


def test_of_two_refused_profiles_the_oldest_member_decides() -> None:
    settings = ResolutionSettings(identifiers=(Identifier(path="email"), Identifier(path="phone")))
    members = [member(1, "a", "5"), member(2, None, "5"), member(3, "b", "5"), member(4, None, "5")]
    named = [each.name for each in members]
    separations = [
        Separation(1, 1, 0, ((named[0],), (named[1], named[3]))),
        Separation(2, 1, 0, ((named[1],), (named[2],))),
    ]
    resolution = resolve(
        Region(workspace=1, settings=settings, members=members, over_limit=set(), separations=separations)
    )
    assert [[each.identity for each in part.members] for part in resolution.parts] == [[1], [2, 4], [3]]
    phone = LinkValue(PHONE, "5")
    assert set(resolution.refused) == {
        RefusedEvidence(1, "Separated", phone, 2, 1),
        RefusedEvidence(1, "Separated", phone, 3, 2),
    }


def test_a_refused_name_is_listed_as_such() -> None:
    settings = ResolutionSettings(identifiers=(Identifier(path="email", max_values=1),))
    members = [member(1, "a", name="u"), member(2, "b", name="u")]
    resolution = resolve(Region(workspace=7, settings=settings, members=members, over_limit=set(), separations=()))
    assert resolution == Resolution(
        resolution.parts, [RefusedEvidence(7, "TooManyValues", LinkValue(SAME_NAME, "u"), 2, 1)]
    )
    assert [part.is_constrained for part in resolution.parts] == [True, True]
