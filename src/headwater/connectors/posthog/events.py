"""PostHog as a destination of events: batches with `POST /batch/`.

PostHog refuses a request as a whole for one event, and names none: the request is halved. An event has our key as its
UUID: of events with equal UUID, name, user and time PostHog keeps one. Events that are older than 48 hours are sent in
requests of their own, as historical ones, so that a replay does not look like a spike.

PostHog would give a person the place of this server. So an event has the IP address of its user, or it states that no
place is known.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from headwater.connectors.contexts import find_text
from headwater.connectors.contract import (
    DELIVERED,
    Attempt,
    BatchLimits,
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventType,
    Failure,
    FailureScope,
    HttpRequest,
    HttpResponse,
    Idempotency,
    ItemResult,
    OutgoingEvent,
    SendResult,
    SinkPolicy,
)
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.headers import JSON_HEADERS
from headwater.connectors.identities import is_placeholder
from headwater.connectors.posthog.api import (
    HISTORICAL_SECONDS,
    MAX_BATCH_EVENTS,
    MAX_BODY_BYTES,
    MAX_DISTINCT_ID_CHARACTERS,
    MAX_EVENT_BYTES,
    MAX_FUTURE_SECONDS,
    MAX_GROUP_CHARACTERS,
    MAX_NAME_CHARACTERS,
    QUOTA_WAIT_SECONDS,
)
from headwater.connectors.posthog.context import describe_context
from headwater.connectors.posthog.schemas import EVENT_TYPES
from headwater.connectors.posthog.settings import PostHogSettings
from headwater.connectors.responses import RequestFailed, ResponseRules, UnexpectedResponse, exchange

LIVE: Final = "live"
HISTORICAL: Final = "historical"
_FRAMING_BYTES: Final = 2_048
"""More than a request adds to its events."""

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    """The members of a stored event that no mapping is needed for."""

    context: Any = None
    group_id: str = ""
    previous_id: str = ""
    name: str = ""


class _Answer(msgspec.Struct, frozen=True):
    """The body of a success: "Ok", or 1 from older servers."""

    status: str | int
    quota_limited: list[str] = []


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_answer: Final = msgspec.json.Decoder(_Answer).decode


class PostHogSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_BATCH_EVENTS, max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES, max_event_bytes=MAX_EVENT_BYTES
        ),
        idempotency=Idempotency(form="UUID", needs_equal_time=True),
        max_future_seconds=MAX_FUTURE_SECONDS,
    )

    def __init__(self, settings: PostHogSettings, context: ConnectorContext) -> None:
        self._context = context
        self._url = f"{settings.origin}/batch/"
        self._key = _encode(settings.api_key)

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        user = _find_user(event)
        name, properties = _describe(event, values, user)
        id_ = str(UUID(event.key))
        body = {
            "event": name,
            "distinct_id": user,
            "properties": properties,
            "timestamp": event.timestamp,
            "uuid": id_,
        }
        route = HISTORICAL if _is_old(event.timestamp, self._context.clock.now()) else LIVE
        return _Encoded(id=id_, body=_encode(body), route=route, user=user, timestamp=event.timestamp)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        is_historical = all(isinstance(each, _Encoded) and _is_old(each.timestamp, attempt.at) for each in events)
        flag = b"true" if is_historical else b"false"
        # An event that was queued twice is in a request once, because PostHog refuses a request with a repeated UUID.
        bodies = {event.id: event.body for event in events}
        return HttpRequest(
            method="POST",
            url=self._url,
            headers=JSON_HEADERS,
            body=b'{"api_key":%s,"historical_migration":%s,"batch":[%s]}'
            % (self._key, flag, b",".join(bodies.values())),
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


class _Encoded(EncodedEvent, frozen=True, kw_only=True):
    """An event with its time: it can become a historical one while it waits."""

    timestamp: datetime


def _is_old(timestamp: datetime, now: datetime) -> bool:
    return (now - timestamp).total_seconds() > HISTORICAL_SECONDS


def _find_user(event: OutgoingEvent) -> str:
    """Return the user id, or else the anonymous id. Raises EventRejected without any."""
    user = event.anonymous_id if is_placeholder(event.user_id) else event.user_id
    if is_placeholder(user):
        raise EventRejected("MissingIdentity", "the event has no user id and no anonymous id, or only a placeholder")
    if len(user) > MAX_DISTINCT_ID_CHARACTERS:
        raise EventRejected(
            "IdentityTooLong",
            f"the user id has {len(user)} characters, and PostHog cuts it after {MAX_DISTINCT_ID_CHARACTERS}",
        )
    return user


def _describe(event: OutgoingEvent, values: dict[str, Any], user: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the properties of an event. Raises EventRejected."""
    stored = _decode_event(event.document)
    context = stored.context if isinstance(stored.context, dict) else {}
    given: dict[str, Any] = values.get("properties") or {}
    is_anonymous = user != event.user_id
    match event.event_type:
        case "identify":
            name, properties = _identify(event, given, user)
        case "group":
            name, properties = "$groupidentify", _group(values, stored, given)
        case "alias":
            name, properties = "$create_alias", {**given, "alias": _previous_id(stored, user)}
        case "page":
            name, properties = "$pageview", given
        case "screen":
            name, properties = "$screen", {"$screen_name": stored.name, **given} if stored.name else given
        case _:
            name, properties = _checked_name(values.get("event") or ""), given
    if event.event_type in ("page", "screen", "track"):
        if is_anonymous:
            properties.setdefault("$process_person_profile", False)
        properties = describe_context(context) | properties
    if groups := values.get("groups"):
        properties["$groups"] = groups
    if session := values.get("session_id"):
        if session[14] != "7":
            raise EventRejected("InvalidSession", "the session id is not a UUID of version 7, which PostHog needs")
        properties["$session_id"] = session
    if "$ip" not in properties:
        address = find_text(context, "ip")
        if "." in address or ":" in address:
            properties["$ip"] = address
        else:
            properties.setdefault("$geoip_disable", True)
    return name, properties


