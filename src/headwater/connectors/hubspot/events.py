"""HubSpot as a destination of custom events: up to 500 in a request, whose response has no body.

An event has a definition in the account, with its own properties. So the event types are the definitions. HubSpot
rejects a request as a whole and names no event: it is halved until the event is alone. An event has our key as `uuid`,
by which HubSpot keeps the first of equal ones for a year.
"""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from headwater.base.errors import Unavailable
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
)
from headwater.connectors.hubspot.api import LIMIT, ORIGIN, VERSION, WAITS, make_request, read_error
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.hubspot.values import Definition, to_text
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import (
    MAX_WAIT_SECONDS,
    NoItemNamed,
    ResponseRules,
    exchange,
)
from headwater.connectors.users import unavailable
from headwater.schemas import ObjectType, Property, StringType

SEND_URL: Final = f"{ORIGIN}/events/custom/{VERSION.name}/send/batch"
DEFINITIONS_URL: Final = f"{ORIGIN}/events/custom/{VERSION.name}/event-definitions"
MAX_BATCH_EVENTS: Final = 500
MAX_PROPERTIES: Final = 50
MAX_EVENT_BYTES: Final = 100_000
MAX_DEFINITIONS_BYTES: Final = 16 << 20
MAX_DEFINITION_PAGES: Final = 20
REPETITION_SECONDS: Final = 365 * 86_400.0

_PAGE: Final = 100
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,254}")
_TEXT: Final = StringType(max_length=255)
_PREFILLED: Final = {"hs_url": "context.page.url", "hs_referrer": "context.page.referrer"}
"""Mappings for properties that HubSpot adds to each definition."""
IDENTITY: Final = (
    Property("email", _TEXT, prefilled="coalesce(traits.email, properties.email)", description="Email"),
    Property("objectId", _TEXT, description="HubSpot ID of the contact"),
    Property("utk", _TEXT, description="The visitor's cookie hubspotutk"),
)
_IDENTIFIERS: Final = tuple(each.name for each in IDENTITY)

_encode: Final = msgspec.json.Encoder().encode


class _Labels(msgspec.Struct):
    singular: str = ""


class _EventDefinition(msgspec.Struct, rename="camel"):
    fully_qualified_name: str
    name: str = ""
    archived: bool = False
    labels: _Labels = msgspec.field(default_factory=_Labels)
    properties: list[Definition] = []


class _Next(msgspec.Struct):
    after: str = ""


class _Paging(msgspec.Struct):
    next: _Next | None = None


class _Definitions(msgspec.Struct):
    results: list[_EventDefinition]
    paging: _Paging | None = None


_decode_definitions: Final = msgspec.json.Decoder(_Definitions).decode


class HubSpotSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(max_events=MAX_BATCH_EVENTS, max_event_bytes=MAX_EVENT_BYTES),
        rates=(LIMIT,),
        idempotency=Idempotency(form="UUID", seconds=REPETITION_SECONDS),
        version=VERSION,
    )

    def __init__(self, settings: HubSpotSettings | None, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    async def event_types(self) -> Sequence[EventType]:
        types: list[EventType] = []
        after = ""
        for _ in range(MAX_DEFINITION_PAGES):
            page = await self._read_definitions(after)
            types += [_event_type(each) for each in page.results if not each.archived]
            after = page.paging.next.after if page.paging is not None and page.paging.next is not None else ""
            if not after:
                break
        return tuple(types)

    async def _read_definitions(self, after: str) -> _Definitions:
        query = {"includeProperties": "true", "limit": str(_PAGE)} | ({"after": after} if after else {})
        url = f"{DEFINITIONS_URL}?{urlencode(query)}"
        response = await self._context.http.send(
            make_request(self._settings, "GET", url, max_bytes=MAX_DEFINITIONS_BYTES)
        )
        if response.status != 200:
            raise unavailable("HubSpot", response, self._context, WAITS)
        try:
            return _decode_definitions(response.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("HubSpot responds with definitions of events in another form") from None

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        if not _NAME.fullmatch(event.event_type):
            raise EventRejected("UnknownEventType", f'"{event.event_type}" is no name of an event definition')
        identifiers: dict[str, str] = {}
        properties: dict[str, str] = {}
        for name, value in event.values.items():
            text = to_text(value)
            if name not in _IDENTIFIERS:
                properties[name] = text
            elif not is_placeholder(text):
                identifiers[name] = text
        if not identifiers:
            raise EventRejected("MissingIdentity", "the event has no identifier of a contact, or only a placeholder")
        if len(properties) > MAX_PROPERTIES:
            raise EventRejected(
                "TooManyProperties", f"the event has {len(properties)} properties, and {MAX_PROPERTIES} are allowed"
            )
        document: dict[str, Any] = {
            "eventName": event.event_type,
            **identifiers,
            "occurredAt": event.timestamp,
            "properties": properties,
            "uuid": to_uuid(event.key),
        }
        body = _encode(document)
        if len(body) > MAX_EVENT_BYTES:
            raise EventRejected("EventTooLarge", f"the event has {len(body)} bytes, and {MAX_EVENT_BYTES} are allowed")
        return EncodedEvent(id=event.key, body=body, user=next(iter(identifiers.values())))

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        body = b'{"inputs":[' + b",".join([event.body for event in events]) + b"]}"
        return make_request(self._settings, "POST", SEND_URL, body)

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        result = await exchange(self._context, request, events, _RULES)
        failure = result.failure
        if failure is None or result.status != 429 or '"DAILY"' not in failure.message:
            return result
        # The requests of the day are used up: only an hour later is it worth while to ask again.
        waiting = msgspec.structs.replace(failure, retry_after_seconds=MAX_WAIT_SECONDS)
        return msgspec.structs.replace(result, failure=waiting)


def to_uuid(key: str) -> str:
    """Return an idempotency key in the form of a UUID."""
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"


def _event_type(definition: _EventDefinition) -> EventType:
    label = definition.labels.singular or definition.name or definition.fully_qualified_name
    properties = [
        Property(
            each.name,
            each.schema_type(),
            prefilled=_PREFILLED.get(each.name, "" if each.name.startswith("hs_") else f"properties.{each.name}"),
            description=each.label[:250],
        )
        for each in definition.properties
        if each.is_usable and each.name not in _IDENTIFIERS
    ]
    quoted = label.replace("\\", "\\\\").replace('"', '\\"')
    return EventType(
        id=definition.fully_qualified_name,
        name=label,
        description=f"Send an occurrence of {label}",
        filter=f'event is "{quoted}"',
        schema=ObjectType((*IDENTITY, *properties)),
    )


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    if response.status < 300:
        return [DELIVERED] * len(events)
    error = read_error(response)
    if len(events) > 1 or error is None:
        raise NoItemNamed
    return [rejected(error.reason, error.message)]


_RULES: Final = ResponseRules(items=_read_items, item_statuses=frozenset({400}), waits=WAITS, default_wait_seconds=10.0)
