"""Decoding of log entries: accepted events, rejected events, and unreadable data."""

import json
from typing import Any

import pytest
from msgspec import msgpack
from structlog.testing import capture_logs

from headwater.base.clock import from_microseconds
from headwater.events import Envelope, Rejection
from headwater.events.canonical import canonical
from headwater.events.context import Location
from headwater.events.protocol import encode_envelope
from headwater.log import LogEntry, StoredEntry
from headwater.processing.batch import BatchReader, read_batch
from headwater.state import Message, RejectedEvent

GOOD = b'{"type":"track","event":"e","userId":"u","messageId":"m"}'
BAD = b'{"type":"track","userId":"u"}'


def stored(
    position: int, body: bytes, *, events: int = 1, call: str = "batch", rejection: Rejection | None = None
) -> StoredEntry:
    envelope = Envelope("track", call, 7, 42, 1_000_000, bytes(16), rejection=rejection)
    return StoredEntry(position, LogEntry(events, encode_envelope(envelope), body))


def rejected(
    position: int,
    rejection: Rejection,
    body: bytes,
    workspace: int = 7,
    connection: int = 42,
    received: int = 1_000_000,
) -> RejectedEvent:
    return RejectedEvent(
        position,
        workspace,
        connection,
        "track",
        from_microseconds(received),
        rejection.code,
        rejection.path,
        rejection.message,
        body,
    )


def test_nothing_is_nothing() -> None:
    assert (read_batch([]).accepted, read_batch([]).rejected, read_batch([]).last) == ([], [], 0)


def test_every_event_has_its_position_and_its_outcome() -> None:
    entries = [
        stored(5, b'{"batch":[' + GOOD + b"," + BAD + b"," + GOOD + b"]}", events=3),
        stored(8, b'{"userId":"u"}', call="page"),
    ]
    batch = read_batch(entries)
    assert batch.last == 8
    assert [
        (arrival.position, arrival.workspace, arrival.event.connection_id, arrival.event.type)
        for arrival in batch.accepted
    ] == [
        (5, 7, 42, "track"),
        (7, 7, 42, "track"),
        (8, 7, 42, "page"),
    ]
    assert batch.accepted[0].message == Message(5, (42, "m"), 1_000_000)
    assert batch.rejected == [rejected(6, Rejection("BadRequest", "event", "event is required in a track event"), BAD)]


def test_an_arrival_has_the_notes_of_its_event() -> None:
    late = GOOD[:-1] + b',"timestamp":"soon"}'
    batch = read_batch([stored(1, b'{"batch":[' + GOOD + b"," + late + b"]}", events=2)])
    assert [arrival.notes for arrival in batch.accepted] == [
        (),
        ("timestamp cannot be read as a time: the time of receipt is used",),
    ]
    assert json.loads(batch.accepted[1].document)["invalidTimes"] == {"timestamp": "soon"}


def test_an_entry_of_an_older_version_is_checked_again_with_its_body() -> None:
    cut = GOOD[:-1] + b',"groupId":"\\ud800"}'
    batch = read_batch([stored(1, b'{"batch":[' + cut + b"," + GOOD + b"]}", events=2)])
    assert [arrival.position for arrival in batch.accepted] == [2]
    assert [row.message for row in batch.rejected] == ["groupId contains an unpaired surrogate"]


def test_the_same_entries_give_the_same_batch() -> None:
    entries = [stored(1, b'{"batch":[' + BAD + b"," + b'{"type":"page","userId":"u"}' + b"]}", events=2)]
    first, second = read_batch(entries), read_batch(entries)
    assert [arrival.document for arrival in first.accepted] == [arrival.document for arrival in second.accepted]
    assert first.rejected == second.rejected


def test_a_call_that_was_rejected_as_a_whole_is_one_rejected_event() -> None:
    rejection = Rejection("Unauthorized", "", "the write key is not known")
    batch = read_batch([stored(3, b"any bytes \xff", rejection=rejection)])
    assert (batch.accepted, batch.rejected, batch.last) == ([], [rejected(3, rejection, b"any bytes \xff")], 3)


