"""The worked examples of the documentation, and the cases that guards and letters of values make."""

from typing import Any

import pytest

from headwater.catalog.profiles import Identifier
from headwater.profiles.incremental import resolve_changes
from headwater.profiles.naming import last_successors
from headwater.state.profiles.model import IdentityName
from tests.profiles.people import People

BOTH = ("email", "phone")


@pytest.mark.parametrize(
    ("identifiers", "identities", "profiles"),
    [
        pytest.param(
            BOTH,
            [("1", 1, {"email": "a@x", "name": "A"}), ("9", 2, {"email": "a@x", "name": "B"})],
            [[1, 2]],
            id="one email",
        ),
        pytest.param(
            BOTH,
            [("1", 1, {"email": "a@x", "phone": "5"}), ("9", 2, {"email": "b@x", "phone": "5"})],
            [[1], [2]],
            id="the email decides first",
        ),
        pytest.param(
            BOTH,
            [("1", 1, {"email": None, "phone": "5"}), ("9", 2, {"email": "b@x", "phone": "5"})],
            [[1, 2]],
            id="without an email the phone decides",
        ),
        pytest.param(
            BOTH,
            [
                ("1", 1, {"email": "a@x"}),
                ("9", 2, {"email": "b@x", "phone": "5"}),
                ("z", 3, {"email": None, "phone": "5"}),
            ],
            [[1], [2, 3]],
            id="z joins 9",
        ),
        pytest.param(
            BOTH,
            [
                ("1", 1, {"email": "a@x", "phone": "5"}),
                ("9", 2, {"email": "b@x"}),
                ("z", 3, {"email": None, "phone": "5"}),
                ("1", 1, {"email": "b@x"}, {"pipeline": 2}),
            ],
            [[1, 2, 3, 4]],
            id="the same user in another pipeline",
        ),
        pytest.param(
            BOTH, [("77", 1, {}, {"is_anonymous": True}), ("77", 1, {})], [[1], [2]], id="anonymous and known"
        ),
        pytest.param((), [("1", 1, {}), ("1", 2, {})], [[1], [2]], id="no identifiers, two connections"),
        pytest.param((), [("1", 1, {}), ("1", 1, {}, {"pipeline": 2})], [[1, 2]], id="no identifiers, two pipelines"),
        pytest.param(BOTH, [("1", 1, {"email": ""}), ("9", 2, {"email": ""})], [[1], [2]], id="blank"),
        pytest.param(
            (Identifier(path="email", allows_blank=True),),
            [("1", 1, {"email": ""}), ("9", 2, {"email": ""})],
            [[1, 2]],
            id="blank is allowed",
        ),
        pytest.param(BOTH, [("1", 1, {"email": "a@x"}), ("9", 2, {"email": "A@x"})], [[1], [2]], id="letter case"),
        pytest.param(
            (Identifier(path="email", blocked_values=("a@x",)), "phone"),
            [("1", 1, {"email": "a@x", "phone": "5"}), ("9", 2, {"email": "b@x", "phone": "5"})],
            [[1, 2]],
            id="a blocked email does not decide",
        ),
        pytest.param(
            (Identifier(path="email", max_identities=2),),
            [("1", 1, {"email": "a@x"}), ("9", 2, {"email": "a@x"}), ("z", 3, {"email": "a@x"})],
            [[1], [2], [3]],
            id="too many identities",
        ),
        pytest.param(
            (Identifier(path="email", max_identities=2), "phone"),
            [(str(id), 1, {"email": "a@x", "phone": "5"}) for id in range(3)],
            [[1], [2], [3]],
            id="an email over its limit still decides",
        ),
        pytest.param(
            (Identifier(path="email", max_values=1), "phone"),
            [
                ("1", 1, {"email": "a@x"}),
                ("9", 2, {"phone": "5"}),
                ("z", 3, {"email": "b@x", "phone": "5"}),
                ("9", 2, {"email": "a@x"}, {"pipeline": 2}),
            ],
            [[1, 2, 4], [3]],
            id="too many values: the name is stronger",
        ),
    ],
)
def test_identities_become_the_profiles(identifiers: Any, identities: list[Any], profiles: list[list[int]]) -> None:
    people = People(*identifiers)
    for id, connection, attributes, *other in identities:
        people.see(id, connection=connection, **attributes, **(other[0] if other else {}))
    assert people.profiles() == profiles


def test_the_latest_name_wins() -> None:
    people = People(*BOTH)
    people.see("1", connection=1, email="a@x", name="A")
    last = people.see("9", connection=2, email="a@x", name="B")
    assert people.attributes(last) == {"email": "a@x", "name": "B"}


@pytest.mark.parametrize(("name", "merged"), [("A", "A"), (None, "B")])
def test_the_primary_source_wins_unless_it_has_null(name: str | None, merged: str) -> None:
    people = People(*BOTH, primary_sources={"name": 1})
    people.see("1", connection=1, email="a@x", name=name)
    last = people.see("9", connection=2, email="a@x", name="B")
    assert people.attributes(last) == {"email": "a@x", "name": merged}


