"""Amplitude's server, from its API reference: https://amplitude.com/docs/apis/analytics/http-v2.

| documented | where |
| --- | --- |
| `/2/httpapi`: 100 requests/s, 10 events each, 1 MB; 30 events/s of a user or device | http-v2 |
| `/batch`: 2,000 events, 20 MB; 1,000 events/s of a user or device, over 30 s | batch-event-upload |
| `api_key` in the body; 400 "Invalid API key" | http-v2 (values of `error`), Amplitude-TypeScript |
| 403 for values that the firewall blocks; it names no event | http-v2 |
| ids of 5 characters, unless `options.min_id_length` is lower; user_id or device_id; invalid ids | http-v2 |
| levels of properties: 40; 5 types of groups and 10 groups; `currency` has 3 capital letters | http-v2 |
| 400 names invalid or silenced events; the client sends the others again | http-api-batching-retries |
| 429 names throttled users, devices and events, which wait for 30 s | http-v2, batch-event-upload |
| 429 names users over the quota of a day, without indexes | batch-event-upload |
| an event with the `insert_id` of another of its device is ignored for 7 days | http-v2 |
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.connectors.vendors.server import CALM, Item, Plan, Reply, Request, VendorServer, depth

KEY: Final = "4f1ab2c3d4e5f60718293a4b5c6d7e8f"
INVALID_IDS: Final = frozenset(
    {
        *("anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", "", '""'),
        *("00000000-0000-0000-0000-000000000000", "{}", "lmy47d", "0", "-1"),
    }
)
MEMBERS: Final = frozenset(
    {
        *("user_id", "device_id", "event_type", "time", "insert_id", "event_properties", "user_properties"),
        *("groups", "session_id", "ip", "os_name", "os_version", "app_version", "device_model", "language"),
        *("device_manufacturer", "carrier", "platform"),
        *("revenue", "currency", "price", "quantity", "productId", "revenueType"),
    }
)
THROTTLED_SECONDS: Final = 30.0


@dataclass
class Found:
    """The events of a request that are refused: their indexes, by field."""

    invalid: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    missing: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    short: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    silenced: list[int] = field(default_factory=list)
    is_blocked: bool = False
    """Whether the firewall blocks the request, which names no event."""


class AmplitudeServer(VendorServer):
    """The endpoints that connectors use."""

    ORIGINS = ("https://api2.amplitude.com", "https://api.eu.amplitude.com")
    SPECIFICATION = "amplitude"

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.thresholds = {"/2/httpapi": 30, "/batch": 1_000}
        """Events a second of a user or device, on average over 30 seconds."""
        self.over_quota: set[str] = set()
        """The users and devices that have used up their quota of a day."""
        self.throttled: Counter[str] = Counter()
        """The number of times that each user or device was throttled."""
        self._sent: Counter[tuple[str, str, int]] = Counter()
        self._waits: dict[str, float] = {}
        """The time until which the client may send no event of a user, because it knows that he is throttled."""
        self._said: dict[str, float] = {}

    def _decide(self, request: Request) -> Reply | None:
        self._said = {}
        reply = super()._decide(request)
        if reply is not None:
            self._waits |= self._said
        return reply

    def answer(self, request: Request) -> Reply:
        self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        if request.method != "POST" or request.path not in self.thresholds:
            self.violate("there is no such endpoint", request)
            return Reply(status=404)
        is_batch = request.path == "/batch"
        if not is_batch and not self.count("httpapi", 100, 1, request):
            return self.throttle()
        if not self.require(len(request.body) < (20_000_000 if is_batch else 1_000_000), "it is too large", request):
            return Reply(status=413, body={"code": 413, "error": "Payload too large"})
        body = request.json()
        if "api_key" not in body:
            self.violate("there is no key", request)
            return _rejection(error="Request missing required field", missing_field="api_key")
        if body["api_key"] != KEY:
            return self.unauthorized()
        events = body.get("events")
        if not events:
            return _rejection(error="Request missing required field", missing_field="events")
        self.require(set(body) <= {"api_key", "events", "options"}, f"unknown members: {set(body)}", request)
        self.require(len(events) <= (2_000 if is_batch else 10), "there are too many events", request)
        return self._events(request, events, (body.get("options") or {}).get("min_id_length", 5))

    def unauthorized(self) -> Reply:
        return _rejection(error="Invalid API key: 4f1a…", missing_field=None)

    def throttle(self) -> Reply:
        return Reply(status=429, body={"code": 429, "error": "Too many requests for this project"})

    def _events(self, request: Request, events: list[dict[str, Any]], min_length: int) -> Reply:
        if limited := self._limited(request, events):
            return limited
        found = Found()
        for index, event in enumerate(events):
            self._validate(index, event, request, found, min_length)
            if self.refuses(event["insert_id"]):
                self._refuse(index, event, found)
        if found.is_blocked:
            return Reply(status=403, body={"code": 403, "error": "Forbidden"})
        if found.silenced:
            return _rejection(
                error="Events silenced for device_id",
                silenced_events=found.silenced,
                silenced_devices=[events[index].get("device_id", "") for index in found.silenced],
                eps_threshold=100,
                throttled_devices={},
                throttled_events=[],
                exceeded_daily_quota_devices={},
            )
        if found.invalid or found.missing or found.short:
            return _rejection(
                error="Request has events with invalid or missing fields",
                missing_field=None,
                events_with_invalid_fields=found.invalid,
                events_with_missing_fields=found.missing,
                events_with_invalid_id_lengths=found.short,
            )
        for event in events:
            key = f"{event.get('device_id') or 'hash of ' + event['user_id']}\0{event['insert_id']}"
            self.accept(Item(id=event["insert_id"], user=_owners(event)[0], content=event), key=key)
        body = {"code": 200, "events_ingested": len(events), "payload_size_bytes": len(request.body)}
        return Reply(body={**body, "server_upload_time": 1_777_896_000_000})

    def _refuse(self, index: int, event: dict[str, Any], found: Found) -> None:
        """Refuse an event in one of the documented ways."""
        match Random(event["insert_id"]).randrange(5):
            case 0:
                found.invalid["time"].append(index)
            case 1:
                found.missing["event_type"].append(index)
            case 2:
                found.short["user_id"].append(index)
            case 3:
                found.silenced.append(index)
            case _:
                found.is_blocked = True

    # Throttling

    def _limited(self, request: Request, events: list[dict[str, Any]]) -> Reply | None:
        """Return the rejection of a request with events of throttled users; None if it has none."""
        window = int(request.at // THROTTLED_SECONDS)
        throttled: dict[str, int] = {}
        numbers = Counter(owner for event in events for owner in _owners(event))
        for owner, number in numbers.items():
            until = self._waits.get(owner, 0.0)
            self.require(request.at >= until, "an event of a throttled user is sent within 30 seconds", request)
            limit = self.thresholds[request.path] * THROTTLED_SECONDS
            is_drawn = Random(f"{self.plan.seed}/{owner}/{window}").random() < self.plan.throttled / 4
            if self._sent[request.path, owner, window] + number > limit or is_drawn:
                throttled[owner] = 2 * self.thresholds[request.path]
        quota = {owner: 500_200 for owner in numbers if owner in self.over_quota}
        if (throttled or quota) and not self.is_unlimited:
            self.throttled.update(throttled.keys())
            self._said = dict.fromkeys(throttled, request.at + THROTTLED_SECONDS)
            users = {event.get("user_id") for event in events}
            return Reply(
                status=429,
                body={
                    "code": 429,
                    "error": "Too many requests for some devices and users",
                    "eps_threshold": self.thresholds[request.path],
                    "throttled_users": {owner: rate for owner, rate in throttled.items() if owner in users},
                    "throttled_devices": {owner: rate for owner, rate in throttled.items() if owner not in users},
                    "exceeded_daily_quota_users": {owner: count for owner, count in quota.items() if owner in users},
                    "exceeded_daily_quota_devices": {
                        owner: count for owner, count in quota.items() if owner not in users
                    },
                    "throttled_events": [
                        index for index, event in enumerate(events) if not throttled.keys().isdisjoint(_owners(event))
                    ],
                },
            )
        for owner, number in numbers.items():
            self._sent[request.path, owner, window] += number
        return None

    def _validate(self, index: int, event: dict[str, Any], request: Request, found: Found, min_length: int) -> None:
        self.require(set(event) <= MEMBERS, f"unknown members: {set(event) - MEMBERS}", request)
        self.require(event.get("insert_id"), "without insert_id, a repetition counts twice", request)
        name = event.get("event_type")
        if not self.require(isinstance(name, str) and name.strip(), "an event has no type", request):
            found.missing["event_type"].append(index)
        properties = event.get("user_properties", {})
        if name == "$identify":
            self.require(set(properties) == {"$set"} and properties["$set"], "it sets no property", request)
        for member in ("event_properties", "user_properties", "groups"):
            if not isinstance(event.get(member, {}), dict) or depth(event.get(member, {})) > 40:
                self.violate(f"{member} is not valid", request)
                found.invalid[member].append(index)
        self.require(properties or "user_properties" not in event, "user_properties is empty", request)
        self._validate_values(event, request)
        owners = _owners(event)
        self.require(owners, "an event has no user and no device", request)
        for owner in owners:
            self.require(isinstance(owner, str) and owner.lower() not in INVALID_IDS, f"the id is {owner!r}", request)
            if not self.require(len(owner) >= min_length, "an id is too short", request):
                found.short["user_id"].append(index)
        time = event.get("time")
        if not self.require(isinstance(time, int) and time > 10**11, f"the time is {time!r}", request):
            found.invalid["time"].append(index)

    def _validate_values(self, event: dict[str, Any], request: Request) -> None:
        groups = [each if isinstance(each, list) else [each] for each in event.get("groups", {}).values()]
        self.require(len(groups) <= 5 and sum(map(len, groups)) <= 10, "groups are not tracked", request)
        currency = event.get("currency", "EUR")
        self.require(len(currency) == 3 and currency.isalpha() and currency.isupper(), "the currency is wrong", request)
        amounts = {"revenue", "price"}.intersection(event)
        self.require(amounts or not {"currency", "productId", "revenueType"}.intersection(event), "no amount", request)


def _owners(event: dict[str, Any]) -> list[str]:
    return [event[name] for name in ("user_id", "device_id") if name in event]


def _rejection(**members: Any) -> Reply:
    return Reply(status=400, body={"code": 400, **members})
