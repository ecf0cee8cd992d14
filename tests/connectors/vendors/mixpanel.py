"""Mixpanel's server, from its API reference: https://docs.mixpanel.com/reference/ingestion-api.

| documented | where |
| --- | --- |
| Basic with the project's token and no password, then no `project_id`; 401 | import-events |
| 2,000 events and 10 MB a request, 1 MB an event, fewer than 255 properties and members, 3 levels | import-events |
| `time` from 1971 to an hour ahead; forbidden identities; `$insert_id` of 36 letters, digits, hyphens | import-events |
| 200 with `num_records_imported`; 400 takes the valid events and names the others | import-events |
| the id of a failed record is `$insert_id` in the example, `insert_id` in the specification | import-events, openapi |
| equal event, time, distinct_id and `$insert_id` are one event | import-events |
| 413 "request exceeds max limit of 2097152 bytes", although 10 MB are stated | openapi |
| 429 without a header; 2 s, doubled until 60 s | import-events |
| `/engage`: 2,000 updates, 1 MB each, `$token` in each, no gzip, 200 also for errors | limits, profile-set |
| `$set` creates a profile and overwrites its properties, `$unset` removes them by name | profile-set, profile-unset |
| a time is `YYYY-MM-DDTHH:MM:SS` in UTC | data-type |
| `distinct_id` is `$user_id`, or else `$device:` and `$device_id` | server-side-events-without-a-user |
| `bucket` hides other events, `$ignore` drops an event | reserved-properties |
| 1.8 million events a minute of a project | import-events |
"""

import re
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec

from headwater.base.clock import microseconds
from tests.connectors.vendors.server import CALM, Item, Plan, Reply, Request, VendorServer
from tests.virtualtime import START

TOKEN: Final = "91ced7f0a8b54e04a2d7c3b1f2e6a9d0"
FORBIDDEN: Final = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        *("anon", "anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown"),
        *("<nil>", "0", "-1", "true", "false", "[]", "{}"),
    }
)
RESERVED: Final = frozenset({"bucket", "$bucket", "$ignore", "$distinct_id", "$time", "token"})
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_INSERT_ID: Final = re.compile(r"[A-Za-z0-9-]{1,36}")

Found = tuple[str, str]
"""The field and the text of an error."""


def update_id(distinct_id: str, properties: Any) -> str:
    """Return the id by which the server knows an update of a profile, which has none of its own."""
    return msgspec.json.encode([distinct_id, properties], order="sorted").decode()