def _identify(event: OutgoingEvent, traits: dict[str, Any], user: str) -> tuple[str, dict[str, Any]]:
    """An anonymous id must not become identified: PostHog could not merge it into a user any more."""
    if user != event.user_id:
        return "$set", {"$set": traits}
    properties: dict[str, Any] = {"$set": traits}
    anonymous = event.anonymous_id
    if anonymous != user and not is_placeholder(anonymous) and len(anonymous) <= MAX_DISTINCT_ID_CHARACTERS:
        properties["$anon_distinct_id"] = anonymous
    return "$identify", properties


def _group(values: dict[str, Any], stored: _Event, traits: dict[str, Any]) -> dict[str, Any]:
    type_ = values.get("group_type") or ""
    if not type_ or is_placeholder(stored.group_id):
        raise EventRejected("MissingGroup", "the event has no group type or no group id, or only a placeholder")
    if len(stored.group_id) > MAX_GROUP_CHARACTERS:
        raise EventRejected(
            "GroupTooLong",
            f"the group id has {len(stored.group_id)} characters, and {MAX_GROUP_CHARACTERS} are allowed",
        )
    return {"$group_type": type_, "$group_key": stored.group_id, "$group_set": traits}


def _previous_id(stored: _Event, user: str) -> str:
    """Return the id that is merged into the user."""
    previous = stored.previous_id
    if is_placeholder(previous):
        raise EventRejected("MissingIdentity", "the event has no previous id, or only a placeholder")
    if previous == user:
        raise EventRejected("InvalidAlias", "the previous id is the user id")
    if len(previous) > MAX_DISTINCT_ID_CHARACTERS:
        raise EventRejected(
            "IdentityTooLong",
            f"the previous id has {len(previous)} characters, and PostHog cuts it after {MAX_DISTINCT_ID_CHARACTERS}",
        )
    return previous


def _checked_name(name: str) -> str:
    if not name.strip():
        raise EventRejected("MissingEventName", "the event has no name")
    if name.startswith("$"):
        raise EventRejected("ReservedEventName", f'"{name[:100]}" begins with $, like the events of PostHog itself')
    if len(name) > MAX_NAME_CHARACTERS:
        raise EventRejected(
            "EventNameTooLong", f"the name has {len(name)} characters, and {MAX_NAME_CHARACTERS} are allowed"
        )
    return name


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    try:
        answer = _decode_answer(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnexpectedResponse("its body is not that of PostHog") from None
    if answer.quota_limited:
        raise RequestFailed(
            Failure(
                scope=FailureScope.DESTINATION,
                reason="QuotaExceeded",
                message=f"PostHog takes no events: the quota of the project is used up ({answer.quota_limited[0]})",
                retry_after_seconds=QUOTA_WAIT_SECONDS,
            )
        )
    if answer.status not in ("Ok", "ok", 1):
        raise UnexpectedResponse(f"its status is {answer.status!r}"[:100])
    return [DELIVERED] * len(events)


_RULES: Final = ResponseRules(items=_read_items)
