"""The Segment API: the conformance suite, the form of requests, and what a Headwater that receives them makes of it."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.clock import microseconds
from headwater.connectors.contract import (
    Attempt,
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventSink,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.segment_api.events import MAX_BATCH_EVENTS, MAX_EVENT_BYTES, MAX_RECEIVERS, SegmentSink
from headwater.connectors.segment_api.settings import DEFAULT_ENDPOINT, SegmentSettings
from headwater.events import DEFAULT_LIMITS, PROTOCOLS, Envelope, Rejection, check_events
from headwater.events.canonical import canonical
from headwater.events.event import Event
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, KEY, SECOND, EventSinkConformance, make_event
from tests.connectors.pacing import call_times, most_within

SETTINGS = SegmentSettings(write_key="a-secret-write-key")
OTHER = SegmentSettings(write_key="a-secret-write-key", endpoint="https://other.example/v1/batch")
SENT_ACTION = {"userId": "u", "event": "Bought", "type": "track"}


def event(number: int = 1, **changes: object) -> OutgoingEvent:
    return make_event(number, **{"event_type": "send_event", **changes})


def of_document(document: dict[str, Any]) -> OutgoingEvent:
    return event(
        type=document.get("type", "track"),
        message_id=document.get("messageId", "m"),
        document=json.dumps(document).encode(),
        user_id=document.get("userId", ""),
        anonymous_id=document.get("anonymousId", ""),
    )


def sink(settings: SegmentSettings = SETTINGS, http: ScriptedHttp | None = None) -> SegmentSink:
    return SegmentSink(settings, make_context(http))


def encoded(document: dict[str, Any], settings: SegmentSettings = SETTINGS) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sink(settings).encode(of_document(document)).body)
    return found


class TestSegment(EventSinkConformance):
    SECRETS = SETTINGS.secrets()

    def make(self, context: ConnectorContext) -> EventSink:
        return SegmentSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def batch(self, sink: EventSink, count: int = 3) -> list[EncodedEvent]:
        return [
            sink.encode(msgspec.structs.replace(event(1), message_id=f"message-{number}"))
            for number in range(1, count + 1)
        ]

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return (
            event(user_id="", anonymous_id=""),
            of_document({"type": "identify", "traits": {"email": ""}}),
            of_document({**SENT_ACTION, "properties": {"text": "x" * MAX_EVENT_BYTES}}),
        )


def test_a_request_has_the_documented_form() -> None:
    its = sink()
    request = its.request([its.encode(event(1)), its.encode(event(2))], FIRST)
    assert (request.method, request.url) == ("POST", DEFAULT_ENDPOINT)
    assert request.headers == {
        "authorization": "Basic " + base64.b64encode(b"a-secret-write-key:").decode(),
        "content-type": "application/json",
        "x-strict-mode": "1",
    }
    body = json.loads(request.body)
    assert list(body) == ["sentAt", "batch"] and body["sentAt"] == "2026-05-04T12:00:00Z"
    assert [each["userId"] for each in body["batch"]] == ["user-1", "user-2"]


def test_attempts_differ_by_the_time_of_the_batch_only() -> None:
    its = sink()
    events = [its.encode(event(1))]
    first, second = its.request(events, FIRST), its.request(events, SECOND)
    assert first.headers == second.headers
    assert first.body.replace(b"12:00:00Z", b"12:05:00Z") == second.body != first.body


def test_an_event_keeps_its_members_except_those_that_a_receiver_sets() -> None:
    times = {"timestamp": "2026-05-03T10:00:00.5Z", "originalTimestamp": "2026-05-03T11:00:00Z"}
    kept = {
        **{"type": "track", "messageId": "m-1", "userId": "u", "anonymousId": "a", "event": "Bought", **times},
        **{"properties": {"price": 1.10, "n": 5e300}, "integrations": {"All": False}, "traits": {}},
        **{"somethingElse": [1], "invalidTimes": {"timestamp": "soon"}},
    }
    server_set = {
        "connectionId": 7,
        "receivedAt": "2026-05-03T10:00:01Z",
        "sentAt": "2026-05-03T10:00:00Z",
        "kpid": "p",
    }
    found = encoded({**kept, **server_set, "context": {"ip": "1.2.3.4"}})
    context = found.pop("context")
    assert found == kept
    assert context["ip"] == "1.2.3.4" and list(context) == ["ip", "headwater"]


def test_json_of_users_is_sent_as_it_is() -> None:
    properties = b'{"a":1.10,"b":12345678901234567890123,"a":"\\u00e9"}'
    document = b'{"type":"track","event":"E","userId":"u","properties":' + properties + b"}"
    assert b'"properties":' + properties in sink().encode(event(document=document)).body


@pytest.mark.parametrize(
    "document",
    [
        {"type": "track", "event": "E", "groupId": "g"},
        {"type": "group", "groupId": "g"},
        {"type": "identify", "traits": {"email": "ada@example.com"}},
        {"type": "page", "anonymousId": "a"},
        {"type": "page", "userId": "null", "anonymousId": "a"},
        {"type": "track", "event": "E", "groupId": 7},
        {"type": "alias", "userId": "u", "previousId": "p"},
    ],
)
def test_an_event_with_any_identity_of_its_type_is_sent(document: dict[str, Any]) -> None:
    assert encoded(document, OTHER)["type"] == document["type"]


@pytest.mark.parametrize("host", ["api.segment.io", "events.eu1.segmentapis.com"])
@pytest.mark.parametrize(
    "document",
    [
        {"type": "track", "event": "E", "groupId": "g"},
        {"type": "identify", "traits": {"email": "ada@example.com"}},
        {"type": "page", "userId": "null", "anonymousId": ""},
    ],
)
def test_an_event_that_segment_would_drop_is_rejected(document: dict[str, Any], host: str) -> None:
    """Segment returns 200 for it, and has an error "no_user_anon_id" in its debugger."""
    with pytest.raises(EventRejected, match="Segment drops") as caught:
        encoded(document, SegmentSettings(write_key="a-secret-write-key", endpoint=f"https://{host}/v1/batch"))
    assert caught.value.reason == "MissingIdentity"
    assert encoded({**document, "anonymousId": "a"})["anonymousId"] == "a"


@pytest.mark.parametrize(
    "document",
    [
        {"type": "track", "event": "E"},
        {"type": "page", "groupId": "g"},
        {"type": "identify", "traits": {"email": None}},
        {"type": "identify", "traits": {"email": ""}},
        {"type": "identify", "traits": {"email": "undefined"}},
        {"type": "identify", "traits": {"email": {}}},
        {"type": "identify"},
        {"type": "page", "userId": "null", "anonymousId": "0"},
        {"type": "track", "event": "E", "userId": "undefined", "groupId": "null"},
    ],
)
def test_an_event_without_an_identity_is_rejected(document: dict[str, Any]) -> None:
    with pytest.raises(EventRejected) as caught:
        encoded(document, OTHER)
    assert caught.value.reason == "MissingIdentity"


def test_an_event_is_not_sent_to_a_receiver_that_it_came_from() -> None:
    there = encoded(SENT_ACTION)
    back = encoded(there, OTHER)
    assert len(back["context"]["headwater"]["via"]) == 2
    for settings in (SETTINGS, OTHER):
        with pytest.raises(EventRejected) as caught:
            encoded(back, settings)
        assert caught.value.reason == "Loop"
    assert SETTINGS.write_key not in str(back)


def test_the_path_of_an_event_is_bounded() -> None:
    document = SENT_ACTION | {"context": {"headwater": {"via": [str(number) for number in range(MAX_RECEIVERS)]}}}
    with pytest.raises(EventRejected) as caught:
        encoded(document)
    assert caught.value.reason == "Loop"


@pytest.mark.parametrize("other", ["text", 5, [1], {"via": "text"}, {"via": [1]}, None])
def test_something_else_under_the_name_of_the_path_is_kept(other: object) -> None:
    assert encoded(SENT_ACTION | {"context": {"headwater": other}})["context"]["headwater"] == other


def test_other_members_of_the_path_are_kept() -> None:
    path = encoded(SENT_ACTION | {"context": {"headwater": {"other": 1}}})["context"]["headwater"]
    assert path["other"] == 1 and len(path["via"]) == 1


async def outcome(response: HttpResponse) -> Outcome:
    its = sink(http=ScriptedHttp(lambda _: response))
    events = [its.encode(event(1))]
    [item] = (await its.send(its.request(events, FIRST), events)).items
    return item.outcome


@pytest.mark.parametrize(
    "body", [b"", b" \n", b"OK", b'"OK"', b"ok\n", b"{}", b'{"success":true}', b'{"ok":true}', b'{"status":"ok"}']
)
async def test_bodies_of_success(body: bytes) -> None:
    assert await outcome(HttpResponse(status=200, body=body)) is Outcome.DELIVERED


@pytest.mark.parametrize(
    "body", [b"<html>Welcome</html>", b'{"success":false}', b"[]", b"null", b"\xff", b"{", b"{" * 9_999]
)
async def test_other_bodies_are_no_success(body: bytes) -> None:
    assert await outcome(HttpResponse(status=200, body=body)) is Outcome.RETRY


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"x-ratelimit-reset": "9"}, 9.0),
        ({"retry-after": "7", "x-ratelimit-reset": "9"}, 7.0),
    ],
)
async def test_both_headers_of_waits_are_read(headers: dict[str, str], seconds: float) -> None:
    its = sink(http=ScriptedHttp(lambda _: HttpResponse(status=429, headers=headers)))
    events = [its.encode(event(1))]
    failure = (await its.send(its.request(events, FIRST), events)).failure
    assert failure is not None and failure.retry_after_seconds == seconds


def of_size(size: int) -> OutgoingEvent:
    """Return an event that has so many bytes in the request."""
    found = len(sink().encode(of_document({**SENT_ACTION, "properties": {"text": ""}})).body)
    return of_document({**SENT_ACTION, "properties": {"text": "x" * (size - found)}})


@pytest.mark.parametrize("count", [16, MAX_BATCH_EVENTS])
def test_a_full_batch_stays_below_the_limits_of_the_vendor(count: int) -> None:
    its = sink()
    limits = its.policy.limits
    assert limits.max_bytes is not None and limits.max_events == MAX_BATCH_EVENTS
    events = [its.encode(of_size(limits.max_bytes // count))] * count
    assert limits.max_bytes - count < sum(len(each.body) for each in events) <= limits.max_bytes
    assert len(its.request(events, FIRST).body) <= 500_000


def test_an_event_has_at_most_32_kib() -> None:
    assert len(sink().encode(of_size(32_768)).body) == 32_768 == MAX_EVENT_BYTES
    with pytest.raises(EventRejected) as caught:
        sink().encode(of_size(32_769))
    assert caught.value.reason == "EventTooLarge" and "32769 bytes" in str(caught.value)


def test_at_full_load_the_limit_of_the_vendor_is_kept_and_used() -> None:
    times = call_times(SegmentSink.policy.rates, seconds=10)
    assert 950 <= most_within(times, 1) <= 1_000


def test_the_message_id_is_kept() -> None:
    assert sink().policy.idempotency.uses_message_id
    one = sink().encode(of_document({**SENT_ACTION, "messageId": "m-1"}))
    assert one.id == "m-1" == json.loads(one.body)["messageId"]


# A Headwater as the receiver: the receipt is much later than the event.

_LATER = timedelta(days=1, seconds=3.25)
_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_object = st.dictionaries(_text, _json, max_size=4)
_time = st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)).map(lambda time: f"{time.isoformat()}Z")
_context = st.fixed_dictionaries(
    {},
    optional={
        "ip": st.sampled_from(["1.2.3.4", "::1", "none"]),
        "locale": st.sampled_from(["en_us", "de-DE", "x"]),
        "userAgent": st.sampled_from(["Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/125.0 Safari/537.36", ""]),
        "os": st.fixed_dictionaries({}, optional={"name": st.sampled_from(["mac os x", "Windows", ""]), "x": _json}),
        "screen": st.fixed_dictionaries({"density": st.sampled_from([2, 1.600000023841858])}),
        "sessionId": st.integers(1, 2**62),
        "sessionStart": st.booleans(),
        "traits": _object,
        "channel": st.sampled_from(["web", "server"]),
        "other": _json,
    },
)
_members = st.fixed_dictionaries(
    {"userId": _text.filter(lambda text: not is_placeholder(text))},
    optional={
        **dict.fromkeys(("anonymousId", "messageId", "name", "category", "channel", "objectTypeId"), _text),
        **dict.fromkeys(("properties", "traits", "integrations"), _object),
        **dict.fromkeys(("timestamp", "originalTimestamp", "sentAt"), _time),
        "context": _context,
        "unknown": _json,
    },
)
_call = st.sampled_from(
    [
        {"type": "track", "event": "E"},
        {"type": "page"},
        {"type": "screen"},
        {"type": "identify"},
        {"type": "group", "groupId": "g"},
        {"type": "alias", "previousId": "p"},
    ]
)


def receive(body: bytes, received: datetime, connection: int) -> list[tuple[Event, bytes]]:
    """Return what a Headwater stores of a batch."""
    envelope = Envelope("track", "batch", 1, connection, microseconds(received), b"n" * 16, ip="9.9.9.9")
    protocol = PROTOCOLS["track"]
    call = protocol.read_call("batch", body)
    stored = []
    for index, checked in enumerate(check_events(protocol, call, DEFAULT_LIMITS)):
        assert not isinstance(checked, Rejection), checked
        event, document, _ = canonical(*protocol.read(call.events[index], call), call, envelope, index)
        stored.append((event, document))
    return stored


@given(members=_members, call=_call)
def test_a_headwater_that_receives_it_stores_the_same_event(members: dict[str, Any], call: dict[str, Any]) -> None:
    sent = json.dumps({"batch": [{**members, **call}]}).encode()
    [(first, document)] = receive(sent, NOW, connection=1)
    its = sink()
    one = its.encode(
        event(
            type=first.type,
            message_id=first.message_id,
            document=document,
            user_id=first.user_id or "",
            anonymous_id=first.anonymous_id or "",
        )
    )
    request = its.request([one], Attempt(key=KEY, number=1, at=NOW + _LATER))
    [(_, copy)] = receive(request.body, NOW + _LATER + timedelta(seconds=1), connection=2)
    before, after = json.loads(document), json.loads(copy)
    assert after["sentAt"] == (NOW + _LATER).astimezone(UTC).isoformat().replace("+00:00", "Z")
    path = after["context"].pop("headwater")
    assert len(path["via"]) == 1
    for each in (before, after):
        for name in ("connectionId", "receivedAt", "sentAt"):
            del each[name]
        if not each.get("context"):
            each.pop("context", None)
    assert after == before
