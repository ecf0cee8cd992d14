"""The dummy as a destination of events: it posts them in batches to the URL of its settings.

The body is `{"events": [{"id": …, "type": …, "values": …, "event": …}]}`. The status of the response decides. A
response `{"results": [{"index": 0, "outcome": "Rejected", "reason": …, "message": …, "retryAfter": …}]}` names the
events that were not taken; `outcome` is "Rejected" or "Retry".
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    Attempt,
    BatchLimits,
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventType,
    HttpRequest,
    HttpResponse,
    Idempotency,
    ItemResult,
    OutgoingEvent,
    SendResult,
    SinkPolicy,
    rejected,
    retry,
)
from headwater.connectors.dummy.schemas import EVENT_TYPES
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.dummy.users import operate
from headwater.connectors.responses import ResponseRules, UnexpectedResponse, exchange, json_body, results_by_index
from headwater.schemas import Codec, all_optional

MAX_EVENT_BYTES: Final = 64 * 1024

_CODECS: Final = {
    type_.id: None if type_.schema is None else Codec(all_optional(type_.schema)) for type_ in EVENT_TYPES
}
_HEAD: Final = b'{"events":['
_TAIL: Final = b"]}"


class DummyEventSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(max_events=100, max_bytes=1024 * 1024, max_event_bytes=MAX_EVENT_BYTES),
        idempotency=Idempotency(form="Text"),
    )

    def __init__(self, settings: DummySettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        if event.event_type not in _CODECS:
            raise EventRejected("UnknownEventType", f'event type "{event.event_type}" does not exist')
        codec = _CODECS[event.event_type]
        member = {
            "id": event.key,
            "type": event.event_type,
            "values": msgspec.Raw(b"{}" if codec is None else codec.encode(event.values)),
            "event": msgspec.Raw(event.document),
        }
        body = msgspec.json.encode(member)
        if len(body) > MAX_EVENT_BYTES:
            raise EventRejected("EventTooLarge", f"the event has {len(body)} bytes, and {MAX_EVENT_BYTES} are allowed")
        return EncodedEvent(id=event.key, body=body, user=event.user_id or event.anonymous_id)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        if not self._settings.dispatch_url:
            raise Unavailable("urlForDispatchingEvents is not set")
        return HttpRequest(
            method="POST",
            url=self._settings.dispatch_url,
            headers={"content-type": "application/json", "idempotency-key": attempt.key},
            body=_HEAD + b",".join(event.body for event in events) + _TAIL,
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        await operate(self._settings)
        return await exchange(self._context, request, events, _RULES)


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    if "json" not in response.headers.get("content-type", ""):
        return results_by_index(events, ())
    body = json_body(response)
    results = body.get("results", ()) if isinstance(body, dict) else ()
    return results_by_index(events, _reported(results))


def _reported(results: Any) -> Iterator[tuple[object, ItemResult]]:
    if not isinstance(results, list | tuple):
        raise UnexpectedResponse('its "results" are not a list')
    for result in results:
        if not isinstance(result, dict):
            raise UnexpectedResponse("one of its results is not an object")
        reason, message = str(result.get("reason", "")), str(result.get("message", ""))
        if result.get("outcome") == "Rejected":
            yield result.get("index"), rejected(reason, message)
        elif result.get("outcome") == "Retry":
            after = result.get("retryAfter")
            yield result.get("index"), retry(reason, message, after if isinstance(after, int | float) else None)
        else:
            raise UnexpectedResponse("one of its results has no outcome")


_RULES: Final = ResponseRules(items=_read_items)
