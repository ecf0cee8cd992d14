"""Klaviyo as a destination of events: one event to `/api/events`, several to `/api/event-bulk-create-jobs`.

The single endpoint has its own, higher rate: a trickle of events arrives without a wait, and a stream in bulk. In a
bulk request events of one profile are together, so that they keep their order. An event has our key as `unique_id`: of
events with the same one Klaviyo keeps the first.

Klaviyo validates a request before it accepts it, and refuses it as a whole. The errors name events by JSON pointers:
these events are rejected, and the others are sent again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.contract import (
    DELIVERED,
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
    spread,
)
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.identities import is_placeholder
from headwater.connectors.klaviyo.api import (
    MAX_ARRAY_ELEMENTS,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_PROPERTIES,
    ORIGIN,
    REVISION,
    Error,
    find_broken_limit,
    headers,
    read_errors,
    refuses_key,
)
from headwater.connectors.klaviyo.schemas import EVENT_TYPES
from headwater.connectors.klaviyo.settings import KlaviyoSettings
from headwater.connectors.responses import (
    NoItemNamed,
    ResponseRules,
    Wait,
    credentials_refused,
    exchange,
    reject_named,
)

EVENT_URL: Final = f"{ORIGIN}/api/events"
BULK_URL: Final = f"{ORIGIN}/api/event-bulk-create-jobs"
MAX_BULK_EVENTS: Final = 1_000
MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each event of a bulk request."""
MIN_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
MAX_FUTURE_SECONDS: Final = 365 * 86_400.0

_FRAMING_BYTES: Final = 1_024
"""More than a bulk request adds to its events."""
_IDENTIFIERS: Final = ("email", "phone_number", "external_id", "anonymous_id")

