"""Amplitude as a destination of events: up to 10 events go to `/2/httpapi`, and more to `/batch`.

The first endpoint is for the present and takes 30 events a second of a user. The other one is for a backlog and takes
1,000. Amplitude recognises an event by its device and insert id for 7 days.

Amplitude refuses a request as a whole and names events. Invalid ones are rejected, those of a throttled user wait for
30 seconds, and the others are sent again without a wait. So a user with too many events does not stop others. Its
firewall names no event: the request is halved until the one with the forbidden value is found.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.base.clock import microseconds
from headwater.connectors.amplitude.api import (
    BATCH_PATH,
    BLOCKED,
    HEADERS,
    HTTP_PATH,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_DEPTH,
    MAX_HTTP_BYTES,
    MAX_HTTP_EVENTS,
    ORIGINS,
    QUOTA_SECONDS,
    THROTTLED_SECONDS,
    Rejection,
    Success,
    read_rejection,
)
from headwater.connectors.amplitude.schemas import EVENT_TYPES, IDENTIFY
from headwater.connectors.amplitude.settings import AmplitudeSettings
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
    retry,
    spread,
)
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import (
    ResponseRules,
    UnexpectedResponse,
    credentials_refused,
    exchange,
    reject_named,
)

MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each event of a request."""
DEDUPLICATION_SECONDS: Final = 7 * 86_400.0

