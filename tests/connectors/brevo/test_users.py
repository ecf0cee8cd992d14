"""Brevo's contacts: the contracts, the requests of the page, attributes, limits, and errors."""

import asyncio
import json
from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.brevo.schemas import Attribute, Choice, attributes_by_property, readable_schema
from headwater.connectors.brevo.settings import BrevoSettings
from headwater.connectors.brevo.users import (
    ATTRIBUTES_URL,
    BATCH_USERS,
    CONTACTS_URL,
    MAX_CONTACT_BYTES,
    BrevoContacts,
)
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
from headwater.connectors.users import format_cursor
from headwater.schemas import Record
from tests.connectors.conformance.context import NOW, Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.pacing import call_times, most_within
from tests.connectors.responding import check_writes, responses
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.brevo import KEY, BrevoServer
from tests.connectors.vendors.brevo_contacts import ATTRIBUTES

SETTINGS = BrevoSettings(api_key=KEY)
NO_ATTRIBUTES: dict[str, Any] = {"attributes": []}


def make(responder: Responder) -> tuple[BrevoContacts, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return BrevoContacts(SETTINGS, make_context(http, secrets=(KEY,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id=attributes.pop("id", ""), attributes=attributes, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


def listing(contacts: list[Any], attributes: Any = NO_ATTRIBUTES) -> Responder:
    """Return the responses to requests for attributes and for contacts."""
    contact_page = {"contacts": contacts, "count": len(contacts)}
    return lambda request: HttpResponse(
        status=200, body=msgspec.json.encode(attributes if request.url == ATTRIBUTES_URL else contact_page)
    )


def serve(server: BrevoServer) -> ConnectorContext:
    """Return a context whose client asks the server without sockets."""
    server.is_unlimited = True
    return make_context(ScriptedHttp(server.respond))


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        self.server = BrevoServer()
        return BrevoContacts(SETTINGS, serve(self.server))

    def examples(self) -> list[Record]:
        return [
            {"email": "ada@example.com", "FIRSTNAME": "Ada", "BIRTHDAY": date(1990, 12, 10), "VIP": True},
            {"email": "bob@example.com", "ext_id": "bob", "FIRSTNAME": "Bob", "SCORE": 1.5, "TAGS": ["red"]},
        ]

    def rejected(self) -> Record:
        return {"email": "no address"}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        stored = self.server.contacts.by_id[int(id_)]["attributes"]
        return {"email": stored["EMAIL"], "FIRSTNAME": stored["FIRSTNAME"]}


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        server = BrevoServer()
        for number in range(250):
            server.contacts.add(NOW + timedelta(seconds=number), EMAIL=f"user-{number}@example.com", GENDER=1)
        return BrevoContacts(SETTINGS, serve(server))


def test_the_requests_are_those_of_the_page() -> None:
    contacts, _ = make(respond(200))
    given: Record = {"email": "ada@example.com", "ext_id": "ada", "FIRSTNAME": "Ada", "BIRTHDAY": date(1990, 12, 10)}
    request = contacts.request("", given)
    assert (request.method, request.url) == ("POST", CONTACTS_URL)
    assert json.loads(request.body) == json.loads(blocks("brevo")["create"])
    request = contacts.request("42", {"email": "ada@new.example", "email_blacklisted": False, "LASTNAME": None})
    assert (request.method, request.url) == ("PUT", f"{CONTACTS_URL}/42?identifierType=contact_id")
    assert json.loads(request.body) == json.loads(blocks("brevo")["update"])
    assert CONTACTS_URL in page("brevo") and f"{CONTACTS_URL}/<id>?identifierType=contact_id" in page("brevo")


async def test_the_properties_are_those_of_the_page() -> None:
    contacts, _ = make(respond(200, NO_ATTRIBUTES))
    writable = (await contacts.writable_schema()).by_name
    for name in (await contacts.readable_schema()).by_name:
        assert f"| `{name}` | {'yes' if name in writable else 'no'} |" in page("brevo")


async def test_the_schemas_have_the_attributes_of_the_account() -> None:
    contacts, _ = make(respond(200, {"attributes": ATTRIBUTES}))
    readable, writable = (await contacts.readable_schema()).by_name, (await contacts.writable_schema()).by_name
    kinds = {name: str(each.type) for name, each in readable.items() if name.isupper()}
    assert kinds == {
        "FIRSTNAME": "string",
        "LASTNAME": "string",
        "SMS": "string",
        "SCORE": "float(64)",
        "BIRTHDAY": "date",
        "DOUBLE_OPT_IN": "boolean",
        "VIP": "boolean",
        "TAGS": "array(string)",
        "GENDER": "int(64)",
    }
    assert readable["GENDER"].description == "GENDER: 1 is male, 2 is female"
    assert {name for name in kinds if name not in writable} == {"DOUBLE_OPT_IN"}, "its name is no name of a property"


def test_the_first_of_attributes_with_equal_properties_is_used() -> None:
    found = attributes_by_property([Attribute("A B", "normal", "text"), Attribute("A-B", "normal", "float")])
    assert [attribute.name for _, attribute in found.values()] == ["A B"]
    assert readable_schema(found).by_name["A_B"]


@pytest.mark.parametrize(("value", "read"), [(2, 2), ("2", 2), ("female", 2), (None, None), ("", None)])
def test_a_choice_is_read_as_its_number(value: Any, read: int | None) -> None:
    attribute = Attribute("GENDER", "category", enumeration=(Choice(1, "male"), Choice(2, "female")))
    assert attribute.read(value) == read


async def test_a_page_is_asked_for_in_the_order_of_creation_and_with_the_time() -> None:
    server = BrevoServer()
    for number in range(101):
        server.contacts.add(NOW, EMAIL=f"user-{number}@example.com")
    http = ScriptedHttp(server.respond)
    contacts = BrevoContacts(SETTINGS, make_context(http))
    first = await contacts.users("", NOW)
    second = await contacts.users(first.cursor, NOW)
    asked = [parse_qs(urlsplit(request.url).query) for request in http.requests]
    assert asked[0] == {}, "the attributes are read once"
    assert asked[1] == {
        "limit": ["100"],
        "offset": ["0"],
        "sort": ["asc"],
        "modifiedSince": ["2026-05-04T11:59:59.999Z"],
    }
    assert asked[2]["offset"] == ["100"] and len(asked) == 3
    assert (len(first.users), len(second.users), second.cursor) == (100, 1, "")
    assert "content-type" not in http.requests[0].headers


@pytest.mark.parametrize("position", ["x", "-1", "1e3", "99999999999"])
async def test_a_cursor_with_another_position_is_refused(position: str) -> None:
    contacts, _ = make(respond(200))
    with pytest.raises(BadRequest, match="cursor"):
        await contacts.users(format_cursor("brevo", position))


@pytest.mark.parametrize(
    "contact",
    [
        {"modifiedAt": "yesterday"},
        {"email": 7},
        {"attributes": []},
        {"attributes": {"SCORE": "many"}},
        {"attributes": {"SCORE": [1]}},
        {"attributes": {"VIP": "yes"}},
        {"attributes": {"BIRTHDAY": "soon"}},
        {"attributes": {"GENDER": "other"}},
    ],
)
async def test_a_contact_in_another_form_is_an_error_of_its_own(contact: Any) -> None:
    good = {"id": 1, "email": "ada@example.com", "modifiedAt": "2026-05-04T12:00:00.000+02:00"}
    contacts, _ = make(listing([good, {"id": 2, **contact}], {"attributes": ATTRIBUTES}))
    first, second = (await contacts.users("")).users
    assert (first.error, first.id, first.updated_at) == ("", "1", NOW - timedelta(hours=2))
    assert (second.id, second.attributes) == ("2", {}) and second.error


@pytest.mark.parametrize("body", [{}, [], {"contacts": [{}], "count": 1}, "x"])
async def test_a_page_in_another_form_is_read_again(body: Any) -> None:
    contacts, _ = make(
        lambda request: HttpResponse(
            status=200, body=msgspec.json.encode(NO_ATTRIBUTES if request.url == ATTRIBUTES_URL else body)
        )
    )
    with pytest.raises(Unavailable):
        await contacts.users("")


@pytest.mark.parametrize("body", [{}, [], {"attributes": [{}]}, "x"])
async def test_attributes_in_another_form_are_read_again(body: Any) -> None:
    contacts, _ = make(respond(200, body))
    with pytest.raises(Unavailable):
        await contacts.readable_schema()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"email": "null"}, "MissingIdentity"),
        ({"FIRSTNAME": "Ada"}, "MissingIdentity"),
        ({"email": "undefined", "ext_id": "0"}, "MissingIdentity"),
        ({"email": "a@b.c", "FIRSTNAME": "x" * MAX_CONTACT_BYTES}, "ContactTooLarge"),
    ],
)
async def test_a_contact_that_brevo_never_accepts_is_not_sent(attributes: Any, reason: str) -> None:
    contacts, http = make(respond(500))
    [result] = await contacts.write_users([write(**attributes)])
    assert (result.outcome, result.reason, http.requests) == (Outcome.REJECTED, reason, [])


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ({"email": "ada+1@example.com", "ext_id": "ada"}, "ada%2B1%40example.com?identifierType=email_id"),
        ({"ext_id": "a/da"}, "a%2Fda?identifierType=ext_id"),
        ({"SMS": "+4712345678"}, "%2B4712345678?identifierType=phone_id"),
    ],
)
async def test_the_id_of_a_contact_that_exists_is_read(attributes: Any, path: str) -> None:
    def reply(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=204) if request.method == "POST" else HttpResponse(status=200, body=b'{"id":42}')

    contacts, http = make(reply)
    [result] = await contacts.write_users([write(**attributes)])
    assert (result.outcome, result.id) == (Outcome.DELIVERED, "42")
    assert http.requests[1].url == f"{CONTACTS_URL}/{path}"


