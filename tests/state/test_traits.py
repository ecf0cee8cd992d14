"""Traits of the client API: absent ones are kept, null deletes, and anonymous ones become a user's once."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.state import StateStore, TraitsUpdate
from headwater.state import traits as module
from headwater.state.traits import MAX_TRAITS_BYTES, PersonKey, Traits, add


def says(user: str | None, anonymous: str | None, **traits: Any) -> TraitsUpdate:
    return TraitsUpdate(1, user, anonymous, Raw(json.dumps(traits).encode()))


def alias(previous: str, user: str | None) -> TraitsUpdate:
    return TraitsUpdate(1, user, None, Raw(b"{}"), previous)


async def merged(state: StateStore, *updates: TraitsUpdate) -> list[Any]:
    async with state.transaction() as transaction:
        return [json.loads(bytes(traits)) for traits in await transaction.merge_traits(updates)]


CASES: list[tuple[list[TraitsUpdate], dict[str, Any]]] = [
    ([says("u", None, a=1), says("u", None, b=2)], {"a": 1, "b": 2}),
    ([says("u", None, a=1), says("u", None, a=None)], {"a": None}),
    ([says("u", None, a={"x": 1}), says("u", None, a={"y": 2})], {"a": {"y": 2}}),
    ([says("u", None, a=1), says("u", None)], {"a": 1}),
    ([says(None, "x", a=1), says(None, "x", b=2)], {"a": 1, "b": 2}),
    ([says("u", None, a=1), says("v", None)], {}),
    ([says("x", None, a=1), says(None, "x")], {}),
    # Anonymous traits become the user's, if the user has none
    ([says(None, "x", a=1), says("u", "x", b=2)], {"a": 1, "b": 2}),
    ([says("u", None, c=3), says(None, "x", a=1), says("u", "x", b=2)], {"c": 3, "b": 2}),
    ([says(None, "x", a=1), says("u", "x"), says("v", "x")], {}),
    ([says(None, "x", a=1), alias("x", "u"), says("u", None)], {"a": 1}),
    ([says(None, "x", a=1), alias("x", "u"), alias("x", "v"), says("v", None)], {}),
    ([says("u", None, c=3), says(None, "x", a=1), alias("x", "u"), says("u", None)], {"c": 3}),
    ([says(None, "x", a=1), alias("x", None), says(None, "x")], {"a": 1}),
    ([alias("nobody", "u"), says("u", None)], {}),
    ([says(None, None, a=1), says(None, None, b=2)], {"b": 2}),
]


@pytest.mark.parametrize(("updates", "last"), CASES)
async def test_what_is_known_after_the_last_of_them(
    state: StateStore, updates: list[TraitsUpdate], last: dict[str, Any]
) -> None:
    """In one batch of the log, and in as many."""
    assert (await merged(state, *updates))[-1] == last
    elsewhere = [TraitsUpdate(2, each.user_id, each.anonymous_id, each.traits, each.previous_id) for each in updates]
    for each in elsewhere:
        found = await merged(state, each)
    assert found == [last]


async def test_the_text_of_values_stays(state: StateStore) -> None:
    async with state.transaction() as transaction:
        await transaction.merge_traits([TraitsUpdate(1, "u", None, Raw(b'{"n":12345678901234567890.10,"o":1.0}'))])
        (known,) = await transaction.merge_traits([says("u", None)])
    assert bytes(known) == b'{"n":12345678901234567890.10,"o":1.0}'


async def test_what_becomes_too_much_is_replaced(state: StateStore) -> None:
    large = "x" * (MAX_TRAITS_BYTES // 2)
    assert (await merged(state, says("u", None, a=large), says("u", None, b=large)))[-1] == {"b": large}
    assert await merged(state, says("u", None)) == [{"b": large}]


async def test_the_merged_traits_of_a_batch_are_bounded(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a thousand small calls would otherwise hold all that is known of the person."""
    monkeypatch.setattr(module, "MAX_MERGED_BYTES", 250)
    large = "x" * 100
    told = await merged(
        state,
        says("u", None, a=large),
        says("u", None, b=1),
        says("u", None, b=2),
        says("u", None, b=3),
        says("v", None, c=4),
        says("u", None, b=5),
        alias("x", "u"),
    )
    everything = [{"a": large}, *({"a": large, "b": number} for number in (1, 2))]
    assert told == [*everything, {"b": 3}, {"c": 4}, {"a": large, "b": 5}, {}]
    assert await merged(state, says("u", None)) == [{"a": large, "b": 5}]


async def test_the_people_of_connections_that_are_gone_are_forgotten(state: StateStore) -> None:
    await merged(state, says("u", None, a=1))
    async with state.transaction() as transaction:
        await transaction.remove_sources_except([1], workspaces=[7])
    assert await merged(state, says("u", None)) == [{"a": 1}]
    async with state.transaction() as transaction:
        await transaction.remove_sources_except([2], workspaces=[7])
    assert await merged(state, says("u", None)) == [{}]


_ids = st.sampled_from([None, "a", "b"])
_sayings = st.one_of(
    st.builds(
        lambda user, anonymous, traits: says(user, anonymous, **traits),
        _ids,
        _ids,
        st.dictionaries(st.sampled_from("pqr"), st.integers(0, 3) | st.none(), max_size=2),
    ),
    st.builds(alias, st.sampled_from("ab"), _ids),
)


@given(st.lists(_sayings, max_size=8))
def test_a_trait_is_the_latest_value_of_the_same_person(updates: list[TraitsUpdate]) -> None:
    known: dict[PersonKey, Traits] = {}
    for update in updates:
        before = deepcopy(known)
        traits = json.loads(bytes(add(update, known)))
        said = json.loads(bytes(update.traits))
        person = update.user or update.anonymous
        assert traits | said == traits
        if update.previous_id is None and person in before:
            assert traits == {name: json.loads(bytes(value)) for name, value in before[person].items()} | said
        others = before.keys() - {update.user, update.anonymous}
        assert all(known[key] == before[key] for key in others)
