"""The expected stored form of an event on the wire: written from the documentation, not from the code."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

from tests.e2e.source import STORED_WITHIN_SECONDS, Source
from tests.sdks.recorder import Number, Request, exact_json
from tests.system import HTTP, wait_until

TYPES = {type_[0]: type_ for type_ in ("alias", "group", "identify", "page", "screen", "track")}
"""The types by the letter in the routes of browser SDKs."""
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
"""Members that the server adds to the context of the SDK."""


@dataclass(frozen=True)
class SentEvent:
    """An event on the wire."""

    event: dict[str, Any]
    sent_at: str | None
    """The time of sending of its batch."""

    @property
    def message_id(self) -> str:
        found: str = self.event["messageId"]
        return found


def sent_events(requests: Iterable[Request]) -> list[SentEvent]:
    """Return the events of requests, in their order."""
    found: list[SentEvent] = []
    for request in requests:
        call = request.path.rpartition("/")[2]
        body = representable(request.json)
        if call in ("b", "batch"):
            found += [SentEvent(event, body.get("sentAt")) for event in body["batch"]]
        else:
            found.append(SentEvent({**body, "type": TYPES[call[0]]}, None))
    return found


def stored_events(source: Source, count: int) -> dict[str, dict[str, Any]]:
    """Wait until a source has `count` or more events; return their documents by message id."""

    def documents() -> list[dict[str, Any]]:
        path = "/v1/events?order=receivedAt&limit=1000"
        response = HTTP.get(source.system.base_url + path, headers=source.system.authorization, timeout=30)
        assert response.status_code == 200, response.text
        events: list[dict[str, Any]] = exact_json(response.content)["events"]
        return [event for event in events if event["connectionId"] == Number(str(source.id))]

    wait_until(lambda: len(documents()) >= count, STORED_WITHIN_SECONDS)
    found = documents()
    by_id = {document["messageId"]: document for document in found}
    assert len(by_id) == len(found), "a message is stored once"
    return by_id


def representable(value: Any) -> Any:
    """Return the value as JSON can represent it: without infinities and unpaired surrogates."""
    match value:
        case Number("NaN" | "Infinity" | "-Infinity"):
            return None
        case float() if not isfinite(value):
            return None
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value)
        case list():
            return [representable(element) for element in value]
        case dict():
            return {name: representable(element) for name, element in value.items()}
    return value


def without_nulls(value: Any) -> Any:
    """Return the value without the members of objects that are null."""
    match value:
        case list():
            return [without_nulls(element) for element in value]
        case dict():
            return {name: without_nulls(member) for name, member in value.items() if member is not None}
    return value


def assert_arrived(sent: SentEvent, stored: dict[str, Any], connection: int) -> None:
    """Assert that the stored document has exactly the members of the sent event, and the documented changes."""
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
    expected = _context(sent.event.get("context") or {})
    assert {name: value for name, value in context.items() if name in expected} == expected
    assert context.keys() - expected.keys() <= ADDED_TO_CONTEXT

    assert document == {"connectionId": Number(str(connection)), **_body(sent.event)}


def contains(stored: Any, sent: Any) -> bool:
    """Return whether the stored value contains the sent one: objects may have more members, numbers are doubles."""
    match sent:
        case dict():
            return isinstance(stored, dict) and all(
                name in stored and contains(stored[name], value) for name, value in sent.items()
            )
        case list():
            return isinstance(stored, list) and len(stored) == len(sent) and all(map(contains, stored, sent))
        case int() | float() if not isinstance(sent, bool):
            return isinstance(stored, Number) and float(stored.text) == float(sent)
    return type(stored) is type(sent) and bool(stored == sent)


def _context(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the expected context, except members that the server adds."""
    context = dict(sent)
    if session_id := context.pop("sessionId", None):  # RudderStack's and Hightouch's; a new session has sessionStart
        started = {"start": context.pop("sessionStart")} if "sessionStart" in context else {}
        context["session"] = {"id": session_id.text, **started}
    if context.get("os", {}).get("name") == "":  # RudderStack's; the server finds the name in userAgent
        del context["os"]
    return context


def _body(event: dict[str, Any]) -> dict[str, Any]:
    """Return the expected members, except the times and the context."""
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
