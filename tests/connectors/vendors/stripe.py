"""Stripe's server, from its API reference: https://docs.stripe.com/api/customers.

| documented | where |
| --- | --- |
| `Authorization: Bearer`, `Stripe-Version`, bodies as forms, 200 | authentication, versioning, customers/create |
| an empty text clears a value; parameters that are not given stay | customers/update, metadata |
| metadata: 50 keys of 40 characters without square brackets, values of 500 | metadata |
| the latest customers first; `limit` 1 to 100, `starting_after`, `has_more` | customers/list, pagination |
| `Idempotency-Key`, 255 characters: the first response again; an error for other parameters | idempotent_requests |
| `Idempotent-Replayed: true` on a response that is returned again | error-low-level |
| 25 requests a second of an endpoint, and of a sandbox; 429 without `Retry-After` | rate-limits |
| `error` with `type`, `code`, `message`, `param`; 404 `resource_missing` | errors, error-codes |
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

KEY: Final = "rk_test_0123456789abcdefghijklmn"
VERSIONS: Final = ("2026-04-22.dahlia", "2026-07-29.dahlia", "2026-09-30.endive")
NAMES: Final = {"name": 256, "business_name": 150, "individual_name": 150}
TEXTS: Final = {**NAMES, "email": 512, "phone": 20, "description": 5_000, "tax_exempt": 10}
ADDRESS: Final = frozenset({"line1", "line2", "city", "state", "postal_code", "country"})
LIST: Final = frozenset({"limit", "starting_after"})


class StripeServer(VendorServer):
    """The endpoints of customers, in a sandbox."""

    ORIGINS = ("https://api.stripe.com",)
    SPECIFICATION = "stripe"
    FAULTS = (
        Reply(status=500, body={"error": {"type": "api_error", "message": "An unknown error occurred"}}),
        Reply(status=502, headers={"content-type": "text/html"}, body=b"<html>bad gateway</html>"),
        Reply(status=409, body={"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}}),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.customers: dict[str, dict[str, Any]] = {}
        """By id, in the order of their creation."""
        self._responses: dict[str, tuple[str, bytes, Reply]] = {}
        """By idempotency key, the path, the body and the first response."""

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return self.unauthorized()
        self.require(request.headers.get("stripe-version") in VERSIONS, "the version does not exist", request)
        if not self.count("sandbox", 25, 1, request):
            return self.throttle()
        parts = request.path.strip("/").split("/")
        if parts[:2] != ["v1", "customers"] or len(parts) > 3:
            self.violate("there is no such endpoint", request)
            return refuse(404, "resource_missing", "Unrecognized request URL.")
        if request.method == "GET" and len(parts) == 2:
            return self._list(request)
        self.require(request.method == "POST", "the method is wrong", request)
        media_type = request.headers.get("content-type", "")
        self.require(media_type == "application/x-www-form-urlencoded", "the body is no form", request)
        return self._once(request, parts[2] if len(parts) == 3 else "")

    def unauthorized(self) -> Reply:
        message = f"Invalid API Key provided: {KEY[:8]}{'*' * 20}klmn"
        return Reply(status=401, body={"error": {"type": "invalid_request_error", "message": message}})

    def throttle(self) -> Reply:
        return refuse(429, "rate_limit", "Too many requests.", **{"stripe-rate-limited-reason": "global-rate"})

    def add(self, created: datetime | None = None, **attributes: Any) -> str:
        """Add a customer, and return its id."""
        id_ = f"cus_{len(self.customers):014d}"
        self.customers[id_] = {
            **dict.fromkeys((*NAMES, "email", "phone", "description", "address", "currency", "shipping")),
            "id": id_,
            "object": "customer",
            "created": int((created or self.today()).timestamp()),
            "balance": 0,
            "delinquent": False,
            "livemode": False,
            "metadata": {},
            "preferred_locales": [],
            "tax_exempt": "none",
            **attributes,
        }
        return id_

    def find(self, email: str) -> list[str]:
        """Return the ids of the customers with an e-mail address."""
        return [id_ for id_, customer in self.customers.items() if customer["email"] == email]

    def _list(self, request: Request) -> Reply:
        query = {name: values[0] for name, values in request.query.items()}
        self.require(set(query) <= LIST, f"unknown parameters: {set(query) - LIST}", request)
        limit = int(query.get("limit", "10"))
        self.require(1 <= limit <= 100, "a page has 1 to 100 customers", request)
        ids = list(reversed(self.customers))
        first = 0
        if after := query.get("starting_after"):
            if after not in self.customers:
                return refuse(400, "resource_missing", f"No such customer: '{after}'", param="starting_after")
            first = ids.index(after) + 1
        page = ids[first : first + limit]
        data = [self.customers[id_] for id_ in page]
        has_more = first + limit < len(ids)
        return Reply(body={"object": "list", "url": "/v1/customers", "has_more": has_more, "data": data})

    def _once(self, request: Request, id_: str) -> Reply:
        """Write a customer, or return the first response to the idempotency key again."""
        key = request.headers.get("idempotency-key", "")
        self.require(0 < len(key) <= 255, "a request without an idempotency key can take effect twice", request)
        if key in self._responses:
            path, body, reply = self._responses[key]
            if not self.require((path, body) == (request.path, request.body), "the key has other parameters", request):
                return refuse(400, "", "Keys can only be used with the same parameters.", type_="idempotency_error")
            self._effects.extend(each["id"] for each in [reply.body] if reply.status == 200)
            return Reply(status=reply.status, headers={**reply.headers, "idempotent-replayed": "true"}, body=reply.body)
        values = self._parse(request)
        if refused := self._check(values, request):
            return refused
        if id_ and id_ not in self.customers:
            return refuse(404, "resource_missing", f"No such customer: '{id_}'", param="customer")
        id_ = id_ or self.add()
        self._set(id_, values)
        self.accept(Item(id=id_, user=id_, content=values))
        reply = Reply(body=dict(self.customers[id_]))
        self._responses[key] = (request.path, request.body, reply)
        return reply

    def _parse(self, request: Request) -> dict[str, Any]:
        """Return the values of a form; the members of objects and arrays as objects."""
        values: dict[str, Any] = {}
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
        self.require(len(dict(pairs)) == len(pairs), "a parameter is repeated", request)
        for name, value in pairs:
            parent, _, member = name.partition("[")
            if member:
                self.require(member.endswith("]") and "[" not in member, f"{name} is malformed", request)
                values.setdefault(parent, {})[member[:-1]] = value
            else:
                values[name] = value
        return values

    def _check(self, values: dict[str, Any], request: Request) -> Reply | None:
        """Return the response to parameters that are not valid; None if all are."""
        known = {*TEXTS, "address", "metadata", "preferred_locales"}
        if not self.require(set(values) <= known, f"unknown parameters: {set(values) - known}", request):
            return refuse(400, "parameter_unknown", "Received unknown parameter.", param=min(set(values) - known))
        for name, maximum in TEXTS.items():
            self.require(len(values.get(name, "")) <= maximum, f"{name} is too long", request)
        address = values.get("address") or {}
        self.require(set(address) <= ADDRESS, f"unknown parameters of an address: {set(address) - ADDRESS}", request)
        metadata = values.get("metadata") or {}
        self.require(len(metadata) <= 50, "there are more than 50 keys of metadata", request)
        self.require(all(0 < len(key) <= 40 for key in metadata), "a key of metadata is too long", request)
        self.require(all(len(value) <= 500 for value in metadata.values()), "a value of metadata is too long", request)
        if (email := values.get("email")) and (not EMAIL.fullmatch(email) or self.refuses(email)):
            return refuse(400, "email_invalid", f"Invalid email address: {email}", param="email")
        if values.get("tax_exempt", "none") not in ("none", "exempt", "reverse"):
            return refuse(400, "parameter_invalid", "Invalid tax_exempt.", param="tax_exempt")
        return None

    def _set(self, id_: str, values: dict[str, Any]) -> None:
        stored = self.customers[id_]
        for name, value in values.items():
            if name == "metadata":
                stored[name] = {key: text for key, text in {**stored[name], **(value or {})}.items() if text}
            elif name == "address" and value:
                stored[name] = {**dict.fromkeys(ADDRESS), **{key: text or None for key, text in value.items()}}
            elif name == "preferred_locales":
                stored[name] = list(value.values()) if value else []
            else:
                stored[name] = value or None


def refuse(
    status: int, code: str, message: str, *, param: str = "", type_: str = "invalid_request_error", **headers: str
) -> Reply:
    """Return a response in the form of all errors."""
    error = {"type": type_, "message": message, "doc_url": f"https://stripe.com/docs/error-codes/{code}"}
    error |= {name: value for name, value in (("code", code), ("param", param)) if value}
    return Reply(status=status, headers=headers, body={"error": error})
