"""The dummy with the real HTTP client and a server that fails."""

from typing import Any

from headwater.connectors.contract import ConnectorContext, EventSink, OutgoingEvent
from headwater.connectors.dummy.events import DummyEventSink
from headwater.connectors.dummy.schemas import EVENT_TYPES
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.settings import Settings
from tests.connectors.conformance.event_sink import make_event
from tests.connectors.faults import EventSinkFaults

WITHOUT_SCHEMA = next(type_.id for type_ in EVENT_TYPES if type_.schema is None)


class TestDummyFaults(EventSinkFaults):
    def settings(self, url: str) -> Settings:
        return DummySettings(dispatch_url=url)

    def make(self, settings: Any, context: ConnectorContext) -> EventSink:
        return DummyEventSink(settings, context)

    def event(self, number: int) -> OutgoingEvent:
        return make_event(number, event_type=WITHOUT_SCHEMA)
