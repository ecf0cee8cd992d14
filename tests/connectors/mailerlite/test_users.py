"""MailerLite's subscribers: the contracts, the requests of the page, batches, limits, and errors."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
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
    UserSink,
    UserSource,
    UserWrite,
)
from headwater.connectors.mailerlite.api import check
from headwater.connectors.mailerlite.schemas import READABLE, WRITABLE
from headwater.connectors.mailerlite.settings import MailerLiteSettings
from headwater.connectors.mailerlite.users import BATCH_URL, BATCH_USERS, SUBSCRIBERS_URL, MailerLiteSubscribers
from headwater.connectors.registry import CONNECTORS
from headwater.schemas import ObjectType, Record
from tests.connectors.conformance.context import NOW, Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.invalid import invalid_settings
from tests.connectors.pacing import call_times, most_within
from tests.connectors.responding import check_writes, responses
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.mailerlite import FIELDS, KEY, MailerLiteServer

SETTINGS = MailerLiteSettings(api_key=KEY)


def make(responder: Responder) -> tuple[MailerLiteSubscribers, ScriptedHttp]:
    """Return the connector with fields, and a responder for all other requests."""

    def answer(request: HttpRequest) -> HttpResponse | TransportError:
        if "/api/fields?" in request.url:
            return HttpResponse(status=200, body=msgspec.json.encode({"data": FIELDS}))
        return responder(request)

    http = ScriptedHttp(answer)
    return MailerLiteSubscribers(SETTINGS, make_context(http, secrets=(KEY,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id=attributes.pop("id", ""), attributes=attributes, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


def serve(server: MailerLiteServer) -> ConnectorContext:
    """Return a context whose client asks the server without sockets."""
    return make_context(ScriptedHttp(server.respond))


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        self.server = MailerLiteServer()
        return MailerLiteSubscribers(SETTINGS, serve(self.server))

    def examples(self) -> list[Record]:
        return [
            {"email": "ada@example.com", "ip_address": "192.0.2.1", "fields": {"name": "Ada", "points": 1.0}},
            {"email": "bob@example.com", "ip_address": "192.0.2.2", "status": "unsubscribed"},
        ]

    def rejected(self) -> Record:
        return {"email": "no address"}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        return {name: self.server.subscribers[id_][name] for name in ("email", "ip_address")}


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        server = MailerLiteServer()
        for number in range(250):
            server.add(NOW + timedelta(seconds=number), email=f"user-{number}@example.com")
        return MailerLiteSubscribers(SETTINGS, serve(server))


async def test_the_requests_are_those_of_the_page() -> None:
    subscribers, http = make(respond(200, {"data": {"id": "1"}, "responses": []}))
    together = json.loads(blocks("mailerlite")["create"])
    created = [each["body"] for each in together["requests"] if each["method"] == "POST"]
    await subscribers.write_users([write(**each) for each in created])
    request = http.requests[-1]
    assert (request.method, request.url, json.loads(request.body)) == ("POST", BATCH_URL, together)
    await subscribers.write_users([write(**created[0])])
    request = http.requests[-1]
    assert (request.method, request.url, json.loads(request.body)) == ("POST", SUBSCRIBERS_URL, created[0])
    assert all(f"| `{name}` |" in page("mailerlite") for name in request.headers)
    await subscribers.write_users(
        [
            write(id="31986843064993537", fields={"name": "Ada", "points": None}),
            write(id="31986843064993538", status="unsubscribed"),
        ]
    )
    request = http.requests[-1]
    assert (request.method, request.url) == ("POST", BATCH_URL)
    assert json.loads(request.body) == json.loads(blocks("mailerlite")["update"])
    assert f"`{SUBSCRIBERS_URL}`" in page("mailerlite") and f"`{BATCH_URL}`" in page("mailerlite")


def test_the_properties_and_the_version_are_those_of_the_page() -> None:
    for name in (*READABLE.by_name, "fields"):
        written = "yes" if name in WRITABLE.by_name or name == "fields" else "no"
        assert f"| `{name}` | {written} |" in page("mailerlite")
    version = CONNECTORS["mailerlite"].version
    assert version is not None and f"version `{version.name}`" in page("mailerlite")


async def test_the_documented_example_of_a_list_is_read() -> None:
    """The example of the vendor's reference, with members that the connector does not know."""
    body = blocks("mailerlite")["list"].encode()
    subscribers, http = make(lambda _: HttpResponse(status=200, body=body))
    result = await subscribers.users("")
    [user] = result.users
    assert (user.id, user.error) == ("31986843064993537", "")
    assert user.updated_at == datetime(2021, 9, 1, 14, 3, 50, tzinfo=UTC)
    fields = user.attributes["fields"]
    assert isinstance(fields, dict) and (fields["name"], fields["last_name"]) == ("Dummy", "Testerson")
    await subscribers.users(result.cursor)
    query = parse_qs(urlsplit(http.requests[-1].url).query)
    assert query == {
        "limit": ["100"],
        "cursor": ["eyJpZCI6NzI1ODIxNjQ2NDY5ODcxMzYsIl9wb2ludHNUb05leHRJdGVtcyI6dHJ1ZX0"],
    }