@pytest.mark.parametrize("is_blocked", [True, False])
@pytest.mark.parametrize("email", ["ada@example.com", "ADA@example.com", "ada@new.example"])
async def test_a_new_address_does_not_subscribe_a_blocked_contact(email: str, is_blocked: bool) -> None:
    server = BrevoServer()
    id_ = server.contacts.add(EMAIL="ada@example.com")
    server.contacts.by_id[id_]["email"] = is_blocked
    contacts = BrevoContacts(SETTINGS, serve(server))
    [result] = await contacts.write_users([write(id=str(id_), email=email, FIRSTNAME="Ada")])
    stored = server.contacts.by_id[id_]
    assert result.outcome is Outcome.DELIVERED and server.violations == []
    assert (stored["email"], stored["attributes"]["FIRSTNAME"]) == (is_blocked, "Ada")
    assert stored["attributes"]["EMAIL"] == (email if "new" in email else "ada@example.com")
    await contacts.write_users([write(id=str(id_), email="ada@third.example", email_blacklisted=False)])
    assert stored["email"] is False, "the profile states that the person agrees"


async def test_a_contact_that_does_not_exist_is_not_written() -> None:
    contacts = BrevoContacts(SETTINGS, serve(BrevoServer()))
    results = await contacts.write_users([write(id="7", email="a@b.c"), write(id="8", FIRSTNAME="Ada")])
    assert [(each.outcome, each.reason) for each in results] == [(Outcome.REJECTED, "DocumentNotFound")] * 2


