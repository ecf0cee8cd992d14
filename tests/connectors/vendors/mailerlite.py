"""MailerLite's server, from its API reference: https://developers.mailerlite.com.

| documented | where |
| --- | --- |
| `Authorization: Bearer`, `Accept` and `Content-Type` of JSON in every request, `X-Version` a date | getting-started |
| 120 requests a minute of an account; 429 with `Retry-After` and `X-RateLimit-*` | getting-started |
| 401 `Unauthenticated.`; 422 with `errors` by member; 404 `Resource not found.` | getting-started |
| `GET /api/subscribers`: `limit`, `cursor`; `meta.next_cursor` | subscribers |
| `POST /api/subscribers`: 201, or 200 if the address exists; fields that are not given stay | subscribers |
| `PUT /api/subscribers/<id>`: 200, 404 | subscribers |
| `status`: active, unsubscribed, unconfirmed, bounced, junk; times as `2021-08-31 14:22:08` | subscribers |
| `GET /api/fields`: pages of `limit`; text, number or date | fields |
| `POST /api/batch`: 1 to 50 requests, 200 with a response for each, in their order | batching |
| a batch of nothing but `POST api/subscribers` is an import: 5 a minute, 429 | batching |

Not documented, and that of users of the API: an address that has unsubscribed is not created again, by a 422 with the
id as `subscriber` (issue 37 of mailerlite-nodejs).
"""

import base64
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec

from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

KEY: Final = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.0123456789abcdef.signature"
STATUSES: Final = ("active", "unsubscribed", "unconfirmed", "bounced", "junk")
FIELDS: Final[tuple[dict[str, Any], ...]] = (
    {"id": "1", "name": "Name", "key": "name", "type": "text"},
    {"id": "2", "name": "Last name", "key": "last_name", "type": "text"},
    {"id": "3", "name": "ZIP", "key": "z_i_p", "type": "text"},
    {"id": "4", "name": "Points", "key": "points", "type": "number"},
    {"id": "5", "name": "Birthday", "key": "birthday", "type": "date"},
)
GIVEN: Final = frozenset({"email", "status", "ip_address", "fields"})
LIST: Final = frozenset({"limit", "cursor", "page"})


