"""Identities from events: the rules, and their equality with a model that looks at one event at a time."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from headwater.state import IdentityObservation, StateStore
from headwater.state.identities import (
    MAX_ANONYMOUS_IDS,
    MAX_ATTRIBUTES_BYTES,
    Identities,
    IdentityKey,
    IdentityState,
    affected_ids,
    affected_keys,
    attributes_fit,
    merge,
)
from headwater.state.identityrows import write_changes
from headwater.state.profiles.model import ChangedIdentity

P1, P2 = 11, 12
REACHES = {1: (P1, P2, 13), 2: (21, 22, 23)}
"""The pipelines of each connection."""


def seen(
    user: str | None, anonymous: str | None, at: int = 0, *, connection: int = 1, pipelines: tuple[int, ...] = (P1, P2)
) -> IdentityObservation:
    return IdentityObservation(7, connection, pipelines, user, anonymous, at)


def alias(
    previous: str, user: str, at: int = 0, *, pipelines: tuple[int, ...] = (P1,), once: bool = False
) -> IdentityObservation:
    return IdentityObservation(7, 1, () if once else pipelines, user, None, at, (), previous, once)


def known(user: str, *anonymous_ids: str, at: int = 0, pipeline: int = P1) -> tuple[IdentityKey, IdentityState]:
    return IdentityKey(1, user, False, pipeline), IdentityState(7, list(anonymous_ids), at)


def anonymous(id_: str, at: int = 0, pipeline: int = P1) -> tuple[IdentityKey, IdentityState]:
    return IdentityKey(1, id_, True, pipeline), IdentityState(7, [id_], at)


def reaching_all(observation: IdentityObservation) -> IdentityObservation:
    """The sighting, with effect in every pipeline of its connection."""
    return structs.replace(observation, reaches=REACHES[observation.connection])


def merged(observations: list[IdentityObservation], before: Identities | None = None) -> Identities:
    """All identities after the sightings, as the warehouse does it: claimed rows are deleted, the others written."""
    everything: Identities = dict(before or {})
    observations = [reaching_all(each) for each in observations]
    some: Identities = {key: everything.get(key) for key in affected_keys(observations)}
    ids = affected_ids(observations)
    some |= {key: state for key, state in everything.items() if (key.connection, key.identity_id) in ids}
    removed = merge(observations, some)
    for key in removed:
        everything.pop(key, None)
    everything.update(some)
    return {key: state for key, state in everything.items() if state is not None}


# --- The example of the reference: one connection, two pipelines --------------------------------------------------

STEPS = [
    (seen(None, "X", 1), [anonymous("X", 1)]),
    (seen(None, "Y", 2), [anonymous("X", 1), anonymous("Y", 2)]),
    (seen("42", "X", 3), [anonymous("Y", 2), known("42", "X", at=3)]),
    (seen("42", "Y", 4), [known("42", "X", "Y", at=4)]),
]


@pytest.mark.parametrize("batches", [[1, 1, 1, 1], [4], [2, 2], [1, 3], [3, 1]], ids=str)
def test_the_documented_example_however_the_log_is_cut(batches: list[int]) -> None:
    now: Identities = {}
    done = 0
    for size in batches:
        now = merged([observation for observation, _ in STEPS[done : done + size]], now)
        done += size
        after = STEPS[done - 1][1]
        expected = dict(after) | {IdentityKey(1, key.identity_id, key.is_anonymous, P2): state for key, state in after}
        assert now == expected


# --- Rule by rule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "after"),
    [
        ([seen("u", None, 5)], [known("u", at=5)]),
        ([seen("u", "a", 5)], [known("u", "a", at=5)]),
        ([seen(None, "a", 5)], [anonymous("a", 5)]),
        ([seen("u", "a", 5), seen("u", "a", 6)], [known("u", "a", at=6)]),
        ([seen("u", "b"), seen("u", "a"), seen("u", "b")], [known("u", "b", "a")]),
        ([seen("u", None, 9), seen("u", None, 3)], [known("u", at=9)]),
        ([seen(None, "a", 9), seen(None, "a", 3)], [anonymous("a", 9)]),
        ([seen("u", "a", 1), seen(None, "a", 2)], [known("u", "a", at=1), anonymous("a", 2)]),
        ([seen(None, "a", 1), seen("u", "a", 2), seen(None, "a", 3)], [known("u", "a", at=2), anonymous("a", 3)]),
        ([seen("u", "a"), seen("v", "a")], [known("u", "a"), known("v", "a")]),
        ([seen("a", None), seen(None, "a")], [known("a"), anonymous("a")]),
        ([seen("a", None), seen("u", "a")], [known("a"), known("u", "a")]),
    ],
)
def test_rules(observations: list[IdentityObservation], after: list[tuple[IdentityKey, IdentityState]]) -> None:
    one_pipeline = [IdentityObservation(7, 1, (P1,), each.user_id, each.anonymous_id, each.at) for each in observations]
    assert merged(one_pipeline) == dict(after)


def test_a_user_owns_the_anonymous_id_in_every_pipeline_of_the_connection_but_in_no_other_connection() -> None:
    before = merged([seen(None, "a", pipelines=(P1, P2, 13)), seen(None, "a", connection=2, pipelines=(21,))])
    after = merged([seen("u", "a", pipelines=(P1,))], before)
    assert set(after) == {IdentityKey(1, "u", False, P1), IdentityKey(2, "a", True, 21)}


# --- Aliases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "after"),
    [
        # Of an anonymous person
        ([seen(None, "a", 5), alias("a", "u", 3)], [known("u", "a", at=5)]),
        ([seen(None, "a", 5), alias("a", "u", 9)], [known("u", "a", at=9)]),
        ([seen("u", "b", 5), seen(None, "a", 6), alias("a", "u")], [known("u", "b", "a", at=6)]),
        ([alias("a", "u", 3)], [known("u", "a", at=3)]),
        ([alias("a", "u", 3), seen(None, "a", 4)], [known("u", "a", at=3), anonymous("a", 4)]),
        # Of a user who had another id
        ([seen("old", "a", 5), alias("old", "u", 3)], [known("u", "a", at=5)]),
        ([seen("old", "a", 5), seen("u", "b", 6), alias("old", "u", 9)], [known("u", "b", "a", at=9)]),
        ([seen("old", None, 1), seen(None, "old", 2), alias("old", "u")], [known("u", "old", at=2)]),
        # Without effect
        ([seen("u", None, 1), alias("u", "u", 2)], [known("u", at=2)]),
        # That work once
        ([seen(None, "a", 5), alias("a", "u", 9, once=True)], [known("u", "a", at=5)]),
        ([alias("a", "u", once=True)], []),
        ([seen("old", None, 1), alias("old", "u", once=True)], [known("old", at=1)]),
        (
            [seen("u", None, 1), seen(None, "a", 2), alias("a", "u", 3, once=True)],
            [known("u", at=1), anonymous("a", 2)],
        ),
        ([seen(None, "a", 1), alias("a", "u", once=True), alias("a", "v", once=True)], [known("u", "a", at=1)]),
        (
            [seen(None, "a", 1), alias("a", "u", once=True), seen(None, "a", 2), alias("a", "u", once=True)],
            [known("u", "a", at=1), anonymous("a", 2)],
        ),
    ],
)
def test_aliases(observations: list[IdentityObservation], after: list[tuple[IdentityKey, IdentityState]]) -> None:
    one_pipeline = [structs.replace(each, pipelines=each.pipelines and (P1,)) for each in observations]
    assert merged(one_pipeline) == dict(after)


def test_an_alias_links_in_every_pipeline_of_the_connection_but_in_no_other_connection() -> None:
    before = merged([seen(None, "a", pipelines=(P1, P2, 13)), seen(None, "a", connection=2, pipelines=(21,))])
    linked = {IdentityKey(1, "u", False, pipeline) for pipeline in (P1, P2, 13)}
    for each in (alias("a", "u", pipelines=()), alias("a", "u", once=True), alias("a", "u", pipelines=(P2,))):
        assert set(merged([each], before)) == linked | {IdentityKey(2, "a", True, 21)}


def test_an_alias_says_nothing_of_attributes_but_unites_them() -> None:
    def with_known_traits(user: str | None, anonymous_id: str | None, attributes: str) -> IdentityObservation:
        return IdentityObservation(7, 1, (P1,), user, anonymous_id, 0, (attributes,))

    people = [with_known_traits("u", None, '{"a":1,"b":null}'), with_known_traits(None, "x", '{"a":2,"b":2,"c":2}')]
    state = merged([*people, alias("x", "u")])[IdentityKey(1, "u", False, P1)]
    assert state is not None
    assert state.attributes == '{"a":1,"b":2,"c":2}'


# --- Reach --------------------------------------------------------------------------------------------------------


def test_claims_and_aliases_have_effect_only_in_the_pipelines_that_they_reach() -> None:
    before = dict([anonymous("a"), anonymous("a", pipeline=P2)])
    for change in (
        IdentityObservation(7, 1, (), "u", "a", 1, reaches=(P1,)),
        IdentityObservation(7, 1, (), "u", None, 1, previous_id="a", reaches=(P1,)),
    ):
        now: Identities = dict(before)
        removed = merge([change], now)
        assert removed.keys() == {IdentityKey(1, "a", True, P1)} | (
            {IdentityKey(1, "a", False, P1)} if change.previous_id else set()
        )
        assert set(removed.values()) == {IdentityKey(1, "u", False, P1)}
        assert now[IdentityKey(1, "a", True, P1)] is None
        assert now[IdentityKey(1, "a", True, P2)] is not None


def test_an_event_that_every_pipeline_filtered_out_claims_nothing() -> None:
    now: Identities = dict([anonymous("a")])
    assert merge([IdentityObservation(7, 1, (), "u", "a", 1, reaches=(P1,), claims=False)], now) == {}
    assert now == dict([anonymous("a")])


@pytest.mark.parametrize(
    ("observations", "successors"),
    [
        ([seen("u", "a", 1)], {"a": "u"}),
        ([seen("u", "a", 1), seen(None, "a", 2), seen("v", "a", 3)], {"a": "u"}),
        ([seen("u", "a", 1), alias("u", "v"), alias("v", "w")], {"a": "w", "u": "w", "v": "w"}),
        ([alias("u", "v"), alias("v", "u")], {"u": "u", "v": "u"}),
        ([alias("u", "v"), seen("u", "a", 1), alias("w", "u"), alias("u", "x")], {"a": "x", "u": "v", "w": "x"}),
        ([alias("u", "v"), alias("v", "u"), alias("u", "w")], {"u": "w", "v": "w"}),
    ],
)
def test_the_last_user_succeeds_a_deleted_identity(
    observations: list[IdentityObservation], successors: dict[str, str]
) -> None:
    before: Identities = dict([anonymous("a"), *(known(user) for user in "uvwx")])
    removed = merge([structs.replace(each, reaches=(P1,)) for each in observations], dict(before))
    assert {
        key.identity_id: successor.identity_id
        for key, successor in removed.items()
        if key in before and successor is not None
    } == successors


async def test_a_successor_is_the_identity_of_the_same_pipeline_if_there_is_one(state: StateStore) -> None:
    def observed(user: str | None, anonymous_id: str | None, *pipelines: int) -> IdentityObservation:
        return IdentityObservation(7, 1, pipelines, user, anonymous_id, 1, reaches=(P1, P2))

    async def changed(*observations: IdentityObservation) -> list[ChangedIdentity]:
        async with state.transaction() as transaction:
            changes = await transaction.merge_identities(observations)
            return await transaction.run(lambda connection: write_changes(connection, changes))

    for filtered in ((P1, P2), (P1,), ()):
        visitors = {each.pipeline: each.id for each in await changed(observed(None, "a", P1, P2))}
        after = await changed(observed(f"u{len(filtered)}", "a", *filtered))
        users = {each.pipeline: each.id for each in after if each.attributes is not None}
        successors = {each.id: each.successor for each in after if each.attributes is None}
        assert successors == {id_: users.get(pipeline, users.get(P1, 0)) for pipeline, id_ in visitors.items()}


# --- For all sequences --------------------------------------------------------------------------------------------

observations = st.builds(
    lambda connection, pipelines, ids, at: IdentityObservation(
        7,
        connection,
        () if ids[3] else tuple(sorted(10 * connection + each for each in pipelines)),
        ids[0],
        ids[1],
        at,
        (),
        ids[2],
        ids[3],
    ),
    st.sampled_from([1, 2]),
    st.sets(st.sampled_from([1, 2, 3]), min_size=1),
    st.one_of(
        st.tuples(
            st.sampled_from([None, "a", "u", "v"]), st.sampled_from([None, "a", "b"]), st.none(), st.just(False)
        ).filter(any),
        st.tuples(st.sampled_from("auv"), st.sampled_from([None, "a"]), st.sampled_from("abuv"), st.just(False)),
        st.tuples(st.sampled_from("auv"), st.none(), st.sampled_from("abuv"), st.just(True)),
    ),
    st.integers(0, 9),
)


def one_by_one(observation: IdentityObservation, now: Identities) -> Identities:
    """The rules as they are written, for one event."""
    now = deepcopy(now)
    ids = [] if observation.anonymous_id is None else [observation.anonymous_id]
    if observation.user_id is not None and observation.anonymous_id is not None:
        for key in [*now]:
            if key.is_anonymous and (key.connection, key.identity_id) == (
                observation.connection,
                observation.anonymous_id,
            ):
                del now[key]
    previous = observation.previous_id
    if previous is not None and observation.user_id is not None and previous != observation.user_id:
        here = [key for key in now if key.connection == observation.connection]
        if not any(key.identity_id == previous and not key.is_anonymous for key in here):
            ids.append(previous)
        is_known = any(key.identity_id == observation.user_id and not key.is_anonymous for key in here)
        for key in sorted(here, key=lambda key: not key.is_anonymous):
            if key.identity_id == previous and not (
                observation.only_if_unclaimed and (is_known or not key.is_anonymous)
            ):
                former = now.pop(key)
                assert former is not None
                user = now.setdefault(IdentityKey(key.connection, observation.user_id, False, key.pipeline), former)
                assert user is not None
                user.anonymous_ids += [each for each in former.anonymous_ids if each not in user.anonymous_ids]
                user.updated_at = max(user.updated_at, former.updated_at)
    for pipeline in observation.pipelines:
        id_ = observation.user_id or observation.anonymous_id
        assert id_ is not None
        key = IdentityKey(observation.connection, id_, observation.user_id is None, pipeline)
        state = now.get(key) or IdentityState(observation.workspace, [], observation.at)
        state.anonymous_ids += [each for each in ids if each not in state.anonymous_ids]
        state.updated_at = max(state.updated_at, observation.at)
        now[key] = state
    return now


@given(st.lists(st.lists(observations, max_size=12), max_size=4))
def test_a_batch_leads_to_what_its_events_lead_to_one_by_one(batches: list[list[IdentityObservation]]) -> None:
    expected: Identities = {}
    now: Identities = {}
    for batch in batches:
        for observation in batch:
            expected = one_by_one(observation, expected)
        now = merged(batch, now)
    assert now == expected


# --- Bounds -------------------------------------------------------------------------------------------------------


def test_of_the_anonymous_ids_of_a_user_the_latest_are_kept() -> None:
    ids = [str(number) for number in range(MAX_ANONYMOUS_IDS + 5)]
    now = merged([seen("u", id_, pipelines=(P1,)) for id_ in ids])
    assert now == dict([known("u", *ids[5:])])
    now = merged([seen("v", "x", pipelines=(P1,)), alias("v", "u"), seen("u", ids[-1], pipelines=(P1,))], now)
    assert now == dict([known("u", *ids[6:], "x")])


@pytest.mark.parametrize(("character", "most"), [("x", MAX_ATTRIBUTES_BYTES), ("é", MAX_ATTRIBUTES_BYTES // 2)])
def test_attributes_have_a_limited_size(character: str, most: int) -> None:
    frame = len('{"a":""}')
    text = character * (most - frame // len(character.encode()))
    assert attributes_fit(f'{{"a":"{text}"}}')
    assert not attributes_fit(f'{{"a":"{text}{character}"}}')
    assert attributes_fit("{}")


def test_attributes_of_two_identities_that_would_be_too_large_together_are_those_of_the_user() -> None:
    key, state = known("new", at=1)
    state.attributes = '{"a":"' + "x" * (MAX_ATTRIBUTES_BYTES // 2) + '"}'
    other, previous = known("old", at=1)
    previous.attributes = '{"b":"' + "y" * (MAX_ATTRIBUTES_BYTES // 2) + '"}'
    after = merged([alias("old", "new", 2)], {key: state, other: previous})[key]
    assert after is not None and after.attributes == state.attributes
    previous.attributes = '{"b":"y"}'
    after = merged([alias("old", "new", 2)], {key: state, other: previous})[key]
    assert after is not None and attributes_fit(after.attributes) and '"b":"y"' in after.attributes
