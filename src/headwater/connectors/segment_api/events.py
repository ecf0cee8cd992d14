"""A receiver of the Segment family as a destination of events: batches with `POST /v1/batch`.

Two rules keep events where they are in time. A receiver moves `timestamp` by the difference between the receipt and
`sentAt`; an event's own `sentAt` precedes that of the batch, and may be days old. So an event has no `sentAt`, and that
of the batch is the time of the attempt. And each event has both `timestamp` and `originalTimestamp`, which states that
`timestamp` is corrected already.

The message id is the event's own, so that the receiver also recognises an event that reaches it another way. A mark in
`context.headwater.via` names each receiver that an event was sent to: an event is not sent to the same one twice when
receivers forward to each other.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

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
    spread,
)
from headwater.connectors.identities import is_placeholder
from headwater.connectors.responses import RETRY_AFTER, ResponseRules, UnexpectedResponse, Wait, exchange
from headwater.connectors.segment_api.settings import SegmentSettings

MAX_BATCH_EVENTS: Final = 500
MAX_BATCH_BYTES: Final = 500_000
MAX_EVENT_BYTES: Final = 32 * 1024
MAX_RECEIVERS: Final = 16
"""Receivers that one event can pass through."""
DEDUPLICATION_SECONDS: Final = 24 * 3_600.0

_FRAMING_BYTES: Final = 1_024
"""More than a batch adds to its events: the envelope, and a comma for each event."""
_SEGMENT_HOSTS: Final = (".segment.io", ".segmentapis.com")
"""Segment requires a `userId` or an `anonymousId`. It returns 200 for other events too, and drops them."""
_SET_BY_SERVER: Final = ("connectionId", "receivedAt", "sentAt", "kpid", "writeKey")
"""Members of a stored event that are not for another receiver: it sets its own."""

EVENT_TYPES: Final = (
    EventType(id="send_event", name="Send event", description="Send the event as it is stored", filter="", schema=None),
)

_NULL: Final = Raw(b"null")
_EMPTY_OBJECT: Final = Raw(b"{}")
_EMPTY_ARRAY: Final = Raw(b"[]")

_encode = msgspec.json.Encoder().encode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


class _Traits(msgspec.Struct):
    email: Raw = _NULL


class _Answer(msgspec.Struct):
    """The body of a response, as far as receivers agree on it."""

    success: bool = True


_decode_marks = msgspec.json.Decoder(list[str]).decode
_decode_traits = msgspec.json.Decoder(_Traits).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


class SegmentSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Any",
        order="PerUser",
        limits=BatchLimits(
            max_events=MAX_BATCH_EVENTS, max_bytes=MAX_BATCH_BYTES - _FRAMING_BYTES, max_event_bytes=MAX_EVENT_BYTES
        ),
        rates=(spread(1_000, 1.0, burst=50),),
        idempotency=Idempotency(form="Text", seconds=DEDUPLICATION_SECONDS, uses_message_id=True),
    )

    def __init__(self, settings: SegmentSettings, context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context
        self._mark = _make_mark(settings)
        self._is_segment = (urlsplit(settings.endpoint).hostname or "").endswith(_SEGMENT_HOSTS)
        self._headers = {
            "authorization": f"Basic {base64.b64encode(f'{settings.write_key}:'.encode()).decode()}",
            "content-type": "application/json",
            "x-strict-mode": "1",  # Customer.io and Headwater: an error has its own status, and not 200
        }

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        members = _decode_members(event.document)
        if not _has_user(event):
            _check_other_identity(event, members, is_segment=self._is_segment)
        for name in _SET_BY_SERVER:
            members.pop(name, None)
        members["context"] = _add_mark(members.get("context"), self._mark)
        body = _encode(members)
        if len(body) > MAX_EVENT_BYTES:
            raise EventRejected("EventTooLarge", f"the event has {len(body)} bytes, and {MAX_EVENT_BYTES} are allowed")
        return EncodedEvent(id=event.message_id, body=body, user=event.user_id or event.anonymous_id)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        head = b'{"sentAt":"%s","batch":[' % _format_time(attempt.at)
        return HttpRequest(
            method="POST",
            url=self._settings.endpoint,
            headers=self._headers,
            body=head + b",".join(event.body for event in events) + b"]}",
        )

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


def _make_mark(settings: SegmentSettings) -> str:
    """Return the name of the receiver in `context.headwater.via`. It does not reveal the write key."""
    digest = hashlib.blake2b(settings.write_key.encode(), digest_size=8, key=_hash(settings.endpoint))
    return digest.hexdigest()


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=32).digest()


def _has_user(event: OutgoingEvent) -> bool:
    return not (is_placeholder(event.user_id) and is_placeholder(event.anonymous_id))


def _check_other_identity(event: OutgoingEvent, members: Mapping[str, Raw], *, is_segment: bool) -> None:
    """Check that a receiver can tell whose event it is without a user, by the rules of the calls of this family.

    Raises EventRejected.
    """
    if is_segment:
        rule = "Segment drops events that have no userId or anonymousId, or only a placeholder such as null"
        raise EventRejected("MissingIdentity", rule)
    has_group = event.type in ("track", "group") and _identifies(members.get("groupId", _NULL))
    if not has_group and not (event.type == "identify" and _has_email(members.get("traits"))):
        rule = "the event has no user, group or e-mail address, or only a placeholder such as null"
        raise EventRejected("MissingIdentity", rule)


def _has_email(traits: Raw | None) -> bool:
    try:
        return traits is not None and _identifies(_decode_traits(traits).email)
    except msgspec.ValidationError:
        return False


def _identifies(value: Raw) -> bool:
    """Return whether a JSON value is an identifier."""
    return not is_placeholder(bytes(value).decode())


def _add_mark(context: Raw | None, mark: str) -> Raw:
    """Return the context with the mark of a receiver; as it is if a client sent something else under the name.

    Raises EventRejected if it has the mark already.
    """
    text = b"{}" if context is None else bytes(context)
    if b'"headwater"' not in text:  # nearly always, and much faster
        inside = text[1:-1].strip()
        return Raw(b'{%s%s"headwater":{"via":["%s"]}}' % (inside, b"," if inside else b"", mark.encode()))
    sections = _decode_members(text)
    try:
        path = _decode_members(sections.get("headwater", _EMPTY_OBJECT))
        via = _decode_marks(path.get("via", _EMPTY_ARRAY))
    except msgspec.ValidationError:
        return Raw(_encode(sections))
    if mark in via:
        raise EventRejected("Loop", "the event has been sent to this receiver already, and came back from it")
    if len(via) >= MAX_RECEIVERS:
        raise EventRejected("Loop", f"the event has passed through {len(via)} receivers")
    path["via"] = Raw(_encode([*via, mark]))
    sections["headwater"] = Raw(_encode(path))
    return Raw(_encode(sections))


def _format_time(moment: datetime) -> bytes:
    return _encode(moment)[1:-1]


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    """Accept the bodies with which receivers state success: none, "OK", or an object without a failure.

    A page of a web server under a wrong URL is none of them.
    """
    body = response.body.strip()
    if body.strip(b'"').lower() not in (b"", b"ok"):
        try:
            is_success = _decode_answer(body).success
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UnexpectedResponse("its body is not that of a receiver of events") from None
        if not is_success:
            raise UnexpectedResponse('its body has "success": false')
    return [DELIVERED] * len(events)


_RULES: Final = ResponseRules(items=_read_items, waits=(RETRY_AFTER, Wait("x-ratelimit-reset", "Seconds")))