UNREADABLE = Rejection("InternalServerError", "", "the call was accepted but could not be read again")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"batch":5}', b"[5"])
def test_an_unreadable_entry_is_stored_and_the_others_are_processed(body: bytes) -> None:
    entries = [
        stored(1, b'{"batch":[' + BAD + b"]}"),
        stored(2, body, events=3),
        stored(5, b'{"batch":[' + GOOD + b"]}"),
    ]
    with capture_logs() as logs:
        batch = read_batch(entries)
    assert [row.position for row in batch.rejected] == [1, 2]
    assert batch.rejected[1] == rejected(2, UNREADABLE, body)
    assert [arrival.position for arrival in batch.accepted] == [5]
    assert batch.last == 5
    assert [(entry["log_level"], entry["position"]) for entry in logs] == [("error", 2)]


def test_an_event_that_cannot_be_read_costs_none_of_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any) -> object:
        if arguments[4] == 2:
            raise ValueError("a defect")
        return canonical(*arguments)

    unusual = GOOD[:-1] + b',"x":1}'
    monkeypatch.setattr("headwater.events.reader.canonical", failing)
    entries = [
        stored(1, b'{"batch":[' + GOOD + b"]}"),
        stored(2, b'{"batch":[' + b",".join([GOOD, BAD, unusual, GOOD]) + b"]}", events=4),
    ]
    with capture_logs() as logs:
        batch = read_batch(entries)
    assert [arrival.position for arrival in batch.accepted] == [1, 2, 5]
    assert [(row.position, row.code, row.message_id) for row in batch.rejected] == [
        (3, "BadRequest", None),
        (4, "InternalServerError", "m"),
    ]
    assert batch.rejected[1].body == unusual
    assert [(entry["log_level"], entry["position"]) for entry in logs] == [("error", 4)]


@pytest.mark.parametrize(
    ("message_id", "kept"),
    [
        ("m", "m"),
        (5, "5"),
        ("", None),
        (None, None),
        (["m"], None),
        ("\0", None),
        ("a" * 1000, "a" * 1000),
        ("a" * 1001, None),
        ("\U0001f600" * 500, "\U0001f600" * 500),
        ("\U0001f600" * 501, None),  # PostgreSQL could not index it, and the batch would fail for ever
    ],
)
def test_a_rejected_event_is_known_by_its_message_id_where_an_accepted_one_could_be(
    message_id: object, kept: str | None
) -> None:
    body = json.dumps({"batch": [{"type": "track", "messageId": message_id}]}, ensure_ascii=False).encode()
    assert [row.message_id for row in read_batch([stored(1, body)]).rejected] == [kept]


def test_places_are_looked_up() -> None:
    event = b'{"type":"page","userId":"u","context":{"ip":"203.0.113.9"}}'
    reader = BatchReader(lambda ip: Location(country="IT"))
    reader.add(stored(1, b'{"batch":[' + event + b"]}"))
    assert b'"location":{"country":"IT"}' in reader.batch().accepted[0].document


@pytest.mark.parametrize("header", [b"", b"\xc1", msgpack.encode(["smoke", "x", 1, 1, 1, b""])])
def test_a_header_that_cannot_be_read_is_kept_as_of_nobody(header: bytes) -> None:
    with capture_logs() as logs:
        batch = read_batch([StoredEntry(1, LogEntry(2, header, b"body")), stored(3, b'{"batch":[' + GOOD + b"]}")])
    assert batch.rejected == [rejected(1, UNREADABLE, b"body", workspace=0, connection=0, received=0)]
    assert [arrival.position for arrival in batch.accepted] == [3]
    assert logs[0]["log_level"] == "error"


def test_the_verdict_of_the_intake_counts_whatever_the_rules_are_now() -> None:
    """A version with other rules may process events that another version accepted."""
    rejection = Rejection("BadRequest", "event", "is out of fashion")
    envelope = Envelope("track", "batch", 7, 42, 1_000_000, bytes(16), rejected={0: rejection})
    body = b'{"batch":[' + GOOD + b"," + GOOD.replace(b'"m"', b'"n"') + b"]}"
    batch = read_batch([StoredEntry(1, LogEntry(2, encode_envelope(envelope), body))])
    assert [(row.position, row.message, row.message_id) for row in batch.rejected] == [(1, "is out of fashion", "m")]
    assert [arrival.position for arrival in batch.accepted] == [2]
