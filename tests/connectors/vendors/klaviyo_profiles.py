"""The profiles of Klaviyo's server: pages, writes and errors, as `klaviyo` lists the documented rules."""

import base64
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from tests.connectors.vendors.server import EMAIL, Item, Reply, Request, VendorServer

MEDIA_TYPE: Final = "application/vnd.api+json"
E164: Final = re.compile(r"\+[1-9]\d{6,14}")
IDENTIFIERS: Final = ("email", "phone_number", "external_id", "anonymous_id")
TEXTS: Final = ("first_name", "last_name", "organization", "locale", "title", "image")
PLACE: Final = frozenset(
    {"address1", "address2", "city", "country", "ip", "latitude", "longitude", "region", "timezone", "zip"}
)
READ: Final = frozenset(
    {
        *("email", "phone_number", "external_id", *TEXTS, "created", "updated", "last_event_date"),
        *("location", *(f"location.{name}" for name in PLACE), "properties"),
        *("subscriptions", "subscriptions.email.marketing.consent", "subscriptions.sms.marketing.consent"),
    }
)
SORTS: Final = ("id", "created", "updated", "email")
PARAMETERS: Final = frozenset(
    {"additional-fields[profile]", "fields[profile]", "filter", "page[cursor]", "page[size]", "sort"}
)
_FILTER: Final = re.compile(r"(greater-than|less-than)\((created|updated),([0-9T:.Z+-]+)\)")

Found = tuple[str, str, str]
"""The code, the text and the pointer of an error; the pointer is a parameter of the URL if it has no slash."""