async def test_a_cursor_that_mailerlite_no_longer_knows_is_refused() -> None:
    server = MailerLiteServer()
    server.add(email="ada@example.com")
    with pytest.raises(BadRequest, match="cursor"):
        await MailerLiteSubscribers(SETTINGS, serve(server)).users("mailerlite.Z29uZQ")


async def test_the_fields_of_the_account_are_properties() -> None:
    server = MailerLiteServer()
    server.fields += [{"name": f"f{number}", "key": f"f{number}", "type": "text"} for number in range(200)]
    server.fields.append({"name": "no name of a property", "key": "2nd", "type": "text"})
    schema = (await MailerLiteSubscribers(SETTINGS, serve(server)).writable_schema()).by_name["fields"]
    assert isinstance(schema.type, ObjectType)
    assert list(schema.type.by_name) == [each["key"] for each in server.fields[:-1]]
    server.fields.clear()
    assert "fields" not in (await MailerLiteSubscribers(SETTINGS, serve(server)).readable_schema()).by_name


@pytest.mark.parametrize(
    "member",
    [{"updated_at": "yesterday"}, {"email": None}, {"sent": "1"}, {"fields": {"points": "many"}}, {"fields": [1]}],
)
async def test_a_subscriber_in_another_form_is_an_error_of_its_own(member: Any) -> None:
    good = {"id": "1", "email": "ada@example.com", "status": "active", "updated_at": "2026-05-04 12:00:00"}
    subscribers, _ = make(respond(200, {"data": [good, {**good, "id": "2", **member}], "meta": {"next_cursor": None}}))
    first, second = (await subscribers.users("")).users
    assert (first.error, first.updated_at, first.attributes["email"]) == ("", NOW, "ada@example.com")
    assert (second.id, second.attributes) == ("2", {}) and second.error


@pytest.mark.parametrize("body", [{}, [], {"data": [{"email": "a@b.c"}]}, "x"])
async def test_a_page_in_another_form_is_read_again(body: Any) -> None:
    subscribers, _ = make(respond(200, body))
    with pytest.raises(Unavailable):
        await subscribers.users("")


@pytest.mark.parametrize("email", ["null", "undefined", "0", " ", None])
async def test_a_subscriber_without_an_address_is_not_sent(email: str | None) -> None:
    subscribers, http = make(respond(500))
    [result] = await subscribers.write_users([write(**({} if email is None else {"email": email}), status="active")])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "MissingIdentity")
    assert all(request.method == "GET" for request in http.requests)


