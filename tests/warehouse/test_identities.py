"""Identities from events: the rules, and their equality with a model that looks at one event at a time."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.warehouse import Sighting
from headwater.warehouse.identities import Identities, IdentityKey, IdentityState, keys_of, merge

P1, P2 = 11, 12


def seen(
    user: str | None, anonymous: str | None, at: int = 0, *, connection: int = 1, pipelines: tuple[int, ...] = (P1, P2)
) -> Sighting:
    return Sighting(7, connection, pipelines, user, anonymous, at)


def known(user: str, *anonymous_ids: str, at: int = 0, pipeline: int = P1) -> tuple[IdentityKey, IdentityState]:
    return IdentityKey(1, user, False, pipeline), IdentityState(7, list(anonymous_ids), at)


def anonymous(id_: str, at: int = 0, pipeline: int = P1) -> tuple[IdentityKey, IdentityState]:
    return IdentityKey(1, id_, True, pipeline), IdentityState(7, [id_], at)


def merged(sightings: list[Sighting], before: Identities | None = None) -> Identities:
    """All identities after the sightings, as the warehouse does it: claimed rows are deleted, the others written."""
    everything: Identities = dict(before or {})
    some: Identities = {key: everything.get(key) for key in keys_of(sightings)}
    claimed = merge(sightings, some)
    for key in [key for key in everything if key.is_anonymous and (key.connection, key.identity_id) in claimed]:
        del everything[key]
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
        now = merged([sighting for sighting, _ in STEPS[done : done + size]], now)
        done += size
        after = STEPS[done - 1][1]
        expected = dict(after) | {IdentityKey(1, key.identity_id, key.is_anonymous, P2): state for key, state in after}
        assert now == expected


# --- Rule by rule -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sightings", "after"),
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
def test_rules(sightings: list[Sighting], after: list[tuple[IdentityKey, IdentityState]]) -> None:
    one_pipeline = [Sighting(7, 1, (P1,), each.user_id, each.anonymous_id, each.at) for each in sightings]
    assert merged(one_pipeline) == dict(after)


def test_a_user_owns_the_anonymous_id_in_every_pipeline_of_the_connection_but_in_no_other_connection() -> None:
    before = merged([seen(None, "a", pipelines=(P1, P2, 13)), seen(None, "a", connection=2, pipelines=(21,))])
    after = merged([seen("u", "a", pipelines=(P1,))], before)
    assert set(after) == {IdentityKey(1, "u", False, P1), IdentityKey(2, "a", True, 21)}


# --- For all sequences --------------------------------------------------------------------------------------------

sightings = st.builds(
    lambda connection, pipelines, ids, at: Sighting(
        7, connection, tuple(sorted(10 * connection + each for each in pipelines)), ids[0], ids[1], at
    ),
    st.sampled_from([1, 2]),
    st.sets(st.sampled_from([1, 2, 3]), min_size=1),
    st.tuples(st.sampled_from([None, "a", "u", "v"]), st.sampled_from([None, "a", "b"])).filter(any),
    st.integers(0, 9),
)


def one_by_one(sighting: Sighting, now: Identities) -> Identities:
    """The rules as they are written, for one event."""
    now = deepcopy(now)
    if sighting.user_id is not None and sighting.anonymous_id is not None:
        for key in [*now]:
            if key.is_anonymous and (key.connection, key.identity_id) == (sighting.connection, sighting.anonymous_id):
                del now[key]
    for pipeline in sighting.pipelines:
        id_ = sighting.user_id or sighting.anonymous_id
        assert id_ is not None
        key = IdentityKey(sighting.connection, id_, sighting.user_id is None, pipeline)
        state = now.get(key) or IdentityState(sighting.workspace, [], sighting.at)
        if sighting.anonymous_id is not None and sighting.anonymous_id not in state.anonymous_ids:
            state.anonymous_ids.append(sighting.anonymous_id)
        state.updated_at = max(state.updated_at, sighting.at)
        now[key] = state
    return now


@given(st.lists(st.lists(sightings, max_size=6), max_size=4))
def test_a_batch_leads_to_what_its_events_lead_to_one_by_one(batches: list[list[Sighting]]) -> None:
    expected: Identities = {}
    now: Identities = {}
    for batch in batches:
        for sighting in batch:
            expected = one_by_one(sighting, expected)
        now = merged(batch, now)
    assert now == expected
