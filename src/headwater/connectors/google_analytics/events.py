"""Google Analytics as a destination of events: the Measurement Protocol.

A request has events of one user, because the user is not a member of events. Google Analytics responds with a success
whatever it received, and drops what it does not take. So each rule is checked here, and events that break one become
dead letters. It recognises no repetition, except that of a purchase by its transaction id.
"""

import re
from collections.abc import Sequence
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
    OutgoingEvent,
    SendResult,
    SinkPolicy,
)
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.google_analytics.api import (
    MAX_AGE_SECONDS,
    MAX_BODY_BYTES,
    MAX_EVENTS,
    MAX_FUTURE_SECONDS,
    MAX_ITEMS,
    MAX_LONG_VALUE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PARAMETERS,
    MAX_USER_ID_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    RESERVED_EVENTS,
    RESERVED_PREFIXES,
    is_name,
    make_url,
)
from headwater.connectors.google_analytics.schemas import CUSTOM, EVENT_TYPES, POSITION, PRODUCT_NAMES
from headwater.connectors.google_analytics.settings import GoogleAnalyticsSettings
from headwater.connectors.headers import JSON_HEADERS
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import exchange

MAX_CONCURRENCY: Final = 32
INTEGRATIONS: Final = ("Google Analytics 4", "Google Analytics", "GA4")
"""Members of `integrations` with the `clientId` and `sessionId` of the browser."""

_FRAMING_BYTES: Final = 64
"""More than a request adds to its events."""
_MIDDLE: Final = b',"events":['
"""Is between the user and the event in an encoded event. A user contains no such text, because quotation marks in texts
are escaped."""
_OTHER: Final = re.compile(r"[^A-Za-z0-9]+")

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class _Session(msgspec.Struct, frozen=True):
    id: int | str | None = None


class _Context(msgspec.Struct, frozen=True):
    session: _Session = _Session()


class _Event(msgspec.Struct, frozen=True):
    """The members of a stored event that no mapping is needed for."""

    context: _Context = _Context()
    integrations: Raw = Raw()


class _Browser(msgspec.Struct, frozen=True, rename="camel"):
    client_id: str | None = None
    session_id: int | str | None = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_browser: Final = msgspec.json.Decoder(_Browser).decode


class GoogleAnalyticsSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="User",
        order="None",
        limits=BatchLimits(
            max_events=MAX_EVENTS,
            max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
            max_event_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
        ),
        max_age_seconds=MAX_AGE_SECONDS,
        max_future_seconds=MAX_FUTURE_SECONDS,
        max_concurrency=MAX_CONCURRENCY,
    )

    def __init__(self, settings: GoogleAnalyticsSettings, context: ConnectorContext) -> None:
        self._context = context
        self._url = make_url(settings, "/mp/collect")

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        stored = _decode_event(event.document)
        browser = _find_browser(stored.integrations)
        user = _encode(_find_user(event, browser))[:-1]
        name, params = _describe(event.event_type, values)
        params.setdefault("engagement_time_msec", 1)
        session = browser.session_id or stored.context.session.id
        if session is not None:
            params.setdefault("session_id", str(session))
        _check(params)
        body = _encode({"name": name, "params": params, "timestamp_micros": microseconds(event.timestamp)})
        return EncodedEvent(id=event.key, body=user + _MIDDLE + body, user=user.decode())

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        begin = events[0].body.index(_MIDDLE) + len(_MIDDLE)
        body = events[0].body[:begin] + b",".join([event.body[begin:] for event in events]) + b"]}"
        return HttpRequest(method="POST", url=self._url, headers=JSON_HEADERS, body=body)

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events)


def _find_browser(integrations: Raw) -> _Browser:
    """Return the ids that the tag of Google Analytics has in the browser, if the event has them."""
    text = bytes(integrations)
    if b'"clientId"' not in text and b'"sessionId"' not in text:
        return _Browser()
    try:
        members = _decode_members(text)
        return next((_decode_browser(members[name]) for name in INTEGRATIONS if name in members), _Browser())
    except msgspec.ValidationError:
        return _Browser()


