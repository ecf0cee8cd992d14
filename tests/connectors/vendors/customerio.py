"""Customer.io's server, from its references: https://docs.customer.io/integrations/api/track and invalid-api-requests.

| documented | where |
| --- | --- |
| Basic authentication with site id and API key; 401 | track, Authentication |
| `GET /api/v1/accounts/region`: url, region, environment_id, for either region's host | getRegion |
| `/api/v2/batch` of at most 500 KB, items of at most 32 KB; 100 requests a second | track, limits |
| items: `type` person, object, delivery; `action`; one of id, email, cio_id; anonymous_id for events | track v2 |
| event, page, screen: name, Unix seconds, `id` a ULID: the first of equal ones counts | track v2, events |
| names of events 100 bytes; ids and names of attributes 150; values 1,000; 300 attributes | track, limits |
| identify creates or updates; null or an empty text removes an attribute; created_at in seconds | track v2 |
| add_device: a token, the platform ios or android, last_used in seconds, attributes that are texts | track v2 |
| merge of `secondary` into `primary`, which exists | track v2 |
| 200 without errors; 207 with errors by `batch_index`, the other items are taken | multi-status responses |
| 400 with `meta.error` for a request that cannot be read; 429 | invalid-api-requests |
"""

import base64
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

SITE_ID: Final = "f40a2c1b9d8e7f60a1b2"
API_KEY: Final = "0c9d8e7f6a5b4c3d2e1f"
MAX_BODY_BYTES: Final = 500_000
MAX_ITEM_BYTES: Final = 32_000
ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
ITEM_ACTIONS: Final = {
    "person": {"identify", "event", "page", "screen", "merge", "add_device"},
    "object": {"identify"},
}
IDENTIFIERS: Final = ("id", "email", "cio_id")

Broken = tuple[str, str, str]
"""The reason, the field and the text of an error."""