class Profiles:
    """The profiles of an account by id, each with its attributes."""

    def __init__(self, server: VendorServer) -> None:
        self.by_id: dict[str, dict[str, Any]] = {}
        self._server = server

    def add(self, updated: datetime | None = None, **attributes: Any) -> str:
        """Add a profile, and return its id."""
        id_ = f"01GDDKASAP8TKDDA2GRZ{len(self.by_id):06d}"
        moment = (updated or self._server.today()).isoformat()
        consent = {"marketing": {"consent": "NEVER_SUBSCRIBED", "can_receive_email_marketing": True}}
        self.by_id[id_] = {
            **dict.fromkeys((*IDENTIFIERS, *TEXTS, "last_event_date")),
            "location": dict.fromkeys(PLACE),
            "properties": {},
            "created": moment,
            "updated": moment,
            "subscriptions": {"email": consent, "sms": None},
        }
        self._set(id_, attributes)
        return id_

    def find(self, name: str, value: str) -> list[str]:
        """Return the ids of the profiles with an identifier."""
        return [id_ for id_, attributes in self.by_id.items() if attributes[name] == value]

    # Reading

    def list_page(self, request: Request) -> Reply:
        query = {name: values[0] for name, values in request.query.items()}
        require = self._server.require
        require(set(query) <= PARAMETERS, f"unknown parameters: {set(query) - PARAMETERS}", request)
        size, sort = int(query.get("page[size]", "20")), query.get("sort", "id")
        require(1 <= size <= 100, "a page has 1 to 100 profiles", request)
        require(sort.removeprefix("-") in SORTS, f"profiles are not sorted by {sort}", request)
        fields = set(query["fields[profile]"].split(",")) if "fields[profile]" in query else set(READ)
        require(fields <= READ, f"unknown fields: {fields - READ}", request)
        additional = query.get("additional-fields[profile]", "")
        require(additional in ("", "subscriptions"), f"unknown additional fields: {additional}", request)
        chosen = sorted(self._chosen(query.get("filter", ""), request), key=lambda id_: (self._sorted(sort, id_), id_))
        first = 0
        if "page[cursor]" in query:
            try:
                first = chosen.index(base64.b64decode(query["page[cursor]"], validate=True).decode()) + 1
            except ValueError:
                return refuse(400, ("invalid", "Invalid cursor.", "page[cursor]"))
        page = chosen[first : first + size]
        following = None
        if first + size < len(chosen):
            cursor = base64.b64encode(page[-1].encode()).decode()
            following = f"https://a.klaviyo.com/api/profiles?{urlencode({**query, 'page[cursor]': cursor})}"
        names = {field.partition(".")[0] for field in fields} - ({"subscriptions"} if not additional else set())
        data = [self._resource(id_, names) for id_ in page]
        return Reply(body={"data": data, "links": {"self": request.path, "first": "", "next": following, "prev": None}})

    def _chosen(self, text: str, request: Request) -> Iterator[str]:
        found = _FILTER.fullmatch(text)
        if not self._server.require(not text or found, f"unknown filter: {text}", request) or found is None:
            yield from self.by_id
            return
        moment = datetime.fromisoformat(found[3])
        for id_, attributes in self.by_id.items():
            value = datetime.fromisoformat(attributes[found[2]])
            if value > moment if found[1] == "greater-than" else value < moment:
                yield id_

    def _sorted(self, sort: str, id_: str) -> str:
        return id_ if sort == "id" else str(self.by_id[id_][sort])

    def _resource(self, id_: str, names: set[str]) -> dict[str, Any]:
        attributes = {name: value for name, value in self.by_id[id_].items() if name in names}
        return {"type": "profile", "id": id_, "attributes": attributes, "links": {}, "relationships": {}}

    # Writing

    def upsert(self, request: Request) -> Reply:
        if len(request.body) > 100_000:
            return self._refuse(413, "payload_too_large", "Payload too large.", request)
        data = request.json()["data"]
        attributes = data["attributes"]
        if reply := self._check(data, request):
            return reply
        owners = self._owners(attributes)
        if len(owners) > 1:
            return self._conflict(sorted(owners)[0])
        id_ = data.get("id") or next(iter(owners), "")
        if not id_ and not any(attributes.get(name) for name in IDENTIFIERS):
            return refuse(400, ("invalid", "A profile needs an identifier.", "/data/attributes"))
        status = 200 if id_ else 201
        if not id_:
            id_ = self.add()
        return self._write(status, id_, attributes)

    def update(self, request: Request) -> Reply:
        id_ = request.path.rpartition("/")[2]
        data = request.json()["data"]
        self._server.require(data.get("id") == id_, "the id is not that of the path", request)
        if id_ not in self.by_id:
            return refuse(404, ("not_found", "A profile with this id does not exist.", "id"))
        if reply := self._check(data, request):
            return reply
        if others := self._owners(data["attributes"]) - {id_}:
            return self._conflict(sorted(others)[0])
        return self._write(200, id_, data["attributes"])

    def _check(self, data: Any, request: Request) -> Reply | None:
        """Return the rejection of a profile that is not valid."""
        require, attributes = self._server.require, data["attributes"]
        require(data["type"] == "profile", "type must be profile", request)
        known = {*IDENTIFIERS, "_kx", *TEXTS, "location", "properties"}
        require(set(attributes) <= known, f"unknown attributes: {set(attributes) - known}", request)
        place = attributes.get("location") or {}
        require(set(place) <= PLACE, f"unknown attributes of a place: {set(place) - PLACE}", request)
        require(isinstance(attributes.get("properties", {}), dict), "properties must be an object", request)
        require(all(attributes.get(name) != "" for name in IDENTIFIERS), "an identifier is empty", request)
        if (email := attributes.get("email")) is not None and not (EMAIL.fullmatch(email) and len(email) <= 100):
            return refuse(400, ("invalid", "Invalid email address", "/data/attributes/email"))
        if (phone := attributes.get("phone_number")) is not None and not E164.fullmatch(phone):
            return refuse(400, ("invalid", "Invalid phone number format", "/data/attributes/phone_number"))
        if any(self._server.refuses(str(attributes[name])) for name in IDENTIFIERS if attributes.get(name)):
            return refuse(400, ("invalid", "The profile is not accepted.", "/data/attributes"))
        return None

    def _owners(self, attributes: Any) -> set[str]:
        return {
            owner
            for name in IDENTIFIERS
            if attributes.get(name) is not None
            for owner in self.find(name, attributes[name])
        }

    def _conflict(self, other: str) -> Reply:
        found = ("duplicate_profile", "A profile already exists with one of these identifiers.", "/data/attributes")
        return refuse(409, found, meta={"duplicate_profile_id": other})

    def _refuse(self, status: int, code: str, text: str, request: Request) -> Reply:
        self._server.violate(text, request)
        return refuse(status, (code, text, ""))

    def _write(self, status: int, id_: str, attributes: Any) -> Reply:
        self._set(id_, attributes)
        self.by_id[id_]["updated"] = (self._server.today() + timedelta(seconds=len(self._server.requests))).isoformat()
        self._server.accept(Item(id=id_, user=id_, content=attributes))
        return Reply(status=status, body={"data": self._resource(id_, set(READ) - {"subscriptions"})})

    def _set(self, id_: str, attributes: Any) -> None:
        """Change the given attributes; null clears a value, and others stay."""
        stored = self.by_id[id_]
        for name, value in attributes.items():
            stored[name] = {**stored[name], **(value or {})} if name in ("location", "properties") else value


def refuse(status: int, *found: Found, meta: dict[str, Any] | None = None) -> Reply:
    """Return a response in the form of all errors."""
    return Reply(
        status=status,
        headers={"content-type": MEDIA_TYPE},
        body={
            "errors": [
                {
                    "id": "0b6a2c5f",
                    "status": status,
                    "code": code,
                    "title": "Invalid input.",
                    "detail": detail,
                    "source": {"pointer" if "/" in pointer else "parameter": pointer} if pointer else {},
                    "meta": meta or {},
                }
                for code, detail, pointer in found
            ]
        },
    )
