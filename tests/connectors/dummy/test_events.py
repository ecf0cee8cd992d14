"""The dummy as a destination of events: the conformance suite, and the form of its requests and responses."""

from collections.abc import Sequence

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    ConnectorContext,
    EncodedEvent,
    EventSink,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.dummy.events import MAX_EVENT_BYTES, DummyEventSink
from headwater.connectors.dummy.settings import DummySettings
from headwater.schemas import Json
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, KEY, EventSinkConformance, make_event

SETTINGS = DummySettings(dispatch_url="https://receiver.example/events")
JSON = {"content-type": "application/json"}


def _event(number: int, **changes: object) -> OutgoingEvent:
    values = {"email": "ada@example.com", "itemName": "Tea", "itemId": number}
    return make_event(number, **{"event_type": "send_add_to_cart", "values": values, **changes})


class TestEventSink(EventSinkConformance):
    def make(self, context: ConnectorContext) -> EventSink:
        return DummyEventSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return _event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return (
            _event(1, event_type="send_nothing"),
            _event(1, document=msgspec.json.encode({"event": "x" * MAX_EVENT_BYTES})),
        )

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return HttpResponse(
            status=200, headers=JSON, body=b'{"results":[{"index":0,"outcome":"Rejected","reason":"NoSuchItem"}]}'
        )


async def test_the_event_types_of_the_dummy() -> None:
    types = {type_.id: type_ for type_ in await DummyEventSink(SETTINGS, make_context()).event_types()}
    assert list(types) == [
        "send_add_to_cart",
        "send_custom_event",
        "send_identity",
        "send_generic_event",
        "send_event_with_no_schema",
        "addToCart",
        "page_view",
    ]
    assert [id_ for id_, type_ in types.items() if type_.schema is None] == ["send_event_with_no_schema"]
    required = {id_ for id_, type_ in types.items() for property in type_.schema or () if property.create_required}
    assert required == {"send_add_to_cart", "send_identity"}


def test_a_request_has_the_documented_form() -> None:
    sink = DummyEventSink(SETTINGS, make_context())
    events = [sink.encode(_event(1)), sink.encode(make_event(2, event_type="send_event_with_no_schema"))]
    request = sink.request(events, FIRST)
    assert (request.method, request.url) == ("POST", "https://receiver.example/events")
    assert request.headers == {"content-type": "application/json", "idempotency-key": KEY}
    one, other = msgspec.json.decode(request.body)["events"]
    assert one == {
        "id": f"{1:032x}",
        "type": "send_add_to_cart",
        "values": {"email": "ada@example.com", "itemName": "Tea", "itemId": 1},
        "event": {"type": "track", "event": "Bought", "userId": "user-1"},
    }
    assert (other["type"], other["values"]) == ("send_event_with_no_schema", {})


@pytest.mark.parametrize(
    ("event_type", "values", "sent"),
    [
        ("addToCart", {"eventName": "Bought"}, {"eventName": "Bought"}),
        ("page_view", {"attributes": {"price": Json("1.50")}}, {"attributes": {"price": 1.5}}),
        ("page_view", {}, {}),
        ("send_add_to_cart", {"email": "ada@example.com"}, {"email": "ada@example.com"}),
        ("send_identity", {"traits": {"address": {"street2": "x"}}}, {"traits": {"address": {"street2": "x"}}}),
    ],
)
def test_values_that_are_not_required_may_be_missing(
    event_type: str, values: dict[str, object], sent: dict[str, object]
) -> None:
    encoded = DummyEventSink(SETTINGS, make_context()).encode(_event(1, event_type=event_type, values=values))
    assert msgspec.json.decode(encoded.body)["values"] == sent


def test_sending_needs_a_url() -> None:
    sink = DummyEventSink(DummySettings(), make_context())
    with pytest.raises(Unavailable, match="urlForDispatchingEvents is not set"):
        sink.request([sink.encode(_event(1))], FIRST)


async def test_a_response_can_have_the_four_outcomes() -> None:
    body = (
        b'{"results":[{"index":1,"outcome":"Rejected","reason":"NoSuchItem","message":"no tea"},'
        b'{"index":2,"outcome":"Retry","reason":"Throttled","retryAfter":30}]}'
    )
    http = ScriptedHttp(lambda _: HttpResponse(status=207, headers=JSON, body=body))
    sink = DummyEventSink(SETTINGS, make_context(http))
    events = [sink.encode(_event(number)) for number in (1, 2, 3)]
    result = await sink.send(sink.request(events, FIRST), events)
    assert [item.outcome for item in result.items] == [Outcome.DELIVERED, Outcome.REJECTED, Outcome.RETRY]
    assert (result.items[1].reason, result.items[1].message) == ("NoSuchItem", "no tea")
    assert result.items[2].retry_after_seconds == 30
    http.respond = lambda _: HttpResponse(status=503)
    result = await sink.send(sink.request(events, FIRST), events)
    assert [item.outcome for item in result.items] == [Outcome.NOT_ATTEMPTED] * 3


@pytest.mark.parametrize(
    "body",
    [
        b'{"results":[{"index":3,"outcome":"Rejected"}]}',
        b'{"results":[{"index":true,"outcome":"Rejected"}]}',
        b'{"results":[{"index":0}]}',
        b'{"results":[5]}',
        b'{"results":{}}',
        b"not json",
    ],
)
async def test_a_response_without_results_is_retried(body: bytes) -> None:
    sink = DummyEventSink(
        SETTINGS, make_context(ScriptedHttp(lambda _: HttpResponse(status=200, headers=JSON, body=body)))
    )
    events = [sink.encode(_event(number)) for number in (1, 2, 3)]
    result = await sink.send(sink.request(events, FIRST), events)
    assert {(item.outcome, item.reason) for item in result.items} == {(Outcome.RETRY, "UnexpectedResponse")}
