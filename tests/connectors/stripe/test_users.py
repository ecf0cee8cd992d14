"""Stripe's customers: the contracts, the requests of the page, limits, errors, and idempotency."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from headwater.base.errors import BadRequest, Unavailable, Unprocessable
from headwater.connectors.contract import (
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    Outcome,
    TransportError,
    TransportFailure,
    UserSink,
    UserSource,
    UserWrite,
)
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.stripe.api import CUSTOMERS_URL, check
from headwater.connectors.stripe.schemas import READABLE_SCHEMA, WRITABLE_SCHEMA
from headwater.connectors.stripe.settings import StripeSettings
from headwater.connectors.stripe.users import StripeCustomers
from headwater.schemas import Record
from tests.connectors.conformance.context import Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.invalid import invalid_settings
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.stripe import KEY, StripeServer

SETTINGS = StripeSettings(api_key=KEY)


def make(responder: Responder) -> tuple[StripeCustomers, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return StripeCustomers(SETTINGS, make_context(http, secrets=(KEY,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id=attributes.pop("id", ""), attributes=attributes, key=attributes.pop("key", "1" * 32))


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


def serve(server: StripeServer) -> ConnectorContext:
    """Return a context whose client asks the server without sockets."""
    server.is_unlimited = True
    return make_context(ScriptedHttp(server.respond))


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        self.server = StripeServer()
        return StripeCustomers(SETTINGS, serve(self.server))

    def examples(self) -> list[Record]:
        return [
            {"email": "ada@example.com", "name": "Ada", "metadata": {"plan": "pro"}},
            {"email": "bob@example.com", "name": None, "address": {"city": "Oslo"}, "tax_exempt": "none"},
        ]

    def rejected(self) -> Record:
        return {"email": "no address"}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        stored = self.server.customers[id_]
        return {"email": stored["email"], "name": stored["name"]}


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        server = StripeServer()
        for number in range(250):
            server.add(email=f"user-{number}@example.com")
        return StripeCustomers(SETTINGS, serve(server))


def test_the_requests_are_those_of_the_page() -> None:
    customers, _ = make(respond(200))
    created = {
        "email": "ada@example.com",
        "name": "Ada",
        "address": {"city": "London", "line2": None},
        "preferred_locales": ["en", "fr"],
        "metadata": {"plan": "pro"},
    }
    request = customers.request("", created, "0" * 31 + "1")
    assert (request.method, request.url, request.body.decode()) == (
        "POST",
        CUSTOMERS_URL,
        blocks("stripe")["create"].strip(),
    )
    assert all(f"| `{name}` |" in page("stripe") for name in request.headers)
    request = customers.request("cus_NffrFeUfNV2Hib", {"name": "Ada", "phone": None}, "0" * 31 + "2")
    assert (request.url, request.body.decode()) == (
        f"{CUSTOMERS_URL}/cus_NffrFeUfNV2Hib",
        blocks("stripe")["update"].strip(),
    )
    assert f"`{CUSTOMERS_URL}`" in page("stripe") and f"`{CUSTOMERS_URL}/<id>`" in page("stripe")


def test_the_properties_and_the_version_are_those_of_the_page() -> None:
    for name in READABLE_SCHEMA.by_name:
        assert f"| `{name}` | {'yes' if name in WRITABLE_SCHEMA.by_name else 'no'} |" in page("stripe")
    version = CONNECTORS["stripe"].version
    assert version is not None and version.ends_on is None and f"version `{version.name}`" in page("stripe")


async def test_the_documented_example_of_a_list_is_read() -> None:
    """The example of the vendor's reference, with members that the connector does not know."""
    customers, http = make(lambda _: HttpResponse(status=200, body=blocks("stripe")["list"].encode()))
    result = await customers.users("")
    [user] = result.users
    assert (user.id, user.error, result.cursor) == ("cus_NffrFeUfNV2Hib", "", "")
    assert (user.attributes["email"], user.attributes["name"]) == ("jennyrosen@example.com", "Jenny Rosen")
    assert parse_qs(urlsplit(http.requests[0].url).query) == {"limit": ["100"]}


async def test_a_cursor_of_a_customer_that_was_deleted_is_refused() -> None:
    server = StripeServer()
    for number in range(101):
        server.add(email=f"user-{number}@example.com")
    customers = StripeCustomers(SETTINGS, serve(server))
    first = await customers.users("")
    del server.customers[first.users[-1].id]
    with pytest.raises(BadRequest, match="cursor"):
        await customers.users(first.cursor)


@pytest.mark.parametrize(
    "member", [{"created": "yesterday"}, {"created": 2**62}, {"email": 7}, {"address": []}, {"metadata": {"a": 1}}]
)
async def test_a_customer_in_another_form_is_an_error_of_its_own(member: dict[str, Any]) -> None:
    good = {"id": "cus_a", "created": 1_680_893_993, "email": "ada@example.com"}
    customers, _ = make(respond(200, {"data": [good, {**good, "id": "cus_b", **member}], "has_more": True}))
    result = await customers.users("")
    first, second = result.users
    assert (first.error, first.attributes["email"]) == ("", "ada@example.com")
    assert (second.id, second.attributes) == ("cus_b", {}) and second.error and result.cursor


