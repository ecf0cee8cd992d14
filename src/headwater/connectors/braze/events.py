"""Braze as a destination of events: custom events, purchases and attributes, together in requests to `/users/track`.

Braze recognises no repetition: an event that is sent again is there twice. So few requests are in flight. An order has
a purchase for each product; if one of them is refused, the order is rejected although Braze has the others.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.braze.api import (
    MAX_BODY_BYTES,
    MAX_OBJECTS,
    MAX_PROPERTIES_BYTES,
    RATES,
    Answer,
    find_broken_attribute,
    find_broken_name,
    identify_user,
    read_answer,
    track_request,
)
from headwater.connectors.braze.schemas import EVENT_TYPES
from headwater.connectors.braze.settings import BrazeSettings
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
    ItemResult,
    OutgoingEvent,
    SendResult,
    SinkPolicy,
    rejected,
)
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import RETRY_AFTER, ResponseRules, UnexpectedResponse, Wait, exchange, reject_named

MAX_CONCURRENCY: Final = 8
"""Requests in flight. After a crash at most this number of requests is repeated."""
MAX_QUANTITY: Final = 100

_FRAMING_BYTES: Final = 1_024
"""More than a request adds to its objects."""
_VALUES: Final = EventValues(EVENT_TYPES)
_ARRAYS: Final = {b'{"name"': "events", b'{"produ': "purchases", b'{"_upda': "attributes"}
"""The array of objects by their first bytes."""
_PREFIX_BYTES: Final = 7
_encode: Final = msgspec.json.Encoder().encode

Object = dict[str, Any]


class BrazeSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_OBJECTS,
            max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
            max_event_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
        ),
        rates=RATES,
        max_concurrency=MAX_CONCURRENCY,
    )

    def __init__(self, settings: BrazeSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        objects = _MAKERS[event.event_type](event, values, self._settings)
        body = b",".join(map(_encode, objects))
        return EncodedEvent(id=event.key, body=body, user=event.user_id or event.anonymous_id, count=len(objects))

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        arrays: dict[str, list[bytes]] = {}
        for event in events:
            arrays.setdefault(_array(event), []).append(event.body)
        return track_request(self._settings, arrays)

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


def _event(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    if is_placeholder(values.get("name") or ""):
        raise EventRejected("MissingName", "the event has no name")
    made = {"name": values["name"], "time": event.timestamp, **_user(values, settings), **_app(settings)}
    return [made | {"properties": _properties(values.get("properties") or {})}]


def _purchase(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    user, order = _user(values, settings) | _app(settings), values.get("properties") or {}
    objects: list[Object] = []
    for product in msgspec.json.decode(_encode(values["products"])):
        product_id, price = _product_id(product), product.pop("price", None)
        if isinstance(price, bool) or not isinstance(price, int | float):
            raise EventRejected("InvalidProduct", f"product {product_id!r} has no price that is a number")
        made = {
            "product_id": product_id,
            "currency": values["currency"],
            "price": price,
            "time": event.timestamp,
            **user,
        }
        quantities = list(_quantities(product.pop("quantity", 1), product_id))
        properties = {"properties": _properties({**order, **product})}
        objects += [{**made, "quantity": quantity, **properties} for quantity in quantities]
        if len(objects) > MAX_OBJECTS:
            raise EventRejected("TooManyProducts", f"the order has more than {MAX_OBJECTS} purchases")
    return objects


def _product_id(product: Object) -> str:
    for name in ("product_id", "sku", "name"):
        value = product.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and not is_placeholder(str(value)):
            if len(str(value)) > 255:
                raise EventRejected("InvalidProduct", f"a product has an id of more than 255 characters: {name}")
            return str(value)
    raise EventRejected("InvalidProduct", "a product has no product_id, sku or name")


def _quantities(quantity: Any, product_id: str) -> Iterator[int]:
    """Yield the quantities of the purchases of a product: Braze takes up to 100 in one."""
    if isinstance(quantity, bool) or not isinstance(quantity, int | float) or quantity < 1 or quantity % 1:
        raise EventRejected("InvalidProduct", f"product {product_id!r} has a quantity that is no positive integer")
    left = min(int(quantity), MAX_QUANTITY * (MAX_OBJECTS + 1))
    while left > 0:
        yield min(left, MAX_QUANTITY)
        left -= MAX_QUANTITY


def _attributes(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    user, custom = identify_user(values), values.pop("custom_attributes", None) or {}
    if not user:
        raise EventRejected("MissingIdentity", "the event has no identifier of a user, or only a placeholder")
    if rule := find_broken_attribute(custom):
        raise EventRejected("InvalidAttributes", rule)
    for name in ("external_id", "email", "phone"):
        if is_placeholder(values.get(name) or ""):
            values.pop(name, None)
    return [{"_update_existing_only": False, **custom, **values, **user}]


def _user(values: Object, settings: BrazeSettings) -> Object:
    """Return the identifier of a user: of one with an anonymous id only, an alias."""
    if user := identify_user(values):
        return user
    if is_placeholder(alias := values.get("alias_name") or ""):
        raise EventRejected("MissingIdentity", "the event has no identifier of a user, or only a placeholder")
    return {
        "user_alias": {"alias_name": alias, "alias_label": settings.alias_label},
        "_update_existing_only": False,  # otherwise Braze drops events of aliases that it does not have
    }


def _app(settings: BrazeSettings) -> Object:
    return {"app_id": settings.app_id} if settings.app_id else {}


def _properties(properties: Object) -> Raw:
    """Return the properties as JSON. Raises EventRejected if they exceed a limit."""
    for name in properties:
        if rule := find_broken_name(name):
            raise EventRejected("InvalidProperties", rule)
    body = _encode(properties)
    if len(body) > MAX_PROPERTIES_BYTES:
        raise EventRejected(
            "InvalidProperties", f"the properties have {len(body)} bytes, and {MAX_PROPERTIES_BYTES} are allowed"
        )
    return Raw(body)


_MAKERS: Final[dict[str, Callable[[OutgoingEvent, Object, BrazeSettings], list[Object]]]] = {
    "event": _event,
    "page": _event,
    "screen": _event,
    "purchase": _purchase,
    "attributes": _attributes,
}


def _array(event: EncodedEvent) -> str:
    return _ARRAYS[event.body[:_PREFIX_BYTES]]


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    """Return the results of a request: 2xx if objects are taken, 400 if none is."""
    answer = read_answer(response)
    named = {} if answer is None else _named(answer, events)
    if response.status >= 300:
        return reject_named(events, named)
    if answer is None or not answer.is_success:
        raise UnexpectedResponse("it does not state a success")
    return [named.get(position, DELIVERED) for position in range(len(events))]


def _named(answer: Answer, events: Sequence[EncodedEvent]) -> dict[int, ItemResult]:
    """Return the results of the events that errors name, by their position. Raises UnexpectedResponse."""
    owners: dict[str, list[int]] = {"attributes": [], "events": [], "purchases": []}
    for position, event in enumerate(events):
        owners[_array(event)] += [position] * event.count
    refused: dict[tuple[str, int], str] = {}
    for array, index, text in answer.named():
        if not 0 <= index < len(owners.get(array, ())):
            raise UnexpectedResponse(f"it names object {index} of {array}")
        refused[array, index] = text
    if answer.message == "success":
        for array, processed in (("events", answer.events_processed), ("purchases", answer.purchases_processed)):
            count = sum(name == array for name, _ in refused)
            if processed is not None and processed + count != len(owners[array]):
                raise UnexpectedResponse(f"it counts {processed} of {len(owners[array])} {array}")
    results: dict[int, ItemResult] = {}
    for (array, index), text in refused.items():
        position = owners[array][index]
        if events[position].count > 1:
            text = f"purchase {index - owners[array].index(position) + 1} of {events[position].count}: {text}"
        results.setdefault(position, rejected("InvalidEvent", text))
    return results


_RULES: Final = ResponseRules(
    items=_read_items,
    item_statuses=frozenset({400}),
    credentials=frozenset({401, 404}),
    waits=(
        Wait("x-ratelimit-retry-after", "Seconds"),
        RETRY_AFTER,
        Wait("x-ratelimit-reset", "UnixSeconds"),
    ),
    pause=("x-ratelimit-remaining", Wait("x-ratelimit-reset", "UnixSeconds")),
)
