"""The sample OAuth app as a destination of events: the conformance suite."""

from collections.abc import Sequence

import msgspec

from headwater.connectors.contract import Attempt, ConnectorContext, EventSink, OutgoingEvent
from headwater.connectors.sample_oauth_app.events import MAX_EVENT_BYTES, SampleEventSink
from tests.connectors.conformance.context import NOW, make_context
from tests.connectors.conformance.event_sink import KEY, EventSinkConformance, make_event
from tests.connectors.sample_oauth_app.test_authorization import CLIENT


def _event(number: int, **changes: object) -> OutgoingEvent:
    return make_event(number, **{"event_type": "send_event", "values": {"email": "ada@example.com"}, **changes})


def _sink(context: ConnectorContext) -> SampleEventSink:
    return SampleEventSink(msgspec.structs.replace(context, oauth_client=CLIENT))


class TestEventSink(EventSinkConformance):
    def make(self, context: ConnectorContext) -> EventSink:
        return _sink(context)

    def event(self, number: int) -> OutgoingEvent:
        return _event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return (
            _event(1, event_type="send_nothing"),
            _event(1, document=msgspec.json.encode({"event": "x" * MAX_EVENT_BYTES})),
        )


def test_requests_are_authorized() -> None:
    sink = _sink(make_context())
    request = sink.request([sink.encode(_event(1))], Attempt(key=KEY, number=1, at=NOW))
    assert request.authorize and request.url == "https://provider.example/api/events"
    [event] = msgspec.json.decode(request.body)["events"]
    assert event["values"] == {"email": "ada@example.com"}
