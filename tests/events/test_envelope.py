"""Stored log entries remain readable: the format of the header is part of the data on disk."""

from datetime import UTC, datetime

import msgspec
import pytest

from headwater.events import Envelope, Rejection
from headwater.events.protocol import decode_envelope, encode_envelope

FULL = Envelope(
    protocol="grpc",
    call="batch",
    workspace=7,
    connection=42,
    received=1_795_348_810_500_000,
    nonce=bytes(range(16)),
    ip="203.0.113.9",
    user_agent="analytics-node/3.1.0",
    rejection=Rejection("BadRequest", "batch", "batch must be an array of events"),
    is_client_side=True,
    rejected={1: Rejection("BadRequest", "batch", "batch must be an array of events")},
)


def test_a_header_is_read_as_it_was_written() -> None:
    assert decode_envelope(encode_envelope(FULL)) == FULL
    assert FULL.received_at == datetime(2026, 11, 22, 12, 0, 10, 500_000, tzinfo=UTC)


def test_a_header_is_an_array_in_this_order() -> None:
    """A header in existing logs. Add fields at the end only."""
    rejection = {"code": "BadRequest", "path": "batch", "message": "batch must be an array of events"}
    assert msgspec.msgpack.decode(encode_envelope(FULL)) == [
        "grpc",
        "batch",
        7,
        42,
        1_795_348_810_500_000,
        bytes(range(16)),
        "203.0.113.9",
        "analytics-node/3.1.0",
        rejection,
        [32 * 1024, 500 * 1024, 1024 * 1024],
        True,
        {1: rejection},
    ]


def test_a_header_of_an_older_version_lacks_fields_at_its_end() -> None:
    oldest = msgspec.msgpack.encode(["track", "identify", 7, 42, 1, b"n"])
    assert decode_envelope(oldest) == Envelope("track", "identify", 7, 42, 1, b"n", "", "", None)


def test_a_header_of_a_newer_version_has_more() -> None:
    newer = [*msgspec.msgpack.decode(encode_envelope(FULL)), {"something": "new"}]
    assert decode_envelope(msgspec.msgpack.encode(newer)) == FULL


@pytest.mark.parametrize("header", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode(["smoke", "x", 1, 1, 1, b""])])
def test_what_is_no_header_raises(header: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_envelope(header)
