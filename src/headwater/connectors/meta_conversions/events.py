"""Meta as a destination of events: up to 1,000 with `POST /v25.0/<dataset>/events`.

Meta refuses a request as a whole for one event, and need not name it: the request is halved. So rules of Meta that are
documented are checked for each event before. An event has its own message id as `event_id`: Meta recognises the event
of the pixel in the browser by it, and a repetition.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

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
    rejected,
    succeeded,
)
from headwater.connectors.eventvalues import EventValues, read_currency
from headwater.connectors.identities import is_placeholder
from headwater.connectors.meta_conversions.api import (
    DEDUPLICATION_SECONDS,
    ERROR_STATUSES,
    MAX_AGE_SECONDS,
    MAX_BODY_BYTES,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    MAX_FUTURE_SECONDS,
    MAX_STORE_AGE_SECONDS,
    VERSION,
    Error,
    events_url,
    find_usage_wait,
    headers,
    read_error,
)
from headwater.connectors.meta_conversions.appdata import read_app_data
from headwater.connectors.meta_conversions.contents import find_value, read_contents
from headwater.connectors.meta_conversions.hashing import NORMALISERS, hash_parameter
from headwater.connectors.meta_conversions.schemas import CUSTOM, CUSTOM_DATA, EVENT_TYPES
from headwater.connectors.meta_conversions.settings import MetaConversionsSettings
from headwater.connectors.responses import (
    NOT_TAKEN,
    NoItemNamed,
    RequestFailed,
    ResponseRules,
    UnexpectedResponse,
    check_count,
    exchange,
)

APP: Final = "app"
STORE: Final = "physical_store"

_TOO_OLD: Final = (
    "Meta takes events of the last 7 days, and those with the action_source physical_store of the last 62 days"
)
_FRAMING_BYTES: Final = 2_048
"""More than a request adds to its events: the members around them, and a comma for each."""
_PLAIN: Final = ("client_ip_address", "client_user_agent", "fbc", "fbp", "subscription_id")
"""Parameters of users that are not hashed."""
_APP_IDS: Final = ("madid", "anon_id")
"""The same, of events of apps only."""
_PRIVACY: Final = ("data_processing_options", "data_processing_options_country", "data_processing_options_state")
_TOO_BROAD: Final = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)
"""Meta does not accept an event whose parameters of the user are all in one of these sets: many people have them."""
_CLICK: Final = re.compile(r"[?&]fbclid=([^&#\s]+)")

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class _Answer(msgspec.Struct):
    """The body of a success."""

    events_received: int


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode


class MetaConversionsSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="None",
        limits=BatchLimits(
            max_events=MAX_EVENTS, max_bytes=MAX_BODY_BYTES - _FRAMING_BYTES, max_event_bytes=MAX_EVENT_BYTES
        ),
        idempotency=Idempotency(form="Text", seconds=DEDUPLICATION_SECONDS, uses_message_id=True),
        max_age_seconds=MAX_STORE_AGE_SECONDS,
        max_future_seconds=MAX_FUTURE_SECONDS,
        version=VERSION,
    )

    def __init__(self, settings: MetaConversionsSettings, context: ConnectorContext) -> None:
        self._context = context
        self._url = events_url(settings)
        self._headers = headers(settings)
        code = settings.test_event_code
        self._tail = b"]}" if code is None else b'],"test_event_code":%s}' % _encode(code)

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        time = min(event.timestamp, event.received_at)
        seconds = int(time.timestamp())
        source = _find_source(values)
        expires_at = seconds + (MAX_STORE_AGE_SECONDS if source["action_source"] == STORE else MAX_AGE_SECONDS)
        if self._context.clock.now().timestamp() > expires_at:
            raise EventRejected("EventTooOld", _TOO_OLD)
        is_app = source["action_source"] == APP
        user = _user_data(values, seconds, is_app=is_app)
        body: dict[str, Any] = {
            "event_name": _find_name(event.event_type, values),
            "event_time": seconds,
            "event_id": values.get("event_id") or event.message_id,
            **source,
            "user_data": user,
        }
        if data := _custom_data(event.event_type, values):
            body["custom_data"] = data
        if is_app:
            body["app_data"] = read_app_data(event.document, values)
        body.update((name, values[name]) for name in _PRIVACY if name in values)
        return _Encoded(
            id=event.key, body=_encode(body), user=event.user_id or event.anonymous_id, expires_at=expires_at
        )

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        body = b'{"data":[' + b",".join([event.body for event in events]) + self._tail
        return HttpRequest(method="POST", url=self._url, headers=self._headers, body=body)

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        now = self._context.clock.now().timestamp()
        expired = [_is_expired(event, now) for event in events]
        if any(expired):  # nothing is sent, because Meta would refuse the whole request
            return succeeded([rejected("EventTooOld", _TOO_OLD) if each else NOT_TAKEN for each in expired])
        return await exchange(self._context, request, events, _RULES)


class _Encoded(EncodedEvent, frozen=True, kw_only=True):
    """An event that Meta takes until `expires_at`, in seconds since 1970."""

    expires_at: float


def _is_expired(event: EncodedEvent, now: float) -> bool:
    return isinstance(event, _Encoded) and now > event.expires_at


def _find_name(event_type: str, values: dict[str, Any]) -> str:
    if event_type != CUSTOM:
        return event_type
    name: str = values.get("event_name") or ""
    if is_placeholder(name):
        raise EventRejected("MissingEventName", "the event has no name")
    return name


def _find_source(values: dict[str, Any]) -> dict[str, str]:
    """Return the place of the action, which is a website if the event has what Meta requires of one."""
    url, agent = values.get("event_source_url"), values.get("client_user_agent")
    source = values.get("action_source") or ("website" if url and agent else "other")
    if source == "website" and not agent:
        raise EventRejected("MissingUserAgent", "the event of a website has no client_user_agent")
    if source == "website" and not url:
        raise EventRejected("MissingUrl", "the event of a website has no event_source_url")
    if url and not url.startswith(("http://", "https://")):
        raise EventRejected("InvalidUrl", "event_source_url does not begin with http:// or https://")
    return {"action_source": source, "event_source_url": url} if url else {"action_source": source}


def _user_data(values: dict[str, Any], seconds: int, *, is_app: bool) -> dict[str, Any]:
    """Return the parameters of the user. Raises EventRejected if Meta could find nobody by them."""
    user = {}
    for name in NORMALISERS:
        if (value := values.get(name)) and (hashed := hash_parameter(name, value)):
            user[name] = [hashed]
    plain = {name: value for name in _PLAIN if (value := values.get(name))}
    if is_app:
        plain |= {name: value for name in _APP_IDS if (value := values.get(name)) and not is_placeholder(value)}
    if "fbc" not in plain and (click := _CLICK.search(values.get("event_source_url") or "")):
        plain["fbc"] = f"fb.1.{seconds}000.{click[1]}"
    names = user.keys() | plain.keys()
    if not names or any(names <= broad for broad in _TOO_BROAD):
        given = ", ".join(sorted(names)) or "none"
        raise EventRejected(
            "MissingIdentity",
            f"the event has no parameters by which Meta finds its user, or only placeholders (it has: {given})",
        )
    return {**user, **plain}


def _custom_data(event_type: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of an event. Raises EventRejected if they are not those that Meta accepts."""
    data: dict[str, Any] = dict(values.get("custom_data") or {})
    data.update((name, values[name]) for name in CUSTOM_DATA if name in values)
    if "contents" in data and (contents := read_contents(data.pop("contents"))):
        data["contents"] = contents
        data.setdefault("content_ids", [each["id"] for each in contents])
        data.setdefault("content_type", "product")
        if "value" not in data and (value := find_value(contents)) is not None:
            data["value"] = value
    if "currency" in values:
        del data["currency"]
        if (currency := read_currency(values["currency"])) is not None:
            data["currency"] = currency
    if event_type == "Purchase":
        for name in ("value", "currency"):
            if name not in data:
                raise EventRejected("IncompletePurchase", f"a purchase has no {name}, which Meta requires")
    return data


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    if response.status >= 300:
        error = read_error(response)
        if error is None or not error.code:
            raise NoItemNamed
        raise RequestFailed(_failure(error, response))
    try:
        received = _decode_answer(response.body).events_received
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnexpectedResponse("its body does not state how many events were received") from None
    return check_count(len(events), received, [DELIVERED] * len(events))


def _failure(error: Error, response: HttpResponse) -> Failure:
    """Return the failure of a request by the code of its error, because the status is often 400."""
    wait = None
    if error.is_retryable:
        scope, wait = FailureScope.DESTINATION, find_usage_wait(response)
    elif error.is_about_token:
        scope = FailureScope.CREDENTIALS
    elif error.is_about_dataset:
        scope = FailureScope.CLOSED
    else:
        scope = FailureScope.BATCH
    return Failure(scope=scope, reason=error.reason, message=error.text[:1_000], retry_after_seconds=wait)


_RULES: Final = ResponseRules(items=_read_items, item_statuses=ERROR_STATUSES)