def _find_user(event: OutgoingEvent, browser: _Browser) -> dict[str, str]:
    """Return the members of a request that name the user. Raises EventRejected without any identity."""
    user = {}
    for client in (browser.client_id or "", event.anonymous_id, event.user_id):
        if not is_placeholder(client):
            user["client_id"] = client
            break
    else:
        raise EventRejected("MissingIdentity", "the event has no user id and no anonymous id, or only a placeholder")
    if not is_placeholder(event.user_id):
        user["user_id"] = event.user_id
    for name, id_ in user.items():
        if len(id_) > MAX_USER_ID_CHARACTERS:
            raise EventRejected(
                "IdentityTooLong", f"{name} has {len(id_)} characters, and {MAX_USER_ID_CHARACTERS} are allowed"
            )
    return user


def _describe(event_type: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of an event. Raises EventRejected."""
    if event_type == CUSTOM:
        return _custom_name(values.get("name") or ""), _custom_params(values.get("params") or {})
    items = values.get("items")
    if items:
        if len(items) > MAX_ITEMS:
            raise EventRejected("TooManyItems", f"the event has {len(items)} items, and {MAX_ITEMS} are allowed")
        values["items"] = [_item(each, number) for number, each in enumerate(items)]
    elif items is not None:
        del values["items"]
    return event_type, values


def _item(item: dict[str, Any], number: int) -> dict[str, Any]:
    """Return an item in which the names of products are those of items. Raises EventRejected."""
    for name, target in PRODUCT_NAMES.items():
        if (value := item.pop(name, None)) is not None:
            item.setdefault(target, value)
    position = bytes(item.pop(POSITION, b""))
    if position.isdigit() and len(position) < 10:
        item.setdefault("index", int(position))
    if not item.get("item_id") and not item.get("item_name"):
        raise EventRejected("InvalidItems", f"item {number} has no item_id and no item_name")
    return item


def _custom_name(text: str) -> str:
    """Return the name of an event, in which other characters than letters and digits are underscores."""
    name = _OTHER.sub("_", text).strip("_").lower()
    if not name:
        raise EventRejected("MissingEventName", "the event has no name with letters or digits")
    if not is_name(name):
        raise EventRejected(
            "InvalidEventName",
            f'"{name[:100]}" does not begin with a letter, or has more than {MAX_NAME_CHARACTERS} characters',
        )
    if name in RESERVED_EVENTS or name.startswith(RESERVED_PREFIXES):
        raise EventRejected("ReservedName", f'"{name}" is reserved by Google Analytics')
    return name


def _custom_params(given: dict[str, Any]) -> dict[str, Any]:
    """Return parameters: texts and numbers, and items. Booleans become texts, and nulls are left out."""
    params: dict[str, Any] = {}
    for name, raw in given.items():
        try:
            value = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            rule = "a number that is too large, or has half a character"
            raise EventRejected("InvalidParameter", f'the parameter "{name[:100]}" is {rule}') from None
        if value is None:
            continue
        if not is_name(name):
            raise EventRejected(
                "InvalidParameter",
                f'"{name[:100]}" is no name of a parameter: a letter, and up to {MAX_NAME_CHARACTERS - 1} letters, '
                "digits and underscores",
            )
        if name.startswith(RESERVED_PREFIXES):
            raise EventRejected("ReservedName", f'the parameter "{name}" is reserved by Google Analytics')
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, dict | list):
            kind = "an object" if isinstance(value, dict) else "an array"
            raise EventRejected("InvalidParameter", f'the parameter "{name}" is {kind}: map its values one by one')
        params[name] = raw if isinstance(value, int | float) else value
    return params


def _check(params: dict[str, Any]) -> None:
    """Raise EventRejected if there are too many parameters, or a value that Google Analytics does not log."""
    if len(params) > MAX_PARAMETERS:
        raise EventRejected(
            "TooManyParameters",
            f"the event has {len(params)} parameters with those of its session, and {MAX_PARAMETERS} are allowed",
        )
    for name, value in params.items():
        if isinstance(value, list):
            for item in value:
                for member, each in item.items():
                    _check_value(member, each)
        else:
            _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
        limit = MAX_LONG_VALUE_CHARACTERS.get(name, MAX_VALUE_CHARACTERS)
        if len(value) > limit:
            raise EventRejected("ValueTooLong", f"{name} has {len(value)} characters, and {limit} are allowed")
