"""The webhook as a destination of events: one request for each event, or for each batch of events.

| format | body with the batch size 1 | body of a batch |
| --- | --- | --- |
| Envelope | `{"id": …, "type": …, "timestamp": …, "data": …}` | `{"type": "batch", "data": [envelope, …]}` |
| JSON | the data | `[data, …]` |
| NDJSON | the data and a line feed | the data, a line each |

`data` is the stored event, or the value that a pipeline made. A batch size over 1 always makes batches, also of one
event, so that a receiver reads one form. The status of the response decides; its body is not read.
"""

from collections.abc import Sequence
from typing import Any, Final

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
from headwater.connectors.http_webhook.settings import WebhookSettings
from headwater.connectors.http_webhook.signatures import sign
from headwater.connectors.responses import exchange
from headwater.schemas import Json, JsonType, ObjectType, Property, StringType

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_CONCURRENCY: Final = 64
"""Requests in flight with single events: at 100 ms a request, these are 640 events per second."""
MAX_BATCH_CONCURRENCY: Final = 16

_FRAMING_BYTES: Final = 1_024
"""More than a batch adds to its events: two brackets, the envelope, and a comma for each event."""

EVENT_TYPES: Final = (
    EventType(id="send_event", name="Send event", description="Send the event as it is stored", filter="", schema=None),
    EventType(
        id="send_data",
        name="Send data",
        description="Send data that the pipeline makes of the event",
        filter="",
        schema=ObjectType(
            (
                Property("type", StringType(), description="Type of the message"),
                Property("data", JsonType(), create_required=True, description="Data of the message"),
            )
        ),
    ),
)

_encode = msgspec.json.Encoder().encode


class _Envelope(msgspec.Struct):
    id: str
    type: Any
    timestamp: Any
    data: msgspec.Raw


class WebhookSink:
    """Implements `EventSink`."""

    def __init__(self, settings: WebhookSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._keys = settings.signing_keys
        self._is_single = settings.batch_size == 1
        media_type = "application/x-ndjson" if settings.format == "NDJSON" else "application/json"
        self._headers = {"content-type": media_type, **settings.sent_headers}
        self.policy = SinkPolicy(
            scope="Event" if self._is_single else "Any",
            order="PerUser",
            limits=BatchLimits(
                max_events=settings.batch_size,
                max_bytes=MAX_REQUEST_BYTES - _FRAMING_BYTES,
                max_event_bytes=MAX_EVENT_BYTES,
            ),
            idempotency=Idempotency(form="Text"),
            max_concurrency=MAX_CONCURRENCY if self._is_single else MAX_BATCH_CONCURRENCY,
        )

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        type_, data = _read_data(event)
        if self._settings.format == "Envelope":
            body = _encode(_Envelope(event.key, type_, event.timestamp, data))
        elif self._settings.format == "NDJSON":
            body = msgspec.json.format(bytes(data), indent=-1)  # stored events keep the line feeds of clients
        else:
            body = bytes(data)
        if len(body) > MAX_EVENT_BYTES:
            raise EventRejected("EventTooLarge", f"the event has {len(body)} bytes, and {MAX_EVENT_BYTES} are allowed")
        return EncodedEvent(id=event.key, body=body, user=event.user_id or event.anonymous_id)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        body = self._body([event.body for event in events])
        id_ = events[0].id if self._is_single else attempt.key
        seconds = int(attempt.at.timestamp())
        return HttpRequest(
            method="POST",
            url=self._settings.url,
            headers={
                **self._headers,
                "webhook-id": id_,
                "webhook-timestamp": str(seconds),
                "webhook-signature": sign(self._keys, id_, seconds, body),
            },
            body=body,
        )

    def _body(self, bodies: list[bytes]) -> bytes:
        if self._settings.format == "NDJSON":
            return b"\n".join(bodies) + b"\n"
        if self._is_single:
            return bodies[0]
        array = b"[" + b",".join(bodies) + b"]"
        return array if self._settings.format == "JSON" else b'{"type":"batch","data":' + array + b"}"

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events)


def _read_data(event: OutgoingEvent) -> tuple[object, msgspec.Raw]:
    """Return the type and the data of the message for an event."""
    match event.event_type:
        case "send_event":
            return event.type, msgspec.Raw(event.document)
        case "send_data":
            data = event.values.get("data")
            if not isinstance(data, Json):
                raise EventRejected("MissingData", "the pipeline gave no value to data")
            return event.values.get("type", event.type), msgspec.Raw(data.text.encode())
        case unknown:
            raise EventRejected("UnknownEventType", f'event type "{unknown}" does not exist')
