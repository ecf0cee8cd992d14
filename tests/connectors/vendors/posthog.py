"""PostHog's server, from https://posthog.com/docs/api/capture, /docs/data/ingestion-warnings and /docs/data/timestamps.

| documented | where |
| --- | --- |
| `POST /batch/`: `api_key`, `historical_migration`, `batch`; < 20 MB, events < 1 MB | capture, warnings |
| `event`, `distinct_id` required; a `uuid` must be valid and unique: the request is refused as a whole | warnings |
| a `distinct_id` over 200 characters is cut; placeholders are not merged; groups up to 400 | warnings, capture |
| `timestamp` is ISO 8601, other forms become the present; up to 23 h ahead | warnings, timestamps |
| equal uuid, event, distinct_id and timestamp: one of them is kept, later | /docs/data/events |
| `$create_alias` merges `alias` into `distinct_id`; `$identify` merges `$anon_distinct_id` into it | identify |
| 200 `{"status": "Ok"}`, with `quota_limited` nothing was taken; 400, 401, 413, 429, 503 with a text | capture |
| `POST /flags/?v=2`: 401 for a key of no project | feature-flags |
"""

import re
from datetime import datetime
from typing import Any, Final

from tests.connectors.vendors.server import Item, Reply, Request, VendorServer

KEY: Final = "phc_" + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
MAX_BODY_BYTES: Final = 20_000_000
MAX_EVENT_BYTES: Final = 1_000_000
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANY_CASE: Final = (
    "anonymous",
    "distinct_id",
    "distinctid",
    "email",
    "false",
    "guest",
    "id",
    "not_authenticated",
    "true",
    "undefined",
)
_EXACT: Final = ("[object Object]", "NaN", "None", "none", "null", "0", "undefined")
_OWN_EVENTS: Final = {"$identify", "$set", "$create_alias", "$groupidentify", "$pageview", "$screen"}


class PostHogServer(VendorServer):
    """The endpoints that connectors use."""

    ORIGINS = ("https://us.i.posthog.com", "https://eu.i.posthog.com")
    FAULTS = (
        Reply(status=503, headers={"content-type": "text/plain"}, body=b"transient error, please retry"),
        Reply(status=502, headers={"content-type": "text/html"}, body=b"<html>bad gateway</html>"),
        Reply(status=504),
    )

    def answer(self, request: Request) -> Reply:
        match request.method, request.path:
            case "POST", "/batch/":
                return self._batch(request)
            case "POST", "/flags/":
                body = request.json()
                self.require(request.query.get("v") == ["2"], "the version of flags is missing", request)
                self.require(body.get("distinct_id"), "flags need a distinct_id", request)
                if body.get("api_key") != KEY:
                    return self.unauthorized()
                return Reply(body={"flags": {}, "errorsWhileComputingFlags": False, "requestId": "0b6a2c5f"})
        self.violate("there is no such endpoint", request)
        return Reply(status=404)

    def unauthorized(self) -> Reply:
        return _text(401, "API key is not valid: unknown")

    def throttle(self) -> Reply:
        if self._random.random() < 0.2:
            return Reply(body={"status": "Ok", "quota_limited": ["events"]})
        return _text(429, "rate limited")

    def _batch(self, request: Request) -> Reply:
        self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        if not self.require(len(request.body) < MAX_BODY_BYTES, "the body is too large", request):
            return _text(413, "length limit exceeded")
        body = request.json()
        if body.get("api_key") != KEY:
            return self.unauthorized()
        known = {"api_key", "historical_migration", "batch"}
        self.require(set(body) <= known, f"unknown members: {set(body) - known}", request)
        self.require(isinstance(body.get("historical_migration", False), bool), "historical_migration is no boolean")
        events = body["batch"]
        if not self.require(events, "the batch is empty", request):
            return _text(400, "request holds no event")
        for event in events:
            self._check(event)
        uuids = [event["uuid"] for event in events]
        if not self.require(len({*uuids}) == len(uuids), "a uuid is repeated", request):
            return _text(400, "duplicate uuid in batch")
        if any(self.refuses(each) for each in uuids):
            return _text(400, "maximum event size exceeded")
        for event in events:
            key = "\0".join((event["uuid"], event["event"], event["distinct_id"], str(event["timestamp"])))
            content = {**event, "historical": body.get("historical_migration", False)}
            self.accept(Item(id=event["uuid"], user=event["distinct_id"], content=content), key=key)
        return Reply(body={"status": "Ok"})

    def _check(self, event: Any) -> None:
        known = {"event", "distinct_id", "properties", "timestamp", "uuid"}
        self.require(set(event) <= known, f"unknown members of an event: {set(event) - known}")
        name, user, properties = event.get("event"), event.get("distinct_id"), event.get("properties", {})
        self.require(isinstance(name, str) and 0 < len(name) <= 200, "an event has no name, or a long one")
        self.require(not str(name).startswith("$") or name in _OWN_EVENTS, f"the name {name} is PostHog's own")
        self._check_id(user)
        self.require(_UUID.fullmatch(event.get("uuid") or ""), "the uuid is not valid")
        self.require(isinstance(properties, dict), "properties must be an object")
        self.require(_is_time(event.get("timestamp")), "the timestamp is not ISO 8601: the event would be of today")
        session = properties.get("$session_id")
        self.require(session is None or (_UUID.fullmatch(session) and session[14] == "7"), "not a session id")
        if name == "$create_alias":
            self._check_id(properties.get("alias"))
            self.require(properties.get("alias") != user, "an alias of itself")
        if name == "$identify" and "$anon_distinct_id" in properties:
            self._check_id(properties["$anon_distinct_id"])
        if name == "$groupidentify":
            for member in ("$group_type", "$group_key"):
                self.require(0 < len(properties.get(member) or "") <= 400, f"{member} has no valid length")
            self.require(isinstance(properties.get("$group_set", {}), dict), "$group_set must be an object")
        for member in ("$set", "$set_once", "$groups"):
            self.require(isinstance(properties.get(member, {}), dict), f"{member} must be an object")
        has_place = "$ip" in properties or properties.get("$geoip_disable") is True
        self.require(has_place, "without $ip, the person is where the server is")

    def _check_id(self, text: object) -> None:
        valid = isinstance(text, str) and len(text.strip()) > 0 and len(text) <= 200
        if self.require(valid, f"not a distinct id: {text!r}"):
            bare = str(text).strip("'\"")
            self.require(bare.lower() not in _ANY_CASE and bare not in _EXACT, f"{text} stands for nobody")


def _text(status: int, text: str) -> Reply:
    return Reply(status=status, headers={"content-type": "text/plain; charset=utf-8"}, body=text.encode())


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
