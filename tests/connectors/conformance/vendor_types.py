"""Sends an event of each event type to a vendor's server, with the mapping that the event type suggests."""

from headwater.connectors.contract import DELIVERED, EncodedEvent
from headwater.connectors.registry import CONNECTORS
from headwater.delivery.preparing import MappingTransformation, Preparer, SourceEvent
from headwater.events.event import Event, encode_event
from headwater.schemas import EVENT_SCHEMA
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.conformance.context import FixedClock, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST
from tests.connectors.conformance.vendor import VendorEventsConformance, plain_schema, prefilled
from tests.connectors.vendors.server import CALM, VendorServer


async def send_each_event_type(suite: VendorEventsConformance, event: Event) -> VendorServer:
    """Send the event as each event type, and return the server. The vendor has to accept each, without a violation."""
    server, connector = suite.make_server(CALM, lambda: 0.0), CONNECTORS[suite.CODE]
    make = connector.engine.event_sink
    assert make is not None and connector.destination is not None and connector.destination.settings is not None
    sink = make(connector.destination.settings.read(suite.SETTINGS), make_context(ScriptedHttp(server.respond)))
    for pipeline, type_ in enumerate(await sink.event_types(), start=1):
        mapping = None
        if type_.schema is not None:
            expressions = prefilled(type_.schema)
            mapping = CompiledMapping(expressions, EVENT_SCHEMA, plain_schema(type_.schema, expressions))
        preparer = Preparer(pipeline, type_.id, sink, MappingTransformation(mapping), FixedClock())
        [prepared] = await preparer.prepare([SourceEvent(encode_event(event))])
        assert isinstance(prepared, EncodedEvent), (type_.id, prepared)
        result = await sink.send(sink.request([prepared], FIRST), [prepared])
        assert result.items == (DELIVERED,), (type_.id, result)
    assert server.violations == []
    return server
