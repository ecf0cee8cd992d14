"""The sample OAuth app as a destination of events: it posts them in batches. The status of the response decides."""

from collections.abc import Sequence
from typing import Final

import msgspec

from headwater.connectors.contract import (
    Attempt,
    BatchLimits,
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventType,
    HttpRequest,
    Idempotency,
    OutgoingEvent,
    SendResult,
    SinkPolicy,
)
from headwater.connectors.oauth import require_client
from headwater.connectors.responses import exchange
from headwater.schemas import Codec, ObjectType, Property, StringType

MAX_EVENT_BYTES: Final = 64 * 1024
EVENT_TYPES: Final = (
    EventType(
        id="send_event",
        name="Send event",
        description="Send an event to the sample OAuth app",
        filter="",
        schema=ObjectType((Property("email", StringType()),)),
    ),
)

_CODEC: Final = Codec(EVENT_TYPES[0].schema or ObjectType(()))


class SampleEventSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        limits=BatchLimits(max_events=100, max_bytes=1024 * 1024, max_event_bytes=MAX_EVENT_BYTES),
        idempotency=Idempotency(form="Text"),
    )

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context
        self._client = require_client(context)

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        if event.event_type != EVENT_TYPES[0].id:
            raise EventRejected("UnknownEventType", f'event type "{event.event_type}" does not exist')
        member = {
            "id": event.key,
            "values": msgspec.Raw(_CODEC.encode(event.values)),
            "event": msgspec.Raw(event.document),
        }
        body = msgspec.json.encode(member)
        if len(body) > MAX_EVENT_BYTES:
            raise EventRejected("EventTooLarge", f"the event has {len(body)} bytes, and {MAX_EVENT_BYTES} are allowed")
        return EncodedEvent(id=event.key, body=body, user=event.user_id or event.anonymous_id)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return HttpRequest(
            method="POST",
            url=f"{self._client.url}/api/events",
            headers={"content-type": "application/json", "idempotency-key": attempt.key},
            body=b'{"events":[' + b",".join(event.body for event in events) + b"]}",
            authorize=True,
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events)
