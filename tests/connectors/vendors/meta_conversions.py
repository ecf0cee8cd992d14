"""Meta's Conversions API, from its pages: https://developers.facebook.com/docs/marketing-api/conversions-api.

| documented | where |
| --- | --- |
| `POST /<version>/<dataset>/events`; each version lasts two years | using-the-api, graph-api/changelog |
| the token as a parameter, or in the header of a bearer token | using-the-api, graph-api/guides/explorer |
| up to 1,000 events; one that is not valid fails the request | using-the-api, Batch requests |
| `event_time`: whole seconds, up to 7 days old, or the request fails as a whole | parameters/server-event |
| `physical_store`: up to 62 days old | using-the-api, Time Constraints |
| `app`: `app_data` with two permissions (0 or 1), and the 16 texts of `extinfo` | parameters/app-data |
| `madid`, `anon_id`: not hashed, of apps only | customer-information-parameters, app-events |
| events need `action_source`, those of a website also `client_user_agent` and `event_source_url` | parameters |
| `event_source_url` begins with http:// or https:// | parameters/server-event |
| personal data as SHA-256; IP address, user agent, `fbc`, `fbp` as they are | customer-information-parameters |
| combinations of parameters that are too broad are not accepted | best-practices |
| the first event with a name and an id is kept, for 48 hours | deduplicate-pixel-and-server-events |
| a purchase has a value and a currency | meta-pixel/reference |
| success: `events_received`, `messages`, `fbtrace_id` | using-the-api |
| errors with code and subcode; 1 and 2: later; 190: the token; 100 with 33: the dataset | error-handling |
| 4, 17, 613, 80004: too many calls; `X-Business-Use-Case-Usage` has minutes to wait | rate-limiting |
"""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from tests.connectors.vendors.server import CALM, Item, Plan, Reply, Request, VendorServer
from tests.virtualtime import START

DATASET: Final = "1234567890123456"
TOKEN: Final = "EAATestTokenOfTheDataset0123456789"
VERSIONS: Final = ("v24.0", "v25.0", "v26.0", "v27.0")
MAX_AGE_SECONDS: Final = 7 * 86_400
MAX_STORE_AGE_SECONDS: Final = 62 * 86_400
HASHED: Final = {"em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country", "external_id"}
PLAIN: Final = {"client_ip_address", "client_user_agent", "fbc", "fbp", "subscription_id"}
OF_APPS: Final = {"madid", "anon_id"}
TOO_BROAD: Final = (
    {"ct", "country", "st", "zp", "ge", "client_user_agent"},
    {"db", "client_user_agent"},
    {"fn", "ge"},
    {"ln", "ge"},
)
ACTION_SOURCES: Final = {"email", "website", "app", "phone_call", "chat", "physical_store"} | {
    "system_generated",
    "other",
}
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_CLICK: Final = re.compile(r"fb\.[0-2]\.[0-9]{13}\..+")


def error(status: int, code: int, message: str, *, subcode: int = 0, transient: bool = False, text: str = "") -> Reply:
    """Return an error in the documented form."""
    body: dict[str, Any] = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "AbCdEf"}
    if subcode:
        body["error_subcode"] = subcode
    if text:
        body |= {"error_user_title": "Invalid event", "error_user_msg": text}
    return Reply(status=status, body={"error": {**body, "is_transient": transient}})