class MixpanelServer(VendorServer):
    """The endpoints that connectors use."""

    ORIGINS = ("https://api.mixpanel.com", "https://api-eu.mixpanel.com", "https://api-in.mixpanel.com")

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.max_body_bytes = 10_000_000
        self.profiles: dict[str, dict[str, Any]] = {}
        self.refuses_users = False
        """Whether the plan refuses all updates of a profile, by its distinct id, and not some of them by content."""
        self.takes_valid_updates = plan.seed % 2 == 0
        """Whether it takes the valid updates of a request with others. Mixpanel documents only that it names these."""
        self._began = 0.0

    def answer(self, request: Request) -> Reply:
        self._began = self._began or request.at
        credentials = b64encode(f"{TOKEN}:".encode()).decode()
        if request.headers.get("authorization") != f"Basic {credentials}":
            return self.unauthorized()
        self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        self.require("content-encoding" not in request.headers, "only events may be compressed", request)
        self.require("project_id" not in request.query, "project_id is for service accounts", request)
        if len(request.body) > self.max_body_bytes:
            self.require(len(request.body) <= 10_000_000, "the body is too large", request)
            error = f"request exceeds max limit of {self.max_body_bytes} bytes"
            return Reply(status=413, body={"code": 413, "error": error, "status": "Request Entity Too Large"})
        match request.method, request.path:
            case "POST", "/import":
                return self._import(request)
            case "POST", "/engage":
                return self._engage(request)
        self.violate("there is no such endpoint", request)
        return Reply(status=404)

    def unauthorized(self) -> Reply:
        return Reply(status=401, body={"code": 401, "error": "Invalid credentials", "status": "Unauthorized"})

    def throttle(self) -> Reply:
        error = "Project exceeded rate limits. Please retry the request with exponential backoff."
        return Reply(status=429, body={"code": 429, "error": error, "status": "Too Many Requests"})

    def _count(self, records: list[Any], request: Request) -> bool:
        return self.count("records", 1_800_000, 60, request, number=len(records))

    # Events

    def _import(self, request: Request) -> Reply:
        self.require(request.query.get("strict") == ["1"], "without strict=1, invalid events are lost", request)
        events = request.json()
        if not events:
            return Reply(status=400, body={"code": 400, "error": "no events", "status": "Bad Request"})
        self.require(len(events) <= 2_000, "a request has at most 2,000 events", request)
        if not self._count(events, request):
            return self.throttle()
        failed: list[dict[str, Any]] = []
        for index, event in enumerate(events):
            self.require(set(event) == {"event", "properties"}, f"an event has other members: {set(event)}", request)
            properties = event["properties"]
            if errors := self._event_errors(event["event"], properties, request):
                member = "$insert_id" if index % 2 else "insert_id"
                for field, message in errors[:1]:
                    insert_id = properties.get("$insert_id", "")
                    failed.append({"index": index, member: insert_id, "field": field, "message": message})
            else:
                self._take(event["event"], properties)
        taken = len(events) - len(failed)
        if not failed:
            return Reply(body={"code": 200, "num_records_imported": taken, "status": "OK"})
        return Reply(
            status=400,
            body={
                "code": 400,
                "error": "some data points in the request failed validation",
                "failed_records": failed,
                "num_records_imported": taken,
                "status": "Bad Request",
            },
        )

    def _take(self, name: str, properties: dict[str, Any]) -> None:
        key = (name, properties["time"], properties["distinct_id"], properties["$insert_id"])
        content = {"event": name, "properties": properties}
        self.accept(
            Item(id=properties["$insert_id"], user=properties["distinct_id"], content=content),
            key="\0".join(map(str, key)),
        )

    def _event_errors(self, name: Any, properties: dict[str, Any], request: Request) -> list[Found]:
        require, insert_id, user = self.require, properties.get("$insert_id"), properties.get("distinct_id")
        require(isinstance(name, str) and name.strip(), "an event has no name", request)
        require(name not in ("$identify", "$create_alias", "$merge"), f"{name} changes identities", request)
        require(len(msgspec.json.encode(properties)) < 1_000_000, "an event has 1 MB", request)
        require(len(properties) < 255, "an event has 255 properties", request)
        reserved = RESERVED.intersection(properties)
        require(not reserved, f"properties are reserved: {reserved}", request)
        require(isinstance(insert_id, str) and _INSERT_ID.fullmatch(insert_id), f"the id is {insert_id!r}", request)
        require("ip" in properties, "without ip, the event gets the location of the sender", request)
        if not require(isinstance(user, str) and user, "without distinct_id, all users of a sender are one", request):
            return [("properties.distinct_id", "'properties.distinct_id' is missing")]
        device, known = properties.get("$device_id"), properties.get("$user_id")
        require(user == (known or f"$device:{device}"), "distinct_id is not that of $user_id or $device_id", request)
        require(device != "" and known != "", "an identity is empty", request)
        if {user, device, known} & FORBIDDEN:
            self.violate("a placeholder is an identity", request)
            return [("properties.distinct_id", "'properties.distinct_id' is not a valid value")]
        time = properties.get("time")
        latest = microseconds(START + timedelta(seconds=request.at - self._began, hours=2)) // 1_000
        if not isinstance(time, int) or time < 31_536_000_000 or (time > latest and not self.is_unlimited):
            self.violate(f"the time is {time!r}", request)
            return [("properties.time", "'properties.time' is invalid: must be specified as seconds since epoch")]
        for field, value in properties.items():
            if rule := _broken(value):
                return [(f"properties.{field}", f"'properties.{field}' is invalid: {rule}")]
        if self.refuses(str(insert_id)):
            return [("properties.utm_source", "properties.utm_source is invalid: string should be valid utf8")]
        return []

    # Profiles

    def _engage(self, request: Request) -> Reply:
        for name, value in (("ip", "0"), ("strict", "1"), ("verbose", "1")):
            self.require(request.query.get(name) == [value], f"{name} must be {value}", request)
        updates = request.json()
        self.require(0 < len(updates) <= 2_000, "a request has 1 to 2,000 updates", request)
        if not self._count(updates, request):
            return self.throttle()
        failed: list[dict[str, Any]] = []
        taken: list[tuple[dict[str, Any], Item]] = []
        for index, update in enumerate(updates):
            user = update.get("$distinct_id", "")
            self._check_update(update, user, request)
            changes = update.get("$set", update.get("$unset"))
            id_ = update_id(user, changes)
            if self.refuses(user if self.refuses_users else id_):
                failed.append({"index": index, "field": "$distinct_id", "message": "'$distinct_id' is not valid"})
                continue
            taken.append((update, Item(id=id_, user=user, content=changes)))
        error = "some data points in the request failed validation"
        if failed and not self.takes_valid_updates:
            return Reply(body={"error": error, "status": 0, "failed_records": failed})
        for update, item in taken:
            self._set(update, item)
        if not failed:
            return Reply(body={"error": None, "status": 1, "num_good_events": len(updates)})
        return Reply(body={"error": error, "status": 0, "failed_records": failed, "num_good_events": len(taken)})

    def _set(self, update: dict[str, Any], item: Item) -> None:
        profile = self.profiles.setdefault(item.user, {})
        profile.update(update.get("$set", {}))
        for name in update.get("$unset", ()):
            profile.pop(name, None)
        self.accept(item)

    def _check_update(self, update: dict[str, Any], user: Any, request: Request) -> None:
        operation, kind = ("$unset", list) if "$unset" in update else ("$set", dict)
        changes: Any = update.get(operation)
        self.require(set(update) == {"$token", "$distinct_id", operation}, "an update has other members", request)
        self.require(len(msgspec.json.encode(update)) <= 1_000_000, "an update is larger than 1 MB", request)
        self.require(update.get("$token") == TOKEN, "the token is wrong", request)
        self.require(user and user not in FORBIDDEN, "the profile is that of a placeholder", request)
        self.require(isinstance(changes, kind), f"{operation} is wrong", request)
        self.require(changes, "an update changes nothing", request)
        self.require(not {"$distinct_id", "$token"}.intersection(changes), "a reserved property is changed", request)
        created = update.get("$set", {}).get("$created")
        self.require(created is None or _TIME.fullmatch(created), f"a time is wrong: {created}", request)


def _broken(value: Any, depth: int = 1) -> str:
    """Return the limit of values that the value exceeds; empty if it exceeds none. Only objects have levels."""
    if isinstance(value, list):
        if len(value) >= 255:
            return "array has too many elements"
        return next((rule for each in value if (rule := _broken(each, depth))), "")
    if not isinstance(value, dict):
        return ""
    if depth > 3 or len(value) >= 255:
        return "object is nested too deeply" if depth > 3 else "object has too many keys"
    return next((rule for each in value.values() if (rule := _broken(each, depth + 1))), "")