# One event as an element of a bulk request: the profile, and the attributes of the event without their braces.
_BEGIN: Final = b'{"type":"event-bulk-create","attributes":{"profile":'
_MIDDLE: Final = b',"events":{"data":['
_EVENT: Final = b'{"type":"event","attributes":{'
_EVENT_END: Final = b"}}"
_END: Final = b"]}}}"
_BULK_HEAD: Final = b'{"data":{"type":"event-bulk-create-job","attributes":{"events-bulk-create":{"data":['
_BULK_TAIL: Final = b"]}}}}"
_POINTER: Final = ("", "data", "attributes", "events-bulk-create", "data")

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class KlaviyoSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_BULK_EVENTS,
            max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
            max_event_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
        ),
        # Klaviyo allows 10/s and 150/min in bulk, and 350/s and 3,500/min of single events.
        rates=(
            spread(150, 60, burst=4, group="bulk", min_events=2),
            spread(3_500, 60, burst=100, group="single", max_events=1),
        ),
        idempotency=Idempotency(form="Text"),
        max_future_seconds=MAX_FUTURE_SECONDS,
        version=REVISION,
    )

    def __init__(self, settings: KlaviyoSettings, context: ConnectorContext) -> None:
        self._context = context
        self._headers = headers(settings)

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        if event.timestamp < MIN_TIME:
            raise EventRejected("EventTooOld", "the event is from before the year 2000")
        profile = {name: value for name in _IDENTIFIERS if (value := values.get(name)) and not is_placeholder(value)}
        if not profile:
            raise EventRejected("MissingIdentity", "the event has no identifier of a profile, or only a placeholder")
        if is_placeholder(values.get("metric_name") or ""):
            raise EventRejected("MissingMetric", "the event has no metric name")
        body = b"".join(
            (
                _BEGIN,
                b'{"data":{"type":"profile","attributes":%s}}' % _encode(profile),
                _MIDDLE,
                _EVENT,
                _attributes(event, values)[1:-1],
                _EVENT_END,
                _END,
            )
        )
        return EncodedEvent(id=event.key, body=body, user=next(iter(profile.values())))

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        if len(events) == 1:
            profile, attributes = _split(events[0])
            body = b'{"data":{"type":"event","attributes":{"profile":%s,%s}}}' % (profile, attributes)
            return HttpRequest(method="POST", url=EVENT_URL, headers=self._headers, body=body)
        elements = [
            b"".join((_BEGIN, profile, _MIDDLE, b",".join([_EVENT + each + _EVENT_END for each in attributes]), _END))
            for profile, attributes, _ in _by_profile(events)
        ]
        body = _BULK_HEAD + b",".join(elements) + _BULK_TAIL
        return HttpRequest(
            method="POST",
            url=BULK_URL,
            headers=self._headers,
            body=body,
            max_response_bytes=MAX_ERRORS_BYTES,
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


def _attributes(event: OutgoingEvent, values: dict[str, Any]) -> bytes:
    """Return the attributes of an event, without its profile."""
    attributes: dict[str, Any] = {"properties": Raw(_properties(values.get("properties") or {}))}
    attributes["time"] = event.timestamp
    for name in ("value", "value_currency"):
        if name in values:
            attributes[name] = values[name]
    attributes["unique_id"] = event.key
    attributes["metric"] = {"data": {"type": "metric", "attributes": {"name": values["metric_name"]}}}
    return _encode(attributes)


def _properties(properties: dict[str, Any]) -> bytes:
    """Return the properties as JSON. Raises EventRejected if they exceed a limit."""
    if len(properties) > MAX_PROPERTIES:
        raise EventRejected(
            "TooManyProperties", f"the event has {len(properties)} properties, and {MAX_PROPERTIES} are allowed"
        )
    body = _encode(properties)
    # Nearly every event is within the limits by its size and number of brackets, which are found faster.
    is_small = len(body) <= 2 * MAX_ARRAY_ELEMENTS and body.count(b"{") + body.count(b"[") <= MAX_DEPTH
    if not is_small and (rule := find_broken_limit(msgspec.json.decode(body))):
        raise EventRejected("InvalidProperties", rule)
    return body


def _split(event: EncodedEvent) -> tuple[bytes, bytes]:
    """Return the profile of an event, and its attributes without braces. A profile contains no text like `_MIDDLE`,
    because quotation marks in texts are escaped."""
    begin = event.body.index(_MIDDLE)
    return event.body[len(_BEGIN) : begin], event.body[begin + len(_MIDDLE + _EVENT) : -len(_EVENT_END + _END)]


def _by_profile(events: Sequence[EncodedEvent]) -> list[tuple[bytes, list[bytes], list[int]]]:
    """Return the elements of a bulk request: a profile, the attributes of its events, and their positions."""
    elements: dict[bytes, tuple[bytes, list[bytes], list[int]]] = {}
    for position, event in enumerate(events):
        profile, attributes = _split(event)
        element = elements.setdefault(profile, (profile, [], []))
        element[1].append(attributes)
        element[2].append(position)
    return list(elements.values())


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    if response.status < 300:
        return [DELIVERED] * len(events)
    if refuses_key(response):
        raise credentials_refused(response)
    errors = [error for error in read_errors(response) if error.pointer]
    if len(events) == 1:
        if not errors:
            raise NoItemNamed
        return [_result(errors[0])]
    positions = [element[2] for element in _by_profile(events)]
    return reject_named(
        events, {position: _result(error) for error in errors for position in _pointed(error.pointer, positions)}
    )


def _pointed(pointer: str, positions: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the positions of the events that a JSON pointer is about: one event, or all of a profile."""
    parts = tuple(pointer.split("/"))
    element = _index(parts, 5)
    if parts[:5] != _POINTER or element is None or element >= len(positions):
        return ()
    if parts[6:9] != ("attributes", "events", "data"):
        return positions[element]
    event = _index(parts, 9)
    return positions[element] if event is None else positions[element][event : event + 1]


def _index(parts: Sequence[str], position: int) -> int | None:
    text = parts[position] if position < len(parts) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _result(error: Error) -> ItemResult:
    """Return the result of an event that an error is about.

    Our unique ids are valid and occur once in a request. So an error about one says that Klaviyo has the event.
    """
    if error.pointer.endswith("/unique_id"):
        return DELIVERED
    return rejected(error.reason, error.message)


_RULES: Final = ResponseRules(
    items=_read_items,
    item_statuses=frozenset({400}),
    pause=("ratelimit-remaining", Wait("ratelimit-reset", "Seconds")),
)
