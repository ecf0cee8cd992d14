"""Google Analytics as a destination of events: the Measurement Protocol.

A request has events of one user, because the user is not a member of events. Google Analytics responds with a success
whatever it received, and drops what it does not take. So each rule is checked here, and events that break one become
dead letters. It recognises no repetition, except that of a purchase by its transaction id.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

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
from headwater.connectors.eventvalues import EventValues, read_currency
from headwater.connectors.google_analytics.api import (
    MAX_AGE_SECONDS,
    MAX_BODY_BYTES,
    MAX_EVENTS,
    MAX_FUTURE_SECONDS,
    MAX_NAME_CHARACTERS,
    RESERVED_EVENTS,
    RESERVED_PREFIXES,
    is_name,
    make_url,
)
from headwater.connectors.google_analytics.envelope import find_browser, take_envelope
from headwater.connectors.google_analytics.items import find_value, read_items
from headwater.connectors.google_analytics.parameters import check_parameters, read_parameters
from headwater.connectors.google_analytics.schemas import CUSTOM, EVENT_TYPES, HAVE_VALUE, NEED_ITEMS
from headwater.connectors.google_analytics.settings import GoogleAnalyticsSettings
from headwater.connectors.headers import JSON_HEADERS
from headwater.connectors.responses import exchange

MAX_CONCURRENCY: Final = 32

_FRAMING_BYTES: Final = 64
"""More than a request adds to its events."""
_MIDDLE: Final = b',"events":['
"""Is between the user and the event in an encoded event. A user contains no such text, because quotation marks in texts
are escaped, and a user has no arrays."""
_OTHER: Final = re.compile(r"[^A-Za-z0-9]+")

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


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
        browser = find_browser(event.document)
        user = _encode(take_envelope(event, browser, values))[:-1]
        name, params = _describe(event.event_type, values)
        params.setdefault("engagement_time_msec", 1)
        if browser.session_id:
            params.setdefault("session_id", browser.session_id)
        check_parameters(params)
        body = _encode({"name": name, "params": params, "timestamp_micros": microseconds(event.timestamp)})
        return EncodedEvent(id=event.key, body=user + _MIDDLE + body, user=user.decode())

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        begin = events[0].body.index(_MIDDLE) + len(_MIDDLE)
        body = events[0].body[:begin] + b",".join([event.body[begin:] for event in events]) + b"]}"
        return HttpRequest(method="POST", url=self._url, headers=JSON_HEADERS, body=body)

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events)


def _describe(event_type: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of an event. Raises EventRejected."""
    if event_type == CUSTOM:
        return _custom_name(values.get("name") or ""), read_parameters(values.get("params") or {})
    if (currency := read_currency(values.pop("currency", None))) is not None:
        values["currency"] = currency
    if "items" in values:
        items = read_items(values.pop("items"))
        if items:
            values["items"] = items
        elif event_type in NEED_ITEMS:
            raise EventRejected("InvalidItems", "the event has no items, which Google Analytics requires")
        if event_type in HAVE_VALUE and "value" not in values and (value := find_value(items)) is not None:
            values["value"] = value
    return event_type, values


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
