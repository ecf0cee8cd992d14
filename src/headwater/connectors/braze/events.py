"""Braze as a destination of events: custom events, eCommerce events, purchases and attributes, together in requests to
`/users/track`, and merges of users in requests of their own.

Braze recognises no repetition: an event that is sent again is there twice. So few requests are in flight. An order has
a purchase for each product; if one of them is refused, the order is rejected although Braze has the others.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.braze.api import (
    MAX_BODY_BYTES,
    MAX_OBJECTS,
    RATES,
    WAITS,
    Answer,
    find_broken_name,
    post_request,
    read_answer,
    track_request,
)
from headwater.connectors.braze.commerce import make_purchases, make_step
from headwater.connectors.braze.objects import InvalidUser, identify_user, make_attributes
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
from headwater.connectors.responses import ResponseRules, UnexpectedResponse, Wait, exchange, reject_named

MAX_CONCURRENCY: Final = 8
"""Requests in flight. After a crash at most this number of requests is repeated."""
MAX_PROPERTIES_BYTES: Final = 102_400
RESERVED_PROPERTIES: Final = frozenset({"time", "event_name"})

_FRAMING_BYTES: Final = 1_024
"""More than a request adds to its objects."""
_VALUES: Final = EventValues(EVENT_TYPES)
_ARRAYS: Final = {b'{"name"': "events", b'{"produ': "purchases", b'{"_upda': "attributes"}
"""The array of objects by their first bytes."""
_PREFIX_BYTES: Final = 7
_ROUTES: Final = {
    "identify": ("/users/identify", "aliases_to_identify"),
    "merge": ("/users/merge", "merge_updates"),
}
"""The path and the array of events that are no objects of `/users/track`."""
_COUNTS: Final = {"identify": 2, "merge": MAX_OBJECTS}
"""The share of a request that such an event has, in objects. Braze allows 50 of them in a request. It merges users in
no order, so each merge has a request of its own."""
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
        route = event.event_type if event.event_type in _ROUTES else ""
        return EncodedEvent(
            id=event.key,
            body=b",".join(map(_encode, objects)),
            route=route,
            user=event.user_id or event.anonymous_id,
            count=_COUNTS.get(route, len(objects)),
        )

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        if route := events[0].route:
            path, array = _ROUTES[route]
            return post_request(self._settings, path, {array: [event.body for event in events]})
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


def _ecommerce(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    name, properties = make_step(values)
    made = {"name": name, "time": event.timestamp, **_user(values, settings), **_app(settings)}
    return [made | {"properties": _properties(properties)}]


def _purchase(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    common = {"time": event.timestamp, **_user(values, settings), **_app(settings)}
    objects: list[Object] = []
    for made, properties in make_purchases(values, common):
        objects.append(made | {"properties": _properties(properties)})
        if len(objects) > MAX_OBJECTS:
            raise EventRejected("TooManyProducts", f"the order has more than {MAX_OBJECTS} purchases")
    return objects


def _attributes(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    try:
        return [make_attributes(values)]
    except InvalidUser as error:
        raise EventRejected(error.reason, str(error)) from None


def _identify(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    external_id, alias = _given(values, "external_id"), _given(values, "alias_name")
    return [{"external_id": external_id, "user_alias": {"alias_name": alias, "alias_label": settings.alias_label}}]


def _merge(event: OutgoingEvent, values: Object, settings: BrazeSettings) -> list[Object]:
    kept, merged = _given(values, "external_id"), _given(values, "previous_id")
    if kept == merged:
        raise EventRejected("SameIdentity", "the previous id is that of the user")
    return [{"identifier_to_merge": {"external_id": merged}, "identifier_to_keep": {"external_id": kept}}]


def _given(values: Object, name: str) -> str:
    identifier = values.get(name) or ""
    if is_placeholder(identifier):
        raise EventRejected("MissingIdentity", f"the event has no {name}, or only a placeholder")
    return str(identifier)


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
        if name in RESERVED_PROPERTIES:
            raise EventRejected("InvalidProperties", f"{name} is reserved, and cannot be the name of a property")
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
    "ecommerce": _ecommerce,
    "purchase": _purchase,
    "attributes": _attributes,
    "identify": _identify,
    "merge": _merge,
}


def _array(event: EncodedEvent) -> str:
    return _ROUTES[event.route][1] if event.route else _ARRAYS[event.body[:_PREFIX_BYTES]]


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
    owners: defaultdict[str, list[int]] = defaultdict(list)
    for position, event in enumerate(events):
        owners[_array(event)] += [position] * (1 if event.route else event.count)
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
        if array == "purchases" and events[position].count > 1:
            text = f"purchase {index - owners[array].index(position) + 1} of {events[position].count}: {text}"
        results.setdefault(position, rejected("InvalidEvent", text))
    return results


_RULES: Final = ResponseRules(
    items=_read_items,
    item_statuses=frozenset({400}),
    credentials=frozenset({401, 404}),
    waits=WAITS,
    pause=("x-ratelimit-remaining", Wait("x-ratelimit-reset", "UnixSeconds")),
)
