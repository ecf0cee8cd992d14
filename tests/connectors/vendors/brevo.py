"""Brevo's server, from its API reference: https://developers.brevo.com/reference.

| documented | where |
| --- | --- |
| the header `api-key`; 401 `{"code": "unauthorized", "message"}` | docs/how-it-works |
| single event: 204; `event_name` 255 of letters, digits, "-", "_"; 50 KB of properties; an identifier | create-event |
| batch: `{"events": […]}`, 200 events, 512 KB; 202 `{"message", "count"}` if all are taken | docs/event-endpoints |
| 207 if some are taken, 400 if none: `successful_events`, and `errors` of `eventIndex`, from 0 | create-batch-events |
| values of contact properties: text, number, boolean | create-event, create-batch-events |
| `POST /v3/events` and `/v3/contacts`: each 10 requests/s and 36,000/h | docs/api-limits |
| 429 with `x-sib-ratelimit-reset` in seconds, and no `Retry-After` | docs/limit-headers |
| no recognition of repetitions | none is documented |
| contacts, attributes | `brevo_contacts` |

The limits name no `/v3/events/batch`: the server counts it with `/v3/events`.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from tests.connectors.vendors.brevo_contacts import Contacts
from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

KEY: Final = "xkeysib-0123456789abcdef0123456789abcdef-AbCdEfGhIjKlMnOp"
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
IDENTIFIERS: Final = {"contact_id", "email_id", "ext_id", "landline_number_id", "phone_id", "whatsapp_id"}
MEMBERS: Final = {"event_name", "event_date", "identifiers", "contact_properties", "event_properties", "object"}


class BrevoServer(VendorServer):
    """The endpoints that connectors use."""

    ORIGINS = ("https://api.brevo.com",)
    SPECIFICATION = "brevo"

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.contacts = Contacts(self)

    def answer(self, request: Request) -> Reply:
        if request.headers.get("api-key") != KEY:
            return self.unauthorized()
        if request.body:
            self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        match request.method, request.path:
            case "GET", "/v3/account":
                return Reply(body={"email": "ada@example.com", "companyName": "Shop", "plan": []})
            case "POST", "/v3/events":
                return self._limited(request, "events", self._single)
            case "POST", "/v3/events/batch":
                return self._limited(request, "events", self._batch)
            case _, path if path.startswith("/v3/contacts"):
                return self._limited(request, "contacts", self.contacts.answer)
        self.violate("there is no such endpoint", request)
        return refuse(404, "document_not_found", "There is no such endpoint")

    def unauthorized(self) -> Reply:
        return refuse(401, "unauthorized", "Key not found")

    def throttle(self) -> Reply:
        headers = {"x-sib-ratelimit-limit": "10", "x-sib-ratelimit-remaining": "0", "x-sib-ratelimit-reset": "2"}
        reply = refuse(429, "too_many_requests", "Too many requests")
        return Reply(status=429, headers=headers, body=reply.body)

    def _limited(self, request: Request, name: str, answer: Callable[[Request], Reply]) -> Reply:
        within = [self.count(name, 10, 1, request), self.count(name, 36_000, 3_600, request)]
        return answer(request) if all(within) else self.throttle()

    # Events

    def _single(self, request: Request) -> Reply:
        event = request.json()
        if message := self._error(event):
            return refuse(400, "invalid_parameter", message)
        self._take(event)
        return Reply(status=204)

    def _batch(self, request: Request) -> Reply:
        if not self.require(len(request.body) <= 512_000, "the body is too large", request):
            return refuse(413, "payload_too_large", "The request is too large")
        body = request.json()
        self.require(set(body) == {"events"}, "the body has other members", request)
        events = body["events"]
        self.require(0 < len(events) <= 200, "a batch has 1 to 200 events", request)
        errors: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            if message := self._error(event):
                errors.setdefault(message, []).append(index)
            else:
                self._take(event)
        if not errors:
            text = "Batch accepted. Valid events have been added to the processing queue."
            return Reply(status=202, body={"message": text, "count": len(events)})
        failed = sum(map(len, errors.values()))
        return Reply(
            status=207 if failed < len(events) else 400,
            body={
                "status": "partial_success" if failed < len(events) else "failed",
                "total_events": len(events),
                "successful_events": len(events) - failed,
                "failed_events": failed,
                "errors": [{"eventIndex": indexes, "message": message} for message, indexes in errors.items()],
            },
        )

    def _take(self, event: Any) -> None:
        id_ = _id(event)
        user = str(next(iter(event["identifiers"].values())))
        self.accept(Item(id=id_, user=user, content=event), key=f"{id_}/{self.copies[id_]}")

    def _error(self, event: Any) -> str:
        """Return the reason for which the vendor refuses an event; empty if it takes it."""
        self.require(set(event) <= MEMBERS, f"unknown members: {set(event) - MEMBERS}")
        self.require(NAME.fullmatch(event.get("event_name", "")), "the name of an event is not allowed")
        identifiers = event.get("identifiers") or {}
        self.require(identifiers and set(identifiers) <= IDENTIFIERS, "an event has no identifier, or another one")
        self.require(all(identifiers.values()), "an identifier is empty")
        self.require(isinstance(identifiers.get("contact_id", 1), int), "contact_id is a number")
        self.require(datetime.fromisoformat(event["event_date"]).tzinfo, "the time has no zone")
        properties = event.get("event_properties", {})
        self.require(len(msgspec.json.encode(properties)) <= 50_000, "the properties have more than 50 KB")
        self.require(all(map(NAME.fullmatch, _names(properties))), "the name of a property is not allowed")
        contact = event.get("contact_properties", {})
        self.require(
            all(isinstance(each, str | int | float) for each in contact.values()), "a contact property is no value"
        )
        if "email_id" in identifiers and not EMAIL.fullmatch(identifiers["email_id"]):
            return "Invalid email_id"
        return "The event is not accepted" if self.refuses(_id(event)) else ""


def _id(event: Any) -> str:
    """Return the number that the tests give to an event, because an event has no id."""
    return f"m{event.get('event_properties', {}).get('n', 0)}"


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(name for each in value.values() for name in _names(each))]
    return [name for each in value for name in _names(each)] if isinstance(value, list) else []


def refuse(status: int, code: str, message: str) -> Reply:
    """Return a response in the form of all errors."""
    return Reply(status=status, body={"code": code, "message": message})
