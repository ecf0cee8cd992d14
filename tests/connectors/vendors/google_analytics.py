"""Google Analytics' server of the Measurement Protocol, from
https://developers.google.com/analytics/devguides/collection/protocol/ga4.

| documented | where |
| --- | --- |
| `POST /mp/collect?measurement_id=…&api_secret=…`; a 2xx whatever the payload is; `region1` is in the EU | reference |
| `client_id`, `user_id`, `events` of `name`, `params`, `timestamp_micros`; the user is that of all events | reference |
| `ip_override`, `user_agent`; `consent` of `ad_user_data`, `ad_personalization`: GRANTED or DENIED | reference |
| 25 `user_properties`, each `{"value": …}`, names of 24 characters, values of 36, reserved names | sending-events |
| `session_id` is a positive number, or its text | reference, Common event parameters |
| `currency` of ISO 4217; `value`, `price`, `quantity`, `discount` are numbers; required items | reference/events |
| 25 events, 25 parameters, 130 kB; names of 40 letters, digits and _, beginning with a letter | sending-events |
| values of 100 characters, page_title 300, page_referrer 420, page_location 1,000 | answer 9267744 |
| reserved names of events and parameters, reserved prefixes | reference |
| 200 items, each with item_id or item_name | reference/events |
| events of the last 72 hours; older ones get another time | sending-events |
| purchases with the same transaction_id are counted once; other events have no key | answer 12313109 |
| `/debug/mp/collect` returns validationMessages, stores nothing, and checks no secret and no id | validating |
"""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from tests.connectors.vendors.server import CALM, Item, Plan, Reply, Request, VendorServer
from tests.virtualtime import START

MEASUREMENT_ID: Final = "G-TEST123456"
SECRET: Final = "s3cret/of+the stream="
MAX_BODY_BYTES: Final = 130_000
WINDOW: Final = timedelta(hours=72)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_LENGTHS: Final = {"page_title": 300, "page_referrer": 420, "page_location": 1_000}
_PREFIXES: Final = ("_", "firebase_", "ga_", "google_", "gtag.")
_RESERVED: Final = frozenset(
    {
        "ad_activeview",
        "ad_click",
        "ad_exposure",
        "ad_query",
        "ad_reward",
        "adunit_exposure",
        "app_background",
        "app_clear_data",
        "app_exception",
        "app_install",
        "app_remove",
        "app_store_refund",
        "app_store_subscription_cancel",
        "app_store_subscription_convert",
        "app_store_subscription_renew",
        "app_update",
        "app_upgrade",
        "dynamic_link_app_open",
        "dynamic_link_app_update",
        "dynamic_link_first_open",
        "error",
        "firebase_campaign",
        "firebase_in_app_message_action",
        "firebase_in_app_message_dismiss",
        "firebase_in_app_message_impression",
        "first_open",
        "first_visit",
        "in_app_purchase",
        "notification_dismiss",
        "notification_foreground",
        "notification_open",
        "notification_receive",
        "notification_send",
        "os_update",
        "session_start",
        "session_start_with_rollout",
        "user_engagement",
    }
)
_RESERVED_PROPERTIES: Final = {"first_open_time", "first_visit_time", "last_deep_link_referrer", "user_id"} | {
    "first_open_after_install"
}
_MEMBERS: Final = {"client_id", "user_id", "timestamp_micros", "user_properties", "consent", "ip_override"} | {
    "user_agent",
    "events",
}
_NUMBERS: Final = ("value", "price", "quantity", "discount", "shipping", "tax")
_NEED_ITEMS: Final = {
    "add_shipping_info",
    "add_to_cart",
    "add_to_wishlist",
    "begin_checkout",
    "purchase",
    "remove_from_cart",
    "select_item",
    "view_cart",
    "view_item",
    "view_item_list",
    "view_promotion",
}


