"""HubSpot's server, from its API reference: https://developers.hubspot.com/docs/api-reference/latest/overview.

| documented | where |
| --- | --- |
| `Authorization: Bearer`; 401 `INVALID_AUTHENTICATION`, 403 without a scope | error-handling |
| versions in paths: two a year, each supported for 18 months | platform/versioning |
| 100 requests in 10 s of the smallest plan; 429 with `policyName`, the interval in a header; 423, 477 | usage-details |
| requests with events: exempt from this limit and that of a day, 1,250 in a second | sendEventCompletions, guide |
| events: 500 a request, 204 without a body, an identifier, the fully qualified name of a definition | send-event-data |
| 50 properties of 256 characters, 1,024 in URLs; names of lower-case letters, digits and "_" | send-event-data/guide |
| the default properties of a definition, with the options of `hs_device_type` | define-events/guide |
| of events of a definition with the same `uuid` within a year, the first is accepted | send-event-occurrence |
| a request with an event that is not valid fails as a whole, with a text | send-event-data |
| pages of event definitions with their properties | get-event-definitions |
| contacts and their properties | `hubspot_contacts` |
| tokens: a form, 30 minutes, the refresh token again; an access token that ended is refused with 401 | oauth, 2026-09 |
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

from tests.connectors.vendors.hubspot_contacts import Contacts
from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

TOKEN: Final = "pat-eu1-01234567-89ab-cdef-0123-456789abcdef"
CLIENT_ID: Final = "7fff1e36-2d40-4ae1-bbb1-5266d59564fb"
CLIENT_SECRET: Final = "7c3ce02c-0f0c-4c9f-9700-92440c9bdf2d"
CODE: Final = "eu1-7c3c-e02c-0f0c-4c9f-9700-92440c9bdf2d"
REFRESH_TOKEN: Final = "eu1-6ea7-bd5f-bc77-4a9f-9a32-0b5b6a1d2c3e"
VERSIONS: Final = ("2026-03", "2026-09")
ORDER_COMPLETED: Final = "pe123_order_completed"
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,49}")
MEMBERS: Final = {"eventName", "email", "objectId", "utk", "occurredAt", "properties", "uuid"}


DEVICES: Final = ("Desktop", "Smartphone", "Tablet", "Unknown")
MAX_VALUE: Final = 256
MAX_URL: Final = 1_024


def _property(name: str, type_: str, label: str = "") -> dict[str, Any]:
    return {"name": name, "type": type_, "fieldType": "text", "label": label or name, "archived": False}


DEFAULT_PROPERTIES: Final = [
    *[_property(f"hs_{name}", "string") for name in ("browser", "city", "country", "device_name", "element_text")],
    *[_property(f"hs_{name}", "string") for name in ("operating_system", "operating_version", "page_id", "page_title")],
    *[_property(f"hs_{name}", "string") for name in ("page_url", "referrer", "touchpoint_source", "user_agent")],
    *[_property(f"hs_utm_{name}", "string") for name in ("campaign", "content", "medium", "source", "term")],
    *[_property(f"hs_screen_{name}", "number") for name in ("height", "width")],
    {**_property("hs_device_type", "enumeration"), "fieldType": "select"},
]


DEFINITIONS: Final[list[dict[str, Any]]] = [
    {
        "fullyQualifiedName": ORDER_COMPLETED,
        "name": "order_completed",
        "labels": {"singular": "Order Completed", "plural": "Orders Completed"},
        "archived": False,
        "properties": [
            _property("n", "number"),
            _property("total", "number", "Total"),
            _property("currency", "string", "Currency"),
            _property("is_gift", "bool"),
            _property("shipped_at", "datetime"),
            *DEFAULT_PROPERTIES,
            {**_property("gone", "string"), "archived": True},
        ],
    },
    {"fullyQualifiedName": "pe123_gone", "name": "gone", "labels": {"singular": "Gone"}, "archived": True},
    {"fullyQualifiedName": "pe123_said", "name": "said", "labels": {"singular": 'Said "hello"'}, "properties": []},
]


class HubSpotServer(VendorServer):
    """The endpoints that connectors use."""

    ORIGINS = ("https://api.hubapi.com",)
    SPECIFICATION = "hubspot"
    FAULTS = (
        *VendorServer.FAULTS,
        Reply(status=423, headers={"retry-after": "2"}, body={"status": "error", "message": "Locked"}),
        Reply(status=477, headers={"retry-after": "3"}, body={"status": "error", "message": "Migration in progress"}),
        Reply(status=524, headers={"content-type": "text/html"}, body=b"<html>timeout</html>"),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.contacts = Contacts(self)
        self.tokens = {TOKEN}
        """The access tokens that are valid. A grant adds one, and ends the one before."""
        self.grants = 0
        self.has_events = True
        """Whether the account can have custom events, which needs a large plan."""

    def answer(self, request: Request) -> Reply:
        if re.fullmatch(r"/oauth/\d{4}-\d{2}/token", request.path):
            return self._grant(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return self.unauthorized()
        area, _, path = self._path(request).partition(" ")
        is_exempt = (area, path) == ("events", "send/batch")
        if not (self.count("events", 1_250, 1, request) if is_exempt else self.count("requests", 100, 10, request)):
            return self.throttle()
        if request.body:
            self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        match request.method, area:
            case "GET", "account-info" if path == "details":
                return Reply(body={"portalId": 123, "accountType": "STANDARD", "timeZone": "Europe/Oslo"})
            case _, "events":
                return self._events(request, path)
            case _, "crm/objects" | "crm/properties":
                return self.contacts.answer(request, area, path)
        return self._missing(request)

    def _path(self, request: Request) -> str:
        """Return the area and the path of a request, without its version."""
        found = re.fullmatch(r"/(.+?)/(\d{4}-\d{2})/(.+)", request.path)
        if not self.require(found and found[2] in VERSIONS, "the version is not supported", request) or found is None:
            return ""
        return f"{found[1]} {found[3]}"

    def _missing(self, request: Request) -> Reply:
        self.violate("there is no such endpoint", request)
        return Reply(status=404, body=error("OBJECT_NOT_FOUND", "There is no such endpoint"))

    def _grant(self, request: Request) -> Reply:
        self.require(self._path(request) == "oauth token" and request.method == "POST", "no request of tokens", request)
        self.require(not request.query, "secrets are in the URL", request)
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return Reply(status=400, body={"status": "BAD_CLIENT_ID", "message": "missing or unknown client id"})
        given = form.get("code") if form.get("grant_type") == "authorization_code" else form.get("refresh_token")
        if given not in (CODE, REFRESH_TOKEN):
            return Reply(status=400, body={"error": "invalid_grant", "error_description": "unknown code or token"})
        self.grants += 1
        access = f"CN_{self.grants:04d}_EhQAAQAAABAAAEgAAAAAAAEQAg"
        self.tokens = {TOKEN, access}
        tokens = {"access_token": access, "refresh_token": REFRESH_TOKEN, "token_type": "bearer", "expires_in": 1_800}
        return Reply(body=tokens | {"hub_id": 123, "scopes": ["oauth"]})

    def end_access(self) -> None:
        """End the access tokens of OAuth, as after 30 minutes."""
        self.tokens = {TOKEN}

    def unauthorized(self) -> Reply:
        return Reply(status=401, body=error("INVALID_AUTHENTICATION", "Authentication credentials not found"))

    def throttle(self) -> Reply:
        body = error("RATE_LIMITS", "You have reached your ten_secondly_rolling limit.")
        headers = {"x-hubspot-ratelimit-interval-milliseconds": "3000"}
        return Reply(status=429, headers=headers, body={**body, "policyName": "TEN_SECONDLY_ROLLING"})

    # Events

    def _events(self, request: Request, path: str) -> Reply:
        if not self.has_events:
            return Reply(status=403, body=error("MISSING_SCOPES", "The account has no custom events"))
        match request.method, path:
            case "GET", "event-definitions":
                return self._definitions(request)
            case "POST", "send/batch":
                return self._batch(request)
        return self._missing(request)

    def _definitions(self, request: Request) -> Reply:
        query = {name: values[0] for name, values in request.query.items()}
        known = {"after", "includeProperties", "limit", "searchString", "sortOrder"}
        self.require(set(query) <= known, f"unknown parameters: {set(query) - known}", request)
        first, size = int(query.get("after", "0")), min(int(query.get("limit", "10")), 2)
        body: dict[str, Any] = {"results": DEFINITIONS[first : first + size]}
        if first + size < len(DEFINITIONS):
            body["paging"] = {"next": {"after": str(first + size), "link": ""}}
        return Reply(body=body)

    def _batch(self, request: Request) -> Reply:
        body = request.json()
        self.require(set(body) == {"inputs"}, "HubSpot ignores a body without inputs", request)
        inputs = body["inputs"]
        self.require(0 < len(inputs) <= 500, "a batch has 1 to 500 events", request)
        errors = [text for text in map(self._error, inputs) if text]
        if errors:
            return Reply(status=400, body=error("VALIDATION_ERROR", errors[0]))
        for each in inputs:
            user = next(each[name] for name in ("objectId", "email", "utk") if name in each)
            self.accept(Item(id=each["uuid"], user=user, content=each), key=f"{each['eventName']}/{each['uuid']}")
        return Reply(status=204)

    def _error(self, event: Any) -> str:
        """Return the reason for which the vendor refuses an event; empty if it takes it."""
        require = self.require
        require(set(event) <= MEMBERS, f"unknown members: {set(event) - MEMBERS}")
        given = [event[name] for name in ("email", "objectId", "utk") if name in event]
        require(given and all(isinstance(each, str) and each for each in given), "the event has no identifier")
        require(UUID.fullmatch(event.get("uuid", "")), "an event without a UUID is repeated")
        require(datetime.fromisoformat(event["occurredAt"]).tzinfo, "the time has no zone")
        properties = event["properties"]
        require(len(properties) <= 50, "more than 50 properties")
        require(all(map(NAME.fullmatch, properties)), "the name of a property is not allowed")
        if not require(all(isinstance(value, str) for value in properties.values()), "values are texts"):
            return "a value is no text"
        definition = next((each for each in DEFINITIONS if each["fullyQualifiedName"] == event["eventName"]), None)
        if definition is None or definition.get("archived"):
            return f"{event['eventName']} is not an event definition"
        names = {each["name"] for each in definition["properties"]}
        if set(properties) - names:
            return f"{sorted(set(properties) - names)[0]} is not a property of the event"
        for name, value in properties.items():
            maximum = MAX_URL if any(word in name for word in ("url", "referrer", "link")) else MAX_VALUE
            if len(value) > maximum:
                return f"the value of {name} has more than {maximum} characters"
        if set(properties.get("hs_device_type", "Unknown").split(";")) - {*DEVICES}:
            return "the value of hs_device_type is not one of its options"
        if "email" in event and not EMAIL.fullmatch(event["email"]):
            return "email is not valid"
        return "the event is not accepted" if self.refuses(event["uuid"]) else ""


def error(category: str, message: str) -> dict[str, Any]:
    """Return the body of all errors."""
    return {"status": "error", "message": message, "correlationId": "aeb5f871-7f07", "category": category}