async def test_placeholders_are_left_out_of_updates() -> None:
    subscribers, http = make(respond(200, {"responses": [{"code": 200, "body": {"data": {"id": "1"}}}]}))
    await subscribers.write_users([write(id="1", email="undefined", status="active")])
    assert json.loads(http.requests[-1].body)["requests"][0]["body"] == {"status": "active"}


@pytest.mark.parametrize("status", ["active", "unsubscribed"])
@pytest.mark.parametrize("others", [0, 2])
async def test_a_repetition_updates_the_subscriber_with_the_address(status: str, others: int) -> None:
    server = MailerLiteServer()
    subscribers = MailerLiteSubscribers(SETTINGS, serve(server))
    id_ = server.add(email="Ada@example.com", status=status, fields={"name": "A", "last_name": "L"})
    more = [write(email=f"user-{number}@example.com") for number in range(others)]
    *created, result = await subscribers.write_users([*more, write(email="ada@example.com", fields={"name": "Ada"})])
    stored = server.subscribers[id_]
    assert (result.outcome, result.id, stored["status"]) == (Outcome.DELIVERED, id_, status)
    assert (stored["fields"]["name"], stored["fields"]["last_name"]) == ("Ada", "L")
    assert len({each.id for each in created}) == others == len(server.subscribers) - 1 and server.violations == []


async def test_each_subscriber_of_a_batch_has_its_own_result() -> None:
    error = {"message": "invalid", "errors": {"fields.points": ["no number", f"not {KEY}"]}}
    responses = [
        {"code": 200, "body": {"data": {"id": "1"}}},
        {"code": 422, "body": error},
        {"code": 404, "body": {"message": "Resource not found."}},
        {"code": 429, "body": {"message": "Too Many Attempts."}},
        {"code": 500},
        {"code": 200, "body": {}},
        {"code": 400, "body": None},
    ]
    subscribers, _ = make(respond(200, {"total": 7, "responses": responses}))
    results = await subscribers.write_users([write(id=str(number), status="active") for number in range(1, 8)])
    assert [each.outcome for each in results] == [
        Outcome.DELIVERED,
        Outcome.REJECTED,
        Outcome.REJECTED,
        Outcome.RETRY,
        Outcome.RETRY,
        Outcome.RETRY,
        Outcome.REJECTED,
    ]
    assert (results[1].reason, results[1].message) == (
        "InvalidFieldsPoints",
        "invalid (fields.points: no number not [REDACTED])",
    )
    assert [each.reason for each in results[2:]] == [
        "Status404",
        "Status429",
        "Status500",
        UNEXPECTED_RESPONSE,
        "Status400",
    ]


WITHOUT_IDS = {"responses": [{"code": 200, "body": {"import": 1}}] * 3}


@pytest.mark.parametrize("body", [{"responses": [{"code": 200}]}, {}, "x", [], WITHOUT_IDS])
async def test_a_batch_that_does_not_account_for_any_is_halved(body: Any) -> None:
    """An import of MailerLite might have such a response. It is no loss: at last each subscriber is sent alone."""
    subscribers, http = make(respond(200, body))
    for users in ([write(email="a@b.c"), write(email="b@b.c")], [write(id=each, status="active") for each in "123"]):
        results = await subscribers.write_users(users)
        assert [each.outcome for each in results] == [Outcome.NOT_ATTEMPTED] * len(users)
    [result] = await subscribers.write_users([write(id="1", status="active")])
    assert (result.outcome, result.reason) == (Outcome.RETRY, UNEXPECTED_RESPONSE)
    with pytest.raises(Unavailable):
        await subscribers.write_users([write(email="a@b.c")])
    assert http.requests[-1].url == SUBSCRIBERS_URL


async def test_a_batch_that_is_refused_is_halved() -> None:
    subscribers, _ = make(respond(422, {"message": "invalid", "errors": {"requests.0.body": ["no"]}}))
    users = [write(id="1", status="active"), write(id="2", status="active")]
    assert [each.outcome for each in await subscribers.write_users(users)] == [Outcome.NOT_ATTEMPTED] * 2
    [result] = await subscribers.write_users(users[:1])
    assert (result.outcome, result.message) == (Outcome.REJECTED, "invalid (requests.0.body: no)")


