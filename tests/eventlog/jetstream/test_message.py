"""Frames as messages, and positions as sequence numbers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable
from headwater.eventlog import Frame
from headwater.eventlog.contract import MAX_FRAME_EVENTS
from headwater.eventlog.jetstream.message import decode_frame, encode_frame, position_of, sequence_of

LIMIT = 4096


@given(st.integers(1, MAX_FRAME_EVENTS), st.binary(max_size=500), st.binary(max_size=3000))
def test_a_frame_comes_back_as_it_was(events: int, header: bytes, body: bytes) -> None:
    frame = Frame(events, header, body)
    assert decode_frame(encode_frame(frame, LIMIT)) == frame


def test_what_is_too_large_for_a_message_is_deflated() -> None:
    frame = Frame(3, b"header", b'{"type":"track"}' * 10_000)
    message = encode_frame(frame, LIMIT)
    assert len(message) < LIMIT
    assert decode_frame(message) == frame


def test_what_cannot_be_made_small_enough_is_refused() -> None:
    with pytest.raises(Unavailable, match="the call has 10000 bytes, and NATS takes no more than 4096"):
        encode_frame(Frame(1, b"", random.Random(1).randbytes(10_000)), LIMIT)


@given(st.integers(1, 2**48), st.integers(1, MAX_FRAME_EVENTS))
def test_positions_of_later_messages_are_higher(sequence: int, events: int) -> None:
    last = position_of(sequence) + events - 1
    assert sequence_of(position_of(sequence)) == sequence_of(last) == sequence
    assert last < position_of(sequence + 1)
