"""The contacts of Brevo's server.

| documented | where |
| --- | --- |
| pages of 1 to 1,000, `offset`, `sort` by creation, `modifiedSince` | get-contacts |
| `updateEnabled`: 201 with the id of a created contact, 204 without a body for an updated one | create-contact |
| an identifier of another contact: 400 `duplicate_parameter` | create-contact, update-contact |
| `identifierType` of `contact_id`, `email_id`, `ext_id`, `phone_id`; 404 `document_not_found`; 204 | update-contact |
| a blocked contact whose address changes is subscribed again; 425 | update-contact |
| attributes that the account does not have, and values of another type, are ignored | update-contact |
| categories and types of attributes, choices by number | get-attributes |

The server is strict with ignored values: a careful client sends none. That an empty text clears an attribute is not
documented.
"""

from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote

from tests.connectors.vendors.server import EMAIL, Item, Reply, Request, VendorServer

ATTRIBUTES: Final[list[dict[str, Any]]] = [
    {"name": "FIRSTNAME", "category": "normal", "type": "text"},
    {"name": "LASTNAME", "category": "normal", "type": "text"},
    {"name": "SMS", "category": "normal", "type": "text"},
    {"name": "EXT_ID", "category": "normal", "type": "text"},
    {"name": "SCORE", "category": "normal", "type": "float"},
    {"name": "BIRTHDAY", "category": "normal", "type": "date"},
    {"name": "DOUBLE_OPT-IN", "category": "normal", "type": "boolean"},
    {"name": "VIP", "category": "normal", "type": "boolean"},
    {
        "name": "TAGS",
        "category": "normal",
        "type": "multiple-choice",
        "multiCategoryOptions": ["red", "green", "blue"],
    },
    {
        "name": "GENDER",
        "category": "category",
        "enumeration": [{"value": 1, "label": "male"}, {"value": 2, "label": "female"}],
    },
    {"name": "ORDER_ID", "category": "transactional", "type": "id"},
    {"name": "TOTAL", "category": "calculated", "type": "float", "calculatedValue": "SUM[SCORE]"},
    {"name": "CONTACTS", "category": "global", "type": "float", "calculatedValue": "COUNT[BLACKLISTED]"},
]
_TYPES: Final[dict[str, Any]] = {
    "text": str,
    "float": int | float,
    "date": str,
    "boolean": bool,
    "multiple-choice": list,
}
_BY_NAME: Final = {each["name"]: each for each in ATTRIBUTES}
_IDENTIFIERS: Final = {"email_id": "EMAIL", "ext_id": "EXT_ID", "phone_id": "SMS"}
_CREATED: Final = {"email", "ext_id", "attributes", "emailBlacklisted", "smsBlacklisted", "listIds", "updateEnabled"}
_UPDATED: Final = {"ext_id", "attributes", "emailBlacklisted", "smsBlacklisted", "listIds", "unlinkListIds"}