def test_an_identity_that_leaves_takes_its_attributes_along() -> None:
    people = People("email")
    first = people.see("1", email="a@x", name="A")
    second = people.see("2", email="a@x", name="B")
    people.see("2", email="b@x", name="B")
    assert people.attributes(first) == {"email": "a@x", "name": "A"}
    assert people.attributes(second) == {"email": "b@x", "name": "B"}


def test_an_older_event_changes_what_it_wins() -> None:
    people = People("email", primary_sources={"phone": 2})
    first = people.see("1", connection=1, at=10, email="a@x", name="A", phone="1")
    people.see("2", connection=2, at=5, email="a@x", name="B", phone="2")
    assert people.attributes(first) == {"email": "a@x", "name": "A", "phone": "2"}


# --- Guards, as identities come and go ----------------------------------------------------------------------------


def reasons(people: People) -> list[tuple[str, str]]:
    return sorted((one.reason, one.value.value) for one in people.rows.refused_rows)


def test_a_value_links_again_once_it_is_under_its_limit() -> None:
    people = People(Identifier(path="email", max_identities=2), "phone")
    first, second, third = (people.see(str(id), email="a@x") for id in range(3))
    assert people.profiles() == [[first], [second], [third]]
    assert reasons(people) == [("TooManyIdentities", "a@x")]
    people.see("1", email="b@x")
    assert people.profiles() == [[first, third], [second]]
    people.see("1", email="a@x")
    assert people.profiles() == [[first], [second], [third]]
    people.forget(first)
    assert people.profiles() == [[second, third]]
    assert reasons(people) == []


def test_a_value_crosses_its_limit_for_identities_that_stronger_values_part() -> None:
    people = People("email", Identifier(path="phone", max_identities=3))
    for id in range(3):
        people.see(str(id), email=f"{id}@x", phone="5")
    bridge = people.see("bridge", phone="5")
    assert people.profiles() == [[1], [2], [3], [bridge]]
    people.see("0", email="0@x")
    assert people.profiles() == [[1], [2, 3, bridge]]


def test_a_mask_that_changes_makes_and_breaks_links_of_other_values() -> None:
    people = People("email", "phone")
    first, second = people.see("1", email="a@x", phone="5"), people.see("2", email="b@x", phone="5")
    assert people.profiles() == [[first], [second]]
    people.see("2", phone="5")
    assert people.profiles() == [[first, second]]
    people.see("2", email="c@x", phone="5")
    assert people.profiles() == [[first], [second]]


def test_a_refused_link_is_taken_once_there_is_a_place() -> None:
    people = People("phone", Identifier(path="email", max_values=1))
    first, second = people.see("1", phone="5", email="a@x"), people.see("2", phone="5", email="b@x")
    third = people.see("3", phone="5")
    assert people.profiles() == [[first, third], [second]]
    assert reasons(people) == [("TooManyValues", "5")]
    people.see("1", phone="6", email="a@x")
    assert people.profiles() == [[first], [second, third]]
    assert reasons(people) == []


def test_the_same_user_follows_in_every_pipeline() -> None:
    people = People("email")
    known = people.see("k", email="a@x")
    first = people.see("1", email="b@x", pipeline=1)
    second = people.see("1", email="a@x", pipeline=2)
    assert people.profiles() == [[known, first, second]]
    people.forget(second)
    assert people.profiles() == [[known], [first]]


def test_a_change_and_a_join_in_one_batch_take_effect_together() -> None:
    people = People("email")
    first = people.see("1", email="a@x", name="A")
    changes = [
        people.rows.put(IdentityName(1, "1", False), 1, '{"email":"a@x","name":"B"}', 50),
        people.rows.put(IdentityName(1, "2", False), 1, '{"email":"a@x"}', 40),
        people.rows.put(IdentityName(1, "3", False), 1, '{"email":"a@x"}', 40),
        people.rows.put(IdentityName(1, "2", False), 1, '{"email":"b@x"}', 41),
        people.rows.delete(3),
    ]
    assert resolve_changes(people.rows, people.context, changes, 9) == []
    assert people.profiles() == [[first], [2]]
    assert people.attributes(first) == {"email": "a@x", "name": "B"}


def test_a_moved_time_counts_in_a_profile_that_is_resolved_without_a_change() -> None:
    people = People("phone", Identifier(path="email", max_values=1))
    first = people.see("1", at=1, phone="5", email="a@x", name="A")
    people.see("2", at=2, phone="5", email="a@x", name="B")
    changes = [
        people.rows.put(IdentityName(1, "1", False), 1, people.rows.identity_rows[first].attributes, 10),
        people.rows.put(IdentityName(1, "3", False), 1, '{"phone":"5","email":"b@x"}', 3),
    ]
    assert resolve_changes(people.rows, people.context, changes, 11) == []
    assert people.profiles() == [[1, 2], [3]]
    assert people.attributes(first)["name"] == "A"


# --- Ids ----------------------------------------------------------------------------------------------------------


