"""Frames as messages, and positions as sequence numbers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable
from headwater.log import LogEntry
from headwater.log.contract import MAX_ENTRY_EVENTS
from headwater.log.jetstream.message import decode_frame, encode_frame, position_of, sequence_of

LIMIT = 4096


@given(st.integers(1, MAX_ENTRY_EVENTS), st.binary(max_size=500), st.binary(max_size=3000))
def test_a_frame_comes_back_as_it_was(events: int, header: bytes, body: bytes) -> None:
    entry = LogEntry(events, header, body)
    assert decode_frame(encode_frame(entry, LIMIT)) == entry


def test_what_is_too_large_for_a_message_is_deflated() -> None:
    entry = LogEntry(3, b"header", b'{"type":"track"}' * 10_000)
    message = encode_frame(entry, LIMIT)
    assert len(message) < LIMIT
    assert decode_frame(message) == entry


def test_what_cannot_be_made_small_enough_is_refused() -> None:
    with pytest.raises(Unavailable, match="the call has 10000 bytes, and NATS takes no more than 4096"):
        encode_frame(LogEntry(1, b"", random.Random(1).randbytes(10_000)), LIMIT)


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
    ],
)
def test_a_message_of_somebody_else_is_a_frame_that_a_consumer_can_pass(message: bytes) -> None:
    assert decode_frame(message) == LogEntry(1, b"", message)


@given(st.binary(max_size=40))
def test_whatever_a_message_holds_its_positions_are_its_own(message: bytes) -> None:
    assert 1 <= decode_frame(message).events <= MAX_ENTRY_EVENTS


@given(st.integers(1, 2**48), st.integers(1, MAX_ENTRY_EVENTS))
def test_positions_of_later_messages_are_higher(sequence: int, events: int) -> None:
    last = position_of(sequence) + events - 1
    assert sequence_of(position_of(sequence)) == sequence_of(last) == sequence
    assert last < position_of(sequence + 1)
