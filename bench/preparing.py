"""Preparing events for destinations: from the queued document to the destination's form, with a mapping of six
properties.

The baseline is handwritten Python with msgspec: it decodes the document, picks the six values, and writes the same
body, without schemas and checks. Equal bodies are asserted before the measurement. Times are those of the processor.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Raw

from bench.payload import Batch
from headwater.base.clock import SystemClock, microseconds
from headwater.connectors.contract import (
    Attempt,
    BatchLimits,
    EncodedEvent,
    EventType,
    HttpRequest,
    OutgoingEvent,
    SendResult,
    SinkPolicy,
)
from headwater.delivery.preparing import MappingTransformation, Preparer, SourceEvent
from headwater.events import Envelope
from headwater.events.protocol import encode_envelope
from headwater.log import LogEntry, StoredEntry
from headwater.processing.batch import read_batch
from headwater.schemas import EVENT_SCHEMA, Codec, FloatType, ObjectType, Property, StringType, all_optional
from headwater.transforms.mapping import CompiledMapping

EVENTS = 2_000
ROUNDS = 7
SCHEMA = ObjectType(
    (
        Property("name", StringType(max_length=200), create_required=True),
        Property("order", StringType(max_length=100)),
        Property("total", FloatType(64)),
        Property("currency", StringType(max_length=3)),
        Property("url", StringType()),
        Property("language", StringType()),
    )
)
EXPRESSIONS = {
    "name": "event",
    "order": "properties.orderId",
    "total": "properties.total",
    "currency": "properties.currency",
    "url": "context.page.url",
    "language": "context.locale",
}
_encode = msgspec.json.Encoder().encode


class _Sink:
    """A destination that takes the event and the values, in batches."""

    policy = SinkPolicy(scope="Any", limits=BatchLimits(max_events=100, max_bytes=1 << 20, max_event_bytes=1 << 16))
    _codec = Codec(all_optional(SCHEMA))

    async def event_types(self) -> Sequence[EventType]:
        return ()

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = Raw(self._codec.encode(event.values))
        body = _encode({"id": event.message_id, "values": values, "event": Raw(event.document)})
        return EncodedEvent(id=event.key, body=body, user=event.user_id or event.anonymous_id)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        raise NotImplementedError

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        raise NotImplementedError


class _Page(msgspec.Struct):
    url: str | None = None


class _Context(msgspec.Struct):
    page: _Page | None = None
    locale: str | None = None


class _Properties(msgspec.Struct, rename="camel"):
    order_id: str | None = None
    total: float | None = None
    currency: str | None = None


class _Event(msgspec.Struct, rename="camel"):
    message_id: str
    event: str
    context: _Context
    properties: _Properties


_decode = msgspec.json.Decoder(_Event).decode


def handwritten(document: bytes) -> bytes:
    """Return the same body."""
    event = _decode(document)
    values = {
        "name": event.event,
        "order": event.properties.order_id,
        "total": event.properties.total,
        "currency": event.properties.currency,
        "url": event.context.page.url if event.context.page else None,
        "language": event.context.locale,
    }
    present = {name: value for name, value in values.items() if value is not None}
    return _encode({"id": event.message_id, "values": present, "event": Raw(document)})


def documents(count: int) -> list[bytes]:
    """Return track events as the worker queues them."""
    found: list[bytes] = []
    while len(found) < count:
        batch = Batch()
        received = microseconds(SystemClock().now())
        header = encode_envelope(Envelope("track", "batch", 1, 7, received, os.urandom(16), rejected={}))
        read = read_batch([StoredEntry(1, LogEntry(batch.events, header, batch.refresh()))])
        found += [each.document for each in read.accepted if each.event.type == "track"]
    return found[:count]


def preparing(folder: Path, seconds: float) -> None:
    """Microseconds of the processor an event, for the first pipeline and each further one, against handwritten code."""
    queued = documents(EVENTS)
    mapping = MappingTransformation(CompiledMapping(EXPRESSIONS, EVENT_SCHEMA, SCHEMA))
    preparer = Preparer(5, "order", _Sink(), mapping, SystemClock())

    def prepared(events: list[SourceEvent]) -> list[bytes]:
        results = asyncio.run(preparer.prepare(events))
        return [each.body for each in results if isinstance(each, EncodedEvent)]

    bodies = prepared([SourceEvent(each) for each in queued])
    assert list(map(msgspec.json.decode, bodies)) == [msgspec.json.decode(handwritten(each)) for each in queued]
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        events = [SourceEvent(each) for each in queued]
        times = [time.process_time()]
        for work in (prepared, prepared):
            work(events)
            times.append(time.process_time())
        for each in queued:
            handwritten(each)
        times.append(time.process_time())
        rounds.append([(later - earlier) / EVENTS * 1e6 for earlier, later in pairwise(times)])
    first, further, baseline = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(
        f"  first pipeline {first:.1f} µs   each further {further:.1f} µs   handwritten {baseline:.1f} µs   "
        f"ratio {first / baseline:.1f} (median; goal 40 µs for the first)"
    )
