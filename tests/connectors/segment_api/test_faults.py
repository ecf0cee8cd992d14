"""The Segment API with the real HTTP client and a server that fails."""

from typing import Any

from headwater.connectors.contract import ConnectorContext, EventSink, Outcome, OutgoingEvent
from headwater.connectors.segment_api.events import SegmentSink
from headwater.connectors.segment_api.settings import SegmentSettings
from headwater.connectors.settings import Settings
from tests.connectors.conformance.event_sink import make_event
from tests.connectors.faults import EventSinkFaults
from tests.connectors.server import Server, response


class TestSegmentFaults(EventSinkFaults):
    def settings(self, url: str) -> Settings:
        return SegmentSettings(write_key="a-secret-write-key", endpoint=url)

    def make(self, settings: Any, context: ConnectorContext) -> EventSink:
        return SegmentSink(settings, context)

    def event(self, number: int) -> OutgoingEvent:
        return make_event(number, event_type="send_event")

    async def test_a_page_of_a_web_server_is_no_success(self, server: Server) -> None:
        for body in (b"<!doctype html><title>Welcome</title>", b"\x00" * 100, b'{"success":false}'):
            server.reply = response(body)
            result = await self.send(server.url())
            assert {item.outcome for item in result.items} == {Outcome.RETRY}
