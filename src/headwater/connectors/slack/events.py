"""Slack as a destination of events: one message for each event, or one that counts many.

Slack allows about one message a second. Events that wait longer than ten seconds are summarised: the message has the
number of events by their labels. So the queue of a destination cannot grow for ever.

Slack recognises no repetition: a message whose response is lost is sent twice. Texts are escaped, so that nothing that
a user has typed can notify a channel.
"""

from collections import Counter
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
    ItemResult,
    OutgoingEvent,
    SendResult,
    SinkPolicy,
    rejected,
    spread,
)
from headwater.connectors.eventvalues import EventValues
from headwater.connectors.responses import (
    NoItemNamed,
    RequestFailed,
    ResponseRules,
    UnexpectedResponse,
    exchange,
    read_text,
)
from headwater.connectors.slack.api import (
    CLOSED_STATUSES,
    HEADERS,
    MAX_BLOCKS,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_CHARACTERS,
    MESSAGE_ERRORS,
    WEBHOOK_ERRORS,
    explain,
)
from headwater.connectors.slack.schemas import EVENT_TYPES
from headwater.connectors.slack.settings import SlackSettings

MAX_SUMMARY_LINES: Final = 20
"""Labels that a summary lists. It counts the events of the others together."""
UNLABELLED: Final = "Other events"
"""The label of events without one."""

_SEPARATOR: Final = b"\0"
"""Separates the label of an event from its message. JSON has no such byte, because texts have it escaped."""
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

_VALUES: Final = EventValues(EVENT_TYPES)
_encode: Final = msgspec.json.Encoder().encode


class SlackSink:
    """Implements `EventSink`."""

    policy = SinkPolicy(
        scope="Event",
        order="PerUser",
        limits=BatchLimits(max_events=1, max_event_bytes=MAX_MESSAGE_BYTES),
        # Slack allows a message a second in a channel, and short bursts without stating how many.
        rates=(spread(60, 60, burst=1),),
        max_concurrency=1,
        overflow="Summarise",
    )

    def __init__(self, settings: SlackSettings, context: ConnectorContext) -> None:
        self._context = context
        self._url = settings.webhook_url

    async def event_types(self) -> Sequence[EventType]:
        return EVENT_TYPES

    def encode(self, event: OutgoingEvent) -> EncodedEvent:
        values = _VALUES.document(event)
        message = _message(_escape(values.get("text") or ""))
        if "blocks" in values and (blocks := _read_blocks(values["blocks"])):
            message["blocks"] = blocks
        label = _escape(" ".join((values.get("label") or "").split()) or UNLABELLED)
        body = _encode(label) + _SEPARATOR + _encode(message)
        return EncodedEvent(id=event.key, body=body, user=event.user_id or event.anonymous_id)

    def request(self, events: Sequence[EncodedEvent], attempt: Attempt) -> HttpRequest:
        parts = [event.body.partition(_SEPARATOR) for event in events]
        body = parts[0][2] if len(parts) == 1 else _encode(_message(_summarise([label for label, _, _ in parts])))
        return HttpRequest(method="POST", url=self._url, headers=HEADERS, body=body)

    async def send(self, request: HttpRequest, events: Sequence[EncodedEvent]) -> SendResult:
        return await exchange(self._context, request, events, _RULES)


def _message(text: str) -> dict[str, Any]:
    """Return a message. Raises EventRejected for a text that Slack does not show."""
    if not text.strip():
        raise EventRejected("MissingText", "the message has no text")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise EventRejected(
            "TextTooLong", f"the escaped text has {len(text)} characters, and {MAX_TEXT_CHARACTERS} are allowed"
        )
    return {"text": text, "unfurl_links": False, "unfurl_media": False}


def _escape(text: str) -> str:
    """Return the text with the characters escaped that begin mentions and links."""
    return text.translate(_ESCAPES)


def _read_blocks(raw: msgspec.Raw) -> list[Any]:
    blocks = msgspec.json.decode(raw)
    if blocks is None:
        return []
    if not isinstance(blocks, list) or not all(isinstance(each, dict) and "type" in each for each in blocks):
        raise EventRejected("InvalidBlocks", "blocks is not an array of objects with a type")
    if len(blocks) > MAX_BLOCKS:
        raise EventRejected("TooManyBlocks", f"the message has {len(blocks)} blocks, and {MAX_BLOCKS} are allowed")
    return blocks


def _summarise(labels: Sequence[bytes]) -> str:
    """Return the text of a message for many events: the most frequent labels first."""
    counts = Counter(labels).most_common()
    lines = [f"*{len(labels)} events*"]
    lines += [f"{msgspec.json.decode(label, type=str)}: {count}" for label, count in counts[:MAX_SUMMARY_LINES]]
    if others := counts[MAX_SUMMARY_LINES:]:
        lines.append(f"{len(others)} others: {sum(count for _, count in others)}")
    return "\n".join(lines)


def _read_items(response: HttpResponse, events: Sequence[EncodedEvent]) -> Sequence[ItemResult]:
    if response.status < 300:
        if response.body.strip() != b"ok":
            raise UnexpectedResponse('its body is not "ok"')
        return [DELIVERED] * len(events)
    if message := explain(response, WEBHOOK_ERRORS):
        raise RequestFailed(Failure(scope=FailureScope.CLOSED, reason=f"Status{response.status}", message=message))
    if response.status != 400 or len(events) > 1 or not (message := explain(response, MESSAGE_ERRORS)):
        raise NoItemNamed
    return [rejected(read_text(response, 100).title().replace("_", ""), message)]


_RULES: Final = ResponseRules(items=_read_items, item_statuses=CLOSED_STATUSES | {400}, closed=CLOSED_STATUSES)
