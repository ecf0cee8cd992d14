"""HubSpot as a destination of custom events: up to 500 in a request, whose response has no body.

An event has a definition in the account, with its own properties. So the event types are the definitions. HubSpot
rejects a request as a whole and names no event: it is halved until the event is alone. An event has our key as `uuid`,
by which HubSpot keeps the first of equal ones for a year. The requests are exempt from the limits of an app, and have
a limit of their own.
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
    spread,
)
from headwater.connectors.hubspot.api import ORIGIN, VERSION, WAITS, failure, make_request, read_error
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.hubspot.values import Definition, to_text
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import NoItemNamed, ResponseRules, UnexpectedResponse, exchange
from headwater.schemas import ObjectType, Property, StringType, Type

SEND_URL: Final = f"{ORIGIN}/events/{VERSION.name}/send/batch"
DEFINITIONS_URL: Final = f"{ORIGIN}/events/{VERSION.name}/event-definitions"
LIMIT: Final = spread(1_250, 1, burst=16, group="events")
MAX_BATCH_EVENTS: Final = 500
MAX_PROPERTIES: Final = 50
MAX_VALUE_CHARACTERS: Final = 256
MAX_URL_CHARACTERS: Final = 1_024
MAX_EVENT_BYTES: Final = 100_000
MAX_DEFINITIONS_BYTES: Final = 16 << 20
MAX_DEFINITION_PAGES: Final = 20
REPETITION_SECONDS: Final = 365 * 86_400.0

_PAGE: Final = 100
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,254}")
_TEXT: Final = StringType(max_length=255)
_URL_WORDS: Final = ("url", "referrer", "link")
"""Parts of the names of properties whose values can be longer."""
PREFILLED: Final = {
    "hs_browser": "context.browser.name",
    "hs_city": "context.location.city",
    "hs_country": "context.location.country",
    "hs_device_name": "context.device.name",
    "hs_operating_system": "context.os.name",
    "hs_operating_version": "context.os.version",
    "hs_page_title": f"substring(context.page.title, 1, {MAX_VALUE_CHARACTERS})",
    "hs_page_url": f"substring(context.page.url, 1, {MAX_URL_CHARACTERS})",
    "hs_referrer": f"substring(context.page.referrer, 1, {MAX_URL_CHARACTERS})",
    "hs_screen_height": "context.screen.height",
    "hs_screen_width": "context.screen.width",
    "hs_user_agent": f"substring(context.userAgent, 1, {MAX_VALUE_CHARACTERS})",
    "hs_utm_campaign": "context.campaign.name",
    "hs_utm_content": "context.campaign.content",
    "hs_utm_medium": "context.campaign.medium",
    "hs_utm_source": "context.campaign.source",
    "hs_utm_term": "context.campaign.term",
}
"""Mappings for the default properties, which HubSpot adds to a definition unless its author leaves them out."""
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
            raise failure(response, self._context)
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
                identifiers[name] = text.strip().lower() if name == "email" else text
        if not identifiers:
            raise EventRejected("MissingIdentity", "the event has no email, objectId or utk, or only placeholders")
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
        return await exchange(self._context, request, events, _RULES)


def to_uuid(key: str) -> str:
    """Return an idempotency key in the form of a UUID."""
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"


def _event_type(definition: _EventDefinition) -> EventType:
    label = definition.labels.singular or definition.name or definition.fully_qualified_name
    usable = [each for each in definition.properties if each.is_usable and each.name not in _IDENTIFIERS]
    mappings = _suggest(usable)
    properties = [
        Property(each.name, _find_type(each), prefilled=mappings.get(each.name, ""), description=each.label[:250])
        for each in usable
    ]
    quoted = label.replace("\\", "\\\\").replace('"', '\\"')
    return EventType(
        id=definition.fully_qualified_name,
        name=label,
        description=f"Send an occurrence of {label}",
        filter=f'event is "{quoted}"',
        schema=ObjectType((*IDENTITY, *properties)),
    )


def _suggest(definitions: Sequence[Definition]) -> dict[str, str]:
    """Return mappings for properties, not more than an event can have. Those of the account come first.

    Numbers and booleans can also be texts, such as "19.99", which only a function of texts converts.
    """
    own = {
        each.name: f"trim(properties.{each.name})" if each.type in ("bool", "number") else f"properties.{each.name}"
        for each in definitions
        if not each.name.startswith("hs_")
    }
    default = {each.name: PREFILLED[each.name] for each in definitions if each.name in PREFILLED}
    return dict(list((own | default).items())[:MAX_PROPERTIES])


def _find_type(definition: Definition) -> Type:
    """Return the type of a property, with the length that HubSpot allows for a text."""
    type_ = definition.schema_type()
    if not isinstance(type_, StringType):
        return type_
    is_url = any(word in definition.name for word in _URL_WORDS)
    return StringType(max_length=MAX_URL_CHARACTERS if is_url else MAX_VALUE_CHARACTERS)


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    if response.status < 300 and response.body.strip():
        raise UnexpectedResponse("HubSpot responds without a body")
    if response.status < 300:
        return [DELIVERED] * len(events)
    error = read_error(response)
    if len(events) > 1 or error is None:
        raise NoItemNamed
    return [rejected(error.reason, error.message)]


_RULES: Final = ResponseRules(items=_read_items, item_statuses=frozenset({400}), waits=WAITS, default_wait_seconds=10.0)