class Contacts:
    """The contacts of an account by id. The email address and the external id are attributes."""

    def __init__(self, server: VendorServer) -> None:
        self.by_id: dict[int, dict[str, Any]] = {}
        self._server = server

    def add(self, modified: datetime | None = None, **attributes: Any) -> int:
        """Add a contact, and return its id."""
        id_ = len(self.by_id) + 1
        moment = modified or self._server.today()
        self.by_id[id_] = {"modified": moment, "attributes": attributes, "email": False, "sms": False}
        return id_

    def find(self, name: str, value: str) -> list[int]:
        """Return the ids of the contacts with an attribute."""
        return [id_ for id_, contact in self.by_id.items() if contact["attributes"].get(name) == value]

    def answer(self, request: Request) -> Reply:
        path = request.path.removeprefix("/v3/contacts").strip("/")
        match request.method, path:
            case "GET", "attributes":
                return Reply(body={"attributes": ATTRIBUTES})
            case "GET", "":
                return self._list(request)
            case "POST", "":
                return self._create(request)
            case "GET", _:
                id_ = self._named(request, path)
                return Reply(body=self._resource(id_)) if id_ else _missing()
            case "PUT", _:
                id_ = self._named(request, path)
                return self._update(id_, request) if id_ else _missing()
        self._server.violate("there is no such endpoint", request)
        return _missing()

    def _named(self, request: Request, path: str) -> int | None:
        """Return the contact of a path."""
        type_, value = request.query.get("identifierType", [""])[0], unquote(path)
        if type_ == "contact_id":
            return int(value) if value.isdigit() and int(value) in self.by_id else None
        if not self._server.require(type_ in _IDENTIFIERS, f"identifierType is {type_}", request):
            return None
        return next(iter(self.find(_IDENTIFIERS[type_], value)), None)

    def _list(self, request: Request) -> Reply:
        query = {name: values[0] for name, values in request.query.items()}
        require = self._server.require
        known = {"limit", "offset", "modifiedSince", "sort"}
        require(set(query) <= known, f"unknown parameters: {set(query) - known}", request)
        limit, offset = int(query.get("limit", "50")), int(query.get("offset", "0"))
        require(1 <= limit <= 1_000, "a page has 1 to 1,000 contacts", request)
        require(query.get("sort", "desc") in ("asc", "desc"), "contacts are sorted asc or desc", request)
        since = query.get("modifiedSince")
        chosen = [
            id_
            for id_, contact in self.by_id.items()
            if since is None or contact["modified"] > datetime.fromisoformat(since)
        ]
        if query.get("sort", "desc") == "desc":
            chosen.reverse()
        return Reply(
            body={"contacts": [self._resource(id_) for id_ in chosen[offset : offset + limit]], "count": len(chosen)}
        )

    def _resource(self, id_: int) -> dict[str, Any]:
        contact = self.by_id[id_]
        attributes = {name: value for name, value in contact["attributes"].items() if name != "EMAIL"}
        moment = contact["modified"].isoformat(timespec="milliseconds")
        return {
            "id": id_,
            "email": contact["attributes"].get("EMAIL"),
            "emailBlacklisted": contact["email"],
            "smsBlacklisted": contact["sms"],
            "createdAt": moment,
            "modifiedAt": moment,
            "listIds": [7],
            "listUnsubscribed": None,
            "attributes": attributes,
        }

    # Writing

    def _create(self, request: Request) -> Reply:
        body = request.json()
        self._server.require(set(body) <= _CREATED, f"unknown members: {set(body) - _CREATED}", request)
        given = dict(body.get("attributes", {}))
        if body.get("email"):
            given["EMAIL"] = body["email"]
        if reply := self._check(body, given, request):
            return reply
        if not any(given.get(name) for name in _IDENTIFIERS.values()):
            return _refuse("missing_parameter", "email, ext_id or SMS is missing")
        owners = self._owners(given)
        if len(owners) > 1 or (owners and not body.get("updateEnabled")):
            return _refuse("duplicate_parameter", "Contact already exist")
        id_ = next(iter(owners), None)
        if id_ is None:
            id_ = self.add()
            self._write(id_, body, given)
            return Reply(status=201, body={"id": id_})
        self._write(id_, body, given)
        return Reply(status=204)

    def _update(self, id_: int, request: Request) -> Reply:
        body = request.json()
        self._server.require(set(body) <= _UPDATED, f"unknown members: {set(body) - _UPDATED}", request)
        given = dict(body.get("attributes", {}))
        if reply := self._check(body, given, request, email=self.by_id[id_]["attributes"].get("EMAIL")):
            return reply
        if self._owners(given) - {id_}:
            return _refuse("duplicate_parameter", "EMAIL, SMS or EXT_ID is already associated with another contact")
        self._write(id_, body, given)
        return Reply(status=204)

    def _check(self, body: Any, given: dict[str, Any], request: Request, *, email: str | None = None) -> Reply | None:
        """Complete the attributes with the external id, and return the response to a contact that is not valid.

        `email` is the address that the contact has.
        """
        if body.get("ext_id"):
            given["EXT_ID"] = body["ext_id"]
        for name, value in given.items():
            if name == "EMAIL" or value == "":
                continue
            attribute = _BY_NAME.get(name, {})
            is_known = attribute.get("category") in ("normal", "category")
            type_ = int if attribute.get("category") == "category" else _TYPES.get(str(attribute.get("type")), str)
            self._server.require(is_known and isinstance(value, type_), f"{name} would be ignored", request)
        if given.get("EMAIL") and not EMAIL.fullmatch(given["EMAIL"]):
            return _refuse("invalid_parameter", "Invalid email address")
        if self._server.refuses(str(given.get("EMAIL", email))):
            return _refuse("invalid_parameter", "The contact is not accepted")
        return None

    def _owners(self, given: dict[str, Any]) -> set[int]:
        names = [name for name in _IDENTIFIERS.values() if given.get(name)]
        return {id_ for name in names for id_ in self.find(name, given[name])}

    def _write(self, id_: int, body: Any, given: dict[str, Any]) -> None:
        contact = self.by_id[id_]
        if given.get("EMAIL", contact["attributes"].get("EMAIL")) != contact["attributes"].get("EMAIL"):
            contact["email"] = False
        for name, value in given.items():
            if value == "":
                contact["attributes"].pop(name, None)
            else:
                contact["attributes"][name] = value
        contact["email"] = body.get("emailBlacklisted", contact["email"])
        contact["sms"] = body.get("smsBlacklisted", contact["sms"])
        contact["modified"] = self._server.today() + timedelta(seconds=len(self._server.requests))
        self._server.accept(Item(id=str(id_), user=str(id_), content=given))


def _missing() -> Reply:
    return Reply(status=404, body={"code": "document_not_found", "message": "Contact does not exist"})


def _refuse(code: str, message: str) -> Reply:
    return Reply(status=400, body={"code": code, "message": message})