class CustomerIoServer(VendorServer):
    """The endpoints that connectors use. `people` has the attributes of each by its own id."""

    ORIGINS = ("https://track.customer.io", "https://track-eu.customer.io")
    SPECIFICATION = "customerio"

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None, region: str = "us") -> None:
        super().__init__(plan, now)
        self.region = region
        self.people: dict[str, dict[str, Any]] = {}
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        """The device of each token, with its person."""
        self.relationships: set[tuple[str, str]] = set()
        """Each an object and a person."""

    def answer(self, request: Request) -> Reply:
        expected = base64.b64encode(f"{SITE_ID}:{API_KEY}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return self.unauthorized()
        match request.method, request.path:
            case "GET", "/api/v1/accounts/region":
                host = "track.customer.io" if self.region == "us" else "track-eu.customer.io"
                return Reply(body={"url": f"https://{host}", "region": self.region, "environment_id": 3})
            case "POST", "/api/v2/batch":
                return self._batch(request)
        self.violate("there is no such endpoint", request)
        return Reply(status=404)

    def unauthorized(self) -> Reply:
        return Reply(status=401, body={"meta": {"error": "Unauthorized request"}})

    def find(self, **identifiers: str) -> list[str]:
        """Return the ids of people with an identifier."""
        [(name, value)] = identifiers.items()
        return [cio_id for cio_id, attributes in self.people.items() if attributes.get(name) == value]

    def _batch(self, request: Request) -> Reply:
        if not self.count("track", 100, 1, request):
            return self.throttle()
        self.require(request.headers.get("content-type") == "application/json", "the media type is wrong", request)
        if not self.require(len(request.body) <= MAX_BODY_BYTES, "the body is too large", request):
            return Reply(status=413)
        body = request.json()
        if not self.require(isinstance(body, dict) and isinstance(body.get("batch"), list), "no batch", request):
            return Reply(status=400, body={"meta": {"error": "batch must be an array"}})
        self.require(body["batch"], "the batch is empty", request)
        errors = []
        for index, item in enumerate(body["batch"]):
            broken = self._take(item)
            if broken is not None:
                reason, field, text = broken
                errors.append({"batch_index": index, "reason": reason, "field": field, "message": text})
        return Reply(status=207, body={"errors": errors}) if errors else Reply(body={})

    def _take(self, item: Any) -> Broken | None:
        """Apply an item, or return its error."""
        self.require(len(msgspec.json.encode(item)) <= MAX_ITEM_BYTES, "an item is too large")
        type_, action = item.get("type"), item.get("action")
        if not self.require(action in ITEM_ACTIONS.get(type_, ()), f"{type_} has no action {action}"):
            return "invalid", "action", "action is not valid"
        match type_, action:
            case "person", "merge":
                return self._merge(item)
            case "person", "identify":
                return self._identify(item)
            case "person", "add_device":
                return self._device(item)
            case "object", _:
                return self._object(item)
        return self._event(item)

    # Events

    def _event(self, item: Any) -> Broken | None:
        known = {"type", "identifiers", "action", "id", "name", "timestamp", "attributes"}
        self.require(set(item) <= known, f"unknown members: {set(item) - known}")
        if broken := self._identifiers(item.get("identifiers"), (*IDENTIFIERS, "anonymous_id")):
            return broken
        name = item.get("name")
        if not self.require(isinstance(name, str) and name, "an event has no name"):
            return "required", "name", "event name must not be blank"
        if not self.require(len(name.encode()) <= 100, "the name of an event is too long"):
            return "invalid", "name", "event name cannot be longer than 100 bytes"
        if not self.require(isinstance(item.get("attributes", {}), dict), "attributes must be an object"):
            return "invalid", "attributes", "event data must be a hash"
        self._timestamp(item.get("timestamp"))
        id_ = item.get("id")
        if not self.require(isinstance(id_, str) and ULID.fullmatch(id_), "the id of an event is no ULID"):
            return "invalid", "id", "id must be a ULID"
        if self.refuses(id_):
            return "invalid", "attributes", "value for attribute 'total' is not valid"
        [(_, user)] = item["identifiers"].items()
        self.accept(Item(id=id_, user=user, content=item))
        return None

    def _timestamp(self, at: Any) -> None:
        is_seconds = isinstance(at, int) and not isinstance(at, bool) and abs(at) < 100_000_000_000
        self.require(at is None or is_seconds, "timestamp must be in whole seconds")

    # People and objects

    def _identifiers(self, given: Any, allowed: tuple[str, ...] = IDENTIFIERS) -> Broken | None:
        if not self.require(isinstance(given, dict) and len(given) == 1, f"not one identifier: {given}"):
            return "required", "identifiers", "exactly one identifier must be present"
        [(name, value)] = given.items()
        is_valid = name in allowed and isinstance(value, str) and value
        if not self.require(is_valid, f"the identifier is not valid: {given}"):
            return "invalid", f"identifiers.{name}", "id attribute cannot be an empty string"
        if name == "email":
            return None if EMAIL.fullmatch(value) else ("invalid", "identifiers.email", "email is not valid")
        self.require(len(value.encode()) <= 150, "an identifier is too long")
        return None

    def _attributes(self, attributes: Any) -> Broken | None:
        self.require(isinstance(attributes, dict), "attributes must be an object")
        self.require(len(attributes) <= 300, "cannot identify more than 300 attributes in one request")
        for name, value in attributes.items():
            self.require(0 < len(name.encode()) <= 150, "attribute name cannot be longer than 150 bytes")
            self.require(name != "cio_id", "cio_id cannot be set")
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            self.require(len(text.encode()) <= 1_000, f"value for attribute {name} cannot be longer than 1000 bytes")
        created_at = attributes.get("created_at")
        is_seconds = created_at is None or (isinstance(created_at, int) and abs(created_at) < 100_000_000_000)
        self.require(is_seconds, f"created_at is not in seconds: {created_at}")
        email = attributes.get("email")
        if email and not EMAIL.fullmatch(email):
            return "invalid", "attributes.email", "email is not valid"
        return None

    def _identify(self, item: Any) -> Broken | None:
        known = {"type", "identifiers", "action", "timestamp", "attributes", "cio_relationships"}
        self.require(set(item) <= known, f"unknown members: {set(item) - known}")
        self._timestamp(item.get("timestamp"))
        broken = self._identifiers(item.get("identifiers")) or self._attributes(item.get("attributes", {}))
        if broken:
            return broken
        [(name, value)] = item["identifiers"].items()
        if self.refuses(value):
            return "invalid", "attributes", "the person is not accepted"
        found = [value] if name == "cio_id" else self.find(**{name: value})
        cio_id = found[0] if found else f"0{len(self.people):07x}"
        if name == "cio_id" and value not in self.people:
            return None  # nothing is created, and no error is reported
        person = self.people.setdefault(cio_id, {name: value})
        for attribute, each in item.get("attributes", {}).items():
            if each in (None, ""):
                person.pop(attribute, None)
            else:
                person[attribute] = each
        self.accept(Item(id=f"{name}/{value}", user=value, content=item))
        return None

    def _device(self, item: Any) -> Broken | None:
        self.require(set(item) == {"type", "identifiers", "action", "device"}, f"unknown members: {set(item)}")
        if broken := self._identifiers(item.get("identifiers")):
            return broken
        device = item["device"]
        self.require(set(device) <= {"token", "platform", "last_used", "attributes"}, f"unknown members: {set(device)}")
        self.require(device.get("platform") in ("ios", "android"), "the platform is not valid")
        self._timestamp(device.get("last_used"))
        texts = device.get("attributes", {}).values()
        self.require(all(isinstance(each, str) for each in texts), "attributes of a device are texts")
        if not self.require(device.get("token"), "the device has no token"):
            return "required", "device.token", "token must not be blank"
        self.devices[device["token"]] = {**device, "person": next(iter(item["identifiers"].values()))}
        return None

    def _object(self, item: Any) -> Broken | None:
        known = {"type", "identifiers", "action", "attributes", "cio_relationships"}
        self.require(set(item) <= known, f"unknown members: {set(item) - known}")
        given = item.get("identifiers")
        is_valid = isinstance(given, dict) and set(given) == {"object_type_id", "object_id"} and all(given.values())
        if not self.require(is_valid, f"the identifiers of the object are not valid: {given}"):
            return "required", "identifiers", "object_type_id and object_id must be present"
        self.require(all(len(each.encode()) <= 150 for each in given.values()), "an identifier is too long")
        if broken := self._attributes(item.get("attributes", {})):
            return broken
        for each in item.get("cio_relationships", ()):
            if broken := self._identifiers(each["identifiers"]):
                return broken
            self.relationships.add((given["object_id"], next(iter(each["identifiers"].values()))))
        self.objects.setdefault((given["object_type_id"], given["object_id"]), {}).update(item.get("attributes", {}))
        return None

    def _merge(self, item: Any) -> Broken | None:
        self.require(set(item) == {"type", "action", "primary", "secondary"}, f"unknown members: {set(item)}")
        for end in ("primary", "secondary"):
            if broken := self._identifiers(item.get(end)):
                return broken
        self.require(item["primary"] != item["secondary"], "a person is merged with itself")
        kept, merged = self.find(**item["primary"]), self.find(**item["secondary"])
        if kept and merged:  # otherwise nothing happens
            self.people[kept[0]] = {**self.people.pop(merged[0]), **self.people[kept[0]]}
        return None
