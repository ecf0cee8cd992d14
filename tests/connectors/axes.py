"""A connector that uses every axis of destinations: one sink, and a table of thirteen destinations in its terms.

The rows are the shapes of real vendors' APIs, made small: the limits of requests, the identification of events in
responses, the header of a wait, the recognition of repetitions. They contain no vendor's code and no vendor's data.
"""

import base64
import hashlib
import hmac
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Annotated, Any, Literal

import msgspec

from headwater.connectors.contract import (
    ApiVersion,
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
    retry,
)
from headwater.connectors.responses import (
    RETRY_AFTER,
    STATUS_ONLY,
    ResponseRules,
    UnexpectedResponse,
    Wait,
    check_count,
    exchange,
    json_body,
    results_by_id,
    results_by_index,
    results_by_pointer,
)
from headwater.connectors.settings import Settings, Text

DAY = 86_400.0
ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PLACEHOLDERS = frozenset({"null", "undefined", "anonymous", "0", "00000000-0000-0000-0000-000000000000"})

ResponseForm = Literal["Status", "Index", "Id", "Pointer", "Counts"]


class AxesSettings(Settings, frozen=True, kw_only=True):
    token: Annotated[str, Text(8, 100, secret=True)]


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """One row: a policy, the rules of responses, and the way in which responses identify events."""

    name: str
    policy: SinkPolicy
    rules: ResponseRules = STATUS_ONLY
    form: ResponseForm = "Status"
    signed: bool = False
    route: Callable[[OutgoingEvent], str] = lambda _: ""


def ulid(event: OutgoingEvent) -> str:
    """Return a ULID of the event's time and key: the same for each attempt."""
    number = (int(event.timestamp.timestamp() * 1_000) << 80) | (int(event.key, 16) & ((1 << 80) - 1))
    return "".join(ULID_DIGITS[(number >> shift) & 31] for shift in range(125, -5, -5))


def identifier(event: OutgoingEvent, idempotency: Idempotency) -> str:
    """Return the event's id in the form that the destination takes."""
    if idempotency.uses_message_id:
        return event.message_id
    if idempotency.form == "UUID":
        return str(uuid.UUID(event.key))
    return ulid(event) if idempotency.form == "ULID" else event.key


class AxesSink:
    """Implements `EventSink` for a row."""

    def __init__(self, destination: Destination, settings: AxesSettings, context: ConnectorContext) -> None:
        self.policy = destination.policy
        self._destination = destination
        self._token = settings.token
        self._context = context

    async def event_types(self) -> Sequence[EventType]:
        return (EventType(id="track", name="Track", description="Any event", filter="", schema=None),)

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        user = event.user_id or event.anonymous_id
        if not user or user in PLACEHOLDERS:
            raise EventRejected("MissingIdentity", "the event has no user")
        id_ = identifier(event, self.policy.idempotency)
        body = msgspec.json.encode({"id": id_, "user": user, "event": msgspec.Raw(event.document)})
        limit = self.policy.limits.max_event_bytes
        if limit is not None and len(body) > limit:
            raise EventRejected("EventTooLarge", f"the event has {len(body)} bytes, and {limit} are allowed")
        return EncodedEvent(id=id_, body=body, route=self._destination.route(event), user=user)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        body = b"[" + b",".join(event.body for event in events) + b"]"
        headers = {"content-type": "application/json"}
        if self._destination.signed:
            headers |= self._signature(body, attempt)
        else:
            headers["authorization"] = f"Bearer {self._token}"
        url = f"https://{self._destination.name}.example/{events[0].route}"
        return HttpRequest(method="POST", url=url, headers=headers, body=body)

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, self._destination.rules)

    def _signature(self, body: bytes, attempt: Attempt) -> dict[str, str]:
        seconds = str(int(attempt.at.timestamp()))
        signed = f"{attempt.key}.{seconds}.".encode() + body
        digest = hmac.digest(self._token.encode(), signed, hashlib.sha256)
        return {
            "webhook-id": attempt.key,
            "webhook-timestamp": seconds,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }


def _object(response: HttpResponse) -> dict[str, Any]:
    body = json_body(response)
    if not isinstance(body, dict):
        raise UnexpectedResponse("its body is not an object")
    return body


def _list(body: dict[str, Any], name: str) -> list[Any]:
    found = body.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UnexpectedResponse(f"its {name} are not a list of objects")
    return found


def _errors(body: dict[str, Any], name: str, member: str) -> Iterator[tuple[object, ItemResult]]:
    for each in _list(body, name):
        message = str(each.get("message", ""))
        later = each.get("code") == "throttled"
        yield each.get(member), retry("Throttled", message, 30.0) if later else rejected("InvalidEvent", message)


