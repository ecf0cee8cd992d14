"""HubSpot's contacts: the contracts, the requests of the page, properties, partial results, and errors."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    UNEXPECTED_RESPONSE,
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    Outcome,
    TransportError,
    TransportFailure,
    UserSink,
    UserSource,
    UserWrite,
    find_read_rates,
)
from headwater.connectors.hubspot.api import PRIVATE_LIMIT
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.hubspot.users import (
    PROPERTIES_URL,
    SEARCH_LIMIT,
    SEARCH_URL,
    UPDATE_URL,
    UPSERT_URL,
    HubSpotContacts,
    make_input,
)
from headwater.connectors.hubspot.values import Definition
from headwater.connectors.responses import MAX_WAIT_SECONDS
from headwater.connectors.users import format_cursor
from headwater.schemas import Record
from tests.connectors.conformance.context import NOW, Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.hubspot import TOKEN, HubSpotServer, error
from tests.connectors.vendors.hubspot_contacts import PROPERTIES

SETTINGS = HubSpotSettings(access_token=TOKEN)


def make(responder: Responder) -> tuple[HubSpotContacts, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return HubSpotContacts(SETTINGS, make_context(http, secrets=(TOKEN,))), http


def write(number: int = 1, **attributes: Any) -> UserWrite:
    return UserWrite(id=attributes.pop("id", ""), attributes=attributes, key=f"{number:032x}")


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


def listing(contacts: Any) -> Responder:
    """Return the responses to requests for properties and for contacts."""
    return lambda request: HttpResponse(
        status=200,
        body=msgspec.json.encode({"results": PROPERTIES} if request.url == PROPERTIES_URL else contacts),
    )


def serve(server: HubSpotServer) -> ConnectorContext:
    """Return a context whose client asks the server without sockets."""
    server.is_unlimited = True
    return make_context(ScriptedHttp(server.respond))


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        self.server = HubSpotServer()
        return HubSpotContacts(SETTINGS, serve(self.server))

    def examples(self) -> list[Record]:
        return [
            {"email": "ada@example.com", "firstname": "Ada", "is_vip": True},
            {"email": "bob@example.com", "firstname": "Bob", "score": 1.5, "colours": ["red"]},
        ]

    def rejected(self) -> Record:
        return {"email": "no address"}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        stored = self.server.contacts.by_id[id_]
        return {"email": stored["email"], "firstname": stored["firstname"]}


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        server = HubSpotServer()
        for number in range(250):
            server.contacts.add(NOW + timedelta(seconds=number), email=f"user-{number}@example.com", score="7")
        return HubSpotContacts(SETTINGS, serve(server))


def test_the_requests_are_those_of_the_page() -> None:
    contacts, _ = make(respond(200))
    created = make_input(write(1, email="Ada@Example.com", firstname="Ada", score=9.5))
    updated = make_input(write(2, id="512", lastname=None, is_vip=False, colours=["red", "blue"]))
    assert created is not None and updated is not None
    request = contacts.request(False, [created])
    assert (request.url, json.loads(request.body)) == (UPSERT_URL, json.loads(blocks("hubspot")["create"]))
    request = contacts.request(True, [updated])
    assert (request.url, json.loads(request.body)) == (UPDATE_URL, json.loads(blocks("hubspot")["update"]))
    for url in (UPSERT_URL, UPDATE_URL, SEARCH_URL):
        assert url in page("hubspot")


async def test_a_page_is_searched_with_the_last_id_and_the_time() -> None:
    contacts, http = make(listing({"results": [{"id": "7"}], "paging": {"next": {"after": "100"}}}))
    await contacts.users((await contacts.users("", NOW)).cursor, NOW)
    first, second = (json.loads(request.body) for request in http.requests[1:])
    assert len(http.requests) == 3, "the properties are read once"
    assert first == json.loads(blocks("hubspot")["search"]) | {"properties": first["properties"]}
    assert second["filterGroups"][0]["filters"][0]["value"] == "7"
    assert "gone" not in first["properties"] and "email" in first["properties"]


async def test_the_schemas_have_the_properties_of_the_account() -> None:
    contacts, _ = make(respond(200, {"results": PROPERTIES}))
    readable, writable = (await contacts.readable_schema()).by_name, (await contacts.writable_schema()).by_name
    assert {name: str(each.type) for name, each in readable.items()} == {
        "id": "string",
        "email": "string",
        "firstname": "string",
        "lastname": "string",
        "phone": "string",
        "score": "float(64)",
        "birthday": "date",
        "signed_up_at": "datetime",
        "is_vip": "boolean",
        "plan": "string",
        "colours": "array(string)",
        "hs_object_id": "float(64)",
        "createdate": "datetime",
        "lastmodifieddate": "datetime",
        "visits": "float(64)",
    }
    read_only = {"id", "hs_object_id", "createdate", "lastmodifieddate", "visits"}
    assert set(readable) - set(writable) == read_only
    assert [name for name, each in writable.items() if each.create_required] == ["email"]


@pytest.mark.parametrize("position", ["x", "-1", "9" * 21])
async def test_a_cursor_with_another_position_is_refused(position: str) -> None:
    contacts, _ = make(respond(200))
    with pytest.raises(BadRequest, match="cursor"):
        await contacts.users(format_cursor("hubspot", position))


@pytest.mark.parametrize(
    "properties",
    [
        [],
        {"email": 7},
        {"score": "many"},
        {"score": "inf"},
        {"birthday": "soon"},
        {"signed_up_at": "9" * 30},
        {"is_vip": "yes"},
    ],
)
async def test_a_contact_in_another_form_is_an_error_of_its_own(properties: Any) -> None:
    good = {"id": "1", "properties": {"email": "ada@example.com"}, "updatedAt": "2026-05-04T12:00:00.000+02:00"}
    contacts, _ = make(listing({"results": [good, {"id": "2", "properties": properties}]}))
    first, second = (await contacts.users("")).users
    assert (first.error, first.id, first.updated_at) == ("", "1", NOW - timedelta(hours=2))
    assert (second.id, second.attributes) == ("2", {}) and second.error


@pytest.mark.parametrize("body", [{}, [], {"results": [{}]}, "x"])
async def test_a_page_in_another_form_is_read_again(body: Any) -> None:
    contacts, _ = make(listing(body))
    with pytest.raises(Unavailable):
        await contacts.users("")


@pytest.mark.parametrize("body", [{}, [], {"results": [{}]}, "x"])
async def test_properties_in_another_form_are_read_again(body: Any) -> None:
    contacts, _ = make(respond(200, body))
    with pytest.raises(Unavailable):
        await contacts.readable_schema()


def test_a_time_can_be_in_milliseconds() -> None:
    assert str(Definition("x", "datetime").read("1777896000123")) == "2026-05-04T12:00:00.123Z"
    assert str(Definition("x", "date").read("1777852800000")) == "2026-05-04"


@pytest.mark.parametrize("attributes", [{"email": "null"}, {"firstname": "Ada"}, {"email": " undefined "}])
async def test_a_contact_without_an_email_address_is_not_created(attributes: Any) -> None:
    contacts, http = make(respond(500))
    [result] = await contacts.write_users([write(**attributes)])
    assert (result.outcome, result.reason, http.requests) == (Outcome.REJECTED, "MissingIdentity", [])


async def test_placeholders_are_left_out_of_updates() -> None:
    contacts, http = make(respond(200, {"results": [{"id": "7"}]}))
    await contacts.write_users([write(id="7", email="undefined", firstname="Ada")])
    assert json.loads(http.requests[0].body)["inputs"][0]["properties"] == {"firstname": "Ada"}


async def test_the_same_contact_is_sent_once_in_a_request() -> None:
    server = HubSpotServer()
    contacts = HubSpotContacts(SETTINGS, serve(server))
    results = await contacts.write_users([write(1, email="ada@example.com"), write(2, email="ADA@example.com")])
    assert [each.outcome for each in results] == [Outcome.DELIVERED, Outcome.RETRY]
    assert server.violations == []


async def test_complete_without_results_delivers_no_contact() -> None:
    server = HubSpotServer()
    server.contacts.is_silent = True
    contacts = HubSpotContacts(SETTINGS, serve(server))
    [result] = await contacts.write_users([write(email="ada@example.com")])
    assert (result.outcome, result.reason) == (Outcome.RETRY, UNEXPECTED_RESPONSE)


async def test_errors_name_contacts_and_results_those_that_were_written() -> None:
    errors = [
        {"category": "VALIDATION_ERROR", "message": f"{TOKEN} is wrong", "context": {"objectWriteTraceId": ["2"]}},
        {"category": "OBJECT_NOT_FOUND", "message": "no such contact", "context": {"ids": ["d@b.c"]}},
        {"category": "OTHER", "message": "about another", "context": {"objectWriteTraceId": ["9"], "ids": 7}},
    ]
    results = [{"id": "11", "objectWriteTraceId": "1"}, {"id": "13", "properties": {"email": "C@b.c"}}]
    contacts, _ = make(respond(207, {"status": "COMPLETE", "results": results, "errors": errors, "numErrors": 3}))
    users = [
        UserWrite(id="", attributes={"email": f"{name}@b.c"}, key=str(key)) for key, name in enumerate("abcde", start=1)
    ]
    written = await contacts.write_users(users)
    assert [(each.outcome, each.id or each.reason) for each in written] == [
        (Outcome.DELIVERED, "11"),
        (Outcome.REJECTED, "ValidationError"),
        (Outcome.DELIVERED, "13"),
        (Outcome.REJECTED, "ObjectNotFound"),
        (Outcome.RETRY, UNEXPECTED_RESPONSE),
    ]
    assert TOKEN not in written[1].message


async def test_a_request_that_is_refused_for_one_contact_is_halved() -> None:
    server = HubSpotServer()
    contacts = HubSpotContacts(SETTINGS, serve(server))
    users = [write(number, email=f"user-{number}@example.com") for number in range(7)]
    users[3] = write(3, email="user-3@example.com", no_such_property="x")
    results = await contacts.write_users(users)
    assert [each.outcome is Outcome.DELIVERED for each in results] == [number != 3 for number in range(7)]
    assert (results[3].reason, "no_such_property" in results[3].message) == ("ValidationError", True)


async def test_a_half_whose_outcome_is_unknown_is_sent_again_alone() -> None:
    def reply(request: HttpRequest) -> HttpResponse | TransportError:
        inputs = json.loads(request.body)["inputs"]
        if len(inputs) > 1:
            return HttpResponse(status=400, body=msgspec.json.encode(error("VALIDATION_ERROR", "no")))
        if inputs[0]["id"] == "bob@b.c":
            return TransportError(TransportFailure.TIMED_OUT, "no response")
        result = {"id": "11", "objectWriteTraceId": inputs[0]["objectWriteTraceId"]}
        return HttpResponse(status=200, body=msgspec.json.encode({"results": [result]}))

    contacts, _ = make(reply)
    first, second = await contacts.write_users([write(1, email="ada@b.c"), write(2, email="bob@b.c")])
    assert (first.outcome, first.id, second.outcome) == (Outcome.DELIVERED, "11", Outcome.RETRY)


async def test_a_response_without_an_error_has_its_status_as_reason() -> None:
    contacts, _ = make(respond(400, ["no"]))
    [result] = await contacts.write_users([write(email="a@b.c")])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "Status400")


@pytest.mark.parametrize(("more", "violations"), [(0, []), (1, ["a batch has 1 to 100 contacts"])])
async def test_the_largest_call_is_one_that_hubspot_takes(more: int, violations: list[str]) -> None:
    server = HubSpotServer()
    contacts = HubSpotContacts(SETTINGS, serve(server))
    users = [write(number, email=f"user-{number}@b.c") for number in range(contacts.write_limits.max_events + more)]
    await contacts.write_users(users)
    assert [each.partition(": ")[2] for each in server.violations] == violations


KEYS = st.sampled_from([f"{number:032x}" for number in range(4)] + ["", "user-2@b.c", "another"])
RESULTS = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from(["11", "12", ""]), "objectWriteTraceId": KEYS}), max_size=5
)
ERRORS = st.lists(
    st.fixed_dictionaries(
        {"message": st.text(max_size=5), "category": st.text(max_size=5)},
        optional={
            "context": st.dictionaries(st.sampled_from(["ids", "objectWriteTraceId"]), st.lists(KEYS, max_size=3))
        },
    ),
    max_size=3,
)


@given(results=RESULTS, errors=ERRORS, status=st.sampled_from([200, 201, 207]), kept=st.integers(0, 1_000))
def test_no_response_delivers_a_contact_that_it_does_not_name(
    results: list[dict[str, str]], errors: list[dict[str, Any]], status: int, kept: int
) -> None:
    body = msgspec.json.encode({"status": "COMPLETE", "results": results, "errors": errors})
    contacts, _ = make(lambda _: HttpResponse(status=status, body=body[:kept]))
    users = [write(number, email=f"user-{number}@b.c") for number in range(4)]
    try:
        written = asyncio.run(contacts.write_users(users))
    except Unavailable:
        return
    named = {each["objectWriteTraceId"] for each in results if each["id"]}
    refused = {key for each in errors for keys in each.get("context", {}).values() for key in keys}
    assert len(written) == len(users) and kept >= len(body)
    for user, result in zip(users, written, strict=True):
        names = {user.key, user.attributes["email"]}
        if result.outcome is Outcome.DELIVERED:
            assert result.id and names & named and not names & refused
        else:
            assert result.outcome is (Outcome.REJECTED if names & refused else Outcome.RETRY)


async def test_errors_that_name_no_contact_are_shown() -> None:
    errors = [{"category": "VALIDATION_ERROR", "message": f"a contact of {TOKEN} is wrong"}]
    contacts, _ = make(respond(207, {"results": [{"id": "11", "objectWriteTraceId": f"{1:032x}"}], "errors": errors}))
    first, second = await contacts.write_users([write(1, email="a@b.c"), write(2, email="b@b.c")])
    assert (first.id, second.outcome) == ("11", Outcome.RETRY)
    assert second.message == "HubSpot names no contact for the error: a contact of [REDACTED] is wrong"


async def test_the_limit_of_a_day_ends_a_run() -> None:
    body = error("RATE_LIMITS", "You have reached your daily limit.") | {"policyName": "DAILY"}
    contacts, _ = make(respond(429, body, x_hubspot_ratelimit_interval_milliseconds="10000"))
    for call in (contacts.write_users([write(email="a@b.c")]), contacts.users("")):
        with pytest.raises(Unavailable, match="a day are used up") as failure:
            await call
        assert failure.value.retry_after == MAX_WAIT_SECONDS


def test_searches_have_a_rate_of_their_own_and_that_of_all_requests() -> None:
    assert find_read_rates(HubSpotContacts(SETTINGS, make_context())) == (PRIVATE_LIMIT, SEARCH_LIMIT)


def test_the_limits_of_an_app_depend_on_its_kind() -> None:
    private, granted = (HubSpotContacts(settings, make_context()) for settings in (SETTINGS, None))
    assert [sink.write_rates[0].count for sink in (private, granted)] == [98, 108]


@pytest.mark.parametrize("status", [401, 403, 429, 477, 500, 503, 302])
async def test_other_responses_say_nothing_about_the_contacts(status: int) -> None:
    contacts, _ = make(respond(status, f"a page about {TOKEN}", retry_after="7"))
    with pytest.raises(Unavailable) as failure:
        await contacts.write_users([write(1, email="a@b.c"), write(2, email="b@b.c")])
    assert failure.value.retry_after == 7 and TOKEN not in failure.value.message
    with pytest.raises(Unavailable):
        await contacts.users("")
