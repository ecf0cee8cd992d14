"""Sends events to a vendor's server with the mapping that their event type suggests: one of each event type, and full
requests."""

from collections.abc import Sequence

import msgspec

from headwater.connectors.contract import DELIVERED, EncodedEvent, EventSink, EventType
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
    server, sink = _open(suite)
    for pipeline, type_ in enumerate(await sink.event_types(), start=1):
        [prepared] = await _prepare(sink, type_, pipeline, [event])
        await _send(sink, [prepared])
    assert server.violations == []
    return server


async def send_full_requests(suite: VendorEventsConformance) -> VendorServer:
    """Send a request with as many events as the policy allows, and one with as many bytes. The vendor has to accept
    both, without a violation."""
    server, sink = _open(suite)
    server.is_unlimited = True
    limits, type_ = sink.policy.limits, await suite.event_type()
    events = [suite.event(number, f"user-{number % 500}", FixedClock()) for number in range(1, limits.max_events + 1)]
    events = [msgspec.structs.replace(each, connection_id=1) for each in events]
    await _send(sink, await _prepare(sink, type_, 1, events))
    if limits.max_bytes is not None:
        share = limits.max_bytes // len(events)
        [plain] = await _prepare(sink, type_, 2, [_pad(events[-1], 0)])
        prepared = await _prepare(sink, type_, 2, [_pad(each, share - len(plain.body) - 50) for each in events])
        missing = limits.max_bytes - sum(len(each.body) for each in prepared[:-1]) - len(plain.body)
        prepared[-1:] = await _prepare(sink, type_, 2, [_pad(events[-1], missing)])
        assert sum(len(each.body) for each in prepared) == limits.max_bytes
        await _send(sink, prepared)
    assert server.violations == []
    return server


def _pad(event: Event, size: int) -> Event:
    values = msgspec.json.decode(event.properties) | {"padding": "x" * size}
    return msgspec.structs.replace(event, properties=msgspec.Raw(msgspec.json.encode(values)))


def _open(suite: VendorEventsConformance) -> tuple[VendorServer, EventSink]:
    """Return a vendor's server, and a sink whose requests it gets."""
    server, connector = suite.make_server(CALM, lambda: 0.0), CONNECTORS[suite.CODE]
    make = connector.engine.event_sink
    assert make is not None and connector.destination is not None and connector.destination.settings is not None
    settings = connector.destination.settings.read(suite.SETTINGS)
    return server, make(settings, make_context(ScriptedHttp(server.respond)))


async def _prepare(sink: EventSink, type_: EventType, pipeline: int, events: Sequence[Event]) -> list[EncodedEvent]:
    mapping = None
    if type_.schema is not None:
        expressions = prefilled(type_.schema)
        mapping = CompiledMapping(expressions, EVENT_SCHEMA, plain_schema(type_.schema, expressions))
    preparer = Preparer(pipeline, type_.id, sink, MappingTransformation(mapping), FixedClock())
    prepared = await preparer.prepare([SourceEvent(encode_event(each)) for each in events])
    encoded = [each for each in prepared if isinstance(each, EncodedEvent)]
    assert len(encoded) == len(events), (type_.id, prepared)
    return encoded


async def _send(sink: EventSink, events: Sequence[EncodedEvent]) -> None:
    result = await sink.send(sink.request(events, FIRST), events)
    assert result.items == (DELIVERED,) * len(events), result.failure