async def test_a_full_call_is_one_request() -> None:
    server = MailerLiteServer()
    http = ScriptedHttp(server.respond)
    subscribers = MailerLiteSubscribers(SETTINGS, make_context(http))
    await subscribers.writable_schema()
    before = len(http.requests)
    emails = [f"user-{number}@example.com" for number in range(BATCH_USERS)]
    ids = [each.id for each in await subscribers.write_users([write(email=email) for email in emails])]
    assert [server.subscribers[id_]["email"] for id_ in ids] == emails
    results = await subscribers.write_users([write(id=id_, fields={"points": 2.5}) for id_ in ids])
    assert ([each.id for each in results], len(http.requests) - before) == (ids, 2)
    assert all(each["fields"]["points"] == 2.5 for each in server.subscribers.values()) and server.violations == []


async def test_only_subscribers_with_an_address_are_created() -> None:
    subscribers = MailerLiteSubscribers(SETTINGS, serve(server := MailerLiteServer()))
    users = [write(email=email) for email in ("ada@example.com", "null", "no address", "bob@example.com")]
    results = await subscribers.write_users(users)
    assert [each.reason for each in results] == ["", "MissingIdentity", "InvalidEmail", ""]
    assert [server.subscribers[results[index].id]["email"] for index in (0, 3)] == [
        "ada@example.com",
        "bob@example.com",
    ]


async def test_an_address_of_another_subscriber_is_refused() -> None:
    server = MailerLiteServer()
    server.add(email="ada@example.com")
    id_ = server.add(email="bob@example.com")
    [result] = await MailerLiteSubscribers(SETTINGS, serve(server)).write_users(
        [write(id=id_, email="ada@example.com")]
    )
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "InvalidEmail") and "taken" in result.message


@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 503, 302])
async def test_other_responses_say_nothing_about_subscribers(status: int) -> None:
    subscribers, _ = make(respond(status, f"a page about {KEY}", retry_after="7"))
    for users in ([write(email="a@b.c"), write(email="b@b.c")], [write(id="1"), write(id="2")]):
        with pytest.raises(Unavailable) as failure:
            await subscribers.write_users(users)
        assert failure.value.retry_after == 7 and KEY not in failure.value.message
    with pytest.raises(Unavailable):
        await subscribers.users("")


async def test_the_settings_are_checked() -> None:
    server = MailerLiteServer()
    assert await check(SETTINGS, serve(server)) == SETTINGS and server.violations == []
    with pytest.raises(Unavailable):
        await check(SETTINGS, make_context(ScriptedHttp(respond(503))))


@pytest.mark.parametrize("status", [401, 403])
async def test_settings_are_refused_with_the_key(status: int) -> None:
    with invalid_settings("settings.apiKey"):
        await check(SETTINGS, make_context(ScriptedHttp(respond(status, {"message": "Unauthenticated."}))))


@pytest.mark.parametrize("limits", [MailerLiteSubscribers.write_rates, MailerLiteSubscribers.read_rates])
def test_at_full_load_the_limit_of_the_account_is_kept_and_used(limits: Any) -> None:
    times = call_times(limits, seconds=600, events=BATCH_USERS)
    assert 0.95 * 120 <= most_within(times, 60) <= 120


@settings(max_examples=300)
@given(response=responses(("data", "id", "responses", "code", "body", "errors", "message"), '{"responses": [%s, %s]}'))
def test_no_response_is_taken_for_that_to_a_subscriber_that_is_written(response: HttpResponse) -> None:
    for id_ in ("", "7"):
        for count in (1, 2):
            users = [write(id=id_, email=f"user-{number}@example.com") for number in range(count)]
            asyncio.run(check_writes(make(lambda _: response)[0], users, response))
