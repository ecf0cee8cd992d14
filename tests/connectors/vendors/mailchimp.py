"""Mailchimp's server, from its API reference: https://mailchimp.com/developer/marketing/api/.

| documented | where |
| --- | --- |
| `Authorization: Bearer` with a key; the host of the key's data center; JSON | fundamentals |
| 10 connections of a user, 429; 429 and 403 also without JSON; 120 seconds | rate limits and timeouts |
| errors are `application/problem+json` with `title`, `status`, `detail`, `errors` | errors |
| `POST /lists/<id>`: 1 to 500 members; `new_members`, `updated_members`, `errors` in a 200 | batch subscribe |
| `status` is required; without `update_existing` a member that exists is `ERROR_CONTACT_EXISTS` | the same |
| `PATCH .../members/<hash or contact id>`: 200, 404; fields that are not given stay | update list member |
| `GET .../members`: `count` 1,000, `offset`, `sort_field`, `since_last_changed`: changed after it | list members info |
| `GET .../merge-fields`; an unset field is an empty text, as is a value that is cleared | merge fields |
| an address has `addr1`, `city`, `state` and `zip`; a choice is one of the list | merge fields |
| a required field, unless `skip_merge_validation` is true | batch subscribe, update list member |
| a contact that was cleaned cannot be subscribed | errors: member in compliance state |

Not documented, and that of users of the API: a batch creates a contact that is archived again, and an update without a
status leaves it archived (issue 951 of mc-woocommerce).
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import md5
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

KEY: Final = "0123456789abcdef0123456789abcdef-us6"
LIST: Final = "a1b2c3d4e5"
MAX_CONNECTIONS: Final = 10
STATUSES: Final = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
FIELDS: Final[tuple[dict[str, Any], ...]] = (
    {"tag": "FNAME", "name": "First Name", "type": "text", "required": False, "options": {"size": 25}},
    {"tag": "ADDRESS", "name": "Address", "type": "address", "required": False, "options": {"default_country": 164}},
    {"tag": "POINTS", "name": "Points", "type": "number", "required": False, "options": {}},
    {"tag": "PLAN", "name": "Plan", "type": "dropdown", "required": False, "options": {"choices": ["free", "pro"]}},
    {"tag": "BIRTHDAY", "name": "Birthday", "type": "birthday", "required": False, "options": {"date_format": "MM/DD"}},
)
MEMBER: Final = frozenset({"email_address", "email_type", "status", "merge_fields", "language", "vip"})
MEMBERS: Final = frozenset({"count", "offset", "sort_field", "sort_dir", "fields", "since_last_changed"})


class MailchimpServer(VendorServer):
    """The endpoints of one audience."""

    ORIGINS = ("https://us6.api.mailchimp.com",)
    SPECIFICATION = "mailchimp"
    FAULTS = (
        Reply(status=500, headers={"content-type": "application/problem+json"}, body={"title": "InternalServerError"}),
        Reply(status=503, headers={"content-type": "text/html"}, body=b"<html>unavailable</html>"),
        Reply(status=403, headers={"content-type": "text/html"}, body=b"<html>access denied</html>"),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.members: dict[str, dict[str, Any]] = {}
        """By contact id."""
        self.fields = [dict(each) for each in FIELDS]
        self._open = 0
        self._changes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.require(self._open <= MAX_CONNECTIONS, f"more than {MAX_CONNECTIONS} connections are open")
        try:
            await super().serve(reader, writer)
        finally:
            self._open -= 1

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return self.unauthorized()
        if request.body:
            self.require(request.headers.get("content-type") == "application/json", "the body is no JSON", request)
        parts = request.path.strip("/").split("/")
        if parts[:2] != ["3.0", "lists"]:
            self.violate("there is no such endpoint", request)
        if len(parts) < 3 or parts[2] != LIST:
            return missing()
        match request.method, *parts[3:]:
            case ["GET"]:
                return Reply(body={"id": LIST})
            case ["POST"]:
                return self._batch(request)
            case ["GET", "merge-fields"]:
                self.require(int(request.query.get("count", ["10"])[0]) <= 1_000, "more than 1,000 fields", request)
                return Reply(body={"merge_fields": self.fields, "list_id": LIST, "total_items": len(self.fields)})
            case ["GET", "members"]:
                return self._list(request)
            case ["PATCH", "members", id_]:
                return self._update(id_, request)
        self.violate("there is no such endpoint", request)
        return missing()

    def unauthorized(self) -> Reply:
        return refuse(
            401, "API Key Invalid", "Your API key may be invalid, or you've attempted to access the wrong data."
        )

    def throttle(self) -> Reply:
        return self._random.choice(
            (
                refuse(429, "Too Many Requests", "You have exceeded the limit of 10 simultaneous connections."),
                Reply(status=429, headers={"content-type": "text/html"}, body=b"<html>busy</html>"),
            )
        )

    def add(self, changed: datetime | None = None, **attributes: Any) -> str:
        """Add a member, and return its contact id."""
        email = attributes["email_address"]
        hash_ = md5(email.lower().encode()).hexdigest()
        contact_id = uuid5(NAMESPACE_URL, f"{len(self.members)}/{hash_}").hex
        self.members[contact_id] = {
            "id": hash_,
            "contact_id": contact_id,
            "unique_email_id": hash_[:10],
            "full_name": "",
            "email_type": "html",
            "status": "subscribed",
            "vip": False,
            "language": "",
            "member_rating": 2,
            "ip_signup": "",
            "timestamp_signup": "",
            "ip_opt": "198.51.100.42",
            "timestamp_opt": self.today().replace(microsecond=0).isoformat(),
            "source": "API - Generic",
            "tags_count": 0,
            "tags": [],
            "list_id": LIST,
            **attributes,
            "merge_fields": {each["tag"]: "" for each in self.fields} | attributes.get("merge_fields", {}),
        }
        self._touch(contact_id, changed)
        return contact_id

    def find(self, id_: str) -> str:
        """Return the contact id of a hash, an e-mail address or a contact id; empty if there is none."""
        for contact_id, member in self.members.items():
            if id_ in (contact_id, member["id"], member["email_address"]):
                return contact_id
        return ""

    def _touch(self, contact_id: str, changed: datetime | None = None) -> None:
        self._changes += 1
        moment = changed or self.today() + timedelta(seconds=self._changes)
        self.members[contact_id]["last_changed"] = moment.replace(microsecond=0).isoformat()

    def _list(self, request: Request) -> Reply:
        query = {name: values[0] for name, values in request.query.items()}
        self.require(set(query) <= MEMBERS, f"unknown parameters: {set(query) - MEMBERS}", request)
        count, offset = int(query.get("count", "10")), int(query.get("offset", "0"))
        self.require(1 <= count <= 1_000, "a page has 1 to 1,000 members", request)
        self.require(query.get("sort_field") in ("timestamp_opt", "timestamp_signup", "last_changed"), "sort", request)
        names = {each.partition(".")[2] for each in query.get("fields", "").split(",")}
        found = [each for each in self.members.values() if each["status"] != "archived"]
        if since := query.get("since_last_changed"):
            moment = datetime.fromisoformat(since)
            found = [each for each in found if datetime.fromisoformat(each["last_changed"]) > moment]
        found.sort(key=lambda each: str(each[query["sort_field"]]))
        page = found[offset : offset + count]
        return Reply(body={"members": [{name: each[name] for name in each if name in names} for each in page]})

    def _batch(self, request: Request) -> Reply:
        body = request.json()
        members = body["members"]
        self.require(set(body) <= {"members", "update_existing", "sync_tags"}, "unknown members of the body", request)
        self.require(1 <= len(members) <= 500, "a batch has 1 to 500 members", request)
        emails = [each["email_address"].lower() for each in members]
        self.require(len({*emails}) == len(emails), "a member is repeated", request)
        if unreadable := [each for each in members if not isinstance(each["email_address"], str)]:
            return refuse(400, "Invalid Resource", f"{len(unreadable)} members are not valid.")
        created, errors = [], []
        for member in members:
            self.require(member.get("status") in STATUSES, "status is required", request)
            known = self.find(md5(member["email_address"].lower().encode()).hexdigest())
            if found := self._errors(member, request, given=member.get("merge_fields", {})):
                errors.append({"email_address": member["email_address"], "error_code": "ERROR_GENERIC", **found})
            elif known and self.members[known]["status"] != "archived":
                self.require(not body.get("update_existing"), "the status of a contact is overwritten", request)
                text = f"{member['email_address']} is already a list member, do you want to update?"
                exists = {"error_code": "ERROR_CONTACT_EXISTS", "error": text, "field": "", "field_message": ""}
                errors.append({"email_address": member["email_address"], **exists})
            else:
                id_ = known or self.add(email_address=member["email_address"])
                self._set(id_, member)
                created.append(self.members[id_])
        counts = {"total_created": len(created), "total_updated": 0, "error_count": len(errors)}
        return Reply(body={"new_members": created, "updated_members": [], "errors": errors, **counts})

    def _update(self, id_: str, request: Request) -> Reply:
        contact_id = self.find(id_)
        if not contact_id:
            return missing()
        member, stored = request.json(), self.members[contact_id]
        given = stored["merge_fields"] | member.get("merge_fields", {})
        if found := self._errors({"email_address": stored["email_address"], **member}, request, given=given):
            fields = {"field": found["field"], "message": found["field_message"]}
            return refuse(400, "Invalid Resource", found["error"], *([fields] if found["field"] else []))
        if member.get("status") == "subscribed" and stored["status"] == "cleaned":
            return refuse(
                400,
                "Member In Compliance State",
                f"{stored['email_address']} is in a compliance state due to a bounce.",
            )
        self._set(contact_id, member)
        return Reply(body=stored)

    def _errors(self, member: dict[str, Any], request: Request, *, given: dict[str, Any]) -> dict[str, str]:
        """Return why a member is not accepted; empty if it is. `given` are the merge fields that it will have."""
        self.require(set(member) <= MEMBER, f"unknown members: {set(member) - MEMBER}", request)
        email = member["email_address"]
        if not EMAIL.fullmatch(email) or self.refuses(email):
            text = f"{email} looks fake or invalid, please enter a real email address."
            return {"error": text, "field": "", "field_message": ""}
        if request.query.get("skip_merge_validation") != ["true"]:
            for tag in [each["tag"] for each in self.fields if each["required"] and not given.get(each["tag"])]:
                text = "Your merge fields were invalid."
                return {"error": text, "field": tag, "field_message": "Please enter a value"}
        types = {each["tag"]: each for each in self.fields}
        for tag, value in member.get("merge_fields", {}).items():
            if not self.require(tag in types and value is not None, f"{tag} is no field, or null", request):
                continue
            if message := _find_error(types[tag], value):
                return {"error": "Your merge fields were invalid.", "field": tag, "field_message": message}
        return {}

    def _set(self, contact_id: str, member: dict[str, Any]) -> None:
        stored = self.members[contact_id]
        fields = {**stored["merge_fields"], **member.get("merge_fields", {})}
        stored |= {**member, "merge_fields": fields, "full_name": fields.get("FNAME", "")}
        stored["id"] = md5(stored["email_address"].lower().encode()).hexdigest()
        self._touch(contact_id)
        self.accept(Item(id=contact_id, user=contact_id, content=member))


def _find_error(field: dict[str, Any], value: Any) -> str:
    """Return why a value is not accepted for a field; empty if it is."""
    if value == "":
        return ""
    match field["type"]:
        case "number":
            return "" if isinstance(value, int | float) else "Please enter a number"
        case "address":
            is_complete = all(value.get(name) for name in ("addr1", "city", "state", "zip"))
            return "" if is_complete or not any(value.values()) else "Please enter a complete address"
        case "dropdown" | "radio":
            return "" if value in field["options"]["choices"] else "Please choose one of the values"
    return "" if isinstance(value, str) else "Please enter a text"


def missing() -> Reply:
    return refuse(404, "Resource Not Found", "The requested resource could not be found.")


def refuse(status: int, title: str, detail: str, *errors: dict[str, str]) -> Reply:
    """Return a response in the form of all errors."""
    problem = {"type": "https://mailchimp.com/developer/marketing/docs/errors/", "title": title, "status": status}
    problem |= {"detail": detail, "instance": "995c5cb0-3280-4a6e-808b-3b096d0bb219"}
    if errors:
        problem["errors"] = list(errors)
    return Reply(status=status, headers={"content-type": "application/problem+json"}, body=problem)