async def test_identifiers_of_two_contacts_are_a_conflict() -> None:
    server = BrevoServer()
    server.contacts.add(EMAIL="ada@example.com")
    server.contacts.add(EXT_ID="ada")
    contacts = BrevoContacts(SETTINGS, serve(server))
    [result] = await contacts.write_users([write(email="ada@example.com", ext_id="ada")])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "DuplicateParameter")


async def test_a_response_without_an_error_has_its_status_as_reason() -> None:
    contacts, _ = make(respond(400, ["no"]))
    [result] = await contacts.write_users([write(email="a@b.c")])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "Status400")


@pytest.mark.parametrize("spaces", [0, 190, 990])
@pytest.mark.parametrize("status", [400, 500])
async def test_a_response_shows_no_secret(status: int, spaces: int) -> None:
    """Long texts are cut, which may not leave the first half of a secret."""
    text = f"no{' ' * spaces}{KEY}"
    for body in ({"code": "invalid_parameter", "message": text}, text):
        contacts, _ = make(respond(status, body))
        try:
            [result] = await contacts.write_users([write(email="a@b.c")])
        except Unavailable as error:
            assert KEY[:4] not in error.message
        else:
            assert result.outcome is Outcome.REJECTED and KEY[:4] not in result.message and "no" in result.message


@pytest.mark.parametrize("status", [401, 403, 425, 429, 500, 503, 302])
async def test_other_responses_say_nothing_about_the_user(status: int) -> None:
    contacts, _ = make(respond(status, f"a page about {KEY}", x_sib_ratelimit_reset="7"))
    with pytest.raises(Unavailable) as failure:
        await contacts.write_users([write(email="a@b.c"), write(email="b@b.c")])
    assert failure.value.retry_after == 7 and KEY not in failure.value.message
    with pytest.raises(Unavailable):
        await contacts.users("")


async def test_a_user_whose_outcome_is_unknown_is_sent_again_alone() -> None:
    def reply(request: HttpRequest) -> HttpResponse | TransportError:
        if b"bob" in request.body:
            return TransportError(TransportFailure.TIMED_OUT, "no response")
        return HttpResponse(status=201, body=b'{"id":1}')

    contacts, _ = make(reply)
    first, second = await contacts.write_users([write(email="ada@b.c"), write(email="bob@b.c")])
    assert (first.outcome, first.id, second.outcome) == (Outcome.DELIVERED, "1", Outcome.RETRY)


def test_at_full_load_the_limits_of_the_account_are_kept_and_used() -> None:
    """A call for five contacts is ten requests: five that write, and five that read them before or afterwards."""
    calls = call_times(BrevoContacts.write_rates, seconds=3_600, events=BATCH_USERS)
    assert 2 * BATCH_USERS * most_within(calls, 1) <= 10
    assert calls == call_times(BrevoContacts.write_rates, seconds=3_600), "a call with fewer makes no room for more"
    assert 0.95 * 36_000 <= 2 * BATCH_USERS * len(calls) <= 36_000
    pages = call_times(BrevoContacts.read_rates, seconds=3_600)
    assert most_within(pages, 1) <= 10 and 0.95 * 36_000 <= len(pages) <= 36_000


@settings(max_examples=300)
@given(response=responses(("id", "code", "message"), '{"id": %s, "code": %s}'))
def test_no_response_is_taken_for_that_to_a_contact_that_is_written(response: HttpResponse) -> None:
    for id_ in ("", "7"):
        users = [write(id=id_, email=f"user-{number}@example.com") for number in range(2)]
        asyncio.run(check_writes(make(lambda _: response)[0], users, response))