@pytest.mark.parametrize("body", [{}, [], {"data": [{"email": "a@b.c"}]}, "x"])
async def test_a_page_in_another_form_is_read_again(body: Any) -> None:
    customers, _ = make(respond(200, body))
    with pytest.raises(Unavailable):
        await customers.users("")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"email": "null"}, "MissingIdentity"),
        ({"email": None, "name": "undefined", "phone": "0"}, "MissingIdentity"),
        ({"description": "x"}, "MissingIdentity"),
        ({"metadata": {f"k{number}": "" for number in range(51)}}, "InvalidMetadata"),
        ({"metadata": {"k" * 41: "v"}}, "InvalidMetadata"),
        ({"metadata": {"": "v"}}, "InvalidMetadata"),
        ({"metadata": {"a[b]": "v"}}, "InvalidMetadata"),
        ({"metadata": {"k": "v" * 501}}, "InvalidMetadata"),
    ],
)
async def test_a_customer_that_stripe_never_accepts_is_not_sent(attributes: Any, reason: str) -> None:
    customers, http = make(respond(500))
    [result] = await customers.write_users([write(**attributes)])
    assert (result.outcome, result.reason, http.requests) == (Outcome.REJECTED, reason, [])


async def test_values_at_the_limits_are_accepted() -> None:
    server = StripeServer()
    metadata = {f"{number:040d}": "é" * 500 for number in range(50)}
    names = {"name": "n" * 256, "business_name": "é" * 150, "individual_name": "n" * 150}
    user = write(email="ada@example.com", **names, phone="1" * 20, metadata=metadata)
    [result] = await StripeCustomers(SETTINGS, serve(server)).write_users([user])
    assert (result.outcome, server.violations) == (Outcome.DELIVERED, [])
    assert server.customers[result.id]["metadata"] == metadata


async def test_placeholders_are_left_out_of_updates() -> None:
    customers, http = make(respond(200, {"id": "cus_a"}))
    await customers.write_users([write(id="cus_a", email="undefined", name="Ada")])
    assert http.requests[0].body == b"name=Ada"


async def test_a_repetition_has_the_same_key_and_body() -> None:
    server = StripeServer()
    http = ScriptedHttp(server.respond)
    customers = StripeCustomers(SETTINGS, make_context(http))
    user = write(email="ada@example.com", metadata={"b": "1", "a": "2"})
    results = [(await customers.write_users([user]))[0].id for _ in range(2)]
    assert results[0] == results[1] and len(server.customers) == 1 and server.violations == []
    other = write(email="ada@example.com", key="2" * 32)
    [result] = await customers.write_users([other])
    assert result.id != results[0], "Stripe accepts several customers with one address"


async def test_a_failure_that_stripe_repeats_rejects_the_customer() -> None:
    failure = {"error": {"type": "api_error", "message": "An unknown error occurred"}}
    customers, _ = make(respond(500, failure, idempotent_replayed="true"))
    [result] = await customers.write_users([write(email="ada@example.com")])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "StoredFailure") and "24 hours" in result.message


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        ({"code": "tax_id_invalid", "message": "no tax", "param": "tax"}, "TaxIdInvalid", "no tax (tax)"),
        ({"type": "invalid_request_error"}, "InvalidRequestError", "Stripe refuses the customer"),
        ({"code": "a", "message": f"key {KEY}"}, "A", "key [REDACTED]"),
        (None, "Status400", "null"),
    ],
)
async def test_a_refusal_has_the_reason_of_stripe(error: Any, reason: str, message: str) -> None:
    customers, _ = make(respond(400, error and {"error": error}))
    [result] = await customers.write_users([write(email="ada@example.com")])
    assert (result.outcome, result.reason, result.message) == (Outcome.REJECTED, reason, message)


@pytest.mark.parametrize("status", [401, 403, 409, 424, 429, 500, 503, 302])
async def test_other_responses_say_nothing_about_the_customer(status: int) -> None:
    customers, _ = make(respond(status, f"a page about {KEY}", retry_after="7"))
    with pytest.raises(Unavailable) as failure:
        await customers.write_users([write(email="a@b.c"), write(email="b@b.c")])
    assert failure.value.retry_after == 7 and KEY not in failure.value.message
    with pytest.raises(Unavailable):
        await customers.users("")


async def test_a_customer_whose_outcome_is_unknown_is_sent_again_alone() -> None:
    def answer(request: HttpRequest) -> HttpResponse | TransportError:
        if b"bob" in request.body:
            return TransportError(TransportFailure.TIMED_OUT, "no response")
        return HttpResponse(status=200, body=b'{"id":"cus_a"}')

    customers, _ = make(answer)
    first, second = await customers.write_users([write(email="ada@b.c"), write(email="bob@b.c")])
    assert (first.outcome, first.id, second.outcome) == (Outcome.DELIVERED, "cus_a", Outcome.RETRY)


async def test_a_response_without_an_id_is_unknown() -> None:
    customers, _ = make(respond(200, {}))
    with pytest.raises(Unavailable):
        await customers.write_users([write(email="ada@b.c")])


@pytest.mark.parametrize("status", [401, 403])
async def test_settings_are_refused_with_the_key(status: int) -> None:
    context = make_context(ScriptedHttp(respond(status, {"error": {"message": f"no {KEY}"}})), secrets=(KEY,))
    with invalid_settings("settings.apiKey"):
        await check(SETTINGS, context)
    with pytest.raises(Unprocessable) as failure:
        await check(SETTINGS, context)
    assert KEY not in failure.value.message


async def test_settings_are_checked_without_a_change() -> None:
    server = StripeServer()
    assert await check(SETTINGS, serve(server)) == SETTINGS
    with pytest.raises(Unavailable):
        await check(SETTINGS, make_context(ScriptedHttp(respond(503))))
    assert json.loads(blocks("stripe")["settings"]) == {"apiKey": KEY}
