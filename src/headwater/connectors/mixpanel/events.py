"""Mixpanel as a destination: events go to `/import`, and properties of profiles to `/engage`.

Mixpanel takes the valid records of a request and names the others, whose events are rejected. It recognises an event by
its name, time, user and insert id. The insert id is the event's key, with a number if the event becomes several.

Events of one user keep their order, because a later profile overwrites an earlier one.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.base.clock import microseconds
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
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.identities import is_placeholder
from headwater.connectors.mixpanel.api import (
    ENGAGE_PATH,
    IMPORT_PATH,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_MEMBERS,
    MAX_PROPERTIES,
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    RATES,
    find_broken_limit,
    records_request,
)
from headwater.connectors.mixpanel.profiles import check_names, set_properties
from headwater.connectors.mixpanel.responses import RULES
from headwater.connectors.mixpanel.schemas import CONTEXT_NAMES, EVENT_TYPES, IDENTIFY, ORDERS, PROFILE_NAMES
from headwater.connectors.mixpanel.settings import MixpanelSettings
from headwater.connectors.responses import exchange

MAX_PRODUCTS: Final = 999
"""Products of one event: an insert id has at most 36 characters."""
MIN_TIME: Final = datetime(1971, 1, 1, tzinfo=UTC)
MAX_FUTURE_SECONDS: Final = 3_600.0

_FRAMING_BYTES: Final = 2 * MAX_RECORDS
"""More than a request adds to its records."""
_COMMANDS: Final = frozenset({"$identify", "$create_alias", "$merge"})
"""Names of events that change identities."""
_RESERVED: Final = frozenset(
    {
        *("time", "$time", "distinct_id", "$distinct_id", "$insert_id", "$user_id", "$device_id", "token"),
        # Mixpanel does not show other events of a project with a bucket, and drops an event to ignore.
        *("bucket", "$bucket", "$ignore"),
    }
)
_AMOUNTS: Final = frozenset({"total", "subtotal", "revenue", "discount", "shipping", "tax", "price", "quantity"})
"""Properties of orders and products that Mixpanel can add up only if they are numbers."""
_NUMBER_IN_TEXT: Final = re.compile(rb'" *(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?) *"')
_PLAIN_NAMES: Final = {
    "email": ("email",),
    "name": ("name",),
    "first_name": ("firstName", "first_name"),
    "last_name": ("lastName", "last_name"),
    "phone": ("phone",),
    "avatar": ("avatar",),
}
"""Traits that a profile has by their reserved names."""

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class MixpanelSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_RECORDS, max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES, max_event_bytes=MAX_RECORD_BYTES
        ),
        rates=RATES,
        idempotency=Idempotency(form="Text", max_characters=36, needs_equal_time=True),
        max_future_seconds=MAX_FUTURE_SECONDS,
    )

    def __init__(self, settings: MixpanelSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        if event.event_type == IDENTIFY:
            return self._encode_profile(event, values)
        if event.timestamp < MIN_TIME:
            raise EventRejected("EventTooOld", "the event is from before the year 1971")
        name = values.get("event") or ""
        if not name.strip():
            raise EventRejected("MissingName", "the event has no name")
        if name in _COMMANDS:
            raise EventRejected("ReservedName", f'"{name}" is a command of Mixpanel, not the name of an event')
        identity = _identity(event)
        products = values.get("products")
        if products is None:
            body = _record(name, event.key, event, identity, values, {})
            return EncodedEvent(id=event.key, body=body, route=IMPORT_PATH, user=identity["distinct_id"])
        if len(products) > MAX_PRODUCTS:
            raise EventRejected(
                "TooManyProducts", f"the event has {len(products)} products, and {MAX_PRODUCTS} are allowed"
            )
        body = b",".join(
            [
                _record(name, f"{event.key}-{index}", event, identity, values, product)
                for index, product in enumerate(products)
            ]
        )
        return EncodedEvent(
            id=event.key, body=body, route=IMPORT_PATH, user=identity["distinct_id"], count=len(products)
        )

    def _encode_profile(self, event: OutgoingEvent, values: dict[str, Any]) -> EncodedEvent:
        user = event.user_id
        if is_placeholder(user):
            raise EventRejected(
                "MissingIdentity",
                "the event has no user id, or only a placeholder: only identified users have profiles",
            )
        properties: dict[str, Any] = values.get("properties") or {}
        check_names(properties)
        for name, reserved in PROFILE_NAMES.items():
            if (value := values.get(name)) is not None:
                for plain in _PLAIN_NAMES[name]:
                    properties.pop(plain, None)
                properties[reserved] = value
        if not properties:
            raise EventRejected("MissingProperties", "the event has no properties for a profile")
        body = set_properties(self._settings.project_token, user, properties)
        return EncodedEvent(id=event.key, body=body, route=ENGAGE_PATH, user=user)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return records_request(self._settings, events[0].route, [event.body for event in events])

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, RULES[events[0].route])


def _identity(event: OutgoingEvent) -> dict[str, str]:
    """Return the properties that identify the user. Raises EventRejected if there is none.

    They are those of Mixpanel's simplified merge of identities: it joins a device and a user of the same event.
    """
    user = "" if is_placeholder(event.user_id) else event.user_id
    device = "" if is_placeholder(event.anonymous_id) else event.anonymous_id
    if user and device:
        return {"distinct_id": user, "$user_id": user, "$device_id": device}
    if user:
        return {"distinct_id": user, "$user_id": user}
    if device:
        return {"distinct_id": f"$device:{device}", "$device_id": device}
    raise EventRejected("MissingIdentity", "the event has no user id and no anonymous id, or only placeholders")


def _read_amounts(properties: dict[str, Any]) -> None:
    """Replace amounts that an event has as texts by their numbers."""
    for name in _AMOUNTS.intersection(properties):
        if found := _NUMBER_IN_TEXT.fullmatch(bytes(properties[name])):
            properties[name] = Raw(found[1])


def _record(
    name: str,
    insert_id: str,
    event: OutgoingEvent,
    identity: dict[str, str],
    values: dict[str, Any],
    product: dict[str, Any],
) -> bytes:
    """Return one event as Mixpanel takes it. Raises EventRejected if it exceeds a limit."""
    given: dict[str, Any] = (values.get("properties") or {}) | (values.get("campaign") or {}) | product
    check_names(given, _RESERVED)
    properties: dict[str, Any] = {"ip": 0}  # without it, Mixpanel takes the location of this server
    properties |= given
    if event.event_type in ORDERS:
        _read_amounts(properties)
    for own, reserved in CONTEXT_NAMES.items():
        if (value := values.get(own)) is not None:
            properties[reserved] = value
    properties |= identity
    properties["time"] = microseconds(event.timestamp) // 1_000
    properties["$insert_id"] = insert_id
    if len(properties) > MAX_PROPERTIES:
        raise EventRejected(
            "TooManyProperties", f"the event has {len(properties)} properties, and {MAX_PROPERTIES} are allowed"
        )
    body = _encode(properties)
    # Nearly every event is within the limits by its number of commas and braces, which are found faster.
    is_small = body.count(b",") < MAX_MEMBERS and body.count(b"{") <= MAX_DEPTH + 1
    if not is_small:
        for value in msgspec.json.decode(body).values():
            if rule := find_broken_limit(value):
                raise EventRejected("InvalidProperties", rule)
    return _encode({"event": name, "properties": Raw(body)})