class MetaConversionsServer(VendorServer):
    """The endpoint of one dataset."""

    ORIGINS = ("https://graph.facebook.com",)
    SPECIFICATION = "meta_conversions"
    FAULTS = (
        error(500, 1, "An unknown error occurred", transient=True),
        error(503, 2, "Service temporarily unavailable", transient=True),
        error(400, 2, "An unexpected error has occurred. Please retry your request later.", transient=True),
        Reply(status=502, headers={"content-type": "text/html"}, body=b"<html>bad gateway</html>"),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self._began = 0.0 if now is None else now()
        self.test_event_codes: set[str] = set()

    def unauthorized(self) -> Reply:
        status = self._random.choice((400, 401))
        return error(status, 190, "Error validating access token: the session has been invalidated", subcode=460)

    def throttle(self) -> Reply:
        usage = '{"1234567890123456":[{"type":"ads_management","call_count":100,"estimated_time_to_regain_access":1}]}'
        code = self._random.choice((4, 17, 613, 80_004))
        reply = error(400, code, "There have been too many calls to this ad-account.")
        return Reply(status=400, headers={"x-business-use-case-usage": usage}, body=reply.body)

    def answer(self, request: Request) -> Reply:
        _, version, dataset, *rest = request.path.split("/")
        if not self.require(request.method == "POST" and rest == ["events"], "there is no such endpoint", request):
            return error(400, 2500, "Unknown path components")
        self.require(version in VERSIONS, "the version is not supported", request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.unauthorized()
        if dataset != DATASET:
            text = f"Unsupported post request. Object with ID '{dataset}' does not exist"
            return error(400, 100, text, subcode=33)
        self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        body = request.json()
        self.require(set(body) <= {"data", "test_event_code"}, f"unknown members: {set(body)}", request)
        if not body["data"]:
            return error(400, 100, "(#100) param data must be non-empty.")
        self.require(len(body["data"]) <= 1_000, "more than 1,000 events", request)
        if "test_event_code" in body:
            self.test_event_codes.add(body["test_event_code"])
        problems = [text for event in body["data"] for text in self._problems(event, request)]
        if problems:
            return error(400, 100, "Invalid parameter", subcode=2_804_003, text=problems[0])
        for event in body["data"]:
            item = Item(id=event["event_id"], user=str(event["user_data"].get("external_id")), content=event)
            self.accept(item, key=f"{event['event_name']}\0{event['event_id']}")
        return Reply(body={"events_received": len(body["data"]), "messages": [], "fbtrace_id": "AbCdEf"})

    def _problems(self, event: Any, request: Request) -> list[str]:
        """Return the reasons for which Meta refuses an event, and note what no careful client sends."""
        problems = self._server_problems(event, request)
        self._check_app(event, request)
        problems += self._user_problems(event["user_data"])
        data = event.get("custom_data", {})
        for name in ("value", "currency") if event["event_name"] == "Purchase" else ():
            if not self.require(data.get(name) is not None, f"a purchase has no {name}"):
                problems.append(f"The purchase has no {name}.")
        self.require(isinstance(data.get("value", 0), int | float), "value is no number")
        self.require(re.fullmatch("[A-Za-z]{3}", data.get("currency", "EUR")), "currency is no code of ISO 4217")
        for each in data.get("contents", []):
            self.require(isinstance(each.get("id"), str), "contents without id")
            numbers = (each.get("quantity", 1), each.get("item_price", 0))
            self.require(all(isinstance(number, int | float) for number in numbers), "a number of contents is a text")
        if self.refuses(event["event_id"]):
            problems.append("The value of the currency is not valid.")
        return problems

    def _server_problems(self, event: Any, request: Request) -> list[str]:
        known = {"event_name", "event_time", "event_id", "action_source", "event_source_url", "user_data"}
        known |= {"custom_data", "data_processing_options", "data_processing_options_country"}
        known |= {"data_processing_options_state", "app_data"}
        self.require(set(event) <= known, f"unknown members: {set(event) - known}", request)
        self.require(event.get("event_name") and event.get("event_id"), "the event has no name, or no id", request)
        self.require(event.get("action_source") in ACTION_SOURCES, "action_source is not valid", request)
        if event.get("action_source") == "website":
            agent = event["user_data"].get("client_user_agent")
            self.require(agent and event.get("event_source_url"), "a website needs its URL and a user agent", request)
        url = event.get("event_source_url", "https://")
        self.require(url.startswith(("http://", "https://")), "event_source_url is no URL", request)
        seconds = event.get("event_time")
        if not self.require(isinstance(seconds, int), "event_time is not a whole number", request):
            return ["The event time is not valid."]
        now = self._seconds(request)
        self.require(seconds <= now + 1, "the event is in the future", request)
        is_store = event.get("action_source") == "physical_store"
        oldest = now - (MAX_STORE_AGE_SECONDS if is_store else MAX_AGE_SECONDS)
        if not self.require(seconds >= oldest, "the event is too old", request):
            return ["The event time is too far in the past."]
        return []

    def _check_app(self, event: Any, request: Request) -> None:
        is_app = event.get("action_source") == "app"
        self.require(is_app or not OF_APPS & set(event["user_data"]), "madid and anon_id are for apps", request)
        if not self.require(is_app == ("app_data" in event), "app_data is for apps", request) or not is_app:
            return
        app = event["app_data"]
        for name in ("advertiser_tracking_enabled", "application_tracking_enabled"):
            self.require(app.get(name) in (0, 1), f"{name} is required", request)
        extinfo = app.get("extinfo", [])
        self.require(len(extinfo) == 16 and all(isinstance(each, str) for each in extinfo), "extinfo", request)
        self.require(extinfo[0] in ("i2", "a2") and extinfo[4], "extinfo has no version", request)

    def _user_problems(self, user: Any) -> list[str]:
        unknown = set(user) - HASHED - PLAIN - OF_APPS
        self.require(not unknown, f"unknown parameters: {unknown}")
        for name in HASHED & set(user):
            values = user[name] if isinstance(user[name], list) else [user[name]]
            self.require(all(_HASH.fullmatch(each) for each in values), f"{name} is not hashed")
        for name in PLAIN & set(user):
            self.require(user[name] and not _HASH.fullmatch(user[name]), f"{name} is hashed, or empty")
        self.require(_CLICK.fullmatch(user.get("fbc", "fb.1.1554763741205.a")), "fbc has not its form")
        is_usable = bool(user) and not any(set(user) <= broad for broad in TOO_BROAD)
        return [] if self.require(is_usable, "the user cannot be found") else ["The customer information is too broad."]

    def _seconds(self, request: Request) -> float:
        """Return the present time: that of the virtual clock, or of the real one."""
        if self._now in (None, time.monotonic):
            return time.time()
        return (START + timedelta(seconds=request.at - self._began)).timestamp()
