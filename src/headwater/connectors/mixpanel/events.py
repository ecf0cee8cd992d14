"""Mixpanel as a destination: events go to `/import`, and properties of profiles to `/engage`.

Mixpanel takes the valid records of a request and names the others, whose events are rejected. It recognises an event by
its name, time, user and insert id. The insert id is the event's key, with a number if the event becomes several.

Events of one user keep their order, because a later profile overwrites an earlier one.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.base.clock import microseconds
from headwater.connectors.contract import (
    DELIVERED,
    UNEXPECTED_RESPONSE,
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
    ORIGINS,
    FailedRecord,
    find_broken_limit,
    headers,
)
from headwater.connectors.mixpanel.schemas import CONTEXT_NAMES, EVENT_TYPES, IDENTIFY, PROFILE_NAMES
from headwater.connectors.mixpanel.settings import MixpanelSettings
from headwater.connectors.responses import NoItemNamed, ResponseRules, UnexpectedResponse, exchange
from headwater.schemas import Codec, all_optional

MAX_PRODUCTS: Final = 999
"""Products of one event: an insert id has at most 36 characters."""
MAX_ERRORS_BYTES: Final = 1 << 20
"""Size of a response that names each record of a request."""
MIN_TIME: Final = datetime(1971, 1, 1, tzinfo=UTC)
MAX_FUTURE_SECONDS: Final = 3_600.0
RATE_EVENTS: Final = 1_800_000
"""Events a minute that Mixpanel takes of a project, if they have about 1 KB."""
BURST_EVENTS: Final = 60_000

_FRAMING_BYTES: Final = 2 * MAX_RECORDS
"""More than a request adds to its records."""
_KEY_CHARACTERS: Final = 32
_IMPORT: Final = "import"
_ENGAGE: Final = "engage"
_COMMANDS: Final = frozenset({"$identify", "$create_alias", "$merge"})
"""Names of events that change identities."""
_RESERVED: Final = frozenset({"time", "distinct_id", "$insert_id", "$user_id", "$device_id", "token"})
_RESERVED_IN_PROFILES: Final = frozenset({"$distinct_id", "$token"})
_PLAIN_NAMES: Final = {
    "email": ("email",),
    "name": ("name",),
    "first_name": ("firstName", "first_name"),
    "last_name": ("lastName", "last_name"),
    "phone": ("phone",),
    "avatar": ("avatar",),
}
"""Traits that a profile has by their reserved names."""

_CODECS: Final = {type_.id: Codec(all_optional(type_.schema)) for type_ in EVENT_TYPES if type_.schema is not None}
_encode: Final = msgspec.json.Encoder().encode


class MixpanelSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_RECORDS, max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES, max_event_bytes=MAX_RECORD_BYTES
        ),
        rates=(spread(RATE_EVENTS, 60, burst=BURST_EVENTS, unit="Event"),),
        idempotency=Idempotency(form="Text", max_characters=36, needs_equal_time=True),
        max_future_seconds=MAX_FUTURE_SECONDS,
    )

    def __init__(self, settings: MixpanelSettings, context: ConnectorContext) -> None:
        origin = ORIGINS[settings.data_residency]
        self._context = context
        self._headers = headers(settings)
        self._urls = {_IMPORT: origin + IMPORT_PATH, _ENGAGE: origin + ENGAGE_PATH}
        self._token = settings.project_token

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        codec = _CODECS.get(event.event_type)
        if codec is None:
            raise EventRejected("UnknownEventType", f'event type "{event.event_type}" does not exist')
        values = codec.document(event.values)
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
            return EncodedEvent(id=event.key, body=body, route=_IMPORT, user=identity["distinct_id"])
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
        return EncodedEvent(id=event.key, body=body, route=_IMPORT, user=identity["distinct_id"], count=len(products))

    def _encode_profile(self, event: OutgoingEvent, values: dict[str, Any]) -> EncodedEvent:
        user = event.user_id
        if is_placeholder(user):
            raise EventRejected(
                "MissingIdentity",
                "the event has no user id, or only a placeholder: only identified users have profiles",
            )
        properties: dict[str, Any] = values.get("properties") or {}
        _check_names(properties, _RESERVED_IN_PROFILES)
        for name, reserved in PROFILE_NAMES.items():
            if (value := values.get(name)) is not None:
                for plain in _PLAIN_NAMES[name]:
                    properties.pop(plain, None)
                properties[reserved] = value
        if not properties:
            raise EventRejected("MissingProperties", "the event has no properties for a profile")
        body = _encode({"$token": self._token, "$distinct_id": user, "$set": properties})
        return EncodedEvent(id=event.key, body=body, route=_ENGAGE, user=user)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        return HttpRequest(
            method="POST",
            url=self._urls[events[0].route],
            headers=self._headers,
            body=b"[%s]" % b",".join([event.body for event in events]),
            max_response_bytes=MAX_ERRORS_BYTES,
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES[events[0].route])


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


def _record(
    name: str,
    insert_id: str,
    event: OutgoingEvent,
    identity: dict[str, str],
    values: dict[str, Any],
    product: dict[str, Any],
) -> bytes:
    """Return one event as Mixpanel takes it. Raises EventRejected if it exceeds a limit."""
    given: dict[str, Any] = (values.get("properties") or {}) | product
    _check_names(given, _RESERVED)
    properties: dict[str, Any] = {"ip": 0}  # without it, Mixpanel takes the location of this server
    properties |= given
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


def _check_names(properties: dict[str, Any], reserved: frozenset[str]) -> None:
    if not reserved.isdisjoint(properties):
        name = min(reserved.intersection(properties))
        raise EventRejected("ReservedProperty", f'Mixpanel reserves the property "{name}": map it to another name')


class _Response(msgspec.Struct):
    """The body of a response. `num_records_imported` is of events, `num_good_events` of profiles."""

    status: int | str | None = None
    error: str | None = None
    num_records_imported: int | None = None
    num_good_events: int | None = None
    failed_records: list[FailedRecord] = []


_decode: Final = msgspec.json.Decoder(_Response).decode


def _read(response: HttpResponse) -> _Response:
    try:
        return _decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if response.status < 300:
            raise UnexpectedResponse("its body is not the documented one") from None
        raise NoItemNamed from None


def _read_imported(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    body = _read(response)
    if response.status >= 300 and not body.failed_records:
        raise NoItemNamed
    return _account(body, body.num_records_imported, events)


def _read_profiles(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    """Return the results of profiles. The status of the response is 200 also if none was taken."""
    body = _read(response)
    if body.failed_records:
        taken = body.num_good_events if body.num_good_events is not None else body.num_records_imported
        return _account(body, len(events) - len(body.failed_records) if taken is None else taken, events)
    if response.status >= 300 or body.error or body.status == 0:
        if len(events) > 1:
            raise NoItemNamed
        return [rejected("InvalidProfile", body.error or "Mixpanel does not accept the profile")]
    if body.status not in (1, "OK"):
        raise UnexpectedResponse(f"its status is {body.status!r}")
    taken = body.num_good_events if body.num_good_events is not None else body.num_records_imported
    return _account(body, len(events) if taken is None else taken, events)


def _account(body: _Response, taken: int | None, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    """Return the results of failed records, and for the other events `DELIVERED` if the counts add up."""
    owners = [position for position, event in enumerate(events) for _ in range(event.count)]
    positions = {event.id: position for position, event in enumerate(events)}
    named: dict[int, ItemResult] = {}
    for record in body.failed_records:
        position = positions.get(record.id[:_KEY_CHARACTERS])
        if position is None and record.index is not None and 0 <= record.index < len(owners):
            position = owners[record.index]
        if position is None:
            raise UnexpectedResponse(f"it names record {record.index!r}")
        named[position] = record.result
    others = DELIVERED
    if taken is None or taken + len(body.failed_records) != len(owners):
        others = retry(
            UNEXPECTED_RESPONSE,
            f"the response does not account for the event: it counts {taken!r} of {len(owners)} records",
        )
    return [named.get(position, others) for position in range(len(events))]


_REFUSED: Final = frozenset({401, 403})
_RULES: Final = {
    _IMPORT: ResponseRules(
        items=_read_imported, item_statuses=frozenset({400}), credentials=_REFUSED, default_wait_seconds=2.0
    ),
    # A response of status 200 that names no record is about the request.
    _ENGAGE: ResponseRules(
        items=_read_profiles,
        item_statuses=frozenset({400}),
        batch=frozenset({200, 400, 413, 415, 422}),
        credentials=_REFUSED,
        default_wait_seconds=2.0,
    ),
}