def _by_index(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    body = _object(response)
    if body.get("status") != "ok":
        raise UnexpectedResponse("its status is not ok")
    return results_by_index(events, _errors(body, "errors", "index"))


def _by_id(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    body = _object(response)
    results = results_by_id(events, _errors(body, "errors", "id"))
    return check_count(len(events), body.get("accepted"), results)


def _by_pointer(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    body = _object(response)
    if "errors" not in body:
        raise UnexpectedResponse("it has no errors")
    return results_by_pointer(events, "/data/", _errors(body, "errors", "pointer"))


def _by_counts(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    body = _object(response)
    return check_count(len(events), body.get("processed"), results_by_index(events, ()))


def _historical(event: OutgoingEvent) -> str:
    return "historical" if (event.received_at - event.timestamp).total_seconds() > 2 * DAY else "live"


def _profile(event: OutgoingEvent) -> str:
    return "profiles" if event.type in ("identify", "group") else "events"


INDEX = ResponseRules(items=_by_index, item_statuses=frozenset({400}), batch=frozenset({413, 422}))

DESTINATIONS = (
    Destination(
        name="webhook",
        signed=True,
        policy=SinkPolicy(idempotency=Idempotency(form="Text"), max_concurrency=64),
    ),
    Destination(
        name="segment",
        policy=SinkPolicy(
            scope="Any",
            limits=BatchLimits(max_events=500, max_bytes=500_000, max_event_bytes=32_768),
            rates=(RateLimit(count=1_000, seconds=1, burst=1_000),),
            idempotency=Idempotency(form="Text", seconds=DAY, uses_message_id=True),
        ),
    ),
    Destination(
        name="analytics",
        policy=SinkPolicy(
            scope="User",
            order="None",
            limits=BatchLimits(max_events=25, max_bytes=130_000),
            max_age_seconds=3 * DAY,
        ),
    ),
    Destination(
        name="mixpanel",
        form="Index",
        route=_profile,
        rules=msgspec.structs.replace(INDEX, waits=(), default_wait_seconds=2.0),
        policy=SinkPolicy(
            scope="Any",
            order="None",
            limits=BatchLimits(max_events=2_000, max_bytes=2_000_000, max_event_bytes=1_000_000),
            idempotency=Idempotency(form="Text", max_characters=36, needs_equal_time=True),
            max_future_seconds=3_600,
            rates=(RateLimit(count=30_000, seconds=1, unit="Event"),),
        ),
    ),
    Destination(
        name="amplitude",
        form="Index",
        rules=msgspec.structs.replace(INDEX, waits=(), default_wait_seconds=30.0),
        policy=SinkPolicy(
            scope="Any",
            order="None",
            limits=BatchLimits(max_events=2_000, max_bytes=20_000_000),
            idempotency=Idempotency(form="Text", seconds=7 * DAY),
            rates=(RateLimit(count=30, seconds=1, unit="Event", per="User"),),
        ),
    ),
    Destination(
        name="posthog",
        route=_historical,
        policy=SinkPolicy(
            scope="Any",
            limits=BatchLimits(max_events=1_000, max_bytes=20_000_000, max_event_bytes=900_000),
            idempotency=Idempotency(form="UUID", needs_equal_time=True),
        ),
    ),
    Destination(
        name="customerio",
        form="Index",
        rules=INDEX,
        policy=SinkPolicy(
            scope="Any",
            limits=BatchLimits(max_events=1_000, max_bytes=500_000, max_event_bytes=32_768),
            idempotency=Idempotency(form="ULID"),
            rates=(RateLimit(count=100, seconds=1, burst=100),),
        ),
    ),
    Destination(
        name="klaviyo",
        form="Pointer",
        rules=ResponseRules(
            items=_by_pointer,
            item_statuses=frozenset({400}),
            batch=frozenset({413, 422}),
            pause=("ratelimit-remaining", Wait("ratelimit-reset", "Seconds")),
        ),
        policy=SinkPolicy(
            scope="Any",
            limits=BatchLimits(max_events=1_000, max_bytes=5_000_000),
            idempotency=Idempotency(form="Text"),
            rates=(
                RateLimit(count=10, seconds=1, window="Fixed", burst=10, group="bulk"),
                RateLimit(count=150, seconds=60, window="Fixed", burst=10, group="bulk"),
            ),
            max_future_seconds=365 * DAY,
            version=ApiVersion(name="2026-10-15", ends_on=date(2028, 10, 15)),
        ),
    ),
    Destination(
        name="hubspot",
        form="Id",
        rules=ResponseRules(
            items=_by_id,
            destination=frozenset({477}),
            waits=(RETRY_AFTER, Wait("x-hubspot-ratelimit-interval-milliseconds", "Milliseconds")),
        ),
        policy=SinkPolicy(
            scope="Any",
            limits=BatchLimits(max_events=100),
            idempotency=Idempotency(form="UUID"),
            rates=(RateLimit(count=110, seconds=10, burst=110),),
            version=ApiVersion(name="2026-09"),
        ),
    ),
    Destination(
        name="braze",
        form="Counts",
        rules=ResponseRules(items=_by_counts, waits=(Wait("x-ratelimit-retry-after", "Seconds"),)),
        policy=SinkPolicy(
            scope="Any",
            limits=BatchLimits(max_events=75, max_bytes=4_000_000, max_event_bytes=50_000),
            rates=(RateLimit(count=3_000, seconds=3, burst=3_000),),
        ),
    ),
    Destination(
        name="meta",
        rules=ResponseRules(waits=(Wait("x-reset-at", "UnixSeconds"),)),
        policy=SinkPolicy(
            scope="Any",
            order="None",
            limits=BatchLimits(max_events=1_000),
            idempotency=Idempotency(form="Text", seconds=2 * DAY, uses_message_id=True),
            max_age_seconds=7 * DAY,
            max_future_seconds=0,
            version=ApiVersion(name="v25.0", ends_on=date(2028, 2, 1)),
        ),
    ),
    Destination(
        name="slack",
        rules=ResponseRules(closed=frozenset({403, 404, 410})),
        policy=SinkPolicy(
            limits=BatchLimits(max_event_bytes=40_000),
            rates=(RateLimit(count=1, seconds=1),),
            overflow="Summarise",
            max_concurrency=1,
        ),
    ),
    Destination(
        name="salesforce",
        form="Index",
        rules=msgspec.structs.replace(INDEX, others=INDEX.others),
        policy=SinkPolicy(
            scope="Any",
            limits=BatchLimits(max_events=200),
            rates=(RateLimit(count=100_000, seconds=DAY, window="Fixed", burst=100),),
            max_concurrency=2,
        ),
    ),
)
