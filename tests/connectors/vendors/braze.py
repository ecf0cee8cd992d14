"""Braze's server, from its references: https://www.braze.com/docs/api.

| documented | where |
| --- | --- |
| `Authorization: Bearer`; 401 for an unknown key; 403 for a key without the permission | errors |
| at most 75 objects in attributes, events and purchases together; 3,000 requests in 3 s | post_user_track, api_limits |
| an object has external_id, user_alias, braze_id, email or phone | post_user_track |
| event: name, ISO 8601 time, properties; names of 1 to 255 characters without a $ first, not `time` or `event_name`; \
100 KB | event_object, recommended_events |
| purchase: product_id of at most 255 characters, currency, price, quantity of at most 100, time | purchase_object |
| names that properties of a purchase cannot have | purchase_events |
| attributes: null removes one; `_update_existing_only` false creates an alias-only user | user_attributes_object |
| nested attributes with null are dropped | post_user_track, questions |
| repeated events are separate events | post_user_track, questions |
| 201 with counts, and errors by input_array and index for objects that are refused alone | post_user_track, responses |
| 400 if no object is valid; 202 "queued" during maintenance | errors |
| 429 with X-RateLimit-Retry-After in seconds; X-RateLimit-Limit, -Remaining, -Reset otherwise | api_limits |
| at most 50 aliases to identify, each with an external_id; one without a user has no effect | post_user_identify |
| one alias of a label for each user; a second one is not merged | post_user_identify |
| at most 50 merges, in no order; 202; both users must exist | post_users_merge |
| both of them together: 20,000 requests a minute | api_limits |
| custom attributes: pages of 50, `Link` to the next one; 1,000 requests an hour | get_custom_attributes |
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from tests.connectors.vendors.braze_commerce import find_broken_rule
from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

API_KEY: Final = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
ENDPOINT: Final = "https://rest.iad-01.braze.com"
ARRAYS: Final = ("attributes", "events", "purchases")
IDENTIFIERS: Final = ("external_id", "user_alias", "braze_id", "email", "phone")
NO_DATA: Final = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
MEMBERS: Final = {
    "events": {"name", "time", "app_id", "properties"},
    "purchases": {"product_id", "currency", "price", "quantity", "time", "app_id", "properties"},
}
RESERVED: Final = {
    "events": {"time", "event_name"},
    "purchases": {"time", "product_id", "quantity", "event_name", "price", "currency"},
}
PAGE_ATTRIBUTES: Final = 50


class BrazeServer(VendorServer):
    """The endpoint that connectors use. `users` has the attributes of each by its identifier."""

    ORIGINS = (ENDPOINT,)

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.users: dict[str, dict[str, Any]] = {}
        self.purchases: list[dict[str, Any]] = []
        self.aliases: dict[str, dict[str, str]] = {}
        """The alias of each label that an identified user has."""
        self.custom_attributes: list[dict[str, Any]] = []
        self.permissions = {"users.track", "users.identify", "users.merge", "custom_attributes.get"}

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return self.unauthorized()
        endpoint = self._endpoints().get((request.method, request.path))
        if not self.require(endpoint, "there is no such endpoint", request) or endpoint is None:
            return Reply(status=404, body={"message": "Not found"})
        permission, limit, respond = endpoint
        if permission not in self.permissions:
            return Reply(status=403, body={"message": "Access Denied"})
        if request.method == "POST":
            self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        if not self.count(*limit, request):
            return self.throttle()
        return respond(request)

    def _endpoints(self) -> dict[tuple[str, str], tuple[str, tuple[str, int, float], Callable[[Request], Reply]]]:
        """Return the permission, the limit and the response of each endpoint."""
        users = ("users", 20_000, 60)
        return {
            ("POST", "/users/track"): ("users.track", ("track", 3_000, 3), self._track),
            ("POST", "/users/identify"): ("users.identify", users, self._identify),
            ("POST", "/users/merge"): ("users.merge", users, self._merge),
            ("GET", "/custom_attributes"): ("custom_attributes.get", ("lists", 1_000, 3_600), self._list_attributes),
        }

    def unauthorized(self) -> Reply:
        return Reply(status=401, body={"message": "Invalid API key"})

    def throttle(self) -> Reply:
        return Reply(
            status=429, headers={"x-ratelimit-retry-after": "2"}, body={"message": "The API rate limit was exceeded"}
        )

    def _track(self, request: Request) -> Reply:
        body = request.json()
        if body == {}:
            return Reply(status=400, body={"message": NO_DATA})
        self.require(set(body) <= {*ARRAYS, "partner"}, f"unknown members: {set(body)}", request)
        self.require(len(request.body) <= 4_000_000, "the body is too large", request)
        total = sum(len(body.get(array, ())) for array in ARRAYS)
        if not self.require(0 < total <= 75, f"a request has 1 to 75 objects, not {total}", request):
            return Reply(status=400, body={"message": "Max Input Length Exceeded"})
        counts: dict[str, int] = {}
        errors = []
        for array in ARRAYS:
            for index, each in enumerate(body.get(array, ())):
                text = self._check(array, each)
                if text:
                    errors.append({"type": text, "input_array": array, "index": index})
                else:
                    counts[f"{array}_processed"] = counts.get(f"{array}_processed", 0) + 1
                    self._take(array, each)
        if not counts:
            return Reply(status=400, body={"message": NO_DATA, "errors": errors})
        is_in_maintenance = len(self.requests) % 10 == 1 + self.plan.seed % 9
        if is_in_maintenance and not errors:
            return Reply(status=202, body={"message": "queued"})
        headers = {"x-ratelimit-limit": "3000", "x-ratelimit-remaining": "2900", "x-ratelimit-reset": "1777896000"}
        return Reply(
            status=201,
            headers=headers,
            body={"message": "success", **counts, **({"errors": errors} if errors else {})},
        )

    def _check(self, array: str, given: Any) -> str:
        """Return the error of an object; empty if it is valid."""
        named = [name for name in IDENTIFIERS if given.get(name)]
        if array != "attributes":
            self.require(len(named) == 1, f"not one identifier: {named}")
        if not self.require(named, "no identifier"):
            return "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
        if "user_alias" in given:
            alias = given["user_alias"]
            self.require(set(alias) == {"alias_name", "alias_label"} and all(alias.values()), f"no alias: {alias}")
            self.require(given.get("_update_existing_only") is False, "the alias-only user is not created")
        if given.get("email") and not EMAIL.fullmatch(given["email"]):
            return "The value provided for the 'email' field is not a valid email."
        if array == "attributes":
            return self._check_attributes(given)
        known = {*MEMBERS[array], *named, "_update_existing_only"}
        self.require(set(given) <= known, f"unknown members: {set(given) - known}")
        self.require(datetime.fromisoformat(given["time"]).tzinfo, "the time has no zone")
        self._check_properties(array, given.get("properties", {}))
        if array == "events":
            self.require(0 < len(given["name"]) <= 255, "the name of an event is not valid")
            if rule := find_broken_rule(given["name"], given.get("properties", {})):
                self.violate(f"Braze drops {given['name']}: {rule}")
                return rule
            return "The value is not accepted." if self.refuses(self._number(given)) else ""
        self.require(0 < len(given["product_id"]) <= 255, "the product_id is not valid")
        self.require(isinstance(given["price"], int | float), "the price is no number")
        self.require(isinstance(given["quantity"], int) and 1 <= given["quantity"] <= 100, "the quantity is not valid")
        is_currency = len(given["currency"]) == 3 and given["currency"].isupper()
        return "" if is_currency else "The value provided for the 'currency' field is not valid."

    def _check_properties(self, array: str, properties: Any) -> None:
        self.require(isinstance(properties, dict), "properties must be an object")
        for name in properties:
            self.require(0 < len(name) <= 255 and not name.startswith("$"), f"the name of a property is wrong: {name}")
        self.require(not RESERVED[array] & set(properties), "Invalid 'properties' field: a name is reserved")
        self.require(len(msgspec.json.encode(properties)) <= 102_400, "the properties have more than 100 KB")

    def _check_attributes(self, given: Any) -> str:
        for name, value in given.items():
            self.require(0 < len(name) <= 255 and not name.startswith("$"), f"the name is wrong: {name}")
            self.require(value is None or not _has_null(value), f"{name} has null inside, and is dropped")
        return "The user is not accepted." if self.refuses(self._user(given)) else ""

    def _take(self, array: str, given: Any) -> None:
        user = self._user(given)
        stored = self.users.setdefault(user, {})
        if array == "purchases":
            self.purchases.append(given)
        if array == "attributes":
            for name, value in given.items():
                if value is None:
                    stored.pop(name, None)
                elif name != "_update_existing_only":
                    stored[name] = value
        id_ = self._number(given) if array == "events" else f"{array}/{user}"
        self.accept(Item(id=id_, user=user, content=given), key=str(self.copies.total()))  # each is an event of its own

    def _identify(self, request: Request) -> Reply:
        given = request.json().get("aliases_to_identify")
        if not self.require(isinstance(given, list) and 0 < len(given) <= 50, "not 1 to 50 aliases", request):
            return Reply(status=400, body={"message": "The max number of external_ids and aliases was exceeded"})
        for each in given:
            alias = each["user_alias"]
            is_valid = set(each) == {"external_id", "user_alias"} and set(alias) == {"alias_name", "alias_label"}
            self.require(is_valid and each["external_id"] and all(alias.values()), f"not an alias to identify: {each}")
            user, label, name = each["external_id"], alias["alias_label"], alias["alias_name"]
            if name in self.users and label not in self.aliases.get(user, {}):
                self.users[user] = {**self.users.pop(name), **self.users.get(user, {})}
                self.aliases.setdefault(user, {})[label] = name
        return Reply(status=201, body={"message": "success", "aliases_processed": len(given)})

    def _merge(self, request: Request) -> Reply:
        given = request.json().get("merge_updates")
        if not self.require(isinstance(given, list) and given, "merge_updates must be an array", request):
            return Reply(status=400, body={"message": "'merge_updates' must be an array of objects"})
        if not self.require(len(given) <= 50, "more than 50 merges", request):
            return Reply(status=400, body={"message": "a single request may not contain more than 50 merge updates"})
        pairs = [
            (each["identifier_to_merge"]["external_id"], each["identifier_to_keep"]["external_id"]) for each in given
        ]
        users = [user for pair in pairs for user in pair]
        self.require(len(set(users)) == len(users), "a user is in two merges of a request, which have no order")
        for merged, kept in pairs:
            if merged in self.users and kept in self.users:
                self.users[kept] = {**self.users.pop(merged), **self.users[kept]}
        return Reply(status=202, body={"message": "success"})

    def _list_attributes(self, request: Request) -> Reply:
        first = int(request.query.get("cursor", ["0"])[0])
        page = self.custom_attributes[first : first + PAGE_ATTRIBUTES]
        following = first + PAGE_ATTRIBUTES
        link = f'<{ENDPOINT}/custom_attributes?cursor={following}>; rel="next"'
        headers = {"link": link} if following < len(self.custom_attributes) else {}
        return Reply(headers=headers, body={"message": "success", "attributes": page})

    def _user(self, given: Any) -> str:
        name = next(name for name in IDENTIFIERS if given.get(name))
        return str(given[name]["alias_name"] if name == "user_alias" else given[name])

    def _number(self, given: Any) -> str:
        """Return the number by which tests know an event, because Braze has no ids of events."""
        return str(given.get("properties", {}).get("n", ""))


def _has_null(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(each is None or _has_null(each) for each in values)
