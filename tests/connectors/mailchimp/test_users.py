"""Mailchimp's contacts: the contracts, the requests of the page, consent, limits, errors, and pages that change."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given, settings

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
)
from headwater.connectors.mailchimp.api import check
from headwater.connectors.mailchimp.schemas import READABLE, WRITABLE
from headwater.connectors.mailchimp.settings import MailchimpSettings
from headwater.connectors.mailchimp.users import MailchimpContacts
from headwater.connectors.users import format_cursor
from headwater.schemas import Codec, ObjectType, Record, StringType, all_optional
from tests.connectors.conformance.context import NOW, Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.invalid import invalid_settings
from tests.connectors.responding import check_writes, responses
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.mailchimp import FIELDS, KEY, LIST, MailchimpServer

SETTINGS = MailchimpSettings(api_key=KEY, audience=LIST)
URL = f"https://us6.api.mailchimp.com/3.0/lists/{LIST}"


def make(responder: Responder) -> tuple[MailchimpContacts, ScriptedHttp]:
    """Return the connector with merge fields, and a responder for all other requests."""

    def answer(request: HttpRequest) -> HttpResponse | TransportError:
        if "/merge-fields?" in request.url:
            return HttpResponse(status=200, body=msgspec.json.encode({"merge_fields": FIELDS}))
        return responder(request)

    http = ScriptedHttp(answer)
    return MailchimpContacts(SETTINGS, make_context(http, secrets=(KEY,))), http


def write(email: str | None = "ada@example.com", **attributes: Any) -> UserWrite:
    id_ = attributes.pop("id", "")
    given = {} if email is None else {"email_address": email}
    status = {} if id_ or "status" in attributes else {"status_if_new": "subscribed"}
    return UserWrite(id=id_, attributes={**given, **status, **attributes}, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


def serve(server: MailchimpServer) -> ConnectorContext:
    """Return a context whose client asks the server without sockets."""
    return make_context(ScriptedHttp(server.respond))


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        self.server = MailchimpServer()
        return MailchimpContacts(SETTINGS, serve(self.server))

    def examples(self) -> list[Record]:
        return [
            {"email_address": "ada@example.com", "status_if_new": "subscribed", "language": "en"},
            {
                "email_address": "bob@example.com",
                "status_if_new": "transactional",
                "language": "nb",
                "merge_fields": {"FNAME": "Bob", "BIRTHDAY": "12/31", "PLAN": "free", "ADDRESS": None},
            },
        ]

    def rejected(self) -> Record:
        return {"email_address": "no address", "status_if_new": "subscribed"}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        return {name: self.server.members[id_][name] for name in ("email_address", "language")}


class TestSource(UserSourceConformance):
    """Two thirds of the contacts have the same time, as after an import of a file."""

    def make(self) -> UserSource:
        server = MailchimpServer()
        for number in range(270):
            moment = NOW + timedelta(seconds=max(number - 180, 0))
            server.add(moment, email_address=f"user-{number}@example.com", merge_fields={"POINTS": number})
        return MailchimpContacts(SETTINGS, serve(server))


async def test_the_requests_are_those_of_the_page() -> None:
    contacts, http = make(respond(200, {"id": "h", "new_members": [], "errors": []}))
    created = json.loads(blocks("mailchimp")["create"])
    [member] = created["members"]
    status = member.pop("status")
    await contacts.write_users([write(None, **member, status_if_new=status)])
    request = http.requests[-1]
    assert (request.method, request.url) == ("POST", URL)
    assert json.loads(request.body) == json.loads(blocks("mailchimp")["create"])
    updated = json.loads(blocks("mailchimp")["update"])
    await contacts.write_users([write(None, id="c1", merge_fields={"FNAME": "Ada", "PLAN": None}, vip=True)])
    request = http.requests[-1]
    parameters = "skip_merge_validation=true"
    assert (request.method, request.url) == ("PATCH", f"{URL}/members/c1?{parameters}")
    assert json.loads(request.body) == updated
    template = URL.replace(LIST, "<audience>").replace("us6", "<data center>")
    assert f"`{template}`" in page("mailchimp") and f"`{template}/members/<contact id>?{parameters}`" in page(
        "mailchimp"
    )


def test_the_properties_are_those_of_the_page() -> None:
    names = dict.fromkeys((*READABLE.by_name, *WRITABLE.by_name, "merge_fields"))
    for name in names:
        read = "yes" if name in READABLE.by_name or name == "merge_fields" else "no"
        written = "yes" if name in WRITABLE.by_name or name == "merge_fields" else "no"
        assert f"| `{name}` | {read} | {written} |" in page("mailchimp")


async def test_a_page_is_asked_for_with_few_fields_and_the_time() -> None:
    contacts, http = make(respond(200, {"members": []}))
    await contacts.users("", NOW + timedelta(seconds=0.7))
    query = parse_qs(urlsplit(http.requests[0].url).query)
    assert query["since_last_changed"] == ["2026-05-04T11:59:59+00:00"]
    assert (query["sort_field"], query["sort_dir"], query["count"]) == (["last_changed"], ["ASC"], ["100"])
    assert "members.contact_id" in query["fields"][0] and "content-type" not in http.requests[0].headers


async def test_no_contact_is_left_out_when_others_change_meanwhile() -> None:
    server = MailchimpServer()
    ids = [
        server.add(NOW + timedelta(seconds=number), email_address=f"user-{number}@example.com") for number in range(250)
    ]
    contacts = MailchimpContacts(SETTINGS, serve(server))
    first = await contacts.users("")
    for id_ in ids[:60]:  # they move behind all others
        server.members[id_]["last_changed"] = (NOW + timedelta(days=1)).isoformat()
    found, cursor = [*first.users], first.cursor
    while cursor:
        following = await contacts.users(cursor)
        found, cursor = [*found, *following.users], following.cursor
    assert {user.id for user in found} == {*ids}


@pytest.mark.parametrize("position", ["x 1", " x", " -1", "2026-05-04T12:00:00+00:00", " 9999999999"])
async def test_a_position_of_another_form_is_refused(position: str) -> None:
    contacts, http = make(respond(500))
    with pytest.raises(BadRequest):
        await contacts.users(format_cursor("mailchimp", position))
    assert http.requests == []


@pytest.mark.parametrize(
    "member",
    [
        {"last_changed": "yesterday"},
        {"email_address": None},
        {"vip": "yes"},
        {"tags": ["a"]},
        {"merge_fields": {"POINTS": "many"}},
        {"merge_fields": {"ADDRESS": "Oslo"}},
    ],
)
async def test_a_contact_in_another_form_is_an_error_of_its_own(member: Any) -> None:
    good = {"id": "h", "contact_id": "c1", "email_address": "ada@example.com", "status": "subscribed", "tags": []}
    bad = msgspec.json.encode({"members": [good, {**good, "contact_id": "c2", **member}]})
    contacts, _ = make(lambda _: HttpResponse(status=200, body=bad))
    first, second = (await contacts.users("")).users
    assert (first.id, first.error, first.attributes["email_address"]) == ("c1", "", "ada@example.com")
    assert (second.id, second.attributes) == ("c2", {}) and second.error


@pytest.mark.parametrize("body", [{}, [], {"members": [{"email_address": "a@b.c"}]}, "x"])
async def test_a_page_in_another_form_is_read_again(body: Any) -> None:
    contacts, _ = make(respond(200, body))
    with pytest.raises(Unavailable):
        await contacts.users("")


async def test_the_merge_fields_are_properties() -> None:
    server = MailchimpServer()
    server.fields.append({"tag": "LNAME", "name": "Last Name", "type": "text", "required": True, "options": {}})
    server.fields.append({"tag": "2ND", "name": "no name of a property", "type": "text", "required": False})
    contacts = MailchimpContacts(SETTINGS, serve(server))
    schema = (await contacts.writable_schema()).by_name["merge_fields"]
    assert isinstance(schema.type, ObjectType)
    names = schema.type.by_name
    assert list(names) == ["FNAME", "ADDRESS", "POINTS", "PLAN", "BIRTHDAY", "LNAME"]
    assert names["LNAME"].create_required and schema.create_required and not names["FNAME"].create_required
    assert names["PLAN"].type == StringType(values=("free", "pro"))
    server.fields.clear()
    assert "merge_fields" not in (await MailchimpContacts(SETTINGS, serve(server)).readable_schema()).by_name


async def test_a_contact_without_a_required_field_can_be_changed() -> None:
    """Only new contacts need all required fields: others came another way, or the field became required later."""
    server = MailchimpServer()
    id_ = server.add(email_address="ada@example.com")
    server.fields.append({"tag": "LNAME", "name": "Last Name", "type": "text", "required": True, "options": {}})
    contacts = MailchimpContacts(SETTINGS, serve(server))
    [result] = await contacts.write_users([write(None, id=id_, merge_fields={"FNAME": "Ada"})])
    assert (result.outcome, server.members[id_]["merge_fields"]["FNAME"]) == (Outcome.DELIVERED, "Ada")
    results = await contacts.write_users([write("ada@example.com", vip=True), write("bob@example.com")])
    assert (results[1].outcome, results[1].reason) == (Outcome.REJECTED, "ErrorGeneric")
    assert results[1].message == "Your merge fields were invalid. (LNAME: Please enter a value)"


async def test_a_contact_that_was_archived_is_created_again() -> None:
    server = MailchimpServer()
    id_ = server.add(email_address="ada@example.com", status="archived")
    contacts = MailchimpContacts(SETTINGS, serve(server))
    assert (await contacts.users("")).users == ()
    [result] = await contacts.write_users([write("ada@example.com", status_if_new="pending")])
    assert (result.id, server.members[id_]["status"], server.violations) == (id_, "pending", [])


async def test_a_contact_that_unsubscribed_stays_so() -> None:
    server = MailchimpServer()
    id_ = server.add(email_address="Ada@example.com", status="unsubscribed")
    contacts = MailchimpContacts(SETTINGS, serve(server))
    other = write("bob@example.com")
    results = await contacts.write_users([write("ada@example.com", merge_fields={"FNAME": "Ada"}), other])
    assert [(each.outcome, bool(each.id)) for each in results] == [(Outcome.DELIVERED, True)] * 2
    assert results[0].id == id_
    assert (server.members[id_]["status"], server.members[id_]["merge_fields"]["FNAME"]) == ("unsubscribed", "Ada")
    [result] = await contacts.write_users([write(None, id=id_, status="subscribed")])
    assert result.outcome is Outcome.DELIVERED and server.members[id_]["status"] == "subscribed"
    assert server.violations == []


@pytest.mark.parametrize("email", [None, "null", "undefined", "0", " "])
async def test_a_contact_without_an_address_is_not_sent(email: str | None) -> None:
    contacts, http = make(respond(500))
    [result] = await contacts.write_users([write(email)])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "MissingIdentity")
    assert all(request.method == "GET" for request in http.requests)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, "transactional"),
        ({"status_if_new": "pending"}, "pending"),
        ({"status": "subscribed"}, "subscribed"),
        ({"status": "unsubscribed", "status_if_new": "subscribed"}, "unsubscribed"),
    ],
)
async def test_a_new_contact_receives_marketing_only_by_a_status(given: Record, status: str) -> None:
    server = MailchimpServer()
    contacts = MailchimpContacts(SETTINGS, serve(server))
    user = UserWrite(id="", attributes={"email_address": "ada@example.com", **given}, key="1" * 32)
    [result] = await contacts.write_users([user])
    assert (server.members[result.id]["status"], server.violations) == (status, [])


async def test_placeholders_are_left_out_of_updates() -> None:
    contacts, http = make(respond(200, {"id": "h", "contact_id": "c1"}))
    await contacts.write_users([write("undefined", id="c1", vip=True)])
    assert json.loads(http.requests[-1].body) == {"vip": True}


async def test_an_address_that_is_repeated_is_sent_once() -> None:
    server = MailchimpServer()
    contacts = MailchimpContacts(SETTINGS, serve(server))
    first, second = await contacts.write_users([write("ada@example.com"), write("ADA@example.com")])
    assert (first.outcome, second.outcome, second.retry_after_seconds) == (Outcome.DELIVERED, Outcome.RETRY, 0.0)
    [again] = await contacts.write_users([write("ADA@example.com")])
    assert (again.id, server.violations) == (first.id, [])


async def test_a_full_call_is_one_request_to_create() -> None:
    server = MailchimpServer()
    http = ScriptedHttp(server.respond)
    contacts = MailchimpContacts(SETTINGS, make_context(http))
    emails = [f"user-{number}@example.com" for number in range(contacts.write_limits.max_events)]
    results = await contacts.write_users([write(email) for email in emails])
    assert [server.members[each.id]["email_address"] for each in results] == emails
    assert [request.method for request in http.requests] == ["GET", "POST"] and server.violations == []


async def test_each_contact_of_a_batch_has_its_own_result() -> None:
    error = {"email_address": '"cid@example.com"', "error": "no", "error_code": "ERROR_GENERIC", "field": "PLAN"}
    unknown = {"email_address": None, "error": None, "error_code": None, "field": None, "field_message": None}
    body = {
        "new_members": [{"id": "h", "contact_id": "c1", "email_address": "Ada@example.com"}],
        "updated_members": [{"id": "g", "email_address": "bob@example.com"}],
        "errors": [
            {**error, "field_message": f"not {KEY}"},
            {**error, "email_address": "unknown@example.com"},
            unknown,
            {**unknown, "email_address": "eve@example.com"},
        ],
    }
    contacts, http = make(respond(200, body))
    emails = [" ada@example.com ", "bob@example.com", "Cid@example.com", "dan@example.com", "eve@example.com"]
    results = await contacts.write_users([write(email) for email in emails])
    assert json.loads(http.requests[-1].body)["members"][0]["email_address"] == "ada@example.com"
    assert [(each.outcome, each.id) for each in results[:2]] == [(Outcome.DELIVERED, "c1"), (Outcome.DELIVERED, "g")]
    assert (results[2].reason, results[2].message) == ("ErrorGeneric", "no (PLAN: not [REDACTED])")
    assert (results[3].outcome, results[3].reason) == (Outcome.RETRY, UNEXPECTED_RESPONSE)
    assert (results[4].reason, results[4].message) == ("Refused", "Mailchimp refuses the contact")


async def test_a_contact_that_exists_is_sent_again_if_its_update_fails() -> None:
    def answer(request: HttpRequest) -> HttpResponse | TransportError:
        if request.method == "PATCH":
            return TransportError(TransportFailure.TIMED_OUT, "no response")
        exists = {"email_address": "ada@example.com", "error_code": "ERROR_CONTACT_EXISTS"}
        new = {"id": "h", "contact_id": "c2", "email_address": "bob@example.com"}
        return HttpResponse(status=200, body=msgspec.json.encode({"new_members": [new], "errors": [exists]}))

    contacts, _ = make(answer)
    first, second = await contacts.write_users([write("ada@example.com"), write("bob@example.com")])
    assert (first.outcome, second.outcome) == (Outcome.RETRY, Outcome.DELIVERED)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_batch_that_is_refused_without_a_name_is_halved(status: int) -> None:
    contacts, _ = make(respond(status, {"title": "Invalid Resource", "detail": "no", "errors": []}))
    results = await contacts.write_users([write("ada@example.com"), write("bob@example.com"), write("null")])
    assert [each.outcome for each in results] == [Outcome.NOT_ATTEMPTED] * 2 + [Outcome.REJECTED]
    [result] = await contacts.write_users([write("ada@example.com")])
    assert (result.outcome, result.reason, result.message) == (Outcome.REJECTED, "InvalidResource", "no")


async def test_a_refusal_of_an_update_has_the_reason_of_mailchimp() -> None:
    server = MailchimpServer()
    contacts = MailchimpContacts(SETTINGS, serve(server))
    id_ = server.add(email_address="ada@example.com", status="cleaned")
    address = {"addr1": "Karl Johans gate 1", "city": "Oslo"}
    writes = [
        write(None, id=id_, status="subscribed"),
        write(None, id=id_, merge_fields={"ADDRESS": address}),
        write(None, id="gone", vip=True),
    ]
    results = await contacts.write_users(writes)
    assert [each.reason for each in results] == ["MemberInComplianceState", "InvalidResource", "ResourceNotFound"]
    assert "ADDRESS: Please enter a complete address" in results[1].message


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 302])
async def test_other_responses_say_nothing_about_contacts(status: int) -> None:
    contacts, _ = make(respond(status, f"a page about {KEY}", retry_after="7"))
    for users in ([write("a@b.c"), write("b@b.c")], [write(id="c1"), write(id="c2")]):
        with pytest.raises(Unavailable) as failure:
            await contacts.write_users(users)
        assert failure.value.retry_after == 7 and KEY not in failure.value.message
    with pytest.raises(Unavailable):
        await contacts.users("")


async def test_at_most_eight_requests_are_under_way() -> None:
    running, most = 0, 0

    class Slow(ScriptedHttp):
        async def send(self, request: HttpRequest) -> HttpResponse:
            nonlocal running, most
            if request.method == "GET":
                return HttpResponse(status=200, body=msgspec.json.encode({"merge_fields": []}))
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return HttpResponse(status=200, body=b'{"id":"h"}')

    contacts = MailchimpContacts(SETTINGS, make_context(Slow()))
    results = await contacts.write_users([write(None, id=f"c{number}", vip=True) for number in range(100)])
    assert most == 8 and all(each.outcome is Outcome.DELIVERED for each in results)


async def test_the_settings_are_checked_with_the_audience() -> None:
    server = MailchimpServer()
    assert await check(SETTINGS, serve(server)) == SETTINGS
    with invalid_settings("settings.audience"):
        await check(msgspec.structs.replace(SETTINGS, audience="other"), serve(server))
    with invalid_settings("settings.apiKey"):
        await check(msgspec.structs.replace(SETTINGS, api_key="f" * 32 + "-us6"), serve(server))


@pytest.mark.parametrize(
    "response", [HttpResponse(status=503), TransportError(TransportFailure.CONNECT_FAILED, "no such host")]
)
async def test_settings_that_cannot_be_checked_are_not_refused(response: HttpResponse | TransportError) -> None:
    with pytest.raises(Unavailable):
        await check(SETTINGS, make_context(ScriptedHttp(lambda _: response)))


async def test_attributes_of_the_page_conform_to_the_schema() -> None:
    contacts, _ = make(respond(200))
    [member] = json.loads(blocks("mailchimp")["create"])["members"]
    Codec(all_optional(await contacts.writable_schema())).check(member)


@settings(max_examples=300)
@given(
    response=responses(
        ("id", "contact_id", "email_address", "error_code", "error", "title", "errors"),
        '{"new_members": [%s], "errors": [%s]}',
        texts=("user-0@example.com", "ERROR_CONTACT_EXISTS"),
    )
)
def test_no_response_is_taken_for_that_to_a_contact_that_is_written(response: HttpResponse) -> None:
    for id_ in ("", "7"):
        for count in (1, 2):
            users = [write(f"user-{number}@example.com", id=id_) for number in range(count)]
            asyncio.run(check_writes(make(lambda _: response)[0], users, response))
