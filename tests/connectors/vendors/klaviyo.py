"""Klaviyo's server, from its API reference: https://developers.klaviyo.com/en/reference/api_overview.

| documented | where |
| --- | --- |
| `Authorization: Klaviyo-API-Key`, `revision`, JSON:API media type | api_overview, authenticate_ |
| bulk: 1,000 events, 5 MB, 10/s and 150/min; single: 350/s and 3,500/min; 202 | bulk_create_events, create_event |
| 400 properties, 10 levels, 4,000 elements, strings of 100 KB, `time` 2000 to a year ahead | create_event |
| names of metrics of less than 128 characters; `value` a number, `value_currency` in ISO 4217 | create_event |
| the first event with a `unique_id` of a profile and metric is kept | create_event |
| a repeated `unique_id` in a bulk request fails it | bulk_create_events |
| profiles: pages of 1 to 100, sorts, filters of `updated`, sparse fields; 75/s and 750/min | get_profiles |
| `/api/profile-import`: 200, or 201 if no profile has an identifier; 100 KB; null clears | create_or_update_profile |
| `/api/profiles/<id>` updates one, 404 without one | update_profile |
| identifiers of two profiles: 409 `duplicate_profile` with `meta.duplicate_profile_id` | create_or_update_profile |
| a key that is missing or not valid: 401, in older revisions 400 | authenticate_ |
| errors with `source.pointer`; 429 with `Retry-After`; `RateLimit-*` otherwise | rate_limits_and_error_handling |
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.connectors.vendors.klaviyo_profiles import E164, MEDIA_TYPE, Found, Profiles, refuse
from tests.connectors.vendors.server import CALM, EMAIL, Fate, Item, Plan, Reply, Request, VendorServer, depth

KEY: Final = "pk_0123456789abcdef0123456789abcdef012345"
REVISIONS: Final = ("2025-10-15", "2026-01-15", "2026-04-15", "2026-07-15", "2026-10-15")
MAX_BODY_BYTES: Final = 5_000_000
REFUSED_KEYS: Final[tuple[Any, ...]] = (
    {"errors": [{"code": "not_authenticated", "title": "Authentication credentials were not provided."}]},
    {"errors": [{"code": "authentication_failed", "detail": "Incorrect authentication credentials.", "source": {}}]},
    {"errors": [{"code": "invalid", "detail": "The API key specified is invalid.", "source": {}}]},
    {"status": 400, "message": "The API key specified is invalid."},
    {"status": 400, "message": "You must specify an API key to make requests."},
)
"""Bodies of a 400 about the key, which Klaviyo documented until 2023."""


class KlaviyoServer(VendorServer):
    """The endpoints that connectors use."""

    ORIGINS = ("https://a.klaviyo.com",)
    SPECIFICATION = "klaviyo"

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.profiles = Profiles(self)

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Klaviyo-API-Key {KEY}":
            return self.unauthorized()
        self.require(request.headers.get("revision") in REVISIONS, "the revision is not supported", request)
        if request.body:
            self.require(request.headers.get("content-type") == MEDIA_TYPE, "the media type is wrong", request)
        match request.method, request.path:
            case "GET", "/api/accounts":
                account = {"type": "account", "id": "AbC123", "attributes": {"timezone": "UTC"}, "links": {}}
                return Reply(body={"data": [account], "links": {}})
            case "POST", "/api/events":
                return self._limited(request, "single", 350, 3_500, self._single)
            case "POST", "/api/event-bulk-create-jobs":
                return self._limited(request, "bulk", 10, 150, self._bulk)
            case "GET", "/api/profiles":
                return self._limited(request, "profiles read", 75, 750, self.profiles.list_page)
            case "POST", "/api/profile-import":
                return self._limited(request, "profiles", 75, 750, self.profiles.upsert)
            case "PATCH", path if path.startswith("/api/profiles/"):
                return self._limited(request, "profiles", 75, 750, self.profiles.update)
        self.violate("there is no such endpoint", request)
        return refuse(404, ("not_found", "Not found.", ""))

    def unauthorized(self) -> Reply:
        """Return the response of the present documentation, or every second time that of the documentation of 2023."""
        if self.fates[Fate.REVOKED] % 2:
            return Reply(status=400, body=REFUSED_KEYS[-1])
        return refuse(401, ("authentication_failed", "Incorrect authentication credentials.", ""))

    def _limited(self, request: Request, name: str, second: int, minute: int, answer: Any) -> Reply:
        within = [self.count(name, second, 1, request), self.count(name, minute, 60, request)]
        if not all(within):
            return Reply(status=429, headers={"retry-after": "5"}, body={"errors": []})
        if not self.require(len(request.body) <= MAX_BODY_BYTES, "the body is too large", request):
            return refuse(413, ("payload_too_large", "Payload too large.", ""))
        reply: Reply = answer(request)
        return reply

    # Events

    def _single(self, request: Request) -> Reply:
        data = request.json()["data"]
        if not self.is_resource(data, "event"):
            return refuse(400, ("invalid", "type must be event", "/data/type"))
        attributes = data["attributes"]
        profile = attributes.pop("profile")["data"]
        errors = [
            *self._profile_errors(profile, "/data/attributes/profile/data"),
            *self._event_errors(attributes, "/data/attributes"),
        ]
        if errors:
            return refuse(400, *errors)
        self._take(profile, attributes)
        return Reply(status=202)

    def _bulk(self, request: Request) -> Reply:
        data = request.json()["data"]
        self.is_resource(data, "event-bulk-create-job")
        elements = data["attributes"]["events-bulk-create"]["data"]
        errors: list[Found] = []
        events: list[tuple[Any, Any]] = []
        seen: set[tuple[str, str, str]] = set()
        for number, element in enumerate(elements):
            pointer = f"/data/attributes/events-bulk-create/data/{number}"
            self.is_resource(element, "event-bulk-create")
            profile = element["attributes"]["profile"]["data"]
            errors += self._profile_errors(profile, f"{pointer}/attributes/profile/data")
            for index, event in enumerate(element["attributes"]["events"]["data"]):
                where = f"{pointer}/attributes/events/data/{index}/attributes"
                self.is_resource(event, "event")
                found = self._event_errors(event["attributes"], where)
                key = self._key(profile, event["attributes"])
                if key in seen:
                    self.violate("a unique_id is repeated", request)
                    found.append(("duplicate", "The unique_id is repeated.", f"{where}/unique_id"))
                seen.add(key)
                errors += found
                events.append((profile, event["attributes"]))
        self.require(0 < len(events) <= 1_000, "a bulk request has 1 to 1,000 events", request)
        if errors:
            return refuse(400, *errors)
        for profile, attributes in events:
            self._take(profile, attributes)
        return Reply(status=202, headers={"ratelimit-remaining": "100", "ratelimit-reset": "30"})

    def _take(self, profile: Any, attributes: Any) -> None:
        user = next(iter(profile["attributes"].values()))
        self.accept(
            Item(id=attributes["unique_id"], user=user, content={**attributes, "profile": profile["attributes"]}),
            key="\0".join(self._key(profile, attributes)),
        )

    def _key(self, profile: Any, attributes: Any) -> tuple[str, str, str]:
        metric = attributes["metric"]["data"]["attributes"]["name"]
        return str(sorted(profile["attributes"].items())), metric, attributes.get("unique_id", attributes["time"])

    def is_resource(self, data: Any, type_: str) -> bool:
        return self.require(data.get("type") == type_ and isinstance(data.get("attributes"), dict), f"not a {type_}")

    def _profile_errors(self, profile: Any, pointer: str) -> list[Found]:
        self.is_resource(profile, "profile")
        given = profile["attributes"]
        names = {"email", "phone_number", "external_id", "anonymous_id", "_kx"}
        self.require(given and set(given) <= names, f"the profile has no identifier, or another one: {set(given)}")
        self.require(all(isinstance(each, str) and each for each in given.values()), "an identifier is empty")
        self.require(len(given.get("external_id", "")) <= 255, "external_id is too long")
        errors = []
        if "email" in given and not EMAIL.fullmatch(given["email"]):
            errors.append(("invalid", "Invalid email address", f"{pointer}/attributes/email"))
        if "phone_number" in given and not E164.fullmatch(given["phone_number"]):
            errors.append(("invalid", "Invalid phone number format", f"{pointer}/attributes/phone_number"))
        return errors

    def _event_errors(self, attributes: Any, pointer: str) -> list[Found]:
        metric = attributes["metric"]["data"]
        self.is_resource(metric, "metric")
        self.require(0 < len(metric["attributes"].get("name", "")) < 128, "the metric has no name, or a long one")
        self.require(isinstance(attributes.get("properties"), dict), "properties must be an object")
        known = {"properties", "time", "value", "value_currency", "unique_id", "metric"}
        self.require(set(attributes) <= known, f"unknown attributes: {set(attributes) - known}")
        self.require(attributes.get("unique_id"), "an event without unique_id is lost, if another has its second")
        properties = attributes["properties"]
        self.require(len(properties) <= 400, "more than 400 properties")
        self.require(depth(properties) <= 10, "more than 10 levels")
        self.require(_longest(properties) <= 100_000, "a string has more than 100 KB")
        self.require(_widest(properties) <= 4_000, "an array has more than 4,000 elements")
        time = datetime.fromisoformat(attributes["time"])
        is_valid = datetime(2000, 1, 1, tzinfo=UTC) <= time <= self.today() + timedelta(days=366)
        self.require(is_valid, "the time is not between 2000 and a year ahead")
        self.require(isinstance(attributes.get("value", 0), int | float), "value must be a number")
        currency = attributes.get("value_currency", "EUR")
        self.require(len(currency) == 3 and currency.isupper(), f"not a currency: {currency}")
        if self.refuses(attributes["unique_id"]):
            return [("invalid", "Invalid value for the currency.", f"{pointer}/value_currency")]
        return []


def _longest(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_longest, values), default=0)


def _widest(value: Any) -> int:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max([len(value) if isinstance(value, list) else 0, *map(_widest, values)])
