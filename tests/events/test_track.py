"""The track protocol: accepted events, rejected events with their reasons, and stored documents."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.base.clock import microseconds
from headwater.base.errors import BadRequest, PayloadTooLarge
from headwater.events import DEFAULT_LIMITS, Envelope, Rejection, check_events
from headwater.events.canonical import Canonical, canonical, generated_message_id
from headwater.events.protocols import track
from headwater.events.protocols.track import read_call
from headwater.events.protocols.track.rules import _KNOWN, extra
from headwater.events.wire import IDS, MEMBERS, WireEvent, find_email
from tests.events.reading import check
from tests.jsontexts import json_text, json_values

RECEIVED = datetime(2026, 11, 22, 12, 0, 10, 500_000, tzinfo=UTC)
ENVELOPE = Envelope("track", "batch", 7, 42, microseconds(RECEIVED), bytes(range(16)))

SENT = "2026-11-22T12:00:05.000Z"  # 5.5 s before it was received
HAPPENED = "2026-11-22T12:00:01.250Z"
CORRECTED = "2026-11-22T12:00:06.750000Z"
OWN = "2026-11-22T12:00:01.250000Z"
ARRIVED = "2026-11-22T12:00:10.500000Z"

TRACK = {"type": "track", "event": "Order Completed", "userId": "u1"}


def raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


def checked(event: dict[str, Any], type_of_call: str | None = None) -> WireEvent:
    wire = check(raw(event), type_of_call)
    assert isinstance(wire, WireEvent), wire
    return wire


def rejected(event: object, type_of_call: str | None = None) -> Rejection:
    rejection = check(raw(event), type_of_call)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def stored(event: dict[str, Any] | bytes, **batch: Any) -> dict[str, Any]:
    """The document of one event of a batch, read back."""
    text = event if isinstance(event, bytes) else json.dumps(event).encode()
    members = b"".join(b",%s:%s" % (json.dumps(name).encode(), raw(value)) for name, value in batch.items())
    document: dict[str, Any] = json.loads(stored_text(b'{"batch":[' + text + b"]" + members + b"}"))
    return document


def stored_text(body: bytes, call: str = "batch") -> bytes:
    read = read_call(call, body)
    wire = check(read.events[0], read.type)
    assert isinstance(wire, WireEvent), wire
    return canonical(wire, extra(read.events[0]), read, ENVELOPE, 0)[1]


# --- check: the ids that each type requires -----------------------------------------------------------------------

ACCEPTED: list[dict[str, Any]] = [
    {"type": "identify", "userId": "u"},
    {"type": "identify", "anonymousId": "a"},
    {"type": "identify", "traits": {"email": "ada@example.com"}},
    {"type": "identify", "context": {"traits": {"email": "ada@example.com"}}},
    {"type": "track", "event": "e", "userId": "u"},
    {"type": "track", "event": "e", "anonymousId": "a"},
    {"type": "track", "event": "e", "groupId": "g"},
    {"type": "page", "userId": "u"},
    {"type": "page", "anonymousId": "a", "name": None, "category": None},
    {"type": "screen", "userId": "u"},
    {"type": "screen", "anonymousId": "a", "name": "Home", "properties": None},
    {"type": "group", "groupId": "g"},
    {"type": "group", "groupId": "g", "userId": None, "anonymousId": None},
    {"type": "alias", "previousId": "a", "userId": "u"},
]


@pytest.mark.parametrize("event", ACCEPTED, ids=str)
def test_accepts(event: dict[str, Any]) -> None:
    checked(event)


LACKING: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "identify"}, "userId", "userId or anonymousId or traits.email is required in an identify event"),
    ({"type": "identify", "traits": {"email": ""}}, "userId", ""),
    ({"type": "identify", "traits": {"email": None}}, "userId", ""),
    ({"type": "identify", "traits": {"email": 5}}, "userId", ""),
    ({"type": "identify", "traits": {"email": ["a@b.c"]}}, "userId", ""),
    ({"type": "identify", "traits": {"email": "a\0b"}}, "userId", ""),
    ({"type": "identify", "traits": {"email": "x" * 1001}}, "userId", ""),
    ({"type": "identify", "groupId": "g", "previousId": "p"}, "userId", ""),
    ({"type": "track", "userId": "u"}, "event", "event is required in a track event"),
    ({"type": "track", "userId": "u", "event": None}, "event", ""),
    ({"type": "track", "userId": "u", "event": ""}, "event", ""),
    ({"type": "track", "event": "e"}, "userId", "userId or anonymousId or groupId is required in a track event"),
    ({"type": "page"}, "userId", "userId or anonymousId is required in a page event"),
    ({"type": "page", "groupId": "g"}, "userId", ""),
    ({"type": "page", "traits": {"email": "a@b.c"}}, "userId", ""),
    ({"type": "screen"}, "userId", "userId or anonymousId is required in a screen event"),
    ({"type": "group", "userId": "u"}, "groupId", "groupId is required in a group event"),
    ({"type": "group", "groupId": "", "userId": "u"}, "groupId", ""),
    ({"type": "alias", "userId": "u"}, "previousId", "previousId is required in an alias event"),
    ({"type": "alias", "previousId": "p"}, "userId", "userId is required in an alias event"),
    ({"type": "alias", "previousId": "p", "anonymousId": "a"}, "userId", ""),
    ({"type": "page", "userId": None, "anonymousId": ""}, "userId", ""),
    ({"userId": "u"}, "type", "type must be one of alias, group, identify, page, screen, track"),
    ({"type": "trac\u212a", "event": "e", "userId": "u"}, "type", ""),
    ({"type": "Tracks", "event": "e", "userId": "u"}, "type", ""),
    ({"type": None, "userId": "u"}, "type", ""),
]


@pytest.mark.parametrize(("event", "path", "message"), LACKING, ids=str)
def test_rejects_objects_with_missing_members(event: dict[str, Any], path: str, message: str) -> None:
    rejection = rejected(event)
    assert (rejection.code, rejection.path) == ("BadRequest", path)
    assert rejection.message == message or (not message and rejection.message.startswith(path))


@pytest.mark.parametrize("type_", ["identify", "page", "screen"])
def test_the_route_says_the_type_whatever_the_event_says(type_: str) -> None:
    assert checked({"userId": "u"}, type_).type == type_
    assert checked({"userId": "u", "type": "alias"}, type_).type == type_


# --- check: JSON types and values ---------------------------------------------------------------------------------

NOT_TEXT: list[object] = [5, 1.5, True, [], {}]
NOT_ID: list[object] = [True, [], {"id": 1}]
NOT_OBJECT: list[object] = [5, True, [], "x", "{}"]

WRONG_TYPES = [
    *(
        (name, value, "must be a string or null")
        for name in ("event", "name", "category", "channel")
        for value in NOT_TEXT
    ),
    *((name, value, "must be a string or null") for name in ("type",) for value in NOT_TEXT),
    *(
        (name, value, "must be a string, a number or null")
        for name in ("userId", "anonymousId", "previousId", "groupId", "messageId")
        for value in NOT_ID
    ),
    *(
        (name, value, "must be an object or null")
        for name in ("context", "properties", "traits", "integrations")
        for value in NOT_OBJECT
    ),
]


@pytest.mark.parametrize(("name", "value", "rule"), WRONG_TYPES, ids=str)
def test_rejects_wrong_json_types(name: str, value: object, rule: str) -> None:
    assert rejected({**TRACK, name: value}) == Rejection("BadRequest", name, f"{name} {rule}")


@pytest.mark.parametrize("event", [None, 5, "x", [], [TRACK], True], ids=str)
def test_an_event_is_an_object(event: object) -> None:
    assert rejected(event) == Rejection("BadRequest", "", "the event must be a JSON object")


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("5", "5"),
        ("0", "0"),
        ("-7", "-7"),
        ("9007199254740993", "9007199254740993"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1.5", "1.5"),
        ('"u1"', "u1"),
        ('"Ω"', "Ω"),
        ("null", None),
        ('""', None),
    ],
)
@pytest.mark.parametrize("member", ["userId", "anonymousId", "previousId", "groupId", "messageId"])
def test_ids_are_text_numbers_or_absent(member: str, sent: str, taken: str | None) -> None:
    wire = check(
        Raw(b'{"type":"alias","userId":"u","previousId":"p","%s":%s}' % (member.encode(), sent.encode())), None
    )
    if taken is None and member in ("userId", "previousId"):
        assert isinstance(wire, Rejection)
    else:
        assert isinstance(wire, WireEvent)
        field = next(field for field, name in MEMBERS.items() if name == member)
        assert getattr(wire, field) == taken


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e999"])
def test_numbers_that_nothing_can_hold_are_no_ids(number: str) -> None:
    rejection = check(Raw(b'{"type":"page","userId":%s}' % number.encode()), None)
    assert rejection == Rejection("BadRequest", "userId", "userId must be a string, a number or null")


@pytest.mark.parametrize(
    "member", ["userId", "anonymousId", "previousId", "groupId", "messageId", "event", "name", "category", "channel"]
)
def test_texts_have_a_length_in_code_points_and_no_nul(member: str) -> None:
    checked({**TRACK, member: "é" * 1000})
    assert rejected({**TRACK, member: "x" * 1001}) == Rejection(
        "BadRequest", member, f"{member} is longer than 1000 characters"
    )
    assert rejected({**TRACK, member: "a\0b"}) == Rejection(
        "BadRequest", member, f"{member} contains the NUL character"
    )


@pytest.mark.parametrize("ascii_only", [True, False])
def test_identifiers_fit_into_an_index(ascii_only: bool) -> None:
    for member in ("userId", "anonymousId", "previousId", "groupId", "messageId"):
        event = {**TRACK, member: "😀" * 501}
        rejection = check(Raw(json.dumps(event, ensure_ascii=ascii_only).encode()), None)
        assert rejection == Rejection("BadRequest", member, f"{member} is longer than 2000 bytes")
        checked({**TRACK, member: "😀" * 500})
    checked({**TRACK, "event": "😀" * 1000})
    rejected({"type": "identify", "traits": {"email": "😀" * 501}})


def test_an_event_has_at_most_32_kib() -> None:
    frame = len(json.dumps({**TRACK, "properties": {"p": ""}}))
    largest = {**TRACK, "properties": {"p": "x" * (DEFAULT_LIMITS.event_bytes - frame)}}
    assert len(json.dumps(largest)) == 32 * 1024
    checked(largest)
    largest["properties"]["p"] += "x"  # type: ignore[index]  # it is a dict
    assert rejected(largest) == Rejection("PayloadTooLarge", "", "the event is larger than 32768 bytes")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_an_event_is_at_most_100_levels_deep(opening: str) -> None:
    def nested(levels: int) -> Raw:
        closing = "]" if opening == "[" else "}"
        inner = opening * (levels - 2) + "0" + closing * (levels - 2)
        return Raw(b'{"type":"page","userId":"u","properties":{"p":%s}}' % inner.encode())

    assert isinstance(check(nested(100), None), WireEvent)
    assert check(nested(101), None) == Rejection("BadRequest", "", "the event is nested deeper than 100 levels")


def test_brackets_in_texts_are_not_levels() -> None:
    checked({**TRACK, "properties": {"[" * 200: '"{' * 200}})
    checked({**TRACK, "properties": {"list": [[]] * 500}})


# --- timestamps ---------------------------------------------------------------------------------------------------

TIMES = {
    "2026-11-22T00:20:39.879+00:00": "2026-11-22T00:20:39.879000Z",  # Python
    "2026-11-22T00:20:39.879860+00:00": "2026-11-22T00:20:39.879860Z",  # RudderStack Python
    "2026-11-22T00:20:39+02:00": "2026-11-21T22:20:39Z",
    "2026-11-22T00:20:39.860Z": "2026-11-22T00:20:39.860000Z",  # Node, browsers
    "2026-11-22T00:20:39.8601234Z": "2026-11-22T00:20:39.860123Z",  # .NET
    "2026-11-22T00:20:39.860123456Z": "2026-11-22T00:20:39.860123Z",  # Go
    "2026-11-22T00:20:39Z": "2026-11-22T00:20:39Z",
    "2026-11-22T00:20:39": "2026-11-22T00:20:39Z",
    "2026-11-22 00:20:39": "2026-11-22T00:20:39Z",
    "2026-11-22": "2026-11-22T00:00:00Z",
    "0001-01-01T00:00:00Z": "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z": "9999-12-31T23:59:59.999999Z",
}


@pytest.mark.parametrize(("sent", "taken"), TIMES.items())
def test_reads_the_timestamps_that_sdks_send(sent: str, taken: str) -> None:
    document = stored({**TRACK, "timestamp": sent, "originalTimestamp": sent, "sentAt": sent})
    assert (document["timestamp"], document["originalTimestamp"], document["sentAt"]) == (taken, taken, taken)


NUMBERS = {
    "1795306839": "2026-11-22T00:20:39Z",
    "1795306839.25": "2026-11-22T00:20:39.250000Z",
    "1795306839860": "2026-11-22T00:20:39.860000Z",
    "1795306839860.123": "2026-11-22T00:20:39.860123Z",
    "1.795306839e9": "2026-11-22T00:20:39Z",
}


@pytest.mark.parametrize(("sent", "taken"), NUMBERS.items())
@pytest.mark.parametrize("quote", ["", '"'])
def test_reads_times_since_the_epoch_as_number_and_as_text(sent: str, taken: str, quote: str) -> None:
    times = ",".join(f'"{name}":{quote}{sent}{quote}' for name in ("timestamp", "originalTimestamp", "sentAt"))
    document = stored(f'{{"type":"page","userId":"u",{times}}}'.encode())
    assert (document["timestamp"], document["originalTimestamp"], document["sentAt"]) == (taken, taken, taken)
    assert "invalidTimes" not in document


GARBAGE: list[Any] = [
    "garbage",
    "2026-13-01",
    "2026-02-30T00:00:00Z",
    "Sun, 22 Nov 2026 00:20:39 GMT",
    "10000-01-01",
    "0001-01-01T00:00:00+02:00",
    "9999-12-31T23:59:59-02:00",
    "2026-11-22T25:00:00Z",
    "\0",
    0,
    -1795306839,
    10**14,
    10**400,
    "1e999",
    1.5,
    True,
    [],
    {"seconds": 1795306839},
]


def made(event: dict[str, Any], **batch: Any) -> Canonical:
    call = read_call("batch", json.dumps({"batch": [event], **batch}).encode())
    wire = check(call.events[0], call.type)
    assert isinstance(wire, WireEvent), wire
    return canonical(*track.read(call.events[0], call), call, ENVELOPE, 0)


def note(member: str) -> str:
    return f"{member} cannot be read as a time: the time of receipt is used"


@pytest.mark.parametrize("member", ["timestamp", "originalTimestamp", "sentAt"])
@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda value: str(value)[:30])
def test_a_time_that_cannot_be_read_is_the_time_of_receipt_and_its_text_is_kept(member: str, garbage: Any) -> None:
    event, text, notes = made({**TRACK, member: garbage})
    assert {event.timestamp, event.original_timestamp, event.sent_at} == {RECEIVED}
    kept = garbage if isinstance(garbage, str) else json.dumps(garbage)
    assert json.loads(text)["invalidTimes"] == {member: kept[:200]}
    assert notes == (note(member),)


@pytest.mark.parametrize("garbage", [*GARBAGE, "x" * 400_000, "9" * 5000], ids=lambda value: str(value)[:30])
def test_a_sent_at_of_the_batch_that_cannot_be_read_is_the_time_of_receipt(garbage: Any) -> None:
    event, text, notes = made({**TRACK, "timestamp": HAPPENED}, sentAt=garbage)
    assert (event.timestamp, event.sent_at) == (datetime.fromisoformat(HAPPENED), RECEIVED)
    assert len(json.loads(text)["invalidTimes"]["sentAt"]) <= 200
    assert notes == (note("sentAt"),)
    event, text, notes = made({**TRACK, "timestamp": HAPPENED, "sentAt": SENT}, sentAt=garbage)
    assert (event.sent_at, notes) == (datetime.fromisoformat(SENT), ())


def test_of_two_times_one_that_cannot_be_read_leaves_the_other_as_it_is() -> None:
    event, _, notes = made({**TRACK, "timestamp": HAPPENED, "originalTimestamp": "soon", "sentAt": SENT})
    assert (event.timestamp, event.original_timestamp) == (datetime.fromisoformat(HAPPENED), RECEIVED)
    assert notes == (note("originalTimestamp"),)
    event, _, notes = made({**TRACK, "timestamp": "x", "originalTimestamp": HAPPENED, "sentAt": "x"})
    assert (event.timestamp, event.original_timestamp) == (RECEIVED, datetime.fromisoformat(HAPPENED))
    assert notes == (note("sentAt"), note("timestamp"))


def test_a_correction_that_is_not_used_has_a_note() -> None:
    stale = {"timestamp": HAPPENED, "sentAt": "1970-01-01"}
    assert made({**TRACK, **stale})[2] == (
        "sentAt is not used to correct timestamp: that would move the event more than a day into the future",
    )
    assert made({**TRACK, **stale, "originalTimestamp": HAPPENED})[2] == ()
    assert made({**TRACK, "timestamp": HAPPENED, "sentAt": SENT})[2] == ()


_TIMES_IN_ANY_FORM = st.one_of(
    json_values, st.text("0123456789-:.TZ+eW ", max_size=30), st.integers(), st.floats(allow_nan=False)
)


@given(_TIMES_IN_ANY_FORM, _TIMES_IN_ANY_FORM, _TIMES_IN_ANY_FORM, _TIMES_IN_ANY_FORM, st.booleans())
def test_no_time_ever_rejects_an_event(
    timestamp: Any, original: Any, sent: Any, sent_of_batch: Any, has_other: bool
) -> None:
    times = {"timestamp": timestamp, "originalTimestamp": original, "sentAt": sent}
    first = made({**TRACK, **times, **({"other": 1} if has_other else {})}, sentAt=sent_of_batch)
    assert made({**TRACK, **times, **({"other": 1} if has_other else {})}, sentAt=sent_of_batch) == first
    invalid = json.loads(first[1]).get("invalidTimes", {})
    assert [note(member) for member in invalid] == [each for each in first[2] if "cannot be read" in each]
    assert all(getattr(first[0], FIELDS[member]) == RECEIVED for member in invalid)
    assert first[0].timestamp.tzinfo is first[0].sent_at.tzinfo is UTC


FIELDS = {member: field for field, member in MEMBERS.items()}


@pytest.mark.parametrize("type_", ["Page", "PAGE", "pAGE"])
def test_the_type_is_read_in_any_case(type_: str) -> None:
    assert checked({"type": type_, "userId": "u"}).type == "page"
    assert stored({"type": type_, "userId": "u", "other": 1})["type"] == "page"


# --- identifiers with an unpaired surrogate -----------------------------------------------------------------------

CUT = ["a\\ud800", "a\\uDBFF", "\\udc00", "\\ud800\\ud800\\udc00"]


def rejection_counts(call: str, body: str) -> list[Rejection | None]:
    read = read_call(call, body.encode())
    return [each if isinstance(each, Rejection) else None for each in check_events(track, read, DEFAULT_LIMITS)]


@pytest.mark.parametrize("cut", CUT)
@pytest.mark.parametrize("field", IDS)
def test_an_identifier_with_an_unpaired_surrogate_is_rejected_and_not_repaired(field: str, cut: str) -> None:
    member = MEMBERS[field]
    event = f'{{"type":"track","event":"e","groupId":"g","ratio":NaN,"{member}":"{cut}"}}'
    expected = Rejection("BadRequest", member, f"{member} contains an unpaired surrogate")
    assert rejection_counts("track", event) == [expected]
    good = r'{"type":"page","userId":"a\ufffd","messageId":"\ufffd","properties":{"cut":"\ud800"}}'
    assert rejection_counts("batch", f'{{"batch":[{good},{event},5,{good}],"x":"\\ud800"}}') == [
        None,
        expected,
        Rejection("BadRequest", "", "the event must be a JSON object"),
        None,
    ]


@given(st.lists(st.text(st.characters(categories=["Cs"]) | st.sampled_from("a\ufffd\ufffe😀"), min_size=1), min_size=1))
def test_no_two_message_ids_are_merged(ids: list[str]) -> None:
    events = [{"type": "page", "userId": "u", "messageId": id_} for id_ in ids]
    call = read_call("batch", json.dumps({"batch": events}).encode())
    for id_, outcome in zip(json.loads(json.dumps(ids)), check_events(track, call, DEFAULT_LIMITS), strict=True):
        if any("\ud800" <= character <= "\udfff" for character in id_):
            assert outcome == Rejection("BadRequest", "messageId", "messageId contains an unpaired surrogate")
        else:
            assert isinstance(outcome, WireEvent)
            assert outcome.message_id == id_


@pytest.mark.parametrize("absent", [None, ""])
@pytest.mark.parametrize("member", ["timestamp", "originalTimestamp", "sentAt"])
def test_a_timestamp_may_be_absent(member: str, absent: str | None) -> None:
    document = stored({**TRACK, member: absent})
    assert {document[name] for name in ("timestamp", "originalTimestamp", "sentAt", "receivedAt")} == {
        "2026-11-22T12:00:10.500000Z"
    }


# --- read_call ----------------------------------------------------------------------------------------------------

NO_JSON = [
    b"",
    b" ",
    b"{",
    b'{"userId":"u"',
    b'{"userId":"u"}x',
    b'{"userId":"u"}{}',
    b"{'userId':'u'}",
    b'{"a":nan}',
    b'{"a":+Infinity}',
    b'{"a":NaNa}',
    b"{NaN:1}",
    b'{"a":01}',
    b'{"a":1.}',
    b'{"a":+1}',
    b'{"a":"\x01"}',
    b'{"a":"\\x"}',
    b'{"a":"\xff"}',
    b'{"\xff":1}',
    b'{"a":"\xed\xa0\x80"}',
    b"\xef\xbb\xbf{}",
    b'{"a":1,}',
    b'{"a" 1}',
    b'{"a":[1,]}',
    b'{"a":\xc0\x80}',
    b"\x1f\x8b",
    b"a=b",
    rb'{"a":"\ud80"}',
    rb'{"a":"\ud800","b":}',
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


ONE_REASON = re.compile(
    r"the body is (not UTF-8: byte \d+ is wrong|nested too deeply|empty: it must be JSON|not JSON: it ends too early|"
    r"not JSON: ((expected|invalid|trailing) [^()]+|object keys must be strings))"
)


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: str(body[:30]))
def test_a_body_is_json_in_utf_8(body: bytes) -> None:
    for call, text in (("page", body), ("batch", b'{"batch":[' + body + b"]}")):
        if body.strip() or call == "page":  # a batch may be empty
            with pytest.raises(BadRequest) as raised:
                read_call(call, text)
            assert ONE_REASON.fullmatch(raised.value.message), raised.value.message


def test_what_sdks_write_and_json_does_not_have_costs_no_event() -> None:
    broken = rb'{"type":"page","properties":{"cut":"\ud83d","ratio":NaN}}'
    corrected = rb'{"type":"page","properties":{"cut":"\ufffd","ratio":null}}'
    other = rb'{"type":"page","properties":{"text":"NaN \ud83d\ude80"}}'
    assert [bytes(event) for event in read_call("page", broken).events] == [corrected]
    batch = b'{"batch":[' + other + b"," + broken + b"," + other + b"]}"
    assert [bytes(event) for event in read_call("batch", batch).events] == [other, corrected, other]


@pytest.mark.parametrize(
    ("call", "body", "field", "message"),
    [
        ("page", b"[]", None, "the body must be a JSON object"),
        ("page", b"null", None, "the body must be a JSON object"),
        ("page", b'"x"', None, "the body must be a JSON object"),
        ("page", b'{"writeKey":5}', "writeKey", "writeKey must be a string or null"),
        ("batch", b"5", None, "the body must be a JSON object"),
        ("batch", b"null", None, "the body must be a JSON object"),
        ("batch", b'{"type":5}', "batch", "batch is required and must be an array of events"),
        ("batch", b'{"type":"page","batch":null}', "batch", "batch must be an array of events"),
        ("batch", b'{"type":"page","writeKey":5}', "writeKey", "writeKey must be a string or null"),
        ("batch", b"{}", "batch", "batch is required and must be an array of events"),
        ("batch", b'{"batch":null}', "batch", "batch must be an array of events"),
        ("batch", b'{"batch":{}}', "batch", "batch must be an array of events"),
        ("batch", b'{"batch":"[]"}', "batch", "batch must be an array of events"),
        ("batch", b'{"batch":[],"writeKey":5}', "writeKey", "writeKey must be a string or null"),
        ("batch", b'{"batch":[],"context":[]}', "context", "context must be an object or null"),
        ("batch", b'{"batch":[],"integrations":"All"}', "integrations", "integrations must be an object or null"),
    ],
)
def test_rejects_a_call_of_another_shape(call: str, body: bytes, field: str | None, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read_call(call, body)
    assert (raised.value.field, raised.value.message) == (field, message)


def test_a_batch_takes_the_events_apart_and_changes_none() -> None:
    call = read_call("batch", b' {"batch": [ {"a": 1.0} , 7,null,[1 ] ], "sentAt": "", "x": 1} ')
    assert [bytes(event) for event in call.events] == [b'{"a": 1.0}', b"7", b"null", b"[1 ]"]
    assert (call.type, call.sent_at or None) == (None, None)


@pytest.mark.parametrize(
    ("body", "events", "key"),
    [
        (b' [ {"type":"page"} , 7,{ } ]\n', [b'{"type":"page"}', b"7", b"{ }"], None),
        (b"[]", [], None),
        (b'[{"type":"page","writeKey":"k"},{}]', [b'{"type":"page","writeKey":"k"}', b"{}"], "k"),
        (b' {"type":"page", "userId":"u"}\n', [b'{"type":"page", "userId":"u"}'], None),
        (b'{"type":"page","writeKey":"k"}', [b'{"type":"page","writeKey":"k"}'], "k"),
        (b'{"type":"page","context":5,"sentAt":5}', [b'{"type":"page","context":5,"sentAt":5}'], None),
        (b'[{"type":"page","userId":NaN}]', [b'{"type":"page","userId":null}'], None),
    ],
)
def test_a_webhook_sends_one_event_or_an_array(body: bytes, events: list[bytes], key: str | None) -> None:
    call = read_call("batch", body)
    assert (call.type, [bytes(event) for event in call.events], call.write_key) == (None, events, key)
    assert not call.context and not call.integrations and call.sent_at is None


@pytest.mark.parametrize("body", [b"[", b'[{"type":"page"}', b'{"type":"page"', b"[1,]", b'[{"a":"\xff"}]'])
def test_a_body_of_a_webhook_that_is_not_json_is_rejected(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_call("batch", body)


def test_identifiers_with_an_unpaired_surrogate_are_rejected_in_every_shape() -> None:
    for body in (b'[{"type":"page","userId":"a\\ud83d"}]', b'{"type":"page","userId":"a\\ud83d"}'):
        assert list(read_call("batch", body).rejected) == [0]


def test_a_call_of_one_event_takes_its_type_from_the_route() -> None:
    call = read_call("screen", b' {"userId":"u"} ')
    assert (call.type, [bytes(event) for event in call.events]) == ("screen", [b'{"userId":"u"}'])


@pytest.mark.parametrize(
    ("call", "body", "key"),
    [
        ("page", b'{"writeKey":"k"}', "k"),
        ("page", b"{}", None),
        ("page", b'{"writeKey":null}', None),
        ("batch", b'{"batch":[],"writeKey":"k"}', "k"),
        ("batch", b'{"batch":[{"writeKey":"e"}],"writeKey":"k"}', "k"),
        ("batch", b'{"batch":[{"writeKey":"e"}],"writeKey":null}', "e"),
        ("batch", b'{"batch":[{"writeKey":"e"}],"writeKey":""}', "e"),
        ("batch", b'{"batch":[{"writeKey":"e"},{"writeKey":"f"}]}', "e"),
        ("batch", b'{"batch":[]}', None),
        ("batch", b'{"batch":[5,{"writeKey":"f"}]}', None),
        ("batch", b'{"batch":[{"writeKey":5}]}', None),
    ],
)
def test_finds_the_write_key_in_the_body(call: str, body: bytes, key: str | None) -> None:
    assert (read_call(call, body).write_key or None) == key


def test_a_batch_has_at_most_20000_events() -> None:
    assert len(read_call("batch", b'{"batch":[' + b"0," * 19_999 + b"0]}").events) == 20_000
    with pytest.raises(PayloadTooLarge, match="batch has more than 20000 events"):
        read_call("batch", b'{"batch":[' + b"0," * 20_000 + b"0]}")


@pytest.mark.parametrize("name", ["context", "integrations"])
def test_what_a_batch_repeats_in_every_event_is_bounded(name: str) -> None:
    """Otherwise 500 KB of a batch would become gigabytes of documents."""
    large = b'{"%s":{"a":"%s"},"batch":[%s]}'
    read_call("batch", large % (name.encode(), b"x" * 40_000, b",".join([b"{}"] * 100)))
    with pytest.raises(PayloadTooLarge) as raised:
        read_call("batch", large % (name.encode(), b"x" * 200_000, b",".join([b"{}"] * 9_000)))
    assert raised.value.field == name
    with pytest.raises(BadRequest, match="nested deeper than 100 levels"):
        read_call("batch", b'{"batch":[{}],"%s":%s0%s}' % (name.encode(), b'{"a":' * 101, b"}" * 101))


# --- canonical: clocks --------------------------------------------------------------------------------------------

CLOCKS: list[tuple[dict[str, str], dict[str, str], str, str]] = [
    ({"timestamp": HAPPENED, "sentAt": SENT}, {}, CORRECTED, OWN),
    ({"originalTimestamp": HAPPENED, "sentAt": SENT}, {}, CORRECTED, OWN),
    ({"timestamp": HAPPENED}, {"sentAt": SENT}, CORRECTED, OWN),
    ({"timestamp": HAPPENED, "sentAt": ""}, {"sentAt": SENT}, CORRECTED, OWN),
    ({"timestamp": HAPPENED, "sentAt": "2026-11-22T12:00:10.5Z"}, {"sentAt": SENT}, OWN, OWN),
    ({"timestamp": HAPPENED}, {}, OWN, OWN),
    ({"timestamp": HAPPENED, "originalTimestamp": "2026-01-01", "sentAt": SENT}, {}, OWN, "2026-01-01T00:00:00Z"),
    ({"sentAt": SENT}, {}, ARRIVED, ARRIVED),
    ({}, {}, ARRIVED, ARRIVED),
    ({"timestamp": "9999-12-31T23:59:59Z", "sentAt": SENT}, {}, "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ({"timestamp": HAPPENED, "sentAt": "1970-01-01"}, {}, OWN, OWN),
    ({"timestamp": HAPPENED}, {"sentAt": "2026-11-21T12:00:01.24Z"}, OWN, OWN),
    ({"timestamp": HAPPENED}, {"sentAt": "2026-11-21T12:00:01.25Z"}, "2026-11-23T12:00:10.500000Z", OWN),
    (
        {"timestamp": "1970-01-01", "sentAt": "1970-01-01T00:00:05Z"},
        {},
        "2026-11-22T12:00:05.500000Z",
        "1970-01-01T00:00:00Z",
    ),
    ({"timestamp": "0001-01-01", "sentAt": "2026-11-23"}, {}, ARRIVED, "0001-01-01T00:00:00Z"),
]


@pytest.mark.parametrize(("event", "batch", "timestamp", "original"), CLOCKS, ids=str)
def test_corrects_the_clients_clock(
    event: dict[str, str], batch: dict[str, str], timestamp: str, original: str
) -> None:
    document = stored({**TRACK, **event}, **batch)
    assert (document["timestamp"], document["originalTimestamp"]) == (timestamp, original)
    assert document["receivedAt"] == ARRIVED


# --- canonical: members -------------------------------------------------------------------------------------------


def test_the_document_of_an_event() -> None:
    event = {
        **TRACK,
        "anonymousId": "a",
        "groupId": "g",
        "previousId": "p",
        "messageId": "m",
        "name": "n",
        "category": "c",
        "channel": "server",
        "context": {"ip": "1.2.3.4"},
        "properties": {"total": 9.5},
        "traits": {"plan": "pro"},
        "integrations": {"All": True},
        "timestamp": HAPPENED,
        "sentAt": SENT,
        "_metadata": {"nodeVersion": "20"},
        "version": 2,
        "writeKey": "k",
    }
    document = stored(event)
    assert document == {
        **{name: value for name, value in event.items() if name != "writeKey"},
        "connectionId": 42,
        "timestamp": CORRECTED,
        "originalTimestamp": OWN,
        "sentAt": "2026-11-22T12:00:05Z",
        "receivedAt": ARRIVED,
    }


@pytest.mark.parametrize("type_", ["page", "screen", "track"])
@pytest.mark.parametrize("nothing", [{}, {"properties": None}, {"properties": {}}], ids=str)
def test_properties_are_an_object_where_the_type_has_them(type_: str, nothing: dict[str, Any]) -> None:
    assert stored({**TRACK, "type": type_, **nothing})["properties"] == {}


def test_null_is_absent() -> None:
    nulls = dict.fromkeys(
        ("anonymousId", "name", "category", "channel", "context", "integrations", "traits", "groupId")
    )
    document = stored({**TRACK, **nulls})
    assert set(document) == {
        "connectionId",
        "messageId",
        "type",
        "userId",
        "event",
        "properties",
        "traits",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "receivedAt",
    }
    assert document["traits"] == {}


@pytest.mark.parametrize(
    ("event", "traits"),
    [
        ({"traits": {"a": 1}}, {"a": 1}),
        ({"context": {"traits": {"a": 1}}}, {"a": 1}),  # RudderStack Python puts them there only
        ({"traits": {"a": 1}, "context": {"traits": {"b": 2}}}, {"a": 1}),
        ({"traits": {}, "context": {"traits": {"b": 2}}}, {}),
        ({"traits": None, "context": {"traits": {"b": 2}}}, {"b": 2}),
        ({"context": {"traits": None}}, {}),
        ({"context": {"traits": [1]}}, {}),
        ({"context": None}, {}),
        ({}, {}),
    ],
    ids=str,
)
def test_takes_traits_from_where_sdks_put_them(event: dict[str, Any], traits: dict[str, Any]) -> None:
    document = stored({"type": "identify", "userId": "u", **event})
    assert document["traits"] == traits
    assert document.get("context") == event.get("context")


@pytest.mark.parametrize("name", ["context", "integrations"])
@pytest.mark.parametrize(
    ("default", "own", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": {"x": {"p": 1}}}, {"a": {"x": {"q": 2}}}, {"a": {"x": {"q": 2}}}),
        ({"a": {"x": 1}}, {"a": False}, {"a": False}),
        ({"a": True}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({"a": 1}, None, {"a": 1}),
        (None, {"a": 1}, {"a": 1}),
        ({}, {}, {}),
        (None, None, None),
    ],
    ids=str,
)
def test_what_the_batch_says_is_a_default(name: str, default: object, own: object, merged: object) -> None:
    assert stored({**TRACK, name: own}, **{name: default}).get(name) == merged


def test_what_only_the_server_can_say_is_not_taken_from_the_client() -> None:
    document = stored({**TRACK, "connectionId": 7, "receivedAt": "1999-01-01", "kpid": "forged"})
    assert (document["connectionId"], document["receivedAt"], "kpid" in document) == (42, ARRIVED, False)


def test_people_s_own_json_keeps_every_digit_and_its_order() -> None:
    own = (
        b'{"b":9007199254740993,"a":1.0,"z":1E400,"n":123456789012345678901234567890.10,"u":"\\u00e9\\/","s":[ 1 , 2 ]}'
    )
    text = stored_text(
        b'{"type":"track","event":"e","userId":"u","properties":%s,"traits":%s,"context":%s,"mine":%s}'
        % (own, own, own, own),
        "track",
    )
    for name in (b"properties", b"traits", b"context", b"mine"):
        assert b'"%s":%s' % (name, own) in text


def test_of_repeated_members_the_last_counts() -> None:
    text = stored_text(b'{"type":"page","userId":"a","userId":"b","x":1,"x":2}', "page")
    assert text.count(b'"userId":"b"') == text.count(b'"x":2') == 1
    assert b'"a"' not in text


# --- canonical: message ids ---------------------------------------------------------------------------------------


def test_events_without_a_message_id_get_stable_and_distinct_ones() -> None:
    body = b'{"batch":[' + b",".join([json.dumps(TRACK).encode()] * 50) + b"]}"

    def ids() -> list[str]:
        call = read_call("batch", body)
        wires = [check(event, None) for event in call.events]
        return [
            canonical(wire, {}, call, ENVELOPE, index)[0].message_id
            for index, (wire, event) in enumerate(zip(wires, call.events, strict=True))
            if isinstance(wire, WireEvent)
        ]

    assert ids() == ids()
    assert len(set(ids())) == 50
    assert all(id_.startswith("headwater-") and len(id_) == 46 for id_ in ids())


def test_generated_message_ids_wrap_around() -> None:
    assert generated_message_id(b"\xff" * 16, 1) == "headwater-00000000-0000-0000-0000-000000000000"


def test_the_email_of_traits() -> None:
    assert find_email(raw({"email": "a@b.c"})) == "a@b.c"
    assert find_email(Raw(b'{"email":"a\\u0040b"}')) == "a@b"
    assert find_email(Raw(b'{"email":%s}' % (b"9" * 5000))) is None
    assert find_email(Raw()) is None


# --- for every event ----------------------------------------------------------------------------------------------

_NAMES = [*MEMBERS.values(), "_metadata", "connectionId", "receivedAt", "kpid", "extraJson"]
_PLAUSIBLE = st.one_of(
    st.sampled_from(
        [
            "",
            "u1",
            "track",
            "page",
            "identify",
            "alias",
            "group",
            "2026-11-22T00:20:39Z",
            "x\0",
            None,
            5,
            1.5,
            {},
            {"email": "a@b.c"},
        ]
    ),
    json_values,
)
_EVENTS = st.dictionaries(st.one_of(st.sampled_from(_NAMES), st.text(max_size=5)), _PLAUSIBLE, max_size=12)


@given(_EVENTS, st.data())
def test_every_object_is_an_event_or_a_rejection_and_nothing_of_it_is_lost(
    event: dict[str, Any], data: st.DataObject
) -> None:
    event = {
        "type": data.draw(st.sampled_from(["track", "page", "group", "identify"])),
        "userId": "u",
        "groupId": "g",
        "event": "e",
        **event,
    }
    texts = {name: json_text(value, data.draw) for name, value in event.items()}
    item = "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}"
    body = b'{"batch":[' + item.encode() + b"]}"
    call = read_call("batch", body)
    wire = check(call.events[0], call.type)
    if isinstance(wire, Rejection):
        assert wire.message
        assert wire.message.startswith(wire.path)
        return
    first = canonical(wire, extra(call.events[0]), call, ENVELOPE, 0)[1]
    again = read_call("batch", body)
    wire_again = check(again.events[0], again.type)
    assert isinstance(wire_again, WireEvent)
    assert canonical(wire_again, extra(again.events[0]), again, ENVELOPE, 0)[1] == first
    json.loads(first)
    members = msgspec.json.decode(first, type=dict[str, Raw])
    for name, text in texts.items():
        if name not in _KNOWN or (
            name in ("properties", "traits", "integrations", "context") and event[name] is not None
        ):
            assert bytes(members[name]) == text.encode()


@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), json_values.map(json.dumps).map(str.encode))
)
def test_every_body_is_a_call_or_a_bad_request(body: bytes) -> None:
    for call in ("track", "batch"):
        try:
            read = read_call(call, body)
        except BadRequest as error:
            assert error.message
            continue
        for event in read.events:
            assert isinstance(check(event, read.type), WireEvent | Rejection)


# --- read: a checked event once more ------------------------------------------------------------------------------


@given(json_values)
def test_what_was_checked_is_read_again_as_it_was(value: Any) -> None:
    event = raw({"userId": 7, "type": "page", "anonymousId": "", "properties": value, "_metadata": value})
    call = read_call("batch", b'{"batch":[' + bytes(event) + b"]}")
    wire = check(event, None)
    if isinstance(wire, WireEvent):
        again, other = track.read(event, call)
        assert {name: getattr(again, name) for name in MEMBERS} == {name: getattr(wire, name) for name in MEMBERS}
        assert other == {"_metadata": raw(value)}


def test_an_event_of_a_call_has_its_type_when_read_again() -> None:
    call = read_call("screen", b'{"userId":"u","type":"track"}')
    wire, other = track.read(call.events[0], call)
    assert (wire.type, wire.user_id, other) == ("screen", "u", {})
