"""The native protocol: accepted events, rejected events with their reasons, and stored documents."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.base.clock import microseconds
from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge
from headwater.events import DEFAULT_LIMITS, EVENT_TYPES, Envelope, Rejection
from headwater.events.canonical import canonical, generated_message_id
from headwater.events.protocol import Call
from headwater.events.protocols import native
from headwater.events.protocols.native import EVENTS, read_call
from headwater.events.wire import WireEvent
from headwater.schemas import EVENT_SCHEMA, BooleanType, MapType, ObjectType, StringType, property_at
from tests.jsontexts import json_text, json_values

RECEIVED = datetime(2026, 11, 22, 12, 0, 10, 500_000, tzinfo=UTC)
ENVELOPE = Envelope("native", EVENTS, 7, 42, microseconds(RECEIVED), bytes(range(16)))

TRACK = {"type": "track", "event": "Order Completed", "userId": "u1"}


def raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


def read(body: object, call: str = EVENTS) -> Call:
    return read_call(call, body if isinstance(body, bytes) else json.dumps(body).encode())


def outcome(event: object, call: Call | None = None) -> WireEvent | Rejection:
    text = event if isinstance(event, Raw) else raw(event)
    return native.check(text, call or Call(None, [text]), DEFAULT_LIMITS)


def rejected(event: object) -> Rejection:
    rejection = outcome(event)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def documents(body: object, call: str = EVENTS) -> list[dict[str, Any]]:
    """Return the stored documents of the accepted events of a call."""
    taken = read(body, call)
    stored = []
    for index, event in enumerate(taken.events):
        wire = outcome(event, taken)
        if isinstance(wire, WireEvent):
            stored.append(json.loads(canonical(*native.read(event, taken), taken, ENVELOPE, index)[1]))
    return stored


@pytest.mark.parametrize("member", ["messageId", "userId", "anonymousId"])
def test_an_identifier_with_an_unpaired_surrogate_is_rejected(member: str) -> None:
    rejection = Rejection("BadRequest", member, f"{member} contains an unpaired surrogate")
    broken = {**TRACK, member: "a\ud800"}
    assert read(broken).rejected == read(broken, "track").rejected == {0: rejection}
    assert read([TRACK, broken]).rejected == read({"batch": [TRACK, broken]}).rejected == {1: rejection}
    assert read([{**TRACK, "properties": {"cut": "\ud800"}}]).rejected == {}


# --- The shapes of a call -----------------------------------------------------------------------------------------


def test_one_event_an_array_and_a_batch_are_the_same_events() -> None:
    for body in (TRACK, [TRACK], {"batch": [TRACK]}, {"batch": [TRACK], "anything": {"else": [1]}}):
        call = read(body)
        assert (call.type, [json.loads(bytes(event)) for event in call.events]) == (None, [TRACK])


def test_the_envelope_is_read_by_its_members_wherever_they_stand() -> None:
    """A value that is spelled like a member is none, and neither is a member of another object."""
    event = {
        "type": "track",
        "event": "context",
        "properties": {"writeKey": "inner", "batch": [], "sentAt": 5},
        "userId": "writeKey",
        "writeKey": "k",
        "connectionId": 7,
    }
    call = read(event)
    assert (call.write_key, call.connection_id, call.events) == ("k", 7, [raw(event)])
    batch = read({"x": {"sentAt": 1}, "batch": [event], "sentAt": "2026-01-01", "context": {"a": 1}, "writeKey": "b"})
    assert (batch.write_key, batch.sent_at, bytes(batch.context)) == ("b", "2026-01-01", b'{"a": 1}')


def test_a_route_with_a_type_takes_one_event_and_no_envelope() -> None:
    call = read({**TRACK, "type": "page", "writeKey": "k", "connectionId": "x", "sentAt": 5}, "track")
    assert (call.type, call.write_key, call.connection_id, call.sent_at) == ("track", None, None, None)
    assert len(call.events) == 1


REFUSED_CALLS: list[tuple[object, str | None, str]] = [
    (b"", None, "the body is empty: it must be JSON"),
    (b"{", None, "the body is not JSON: it ends too early"),
    (b'{"type":"\xff"}', None, "the body is not UTF-8: byte 9 is wrong"),
    (b"[" * 5000 + b"]" * 5000, None, "the body is nested too deeply"),
    (5, None, "the body must be an event, an array of events, or a batch"),
    (None, None, "the body must be an event, an array of events, or a batch"),
    ([], "batch", "a call has 1 to 20000 events, not 0"),
    ({"batch": []}, "batch", "a call has 1 to 20000 events, not 0"),
    ([0] * 20_001, "batch", "a call has 1 to 20000 events, not 20001"),
    ({"batch": {}}, "batch", "batch must be an array"),
    ({"batch": None}, "batch", "batch must be an array"),
    ({"writeKey": ""}, "writeKey", "writeKey must not be empty"),
    ({"writeKey": None}, "writeKey", "writeKey must be a string"),
    ({"writeKey": 5}, "writeKey", "writeKey must be a string"),
    (b'{"writeKey":"a","writeKey":"a"}', "writeKey", "writeKey is repeated"),
    (b'{"sentAt":"2026-01-01","batch":[1],"sentAt":"2026-01-01"}', "sentAt", "sentAt is repeated"),
    ({"sentAt": "yesterday"}, "sentAt", "sentAt is not an ISO 8601 date and time"),
    ({"sentAt": 5}, "sentAt", "sentAt must be a string"),
    ({"context": None}, "context", "context must be an object"),
    ({"batch": [TRACK], "context": []}, "context", "context must be an object"),
    ({"connectionId": "7"}, "connectionId", "connectionId must be an integer"),
    ({"connectionId": 0}, "connectionId", "connectionId must be an integer from 1 to 2147483647"),
    ({"connectionId": 2**31}, "connectionId", "connectionId must be an integer from 1 to 2147483647"),
    (b'{"connectionId":1e400}', "connectionId", "connectionId is out of range"),
]


@pytest.mark.parametrize(("body", "field", "message"), REFUSED_CALLS, ids=lambda value: str(value)[:40])
def test_a_call_that_cannot_be_read_is_rejected_as_a_whole(body: object, field: str | None, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(body)
    assert (raised.value.field, raised.value.message) == (field, message)


def test_a_route_with_a_type_takes_an_object_only() -> None:
    for body in ([TRACK], 5):
        with pytest.raises(BadRequest, match="the body must be an event"):
            read(body, "track")


def test_a_context_may_not_grow_by_being_repeated() -> None:
    large = {"page": {"title": "x" * 5000}}
    with pytest.raises(PayloadTooLarge):
        read({"batch": [0] * 1000, "context": large})
    deep: Any = {}
    for _ in range(101):
        deep = {"a": deep}
    with pytest.raises(BadRequest, match="deeper than 100"):
        read({"batch": [0], "context": deep})


def test_half_a_surrogate_pair_costs_no_batch() -> None:
    (stored,) = documents(rb'[{"type":"track","event":"cut \ud83d","userId":"u"}]')
    assert stored["event"] == "cut \ufffd"


# --- The members of an event --------------------------------------------------------------------------------------

ACCEPTED: list[dict[str, Any]] = [
    {"type": "track", "event": "Signed Up", "anonymousId": "a1"},
    {"type": "identify", "anonymousId": "a1", "traits": {"plan": "pro"}},
    {"type": "identify", "userId": "u", "anonymousId": None, "traits": None},
    {"type": "page", "userId": "u", "name": None, "category": None, "properties": None},
    {"type": "screen", "userId": "u", "name": "Home"},
    {"type": "group", "userId": "u", "groupId": "g", "traits": {}},
    {"type": "alias", "userId": "u", "previousId": "p"},
    {"type": "alias", "anonymousId": "a", "previousId": "p"},
    {"type": "page", "userId": "u", "event": "", "groupId": None, "previousId": "", "messageId": None},
    {"type": "page", "userId": "u", "timestamp": None, "originalTimestamp": None},
    {"type": "page", "userId": "u", "integrations": {"All": True}, "_metadata": [1], "channel": "web"},
]


@pytest.mark.parametrize("event", ACCEPTED, ids=str)
def test_accepts(event: dict[str, Any]) -> None:
    assert isinstance(outcome(event), WireEvent)


REFUSED: list[tuple[object, str, str]] = [
    (7, "", "the event must be an object"),
    ([], "", "the event must be an object"),
    ({}, "type", "type must be one of alias, group, identify, page, screen, track"),
    ({**TRACK, "type": "Track"}, "type", "type must be one of alias, group, identify, page, screen, track"),
    ({"type": "track", "anonymousId": "a1"}, "event", "event is required in events of the type track"),
    ({**TRACK, "event": ""}, "event", "event is required in events of the type track"),
    ({**TRACK, "event": None}, "event", "event must be a string"),
    ({"type": "identify", "traits": {"plan": "pro"}}, "userId", "userId or anonymousId is required"),
    ({"type": "page", "userId": "", "anonymousId": None}, "userId", "userId or anonymousId is required"),
    ({**TRACK, "userId": 42}, "userId", "userId must be a string or null"),
    ({**TRACK, "userId": "u" * 1001}, "userId", "userId is longer than 1000 characters"),
    ({"type": "page", "userId": "u", "name": "n" * 1001}, "name", "name is longer than 1000 characters"),
    ({**TRACK, "userId": "a\0"}, "userId", "userId contains the NUL character"),
    (
        {"type": "page", "userId": "u1", "event": "x"},
        "event",
        "event is only for events of the type track, not page",
    ),
    (
        {**TRACK, "category": "c"},
        "category",
        "category is only for events of the type page, not track",
    ),
    ({**TRACK, "name": "n"}, "name", "name is only for events of the type page or screen, not track"),
    ({**TRACK, "traits": {}}, "traits", "traits is only for events of the type identify or group, not track"),
    (
        {"type": "identify", "userId": "u", "properties": {}},
        "properties",
        "properties is only for events of the type page or screen or track, not identify",
    ),
    ({"type": "group", "userId": "u1"}, "groupId", "groupId is required in events of the type group"),
    ({"type": "alias", "userId": "u1"}, "previousId", "previousId is required in events of the type alias"),
    ({**TRACK, "properties": []}, "properties", "properties must be an object or null"),
    ({**TRACK, "objectTypeId": 2}, "objectTypeId", "objectTypeId must be a string or null"),
    ({**TRACK, "channel": None}, "channel", "channel must be a string"),
    ({**TRACK, "timestamp": "soon"}, "timestamp", "timestamp is not an ISO 8601 date and time"),
    ({**TRACK, "timestamp": 5}, "timestamp", "timestamp must be a string or null"),
    ({**TRACK, "originalTimestamp": "2026-01-01"}, "originalTimestamp", "originalTimestamp requires timestamp"),
    ({**TRACK, "context": None}, "context", "context must be an object"),
    (Raw(b'{"type":"page","userId":"a","user\\u0049d":"b"}'), "userId", "userId is repeated"),
    (Raw(b'{"a":' * 101 + b"1" + b"}" * 101), "", "the event is nested deeper than 100 levels"),
]


def _shown(value: object) -> str:
    return str(bytes(value) if isinstance(value, Raw) else value)[:50]


@pytest.mark.parametrize(("event", "path", "message"), REFUSED, ids=_shown)
def test_rejects_each_broken_rule(event: object, path: str, message: str) -> None:
    assert rejected(event) == Rejection("BadRequest", path, message)


def test_an_event_may_be_as_large_as_a_call() -> None:
    assert isinstance(outcome({**TRACK, "properties": {"text": "x" * 400_000}}), WireEvent)
    assert {native.max_body(call, DEFAULT_LIMITS) for call in (EVENTS, *EVENT_TYPES)} == {DEFAULT_LIMITS.batch_bytes}


# --- The context --------------------------------------------------------------------------------------------------

WRONG_CONTEXTS: list[tuple[dict[str, Any], str, str]] = [
    ({"page": "home"}, "page", "must be an object"),
    ({"page": None}, "page", "must be an object"),
    ({"page": {"url": 5}}, "page.url", "must be a string"),
    ({"network": {"wifi": "yes"}}, "network.wifi", "must be true or false"),
    ({"location": {"latitude": "x"}}, "location.latitude", "must be a number"),
    ({"timezone": 1}, "timezone", "must be a string"),
    ({"groupId": 1}, "groupId", "must be a string"),
    ({"direct": "no"}, "direct", "must be true or false"),
    ({"sessionStart": 1}, "sessionStart", "must be true or false"),
    ({"sessionId": 1.5}, "sessionId", "must be an integer"),
    ({"sessionId": 2**63}, "sessionId", "must be an integer of 64 bits"),
    ({"session": {"id": "first"}}, "session.id", "must be an integer of 64 bits"),
    ({"traits": [1]}, "traits", "must be an object or null"),
    ({"consents": {"": True}}, "consents", "must not have an empty purpose"),
    ({"screen": {"width": 32_768}}, "screen.width", "must be an integer from 1 to 32767"),
    ({"screen": {"height": -1}}, "screen.height", "must be an integer from 1 to 32767"),
    ({"screen": {"width": 1.5}}, "screen.width", "must be an integer"),
    (
        {"screen": {"density": 9.995}},
        "screen.density",
        "must be above 0 and below 10 when it is rounded to two decimals",
    ),
    ({"screen": {"density": -1}}, "screen.density", "must be above 0 and below 10 when it is rounded to two decimals"),
    ({"ip": "224.0.0.1"}, "ip", "must not be a multicast address"),
    ({"ip": "ff02::1"}, "ip", "must not be a multicast address"),
    ({"ip": "fe80::1%eth0"}, "ip", "must be an IP address without a zone"),
    ({"ip": "localhost"}, "ip", "must be an IP address"),
    ({"ip": 5}, "ip", "must be a string"),
]


@pytest.mark.parametrize(("context", "path", "rule"), WRONG_CONTEXTS, ids=str)
def test_rejects_a_context_with_a_wrong_value(context: dict[str, Any], path: str, rule: str) -> None:
    expected = Rejection("BadRequest", f"context.{path}", f"context.{path} {rule}")
    assert rejected({**TRACK, "context": context}) == expected
    call = read({"batch": [TRACK], "context": context})
    assert outcome(call.events[0], call) == expected, "of a default too"


def test_rejects_a_consent_that_is_neither_granted_nor_denied() -> None:
    rejection = rejected({**TRACK, "context": {"consents": {"ads": "yes"}}})
    assert (rejection.path, rejection.message) == (
        "context.consents",
        "each value of context.consents must be true or false",
    )


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"unknown": 5, "page": {"unknown": [1]}},
        {"traits": None},
        {"ip": ""},
        {"ip": "0.0.0.0"},
        {"ip": "255.255.255.255"},
        {"ip": "::ffff:255.255.255.0"},
        {"screen": {"width": 0, "height": 32_767, "density": 0}},
        {"screen": {"density": 9.994}},
        {"session": {"id": "-9223372036854775808", "start": False}, "sessionId": 2**63 - 1},
        {"consents": {}},
        {"direct": True, "groupId": "g", "locale": "no such locale", "browser": {"name": "lynx"}},
    ],
    ids=str,
)
def test_accepts_a_context_of_the_right_types(context: dict[str, Any]) -> None:
    assert isinstance(outcome({**TRACK, "context": context}), WireEvent)


CONTEXT = property_at(EVENT_SCHEMA, "context").type
assert isinstance(CONTEXT, ObjectType)


@pytest.mark.parametrize("section", CONTEXT.properties, ids=lambda section: section.name)
def test_every_property_of_the_schema_has_its_type(section: Any) -> None:
    """Each member of the schema is checked against its type, so that additions need no test."""
    wrong: dict[type, Any] = {StringType: 5, BooleanType: "x", MapType: 5}
    members = section.type.properties if isinstance(section.type, ObjectType) else ()
    for member in members:
        value = {section.name: {member.name: wrong.get(type(member.type), [])}}
        assert rejected({**TRACK, "context": value}).path == f"context.{section.name}.{member.name}"
    assert rejected({**TRACK, "context": {section.name: []}}).path == f"context.{section.name}"


# --- Stored documents -----------------------------------------------------------------------------------------------


def test_the_documented_example_of_a_mixed_array() -> None:
    assert [event["type"] for event in documents([{"type": "page", "userId": "u"}, 7, {}])] == ["page"]


def test_defaults() -> None:
    (stored,) = documents({"type": "track", "event": "Signed Up", "anonymousId": "a1"})
    assert stored["messageId"] == generated_message_id(ENVELOPE.nonce, 0)
    assert (stored["properties"], stored["traits"], stored["anonymousId"]) == ({}, {}, "a1")
    assert "userId" not in stored
    (stored,) = documents({"type": "identify", "userId": "u"})
    assert "properties" not in stored
    assert "anonymousId" not in stored, "none is invented"


def test_empty_texts_are_absent() -> None:
    (stored,) = documents({"type": "page", "userId": "u", "anonymousId": "", "name": "", "channel": "", "event": ""})
    assert not {"anonymousId", "name", "channel", "event"} & stored.keys()


def test_the_type_in_the_body_comes_before_that_of_the_route() -> None:
    assert documents({"userId": "u"}, "page")[0]["type"] == "page"
    assert documents({"type": "", "userId": "u"}, "page")[0]["type"] == "page"
    assert documents({"type": "screen", "userId": "u"}, "page")[0]["type"] == "screen"


def test_traits_of_the_context_are_the_events_and_leave_the_context() -> None:
    (stored,) = documents({"type": "screen", "userId": "u1", "context": {"traits": {"n": 1}}})
    assert stored["traits"] == {"n": 1}
    assert "context" not in stored
    (stored,) = documents({"type": "screen", "userId": "u1", "context": {"traits": {"n": 1}, "x": 2}})
    assert (stored["traits"], stored["context"]) == ({"n": 1}, {"x": 2})


def test_traits_of_the_context_stay_next_to_the_events_own() -> None:
    (stored,) = documents(
        {"type": "group", "userId": "u", "groupId": "g", "traits": {"a": 1}, "context": {"traits": {"b": 2}}}
    )
    assert (stored["traits"], stored["context"]) == ({"a": 1}, {"traits": {"b": 2}})


def test_the_context_of_a_batch_is_the_default_of_each_event() -> None:
    own = {"page": {"title": "own"}, "locale": "it-IT"}
    first, second = documents(
        {
            "batch": [{**TRACK, "context": own}, TRACK],
            "context": {"page": {"title": "default", "url": "u"}, "locale": "en-US", "traits": {"plan": "pro"}},
        }
    )
    assert (first["context"]["page"], first["context"]["locale"]) == ({"title": "own", "url": "u"}, "it-IT")
    assert (second["context"]["page"], second["context"]["locale"]) == ({"title": "default", "url": "u"}, "en-US")
    assert first["traits"] == second["traits"] == {"plan": "pro"}


@pytest.mark.parametrize(
    ("given", "timestamp", "original"),
    [
        ({}, "2026-11-22T12:00:10.500", "2026-11-22T12:00:10.500"),
        (
            {"timestamp": "2026-11-22T12:00:01.250Z", "sentAt": "2026-11-22T12:00:05Z"},
            "2026-11-22T12:00:06.750",
            "2026-11-22T12:00:01.250",
        ),
        (
            {"timestamp": "2026-11-22T12:00:01Z", "originalTimestamp": "2020-01-01T00:00:00Z"},
            "2026-11-22T12:00:01",
            "2020-01-01T00:00:00",
        ),
    ],
    ids=str,
)
def test_timestamps_are_corrected_for_the_clients_clock(given: dict[str, str], timestamp: str, original: str) -> None:
    def same(text: str, expected: str) -> bool:
        return datetime.fromisoformat(text) == datetime.fromisoformat(expected).replace(tzinfo=UTC)

    (stored,) = documents({**TRACK, **given})
    assert same(stored["timestamp"], timestamp)
    assert same(stored["originalTimestamp"], original)
    batch = {"batch": [{**TRACK, **{name: text for name, text in given.items() if name != "sentAt"}}]}
    (stored,) = documents({**batch, **({"sentAt": given["sentAt"]} if "sentAt" in given else {})})
    assert same(stored["timestamp"], timestamp), "by the envelope's sentAt as by the event's"


def test_what_has_no_field_is_kept_to_the_letter() -> None:
    body = b'{"type":"track","event":"E","userId":"u","properties":{"n":1.10},"_metadata":{"big":9007199254740993}}'
    call = read(body)
    wire = outcome(call.events[0])
    assert isinstance(wire, WireEvent)
    text = canonical(*native.read(call.events[0], call), call, ENVELOPE, 0)[1]
    assert b'"properties":{"n":1.10}' in text
    assert b'"_metadata":{"big":9007199254740993}' in text


def test_the_envelope_of_one_event_is_not_stored_with_it() -> None:
    (stored,) = documents({**TRACK, "writeKey": "k", "connectionId": 7})
    assert "writeKey" not in stored
    assert stored["connectionId"] == ENVELOPE.connection


# --- For every body -----------------------------------------------------------------------------------------------

MEMBERS = st.sampled_from(
    [*("type", "userId", "anonymousId", "event", "groupId", "previousId", "name", "category", "traits", "properties"),
     *("context", "sentAt", "timestamp", "originalTimestamp", "messageId", "channel", "batch", "writeKey", "x")]
)  # fmt: skip
SECTIONS = st.sampled_from([property_.name for property_ in CONTEXT.properties] + ["traits", "sessionId"])
VALUES: st.SearchStrategy[Any] = st.one_of(json_values, st.sampled_from([*EVENT_TYPES, "2026-01-01", "", {}]))
EVENT_BODIES = st.one_of(
    json_values,
    st.dictionaries(MEMBERS, VALUES),
    st.builds(
        lambda event, context: {**TRACK, **event, "context": context},
        st.dictionaries(MEMBERS, VALUES, max_size=2),
        st.dictionaries(SECTIONS, st.one_of(VALUES, st.dictionaries(st.sampled_from(["id", "name", "width"]), VALUES))),
    ),
)


@given(data=st.data(), events=st.lists(EVENT_BODIES, max_size=3), call=st.sampled_from([EVENTS, "track", "page"]))
def test_every_body_is_read_or_rejected_and_always_the_same(data: st.DataObject, events: list[Any], call: str) -> None:
    """The worker reads the same as the intake: every accepted event becomes the same document."""
    wrapped = data.draw(st.sampled_from([events, {"batch": events}, events[:1] and events[0]]))
    body = json_text(wrapped, data.draw).encode()
    first, second = (_everything(call, body) for _ in range(2))
    assert first == second
    for item in first:
        if isinstance(item, bytes):
            stored = json.loads(item)
            assert stored["type"] in EVENT_TYPES
            assert stored.get("userId") or stored.get("anonymousId")


def _everything(call: str, body: bytes) -> list[object]:
    try:
        taken = read_call(call, body)
    except (BadRequest, PayloadTooLarge) as error:
        return [error.status, error.message]
    made: list[object] = []
    for index, event in enumerate(taken.events):
        checked = outcome(event, taken)
        if isinstance(checked, Rejection):
            made.append(checked)
        else:
            made.append(canonical(*native.read(event, taken), taken, ENVELOPE, index)[1])
    return made


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_rejected(body: bytes) -> None:
    try:
        read_call(EVENTS, body)
    except HeadwaterError as error:
        assert error.status == 400
        assert error.message
