"""The rule of deduplication: new messages and repeats."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.state.deduplication import Message, MessageState, MessageStates, Repeat, Step, deduplicate
from headwater.state.deduplication.message import MAX_REPEATS, decode_message, encode_message


def message(position: int, id_: str = "m", connection: int = 1) -> Message:
    return Message(position, (connection, id_), 1000 + position)


def test_the_first_position_is_the_message() -> None:
    fresh, entries = deduplicate([message(1, "a"), message(2, "b"), message(3, "a")], {})
    assert fresh == {1, 2}
    assert entries == {
        (1, "a"): MessageState(1, 1001, repeats=[Repeat(3, 1003)], repeated=1),
        (1, "b"): MessageState(2, 1002),
    }


def test_a_stored_message_is_a_repeat() -> None:
    fresh, entries = deduplicate([message(9)], {(1, "m"): MessageState(4, 1004, (Step(7, 1, "Finalize", "Passed"),))})
    assert fresh == set()
    assert entries == {(1, "m"): MessageState(4, 1004, (Step(7, 1, "Finalize", "Passed"),), [Repeat(9, 1009)], 1)}


def test_a_message_id_is_unique_per_connection() -> None:
    fresh, _ = deduplicate([message(1, connection=1), message(2, connection=2), message(3, connection=1)], {})
    assert fresh == {1, 2}


def test_a_position_that_the_store_has_is_processed_again() -> None:
    """A crash can have this effect: it happens between the write of the messages and the commit of the state store."""
    known: MessageStates = {(1, "m"): MessageState(4, 1004, (Step(7, 1, "Finalize", "Passed"),))}
    assert deduplicate([message(4)], known) == ({4}, {(1, "m"): MessageState(4, 1004)})


def test_a_repetition_counts_once_however_often_it_is_processed() -> None:
    _, once = deduplicate([message(4), message(5)], {})
    _, again = deduplicate([message(4), message(5)], {**once})
    assert again[1, "m"].repeated == once[1, "m"].repeated == 1
    _, last = deduplicate([message(5)], {**once})
    assert last == {}


def test_of_many_repeats_the_first_are_stored_and_all_are_counted() -> None:
    _, entries = deduplicate([message(position) for position in range(1, 102)], {})
    entry = entries[1, "m"]
    assert [repeat.position for repeat in entry.repeats] == list(range(2, 2 + MAX_REPEATS))
    assert entry.repeated == 100


def test_values_on_disk_have_this_form() -> None:
    """Stores of installations look like this; new fields and numbers go to the end."""
    state = MessageState(4, 1004, (Step(7, 1, "Filter", "Filtered", "why"),), [Repeat(9, 1009)], 3, 2000)
    stored = encode_message(state)
    assert stored[:1] == b"\xc1"
    assert msgspec.msgpack.decode(stored[1:]) == [4, 1004, 996, [[7, 1, 9, "why"]], [[9, 1009]], 3]
    assert msgspec.msgpack.decode(encode_message(MessageState(4, 1004, processed_at=1005))[1:]) == [4, 1004, 1, []]


@pytest.mark.parametrize(
    ("stored", "state"),
    [
        (
            [4, 1004, [[7, 1, "Filter", "Filtered", "why"]], [[9, 1009]], 3, 2000],
            MessageState(4, 1004, (Step(7, 1, "Filter", "Filtered", "why"),), [Repeat(9, 1009)], 3, 2000),
        ),
        ([4, 1004], MessageState(4, 1004)),
    ],
)
def test_values_of_earlier_releases_are_read(stored: list[object], state: MessageState) -> None:
    assert decode_message(msgspec.msgpack.encode(stored)) == state


states = st.builds(
    MessageState,
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**62),
    st.lists(
        st.builds(
            Step,
            st.integers(0, 2**31),
            st.integers(1, 2**31),
            st.sampled_from(["Receive", "Filter", "Transformation", "Finalize"]),
            st.sampled_from(["Passed", "Filtered", "Failed", "Pending"]),
            st.sampled_from(["", "why"]),
        ),
        max_size=3,
    ).map(tuple),
    st.just([]),
    st.just(0),
    st.integers(0, 2**62),
)


@given(states, st.lists(st.builds(Repeat, st.integers(0, 2**63 - 1), st.integers(0, 2**62)), max_size=3))
def test_a_state_is_read_as_it_was_stored(state: MessageState, repeats: list[Repeat]) -> None:
    state = msgspec.structs.replace(state, repeats=repeats, repeated=len(repeats))
    assert decode_message(encode_message(state)) == state


def test_a_value_is_small() -> None:
    steps = tuple(Step(pipeline, 1_204_378_112, "Finalize", "Passed") for pipeline in (1_318_440_219, 1_500_211_873))
    state = MessageState(3_000_000, 1_795_000_000_000_000, steps, processed_at=1_795_000_000_050_000)
    assert len(encode_message(state)) < len(msgspec.msgpack.encode(state)) / 1.5


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=6))
def test_in_whatever_batches_messages_come_each_is_fresh_once(batches: list[list[str]]) -> None:
    known: MessageStates = {}
    position, first = 0, {}
    for batch in batches:
        messages = []
        for id_ in batch:
            position += 1
            messages.append(message(position, id_))
        fresh, entries = deduplicate(messages, known)
        known |= entries
        for each in messages:
            if each.key[1] not in first:
                first[each.key[1]] = each.position
                assert each.position in fresh
            else:
                assert each.position not in fresh
    assert {id_: entry.position for (_, id_), entry in known.items()} == first
