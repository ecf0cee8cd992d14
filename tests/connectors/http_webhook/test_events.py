"""The webhook: the conformance suite, the form of its requests, and signatures that the public library verifies."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from headwater.connectors.contract import (
    Attempt,
    ConnectorContext,
    EventRejected,
    EventSink,
    HttpRequest,
    OutgoingEvent,
)
from headwater.connectors.http_webhook.events import MAX_EVENT_BYTES, WebhookSink
from headwater.connectors.http_webhook.settings import WebhookSettings
from headwater.connectors.http_webhook.signatures import decode_secret, sign
from headwater.schemas.json_value import JSON_NULL, Json
from tests.connectors.conformance.context import NOW, make_context
from tests.connectors.conformance.event_sink import FIRST, KEY, SECOND, EventSinkConformance, make_event

SECRET = "whsec_" + base64.b64encode(b"the present key, 32 bytes long..").decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"the earlier key, 32 bytes long..").decode()
SETTINGS = WebhookSettings.read({"url": "https://receiver.example/events", "secret": SECRET})
FORMATS = ("Envelope", "JSON", "NDJSON")


def settings(**members: object) -> WebhookSettings:
    return msgspec.structs.replace(SETTINGS, **members)


def event(number: int = 1, **changes: object) -> OutgoingEvent:
    return make_event(number, **{"event_type": "send_event", **changes})


class Suite(EventSinkConformance):
    __test__ = False
    SETTINGS = SETTINGS

    def make(self, context: ConnectorContext) -> EventSink:
        return WebhookSink(self.SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return (
            event(event_type="send_nothing"),
            event(event_type="send_data", values={}),
            event(document=msgspec.json.encode({"event": "x" * MAX_EVENT_BYTES})),
        )


def _suite(name: str, its: WebhookSettings) -> type[Suite]:
    return type(name, (Suite,), {"__test__": True, "SETTINGS": its, "SECRETS": its.secrets()})


HEADER = {"key": "Authorization", "value": "Bearer of-a-token"}
WITH_HEADER = WebhookSettings.read({"url": "https://r.example/", "secret": SECRET, "headers": [HEADER]})

TestSingle = _suite("TestSingle", WITH_HEADER)
TestBatch = _suite("TestBatch", settings(batch_size=100, previous_secret=OLD_SECRET))
TestNdjson = _suite("TestNdjson", settings(batch_size=500, format="NDJSON"))


def request(its: WebhookSettings, events: Sequence[OutgoingEvent], attempt: Attempt = FIRST) -> HttpRequest:
    sink = WebhookSink(its, make_context())
    return sink.request([sink.encode(each) for each in events], attempt)


def test_a_single_event_has_the_payload_of_standard_webhooks() -> None:
    sent = request(SETTINGS, [event(1)])
    assert (sent.method, sent.url) == ("POST", "https://receiver.example/events")
    assert msgspec.json.decode(sent.body) == {
        "id": f"{1:032x}",
        "type": "track",
        "timestamp": "2026-05-04T11:59:00Z",
        "data": {"type": "track", "event": "Bought", "userId": "user-1"},
    }
    assert set(sent.headers) == {"content-type", "webhook-id", "webhook-timestamp", "webhook-signature"}
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["webhook-id"] == f"{1:032x}" and "." not in sent.headers["webhook-id"]
    assert sent.headers["webhook-timestamp"] == str(int(NOW.timestamp()))


def test_a_batch_has_one_id_and_its_events_have_their_own() -> None:
    for count in (1, 2, 5):
        sent = request(settings(batch_size=10), [event(number) for number in range(1, count + 1)])
        body = msgspec.json.decode(sent.body)
        assert sent.headers["webhook-id"] == KEY and (list(body), body["type"]) == (["type", "data"], "batch")
        assert [each["id"] for each in body["data"]] == [f"{number:032x}" for number in range(1, count + 1)]
        assert body["data"][0] == msgspec.json.decode(request(SETTINGS, [event(1)]).body)


@pytest.mark.parametrize("batch_size", [1, 10])
def test_other_formats_have_the_data_alone(batch_size: int) -> None:
    document = b'{"type":"track",\n "properties":{"a":1.0,\r\n"b":1e400,"c":"x\\ny"}}'
    compact = document.replace(b"\n ", b"").replace(b"\r\n", b"")
    events = [event(number, document=document) for number in range(1, min(batch_size, 2) + 1)]
    as_json = request(settings(batch_size=batch_size, format="JSON"), events)
    assert as_json.headers["content-type"] == "application/json"
    assert as_json.body == (document if batch_size == 1 else b"[" + document + b"," + document + b"]")
    lines = request(settings(batch_size=batch_size, format="NDJSON"), events)
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert lines.body == (compact + b"\n") * len(events)


@pytest.mark.parametrize(
    ("values", "type_", "data"),
    [
        ({"data": Json('{"a":[1,null]}')}, "track", {"a": [1, None]}),
        ({"type": "order.completed", "data": Json('"text"')}, "order.completed", "text"),
        ({"data": JSON_NULL}, "track", None),
    ],
)
def test_a_pipeline_can_make_the_data(values: dict[str, Any], type_: str, data: object) -> None:
    sent = request(SETTINGS, [event(1, event_type="send_data", values=values)])
    body = msgspec.json.decode(sent.body)
    assert (body["type"], body["data"]) == (type_, data)
    alone = request(settings(format="JSON"), [event(1, event_type="send_data", values=values)])
    assert msgspec.json.decode(alone.body) == data


def test_headers_of_the_settings_are_added_in_lower_case() -> None:
    sent = request(WITH_HEADER, [event(1)])
    assert sent.headers["authorization"] == "Bearer of-a-token"
    assert sent.headers["webhook-id"] == f"{1:032x}"


def verify(secret: str, sent: HttpRequest) -> None:
    Webhook(secret).verify(sent.body, dict(sent.headers), json_parse=False)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("batch_size", [1, 10])
def test_the_public_library_verifies_signatures(format_: Any, batch_size: int) -> None:
    its = settings(batch_size=batch_size, format=format_, previous_secret=OLD_SECRET)
    document = '{"type":"track","event":"Café ☕"}'.encode()
    events = [event(number, document=document) for number in range(1, min(batch_size, 3) + 1)]
    sent = request(its, events, Attempt(key=KEY, number=1, at=datetime.now(UTC)))
    verify(SECRET, sent)
    verify(OLD_SECRET, sent)  # while the receiver has not changed its secret yet
    with pytest.raises(WebhookVerificationError):
        verify("whsec_" + base64.b64encode(b"x" * 32).decode(), sent)
    with pytest.raises(WebhookVerificationError):
        verify(SECRET, msgspec.structs.replace(sent, body=sent.body.replace(b"track", b"TRACK")))
    with pytest.raises(WebhookVerificationError):
        verify(SECRET, msgspec.structs.replace(sent, headers={**sent.headers, "webhook-id": "other"}))


@given(
    key=st.binary(min_size=24, max_size=64),
    id_=st.text("0123456789abcdef", min_size=32, max_size=32),
    text=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_signatures_are_those_of_the_public_library(key: bytes, id_: str, text: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    assert decode_secret(secret) == key == decode_secret(secret.rstrip("="))
    seconds = int(NOW.timestamp())
    assert sign([key], id_, seconds, text.encode()) == Webhook(secret).sign(id_, NOW.replace(tzinfo=None), text)


def test_attempts_of_a_batch_differ_by_the_time_and_the_signature_only() -> None:
    events = [event(1), event(2)]
    first, second = (request(settings(batch_size=2), events, attempt) for attempt in (FIRST, SECOND))
    assert first.body == second.body
    different = {name for name in first.headers if first.headers[name] != second.headers[name]}
    assert different == {"webhook-timestamp", "webhook-signature"}


def test_only_single_events_have_many_requests_in_flight() -> None:
    single, batch = (WebhookSink(settings(batch_size=size), make_context()).policy for size in (1, 500))
    assert (single.scope, single.max_concurrency) == ("Event", 64)
    assert (batch.scope, batch.max_concurrency, batch.limits.max_events) == ("Any", 16, 500)


def of_size(sink: EventSink, size: int) -> OutgoingEvent:
    """Return an event that has so many bytes in the request."""
    found = len(sink.encode(event(document=b'{"event":""}')).body)
    return event(document=b'{"event":"%s"}' % (b"x" * (size - found)))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("count", [4, 500])
def test_a_full_batch_stays_below_the_limit(format_: Any, count: int) -> None:
    sink = WebhookSink(settings(batch_size=500, format=format_), make_context())
    limit = sink.policy.limits.max_bytes
    assert limit is not None
    encoded = [sink.encode(of_size(sink, limit // count))] * count
    assert limit - count < sum(len(each.body) for each in encoded) <= limit
    assert len(sink.request(encoded, FIRST).body) <= 1024 * 1024


@pytest.mark.parametrize("format_", FORMATS)
def test_an_event_has_at_most_256_kib(format_: Any) -> None:
    sink = WebhookSink(settings(format=format_), make_context())
    assert len(sink.encode(of_size(sink, 262_144)).body) == 262_144 == MAX_EVENT_BYTES
    with pytest.raises(EventRejected) as caught:
        sink.encode(of_size(sink, 262_145))
    assert caught.value.reason == "EventTooLarge" and "262145 bytes" in str(caught.value)


def test_printed_settings_show_no_secret() -> None:
    its = WebhookSettings.read(
        {"url": "https://r.example/", "secret": SECRET, "previousSecret": OLD_SECRET, "headers": [HEADER]}
    )
    for secret in its.secrets():
        assert secret not in repr(its) and secret not in str(its.public_document())
    assert set(its.secrets()) == {
        *(SECRET, OLD_SECRET, "Bearer of-a-token"),
        *(SECRET.removeprefix("whsec_"), OLD_SECRET.removeprefix("whsec_")),
    }