class GoogleAnalyticsServer(VendorServer):
    """The endpoints that connectors use. `ID_PARAMETER` is that by which tests tell events apart: they have no id."""

    ORIGINS = ("https://www.google-analytics.com", "https://region1.google-analytics.com")
    ID_PARAMETER = "n"

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self._began = 0.0 if now is None else now()
        self._taken = 0

    def answer(self, request: Request) -> Reply:
        known = self._check_query(request)
        match request.method, request.path:
            case "POST", "/debug/mp/collect":
                return Reply(body={"validationMessages": self._problems(request)})
            case "POST", "/mp/collect":
                problems = self._problems(request)
                self.require(not problems, f"Google Analytics would drop it: {problems[:1]}", request)
                if known and not problems:
                    self._take(request.json())
                return Reply(status=204)
        self.violate("there is no such endpoint", request)
        return Reply(status=404)

    def unauthorized(self) -> Reply:
        return Reply(status=204)

    def _check_query(self, request: Request) -> bool:
        query = {"measurement_id", "api_secret"}
        self.require(set(request.query) == query, "the query has other members", request)
        self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        return request.query.get("api_secret") == [SECRET] and request.query.get("measurement_id") == [MEASUREMENT_ID]

    def _take(self, body: Any) -> None:
        for event in body["events"]:
            self.require("timestamp_micros" in event, "an event would have the time of its arrival")
            params = event.get("params", {})
            transaction = params.get("transaction_id") if event["name"] == "purchase" else None
            self._taken += 1
            key = f"purchase/{transaction}" if transaction else str(self._taken)
            id_ = str(params.get(self.ID_PARAMETER))
            self.accept(Item(id=id_, user=body["client_id"], content={**body, "events": [event]}), key=key)

    # Rules

    def _problems(self, request: Request) -> list[dict[str, str]]:
        """Return the messages of the validation server."""
        found: list[dict[str, str]] = []

        def check(condition: object, path: str, text: str, code: str = "VALUE_INVALID") -> None:
            if not condition:
                found.append({"fieldPath": path, "description": text, "validationCode": code})

        check(len(request.body) <= MAX_BODY_BYTES, "", "The body is too large.", "VALUE_OUT_OF_BOUNDS")
        body = request.json()
        check(set(body) <= _MEMBERS, "", f"Unknown members: {set(body) - _MEMBERS}")
        check(body.get("client_id"), "client_id", "It is required.", "VALUE_REQUIRED")
        for name in ("client_id", "user_id", "ip_override", "user_agent"):
            check(isinstance(body.get(name, ""), str), name, "It must be a string.")
        check(len(body.get("user_id", "")) <= 256, "user_id", "It is too long.")
        _check_user(body, check)
        check(0 < len(body["events"]) <= 25, "events", "1 to 25 events.", "EXCEEDED_MAX_ENTITIES")
        for index, event in enumerate(body["events"]):
            self._check_event(event, f"events[{index}]", request, check)
        return found

    def _check_event(self, event: Any, path: str, request: Request, check: Any) -> None:
        check(set(event) <= {"name", "params", "timestamp_micros"}, path, f"Unknown members of {event}")
        name, params = event.get("name", ""), event.get("params", {})
        check(_NAME.fullmatch(name), path, f"The name {name} is invalid.", "NAME_INVALID")
        check(name not in _RESERVED and not name.startswith(_PREFIXES), path, f"{name} is reserved.", "NAME_RESERVED")
        check(len(params) <= 25, path, "Too many parameters.", "EXCEEDED_MAX_ENTITIES")
        check(name not in _NEED_ITEMS or params.get("items"), path, "items are required.", "VALUE_REQUIRED")
        check(name != "purchase" or params.get("transaction_id"), path, "transaction_id.", "VALUE_REQUIRED")
        if name in _NEED_ITEMS or name in ("generate_lead", "refund"):
            check(re.fullmatch("[A-Z]{3}", params.get("currency", "EUR")), path, "currency is not of ISO 4217.")
            numbers = [each.get(member, 0) for each in (params, *params.get("items", [])) for member in _NUMBERS]
            check(all(isinstance(each, int | float) for each in numbers), path, "A number is a text.")
        check(re.fullmatch("[0-9]+", str(params.get("session_id", 1))), path, "session_id is not valid.")
        for param, value in params.items():
            check(_NAME.fullmatch(param), path, f"The name {param} is invalid.", "NAME_INVALID")
            check(not param.startswith(_PREFIXES), path, f"{param} is reserved.", "NAME_RESERVED")
            if param == "items":
                check(isinstance(value, list) and len(value) <= 200, path, "Too many items.", "EXCEEDED_MAX_ENTITIES")
                for item in value:
                    check(item.get("item_id") or item.get("item_name"), path, "item_id or item_name.", "VALUE_REQUIRED")
                    for member, each in item.items():
                        _check_value(member, each, path, check)
            else:
                _check_value(param, value, path, check)
        micros = event.get("timestamp_micros")
        check(micros is None or isinstance(micros, int), path, "timestamp_micros must be a number.")
        if isinstance(micros, int) and self._now is not None:
            present = START + timedelta(seconds=request.at - self._began)
            age = timedelta(seconds=present.timestamp() - micros / 1_000_000)
            check(timedelta(minutes=-10) <= age <= WINDOW, path, "The time is not within 72 hours.")


def _check_user(body: Any, check: Any) -> None:
    consent = body.get("consent", {"ad_user_data": "GRANTED"})
    check(consent and set(consent) <= {"ad_user_data", "ad_personalization"}, "consent", "Unknown members.")
    check(set(consent.values()) <= {"GRANTED", "DENIED"}, "consent", "It must be GRANTED or DENIED.")
    properties = body.get("user_properties", {})
    check(len(properties) <= 25, "user_properties", "Too many user properties.", "EXCEEDED_MAX_ENTITIES")
    for name, given in properties.items():
        check(_NAME.fullmatch(name) and len(name) <= 24, "user_properties", f"The name {name} is invalid.")
        is_reserved = name in _RESERVED_PROPERTIES or name.startswith(_PREFIXES)
        check(not is_reserved, "user_properties", f"{name} is reserved.", "NAME_RESERVED")
        value = given.get("value") if isinstance(given, dict) and len(given) == 1 else None
        is_valid = isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) <= 36
        check(is_valid, "user_properties", f"The value of {name} is invalid.")


def _check_value(name: str, value: Any, path: str, check: Any) -> None:
    is_valid = isinstance(value, str | int | float) and not isinstance(value, bool)
    check(is_valid, path, f"{name} must be a string or a number.")
    length = _LENGTHS.get(name, 100)
    check(not isinstance(value, str) or len(value) <= length, path, f"{name} is too long.", "VALUE_OUT_OF_BOUNDS")
