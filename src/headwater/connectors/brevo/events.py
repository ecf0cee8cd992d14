"""Brevo as a destination of events: one event to `/v3/events`, several to `/v3/events/batch`.

Both count for the same limit of requests. Brevo takes the valid events of a batch and names the others by their
positions. An event has no id at Brevo: one that is sent again after a lost response can be there twice.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.brevo.api import ORIGIN, VERSION, WAITS, headers, is_empty, read_error
from headwater.connectors.brevo.schemas import EVENT_TYPES, MAX_NAME_CHARACTERS
from headwater.connectors.brevo.settings import BrevoSettings
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
    RateLimit,
    SendResult,
    SinkPolicy,
    rejected,
)
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import (
    NoItemNamed,
    ResponseRules,
    UnexpectedResponse,
    check_count,
    exchange,
    reject_named,
    results_by_index,
)

EVENT_URL: Final = f"{ORIGIN}/v3/events"
BATCH_URL: Final = f"{ORIGIN}/v3/events/batch"
MAX_BATCH_EVENTS: Final = 200
MAX_BODY_BYTES: Final = 512_000
MAX_PROPERTIES_BYTES: Final = 50_000
MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each event of a batch."""

_FRAMING_BYTES: Final = 16
"""More than a batch adds to its events, which include their commas."""
_IDENTIFIERS: Final = ("email_id", "ext_id", "phone_id")
_KEY: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_CHARACTERS}}}")
_OTHERS: Final = re.compile(r"[^A-Za-z0-9_-]+")

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class _Rejection(msgspec.Struct):
    """The events of a batch that Brevo did not take for one reason."""

    event_index: list[int] = msgspec.field(name="eventIndex")
    message: str = ""


class _Batch(msgspec.Struct):
    """The response to a batch: `count` if Brevo took all events (202), the other members if it took some (207) or none
    (400)."""

    count: int | None = None
    total_events: int | None = None
    successful_events: int | None = None
    errors: list[_Rejection] = []


_decode_batch: Final = msgspec.json.Decoder(_Batch).decode


class BrevoSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_BATCH_EVENTS,
            max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
            max_event_bytes=MAX_BODY_BYTES - _FRAMING_BYTES,
        ),
        # Brevo allows 10/s and 36,000/h. Without a burst, at this distance no second has more than 10.
        rates=(RateLimit(count=97, seconds=10, group="events"),),
        idempotency=Idempotency(form="None"),
        version=VERSION,
    )

    def __init__(self, settings: BrevoSettings, context: ConnectorContext) -> None:
        self._context = context
        self._headers = headers(settings)

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        identifiers = {
            name: value for name in _IDENTIFIERS if (value := values.get(name)) and not is_placeholder(value)
        }
        if "contact_id" in values:
            identifiers["contact_id"] = int(values["contact_id"])  # documents have such numbers as text
        if not identifiers:
            raise EventRejected("MissingIdentity", "the event has no identifier of a contact, or only a placeholder")
        given = values.get("event_name") or ""
        name = "" if is_placeholder(given) else allowed_name(given)
        if not name:
            raise EventRejected(
                "MissingEventName", "the event has no name with letters or digits from A to Z and 0 to 9"
            )
        document: dict[str, Any] = {
            "event_name": name,
            "event_date": event.timestamp,
            "identifiers": identifiers,
            "event_properties": Raw(_properties(values.get("event_properties") or {})),
        }
        if "contact_properties" in values:
            document["contact_properties"] = _without_nulls(values["contact_properties"])
        body = _encode(document)
        if len(body) > MAX_BODY_BYTES - _FRAMING_BYTES:
            raise EventRejected("EventTooLarge", f"the event has {len(body)} bytes, and {MAX_BODY_BYTES} are allowed")
        return EncodedEvent(id=event.key, body=body, user=str(next(iter(identifiers.values()))))

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        if len(events) == 1:
            return HttpRequest(method="POST", url=EVENT_URL, headers=self._headers, body=events[0].body)
        return HttpRequest(
            method="POST",
            url=BATCH_URL,
            headers=self._headers,
            body=b'{"events":[' + b",".join([event.body for event in events]) + b"]}",
            max_response_bytes=MAX_ERRORS_BYTES,
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


@lru_cache(maxsize=1_024)
def allowed_name(name: str) -> str:
    """Return the name of an event in the form that Brevo takes; empty if no character of it is allowed."""
    return _OTHERS.sub("_", name).strip("_")


@lru_cache(maxsize=4_096)
def _is_allowed(name: str) -> bool:
    return _KEY.fullmatch(name) is not None


def _properties(properties: dict[str, Raw]) -> bytes:
    """Return the properties as JSON, without those that are null. Raises EventRejected if they exceed a limit."""
    body = _encode(properties)
    if b"null" in body:
        body = _encode(_without_nulls(properties))
    if len(body) > MAX_PROPERTIES_BYTES:
        raise EventRejected(
            "PropertiesTooLarge", f"the properties have {len(body)} bytes, and {MAX_PROPERTIES_BYTES} are allowed"
        )
    names: Iterable[str] = properties
    if body.count(b"{") > 1:  # also those of nested objects
        names = _names(msgspec.json.decode(body))
    for name in names:
        if not _is_allowed(name):
            raise EventRejected(
                "InvalidProperties",
                f'property "{name[:100]}" must have 1 to {MAX_NAME_CHARACTERS} letters, digits, "-" and "_"',
            )
    return body


def _without_nulls(properties: dict[str, Raw]) -> dict[str, Raw]:
    return {name: value for name, value in properties.items() if bytes(value) != b"null"}


def _names(value: Any) -> Iterable[str]:
    """Return the names of all members, also of nested objects."""
    if isinstance(value, dict):
        yield from value
        value = value.values()
    elif not isinstance(value, list):
        return
    for each in value:
        yield from _names(each)


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    is_success = response.status < 300
    if len(events) == 1:
        return [_read_single(response)]
    try:
        batch = _decode_batch(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if is_success:
            raise UnexpectedResponse("its body is not the documented one") from None
        raise NoItemNamed from None
    reported = [
        (index, rejected("InvalidEvent", rejection.message or "Brevo gives no reason"))
        for rejection in batch.errors
        for index in rejection.event_index
    ]
    results = results_by_index(events, reported)
    if not is_success:  # Brevo took none of them
        return reject_named(events, {index: results[index] for index, _ in reported})
    accepted = batch.count if batch.successful_events is None else batch.successful_events
    return check_count(len(events), accepted, results)


def _read_single(response: HttpResponse) -> ItemResult:
    """Return the result of an event that was sent alone. Brevo responds without a body if it takes the event."""
    if response.status < 300:
        if not is_empty(response):
            raise UnexpectedResponse("its body is not empty")
        return DELIVERED
    error = read_error(response)
    if error is None:
        raise NoItemNamed
    return rejected(error.reason, error.message)


_RULES: Final = ResponseRules(items=_read_items, item_statuses=frozenset({400}), waits=WAITS, default_wait_seconds=1.0)