_FRAMING_BYTES: Final = 4_096
"""More than a request adds to its events."""
_COMMANDS: Final = frozenset({"$identify", "$groupidentify"})
"""Names of events that only set properties."""
_IDENTIFIERS: Final = ("user_id", "device_id")
_MAPS: Final = ("event_properties", "user_properties", "groups")
_DETAILS: Final = ("currency", "productId", "revenueType")
_CURRENCY: Final = re.compile("[A-Z]{3}")
_TAIL: Final = b'],"options":{"min_id_length":1}}'

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class AmplitudeSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_BATCH_EVENTS,
            max_bytes=MAX_BATCH_BYTES - _FRAMING_BYTES,
            max_event_bytes=MAX_BATCH_BYTES - _FRAMING_BYTES,
        ),
        # Amplitude allows 100 requests and 1,000 events a second of a starter plan, and states no limit of batches.
        rates=(spread(100, 1, burst=2, group="httpapi", max_events=MAX_HTTP_EVENTS),),
        idempotency=Idempotency(form="Text", seconds=DEDUPLICATION_SECONDS),
    )

    def __init__(self, settings: AmplitudeSettings, context: ConnectorContext) -> None:
        self._context = context
        self._origin = ORIGINS[settings.server_zone]
        self._head = b'{"api_key":%s,"events":[' % _encode(settings.api_key)

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        if event.event_type == IDENTIFY:
            values = _identify(values)
        elif not (name := values.get("event_type") or "").strip():
            raise EventRejected("MissingName", "the event has no name")
        elif name in _COMMANDS:
            raise EventRejected("ReservedName", f'"{name}" is a command of Amplitude, not the name of an event')
        for identifier in _IDENTIFIERS:
            if is_placeholder(values.get(identifier) or ""):
                values.pop(identifier, None)
        user = values.get("user_id") or values.get("device_id")
        if not user:
            raise EventRejected("MissingIdentity", "the event has no user id and no device id, or only placeholders")
        values["time"] = microseconds(event.timestamp) // 1_000
        values["insert_id"] = event.key
        for name in _MAPS:
            if properties := values.get(name):
                values[name] = Raw(_properties(properties))
            else:
                values.pop(name, None)
        _leave_out_details(values)
        return EncodedEvent(id=event.key, body=_encode(values), user=user)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        body = b"".join((self._head, b",".join([event.body for event in events]), _TAIL))
        is_small = len(events) <= MAX_HTTP_EVENTS and len(body) < MAX_HTTP_BYTES
        return HttpRequest(
            method="POST",
            url=self._origin + (HTTP_PATH if is_small else BATCH_PATH),
            headers=HEADERS,
            body=body,
            max_response_bytes=MAX_ERRORS_BYTES,
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


def _identify(values: dict[str, Any]) -> dict[str, Any]:
    """Return the event that sets properties of a user."""
    properties = values.get("user_properties")
    if not properties:
        raise EventRejected("MissingProperties", "the event has no properties for a user")
    return {**values, "event_type": "$identify", "user_properties": {"$set": properties}}


def _leave_out_details(values: dict[str, Any]) -> None:
    """Remove details of a revenue from an event without an amount, and a currency that is not three capital letters."""
    has_amount = values.get("revenue") is not None or values.get("price") is not None
    for name in _DETAILS:
        if name in values and not has_amount:
            del values[name]
    if "currency" in values and not _CURRENCY.fullmatch(values["currency"] or ""):
        del values["currency"]


def _properties(properties: dict[str, Any]) -> bytes:
    """Return an object as JSON. Raises EventRejected if it is nested too deeply."""
    body = _encode(properties)
    # Nearly every object is within the limit by its number of brackets, which is found faster.
    is_flat = body.count(b"{") + body.count(b"[") <= MAX_DEPTH
    if not is_flat and _depth(msgspec.json.decode(body)) > MAX_DEPTH:
        raise EventRejected("InvalidProperties", f"properties are nested deeper than {MAX_DEPTH} levels")
    return body


def _depth(value: Any) -> int:
    """Return the number of nested objects and arrays, at most one more than is allowed."""
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


_decode_success: Final = msgspec.json.Decoder(Success).decode


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    if response.status < 300:
        try:
            success = _decode_success(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UnexpectedResponse("its body is not the documented one") from None
        if success.code != 200 or success.events_ingested != len(events):
            raise UnexpectedResponse(f"it counts {success.events_ingested} of {len(events)} events")
        return [DELIVERED] * len(events)
    if response.status == BLOCKED and len(events) == 1:
        return [rejected("Blocked", "Amplitude's firewall blocks the event: one of its values looks like an attack")]
    rejection = read_rejection(response)
    if rejection.is_about_key:
        raise credentials_refused(response)
    return reject_named(events, _named(rejection, events))


def _named(rejection: Rejection, events: Sequence[EncodedEvent]) -> dict[int, ItemResult]:
    """Return the results of the events that a rejection is about, by their positions."""
    named: dict[int, ItemResult] = {}
    throttled = retry("ThrottledUser", f"the user sends too many events: {rejection.error}", THROTTLED_SECONDS)
    over_quota = retry("DailyQuotaExceeded", f"the user has too many events today: {rejection.error}", QUOTA_SECONDS)
    for index in rejection.throttled_events or ():
        named[index] = throttled
    for users, devices, result in (
        (rejection.throttled_users, rejection.throttled_devices, throttled),
        (rejection.exceeded_daily_quota_users, rejection.exceeded_daily_quota_devices, over_quota),
    ):
        if users or devices:
            for position, event in enumerate(events):
                ids = _decode_ids(event.body)
                if ids.user_id in (users or ()) or ids.device_id in (devices or ()):
                    named[position] = result
    for index, reason, message in rejection.invalid_events():
        text = f"{message}: {rejection.error}" if rejection.error else message
        named[index] = rejected(reason, text)
    return {position: result for position, result in named.items() if 0 <= position < len(events)}


class _Ids(msgspec.Struct):
    """The identifiers of an encoded event."""

    user_id: str | None = None
    device_id: str | None = None


_decode_ids: Final = msgspec.json.Decoder(_Ids).decode

_RULES: Final = ResponseRules(
    items=_read_items,
    item_statuses=frozenset({400, BLOCKED, 429}),
    batch=frozenset({400, BLOCKED, 413, 415, 422}),
    default_wait_seconds=THROTTLED_SECONDS,
)
