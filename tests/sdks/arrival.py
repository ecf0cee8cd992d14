"""What must be stored of an event that is on the wire: written from the documentation, not from the code."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

from tests.e2e.source import STORED_WITHIN_S, Source
from tests.sdks.recorder import Number, Request, exact_json
from tests.system import HTTP, wait_until

TYPES = {type_[0]: type_ for type_ in ("alias", "group", "identify", "page", "screen", "track")}
"""By the letter that routes of browser SDKs have."""
WITH_PROPERTIES = ("page", "screen", "track")
IDS = ("messageId", "userId", "anonymousId", "previousId", "groupId")
TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
NULL_IS_ABSENT = (
    *IDS,
    *TIMES,
    "event",
    "name",
    "category",
    "channel",
    "context",
    "properties",
    "traits",
    "integrations",
)
ADDED_TO_CONTEXT = {"ip", "userAgent", "browser", "os", "location"}
"""What the server knows of a caller that the SDK has not said."""


@dataclass(frozen=True)
class SentEvent:
    """An event on the wire."""

    event: dict[str, Any]
    sent_at: str | None
    """That of its batch."""

    @property
    def message_id(self) -> str:
        found: str = self.event["messageId"]
        return found


def sent_events(requests: Iterable[Request]) -> list[SentEvent]:
    """The events of requests, in their order."""
    found: list[SentEvent] = []
    for request in requests:
        call = request.path.removeprefix("/v1/")
        body = sayable(request.json)
        if call in ("b", "batch"):
            found += [SentEvent(event, body.get("sentAt")) for event in body["batch"]]
        else:
            found.append(SentEvent({**body, "type": TYPES[call[0]]}, None))
    return found


def stored_events(source: Source, count: int) -> dict[str, dict[str, Any]]:
    """The documents of a source by their message ids, when there are `count` or more."""

    def documents() -> list[dict[str, Any]]:
        path = "/v1/events?order=receivedAt&limit=1000"
        answer = HTTP.get(source.system.base_url + path, headers=source.system.authorization, timeout=30)
        assert answer.status_code == 200, answer.text
        events: list[dict[str, Any]] = exact_json(answer.content)["events"]
        return [event for event in events if event["connectionId"] == Number(str(source.id))]

    wait_until(lambda: len(documents()) >= count, STORED_WITHIN_S)
    found = documents()
    by_id = {document["messageId"]: document for document in found}
    assert len(by_id) == len(found), "a message is stored once"
    return by_id


def sayable(value: Any) -> Any:
    """What JSON can say of a value: no infinities, and no half of a character."""
    match value:
        case Number("NaN" | "Infinity" | "-Infinity"):
            return None
        case float() if not isfinite(value):
            return None
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value)
        case list():
            return [sayable(element) for element in value]
        case dict():
            return {name: sayable(element) for name, element in value.items()}
    return value


def assert_arrived(sent: SentEvent, stored: dict[str, Any], connection: int) -> None:
    """The stored document is the sent event: no member more, less, or different but for what the API says."""
    document = dict(stored)
    received = _moment(document.pop("receivedAt"))
    sent_at = _moment(sent.event.get("sentAt") or sent.sent_at) or received
    given, original = (_moment(sent.event.get(name)) for name in ("timestamp", "originalTimestamp"))
    happened = original or given or received
    assert received is not None and sent_at is not None and happened is not None
    corrected = given if given and original else happened + (received - sent_at) if given or original else received
    times = {name: _moment(document.pop(name)) for name in TIMES[:3]}
    assert times == {"timestamp": corrected, "originalTimestamp": happened, "sentAt": sent_at}

    context = document.pop("context", {})
    said = sent.event.get("context") or {}
    assert {name: value for name, value in context.items() if name in said} == said
    assert context.keys() - said.keys() <= ADDED_TO_CONTEXT

    assert document == {"connectionId": Number(str(connection)), **_body(sent.event)}


def contains(stored: Any, said: Any) -> bool:
    """Whether the caller finds again what it said: objects may have more members, numbers those of JavaScript."""
    match said:
        case dict():
            return isinstance(stored, dict) and all(
                name in stored and contains(stored[name], value) for name, value in said.items()
            )
        case list():
            return isinstance(stored, list) and len(stored) == len(said) and all(map(contains, stored, said))
        case int() | float() if not isinstance(said, bool):
            return isinstance(stored, Number) and float(stored.text) == float(said)
    return type(stored) is type(said) and bool(stored == said)


def _body(event: dict[str, Any]) -> dict[str, Any]:
    """Everything but the times and the context."""
    body = {name: value for name, value in event.items() if value is not None or name not in NULL_IS_ABSENT}
    for name in (*TIMES, "context", "writeKey"):
        body.pop(name, None)
    for name in IDS:
        if isinstance(body.get(name), Number):
            body[name] = body[name].text
        if body.get(name) == "":
            del body[name]
    if event["type"] in WITH_PROPERTIES:
        body.setdefault("properties", {})
    body.setdefault("traits", (event.get("context") or {}).get("traits") or {})
    if event["type"] == "group":
        type_ = body["traits"].get("object_type_id", "1")
        body.setdefault("objectTypeId", type_.text if isinstance(type_, Number) else type_)
    return body


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