def test_the_oldest_profile_survives_and_the_others_answer_for_it() -> None:
    people = People("email", "phone")
    first, second = people.see("1", email="a@x"), people.see("2", phone="5")
    old, merged = people.kpid(first), people.kpid(second)
    bridge = people.see("3", phone="5", email="a@x")
    assert {people.kpid(id) for id in (first, second, bridge)} == {old}
    assert people.answer(merged) == old
    people.forget(bridge)
    assert (people.kpid(first), people.kpid(second)) == (old, merged)
    assert not people.rows.alias_rows
    assert [(one.kind, one.other) for one in people.rows.history] == [("Merge", merged), ("Split", merged)]


def test_the_part_with_the_founder_keeps_the_id() -> None:
    people = People("email")
    founder, second, third = (people.see(str(id), email="a@x") for id in range(3))
    kpid = people.kpid(founder)
    people.see("0", email="b@x")
    assert people.kpid(founder) == kpid
    assert people.kpid(second) == people.kpid(third) != kpid


def test_the_largest_part_keeps_the_id_of_a_founder_that_is_gone() -> None:
    people = People("phone", "email")
    founder = people.see("f", phone="5", email="a@x")
    single = people.see("s", phone="5")
    pair = [people.see("p", email="a@x"), people.see("q", email="a@x")]
    kpid = people.kpid(founder)
    people.forget(founder)
    assert [people.kpid(id) == kpid for id in (single, *pair)] == [False, True, True]


def test_the_alias_of_the_oldest_founder_is_taken_back() -> None:
    people = People("phone", "email")
    first = people.see("1", email="a@x")
    second, third = people.see("2", phone="5"), people.see("3", email="c@x")
    kpids = [people.kpid(id) for id in (first, second, third)]
    people.see("3", phone="5", email="c@x")
    bridge = people.see("b", email="a@x", phone="5")
    assert people.profiles() == [[first, second, third, bridge]]
    people.forget(bridge)
    assert [people.kpid(id) for id in (first, second, third)] == [kpids[0], kpids[1], kpids[1]]
    assert people.answer(kpids[2]) == kpids[1], "the alias follows its founder"


@pytest.mark.parametrize("is_older", [True, False])
def test_the_profile_of_a_claimed_founder_continues_in_that_of_the_user(is_older: bool) -> None:
    people = People("email")
    if is_older:
        visitor, user = people.see("v", is_anonymous=True), people.see("u")
    else:
        user, visitor = people.see("u"), people.see("v", is_anonymous=True)
    kpids = people.kpid(visitor), people.kpid(user)
    people.claim(visitor, user=user)
    assert people.profiles() == [[user]]
    assert people.kpid(user) == kpids[not is_older]
    assert {people.answer(kpid) for kpid in kpids} == {people.kpid(user)}
    assert {row.founder for row in people.rows.profile_rows.values()} == {user}
    assert {alias.founder for alias in people.rows.alias_rows.values()} == {user}
    assert [(one.kind, one.other) for one in people.rows.history] == [("Merge", kpids[is_older])]
    people.forget(user)
    assert not people.rows.profile_rows and not people.rows.alias_rows


def test_the_others_of_the_profile_of_a_claimed_founder_leave_it() -> None:
    people = People("email")
    founder, other = people.see("v", is_anonymous=True, email="a@x"), people.see("w", email="a@x")
    kpid = people.kpid(founder)
    user = people.see("u", email="b@x")
    people.claim(founder, user=user)
    assert people.kpid(user) == kpid != people.kpid(other)


def test_an_alias_follows_the_successor_of_its_founder() -> None:
    people = People("email")
    first, visitor = people.see("1", email="a@x"), people.see("v", is_anonymous=True)
    kpid = people.kpid(visitor)
    people.see("v", is_anonymous=True, email="a@x")
    user = people.see("u")
    assert people.answer(kpid) == people.kpid(first)
    people.claim(visitor, user=user)
    assert people.answer(kpid) == people.kpid(user) != people.kpid(first)


def test_a_claim_waits_for_a_successor_that_is_in_no_profile() -> None:
    people = People("email", limit=2)
    visitor = people.see("v", is_anonymous=True)
    for number in range(4):
        user = people.see(str(number), email="a@x")
    assert people.postponed == [user]
    people.claim(visitor, user=user)
    assert people.postponed == [visitor]


@pytest.mark.parametrize(
    ("successors", "last"),
    [
        ({}, {}),
        ({1: 2}, {1: 2}),
        ({1: 2, 2: 3, 3: 4}, {1: 4, 2: 4, 3: 4}),
        ({2: 3, 1: 2, 5: 1}, {1: 3, 2: 3, 5: 3}),
        ({1: 1}, {}),
        ({1: 2, 2: 1, 3: 1, 4: 5}, {4: 5}),
    ],
)
def test_successors_are_followed_to_the_last(successors: dict[int, int], last: dict[int, int]) -> None:
    assert last_successors(successors) == last


def test_a_profile_without_identities_is_gone_with_its_aliases() -> None:
    people = People("email")
    first, second = people.see("1", email="a@x"), people.see("2", email="b@x")
    people.see("2", email="a@x")
    people.forget(first, second)
    assert not people.rows.profile_rows and not people.rows.alias_rows and not people.rows.links
