"""Customer.io as a destination of events: items of `/api/v2/batch`, of which each is taken or refused alone.

An event of a person has a ULID of its time and our key, so Customer.io keeps the first of equal ones. The other items
set attributes, relations or a merge, and a repetition changes nothing. Items of one person stay in their order.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

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
)
from headwater.connectors.customerio.api import (
    MAX_BODY_BYTES,
    MAX_ITEM_BYTES,
    RATES,
    batch_request,
    convert_times,
    find_broken_limit,
    identify_person,
    read_errors,
)
from headwater.connectors.customerio.schemas import DEVICE_ATTRIBUTES, EVENT_TYPES
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import (
    ResponseRules,
    UnexpectedResponse,
    exchange,
    reject_named,
    results_by_index,
)

MAX_BATCH_ITEMS: Final = 1_000
"""Customer.io states no maximum; other integrations have this one."""
MIN_MILLISECONDS: Final = 100_000_000_000
"""A time that is this integer or a larger one is in milliseconds: in seconds it would be after the year 5000."""

_FRAMING_BYTES: Final = 2_048
"""More than a request adds to its items."""
_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(first + second for first in _BASE32 for second in _BASE32)
_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode

Item = dict[str, Any]


class CustomerIoSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_BATCH_ITEMS,
            max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
            max_event_bytes=MAX_ITEM_BYTES,
        ),
        rates=RATES,
        idempotency=Idempotency(form="ULID"),
    )

    def __init__(self, settings: CustomerIoSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        item = _MAKERS[event.event_type](event, values)
        return EncodedEvent(id=event.key, body=_encode(item), user=event.user_id or event.anonymous_id)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return batch_request(self._settings, [event.body for event in events])

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


def _event(event: OutgoingEvent, values: Item) -> Item:
    """Return an event, a page view or a screen view of a person."""
    if is_placeholder(values.get("name") or ""):
        raise EventRejected("MissingName", "the event has no name")
    return {
        "type": "person",
        "identifiers": _person(values, may_be_anonymous=True),
        "action": event.event_type,
        "id": ulid(event),
        "name": values["name"],
        "timestamp": int(event.timestamp.timestamp()),
        "attributes": Raw(convert_times(_encode(values.get("attributes") or {}))),
    }


def _identify(event: OutgoingEvent, values: Item) -> Item:
    person = _person(values)
    attributes = dict(values.get("attributes") or {})
    for name in ("email", "anonymous_id"):
        if name not in person and not is_placeholder(values.get(name) or ""):
            attributes[name] = values[name]
    if (created_at := values.get("created_at")) is not None:
        attributes["created_at"] = _seconds(created_at)
    return {
        "type": "person",
        "identifiers": person,
        "action": "identify",
        "timestamp": int(event.timestamp.timestamp()),
        "attributes": _attributes(attributes),
    }


def _seconds(time: Any) -> Any:
    """Return a time as Customer.io takes it: an integer of milliseconds as seconds, any other value unchanged."""
    value = msgspec.json.decode(_encode(time))
    return value // 1_000 if isinstance(value, int) and value >= MIN_MILLISECONDS else value


def _device(event: OutgoingEvent, values: Item) -> Item:
    if is_placeholder(values["token"]):
        raise EventRejected("MissingToken", "the event has no token of a device")
    device: Item = {
        "token": values["token"],
        "platform": values["platform"],
        "last_used": int(event.timestamp.timestamp()),
    }
    if attributes := {name: values[name] for name in DEVICE_ATTRIBUTES if values.get(name)}:
        device["attributes"] = attributes
    return {"type": "person", "identifiers": _person(values), "action": "add_device", "device": device}


def _group(event: OutgoingEvent, values: Item) -> Item:
    if is_placeholder(values.get("object_id") or "") or not values.get("object_type_id"):
        raise EventRejected("MissingIdentity", "the event has no id of a group, or only a placeholder")
    item = {
        "type": "object",
        "identifiers": {"object_type_id": values["object_type_id"], "object_id": values["object_id"]},
        "action": "identify",
        "attributes": _attributes(values.get("attributes") or {}),
    }
    if person := identify_person(values):
        item["cio_relationships"] = [{"identifiers": person}]
    return item


def _merge(event: OutgoingEvent, values: Item) -> Item:
    primary, secondary = _person(values), identify_person({"id": values.get("previous_id")})
    if not secondary:
        raise EventRejected("MissingIdentity", "the event has no previous id, or only a placeholder")
    if primary == secondary:
        raise EventRejected("SameIdentity", "the previous id is that of the person")
    return {"type": "person", "action": "merge", "primary": primary, "secondary": secondary}


def _person(values: Item, *, may_be_anonymous: bool = False) -> dict[str, str]:
    person = identify_person(values, may_be_anonymous=may_be_anonymous)
    if not person:
        raise EventRejected("MissingIdentity", "the event has no identifier of a person, or only a placeholder")
    return person


def _attributes(attributes: Item) -> Raw:
    """Return attributes of a person or an object as JSON. Raises EventRejected if they exceed a limit."""
    if rule := find_broken_limit(attributes):
        raise EventRejected("InvalidAttributes", rule)
    return Raw(convert_times(_encode(attributes)))


def ulid(event: OutgoingEvent) -> str:
    """Return a ULID: 48 bits of the event's time in milliseconds, 80 of its key, so that each attempt has the same."""
    milliseconds = min(max(int(event.timestamp.timestamp() * 1_000), 0), (1 << 48) - 1)
    number = milliseconds << 80 | int(event.key[-20:], 16)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


_MAKERS: Final[dict[str, Callable[[OutgoingEvent, Item], Item]]] = {
    "event": _event,
    "page": _event,
    "screen": _event,
    "identify": _identify,
    "device": _device,
    "group": _group,
    "merge": _merge,
}


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    """Return the results of a batch: 200 or 207 if items are taken, 400 if the batch is not."""
    errors = read_errors(response)
    if response.status >= 300:
        named = {each.batch_index: each.result for each in errors or () if each.batch_index is not None}
        return reject_named(events, {index: result for index, result in named.items() if 0 <= index < len(events)})
    if errors is None:
        raise UnexpectedResponse("its body is not the documented one")
    return results_by_index(events, [(each.batch_index, each.result) for each in errors])


_RULES: Final = ResponseRules(items=_read_items, item_statuses=frozenset({400}))