class MailerLiteServer(VendorServer):
    """The endpoints of subscribers, fields and batches."""

    ORIGINS = ("https://connect.mailerlite.com",)
    SPECIFICATION = "mailerlite"
    FAULTS = (
        Reply(status=500, body={"message": "Server Error"}),
        Reply(status=502, headers={"content-type": "text/html"}, body=b"<html>bad gateway</html>"),
        Reply(status=408, body={"message": "Request timeout"}),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.subscribers: dict[str, dict[str, Any]] = {}
        """By id."""
        self.fields = [dict(each) for each in FIELDS]

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return self.unauthorized()
        for name in ("accept", "content-type"):
            self.require(request.headers.get(name) == "application/json", f"{name} is not JSON", request)
        self.require(date.fromisoformat(request.headers["x-version"]), "the version is no date", request)
        if not self.count("account", 120, 60, request):
            return self.throttle()
        if (request.method, request.path) == ("POST", "/api/batch"):
            return self._batch(request)
        body = request.json() if request.body else None
        return self._handle(request.method, request.path.strip("/"), body, request)

    def unauthorized(self) -> Reply:
        return Reply(status=401, body={"message": "Unauthenticated."})

    def throttle(self) -> Reply:
        headers = {"x-ratelimit-limit": "120", "x-ratelimit-remaining": "0", "retry-after": "5"}
        return Reply(status=429, headers=headers, body={"message": "Too Many Attempts."})

    def add(self, updated: datetime | None = None, **attributes: Any) -> str:
        """Add a subscriber, and return its id."""
        id_ = str(31_986_843_064_993_537 + len(self.subscribers))
        moment = f"{updated or self.today():%Y-%m-%d %H:%M:%S}"
        self.subscribers[id_] = {
            "id": id_,
            "status": "active",
            "source": "api",
            **dict.fromkeys(("sent", "opens_count", "clicks_count", "open_rate", "click_rate"), 0),
            **dict.fromkeys(("ip_address", "optin_ip", "opted_in_at", "unsubscribed_at")),
            **dict.fromkeys(("subscribed_at", "created_at", "updated_at"), moment),
            **attributes,
            "fields": {**{each["key"]: None for each in self.fields}, **attributes.get("fields", {})},
        }
        return id_

    def find(self, email: str) -> list[str]:
        """Return the ids of the subscribers with an e-mail address."""
        return [id_ for id_, each in self.subscribers.items() if each["email"].lower() == email.lower()]

    def _handle(self, method: str, path: str, body: Any, request: Request) -> Reply:
        """Return the response to a request, or to one of a batch."""
        match method, *path.split("/"):
            case ["GET", "api", "fields"]:
                return self._list_fields(request)
            case ["GET", "api", "subscribers"]:
                return self._list(request)
            case ["POST", "api", "subscribers"]:
                return self._upsert(body, request)
            case ["PUT", "api", "subscribers", id_]:
                return self._update(id_, body, request)
        self.violate("there is no such endpoint", request)
        return Reply(status=404, body={"message": "Resource not found."})

    def _list_fields(self, request: Request) -> Reply:
        limit, page = (
            int(request.query.get(name, [default])[0]) for name, default in (("limit", "100"), ("page", "1"))
        )
        self.require(1 <= limit <= 100, "a page has 1 to 100 fields", request)
        data = self.fields[(page - 1) * limit : page * limit]
        last = max(1, -(-len(self.fields) // limit))
        return Reply(body={"data": data, "meta": {"current_page": page, "last_page": last, "per_page": limit}})

    def _list(self, request: Request) -> Reply:
        query = {name: values[0] for name, values in request.query.items()}
        self.require(set(query) <= LIST, f"unknown parameters: {set(query) - LIST}", request)
        limit = int(query.get("limit", "25"))
        self.require(1 <= limit <= 100, "a page has 1 to 100 subscribers", request)
        ids = sorted(self.subscribers, key=int)
        first = 0
        if cursor := query.get("cursor"):
            try:
                after = base64.urlsafe_b64decode(cursor).decode()
                first = sum(int(id_) <= int(after) for id_ in ids)
            except ValueError:
                return refuse(cursor="The cursor is invalid.")
        page = ids[first : first + limit]
        following = base64.urlsafe_b64encode(page[-1].encode()).decode() if first + limit < len(ids) else None
        meta = {"path": "https://connect.mailerlite.com/api/subscribers", "per_page": limit, "next_cursor": following}
        return Reply(body={"data": [self.subscribers[id_] for id_ in page], "links": {}, "meta": meta})

    def _upsert(self, body: Any, request: Request) -> Reply:
        if found := self._errors(body, request, is_new=True):
            return refuse(**found)
        ids = self.find(body["email"])
        if ids and self.subscribers[ids[0]]["status"] == "unsubscribed":
            reply = refuse(email="This subscriber is unsubscribed and cannot be imported")
            return msgspec.structs.replace(reply, body={**reply.body, "subscriber": ids[0]})
        id_ = ids[0] if ids else self.add(email=body["email"])
        return self._write(200 if ids else 201, id_, body)

    def _update(self, id_: str, body: Any, request: Request) -> Reply:
        if id_ not in self.subscribers:
            return Reply(status=404, body={"message": "Resource not found."})
        if found := self._errors(body, request, is_new=False):
            return refuse(**found)
        if "email" in body and self.find(body["email"]) not in ([], [id_]):
            return refuse(email="The email has already been taken.")
        return self._write(200, id_, body)

    def _batch(self, request: Request) -> Reply:
        requests = request.json()["requests"]
        self.require(1 <= len(requests) <= 50, "a batch has 1 to 50 requests", request)
        self.require(all(each["path"].startswith("api/") for each in requests), "a path must start with api/", request)
        upserts = [each for each in requests if (each["method"], each["path"]) == ("POST", "api/subscribers")]
        self.require(len(upserts) < len(requests), "the batch is an import, whose response is not documented", request)
        replies = [self._handle(each["method"], each["path"], each.get("body"), request) for each in requests]
        failed = sum(reply.status >= 400 for reply in replies)
        responses = [{"code": reply.status, "body": reply.body} for reply in replies]
        counts = {"total": len(replies), "successful": len(replies) - failed, "failed": failed}
        return Reply(body={**counts, "responses": responses})

    def _errors(self, body: Any, request: Request, *, is_new: bool) -> dict[str, str]:
        """Return the texts about members that are not valid."""
        self.require(set(body) <= GIVEN, f"unknown members: {set(body) - GIVEN}", request)
        self.require(not is_new or "email" in body, "a new subscriber needs an address", request)
        types = {each["key"]: each["type"] for each in self.fields}
        errors = {}
        if "email" in body and (not EMAIL.fullmatch(body["email"]) or self.refuses(body["email"])):
            errors["email"] = "The email must be a valid email address."
        if body.get("status", "active") not in STATUSES:
            errors["status"] = "The selected status is invalid."
        for key, value in body.get("fields", {}).items():
            if not self.require(key in types, f"there is no field {key}", request) or value is None:
                continue
            if types[key] == "number" and not isinstance(value, int | float):
                errors[f"fields.{key}"] = "The field must be a number."
            if types[key] == "date" and not _is_date(value):
                errors[f"fields.{key}"] = "The field is not a valid date."
        return errors

    def _write(self, status: int, id_: str, body: Any) -> Reply:
        stored = self.subscribers[id_]
        fields = {**stored["fields"], **body.get("fields", {})}
        moment = self.today() + timedelta(seconds=len(self.requests))
        stored |= {**body, "fields": fields, "updated_at": f"{moment:%Y-%m-%d %H:%M:%S}"}
        self.accept(Item(id=id_, user=id_, content=body))
        return Reply(status=status, body={"data": stored})


def _is_date(value: Any) -> bool:
    try:
        return bool(date.fromisoformat(value))
    except (ValueError, TypeError):
        return False


def refuse(**errors: str) -> Reply:
    """Return a response in the form of all errors of validation."""
    body = {"message": "The given data was invalid.", "errors": {name: [text] for name, text in errors.items()}}
    return Reply(status=422, body=body)
