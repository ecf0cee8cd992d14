"""Entries as messages, and positions as sequence numbers."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable
from headwater.log import LogEntry
from headwater.log.contract import MAX_ENTRY_EVENTS
from headwater.log.jetstream.message import (
    decode_entries,
    encode_entries,
    first_position,
    group_bytes,
    message_sequence,
    stored_entries,
)

LIMIT = 4096


ENTRIES = st.builds(LogEntry, st.integers(1, MAX_ENTRY_EVENTS // 20), st.binary(max_size=200), st.binary(max_size=500))


@given(st.integers(1, MAX_ENTRY_EVENTS), st.binary(max_size=500), st.binary(max_size=3000))
def test_an_entry_comes_back_as_it_was(events: int, header: bytes, body: bytes) -> None:
    entry = LogEntry(events, header, body)
    assert decode_entries(encode_entries([entry], LIMIT)) == [entry]


@given(st.lists(ENTRIES, min_size=1, max_size=20), st.integers(1, 1 << 40))
def test_a_group_comes_back_as_it_was_at_positions_of_its_own(entries: list[LogEntry], sequence: int) -> None:
    message = encode_entries(entries, 1 << 20)
    found = stored_entries(sequence, message)
    assert [stored.entry for stored in found] == entries
    assert found[0].position == first_position(sequence)
    assert all(before.last + 1 == after.position for before, after in pairwise(found))
    assert message_sequence(found[-1].last) == sequence
    assert len(message) <= 7 + sum(map(group_bytes, entries))


def test_a_message_of_the_first_version_is_read() -> None:
    """Messages of versions before groups."""
    message = b"\0" + b"\0\2" + b"\0\0\0\6" + b"header" + b"body"
    assert decode_entries(message) == [LogEntry(2, b"header", b"body")]
    assert encode_entries([LogEntry(2, b"header", b"body")], LIMIT) == message


def test_what_is_too_large_for_a_message_is_compressed() -> None:
    entry = LogEntry(3, b"header", b'{"type":"track"}' * 10_000)
    message = encode_entries([entry], LIMIT)
    assert len(message) < LIMIT
    assert decode_entries(message) == [entry]


def test_an_entry_that_cannot_be_compressed_enough_is_rejected() -> None:
    with pytest.raises(Unavailable, match="the call has 10000 bytes, and NATS takes no more than 4096"):
        encode_entries([LogEntry(1, b"", random.Random(1).randbytes(10_000))], LIMIT)


@given(st.lists(ENTRIES, min_size=2, max_size=5), st.data())
def test_a_group_that_was_cut_or_spoilt_is_one_entry_or_valid(entries: list[LogEntry], data: st.DataObject) -> None:
    message = encode_entries(entries, 1 << 20)
    cut = message[: data.draw(st.integers(0, len(message) - 1))]
    assert decode_entries(cut) == [LogEntry(1, b"", cut)]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0\0\1",
        b'{"hello":"world"}',
        b"\0\0\0" + bytes(4) + b"no events",
        b"\0\xff\xff" + bytes(4) + b"too many",
        b"\0\0\1\0\0\0\x0atoo short",
        b"\1\0\1" + bytes(4) + b"not deflated",
        b"\2\0\1" + bytes(4) + b"of another form",
        b"\2\0\0",
        b"\2\0\1\0\0" + bytes(8),
        b"\2\0\1\0\1" + bytes(8) + b"too long",
        b"\2\0\2\x40\0" + bytes(8) + b"\x40\1" + bytes(8),
        b"\3\0\1" + bytes(4) + b"of another form",
    ],
)
def test_a_message_of_another_program_is_an_entry_that_a_consumer_can_pass(message: bytes) -> None:
    assert decode_entries(message) == [LogEntry(1, b"", message)]


@given(st.binary(max_size=40))
def test_whatever_a_message_holds_its_positions_are_its_own(message: bytes) -> None:
    assert 1 <= sum(entry.events for entry in decode_entries(message)) <= MAX_ENTRY_EVENTS


@given(st.integers(1, 2**48), st.integers(1, MAX_ENTRY_EVENTS))
def test_positions_of_later_messages_are_higher(sequence: int, events: int) -> None:
    last = first_position(sequence) + events - 1
    assert message_sequence(first_position(sequence)) == message_sequence(last) == sequence
    assert last < first_position(sequence + 1)
