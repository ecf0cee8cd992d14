"""Klaviyo's profiles: the contracts, the requests of the page, limits, and errors."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    Outcome,
    SourceUser,
    TransportError,
    TransportFailure,
    UserSink,
    UserSource,
    UserWrite,
)
from headwater.connectors.klaviyo.schemas import READABLE_SCHEMA, WRITABLE_SCHEMA
from headwater.connectors.klaviyo.settings import KlaviyoSettings
from headwater.connectors.klaviyo.users import IMPORT_URL, MAX_PROFILE_BYTES, PROFILES_URL, KlaviyoProfiles
from headwater.schemas import Json, Record
from tests.connectors.conformance.context import NOW, Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.klaviyo import KEY, REFUSED_KEYS, KlaviyoServer

SETTINGS = KlaviyoSettings(private_api_key=KEY)


def make(responder: Responder) -> tuple[KlaviyoProfiles, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return KlaviyoProfiles(SETTINGS, make_context(http, secrets=(KEY,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id=attributes.pop("id", ""), attributes=attributes, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


def serve(server: KlaviyoServer) -> ConnectorContext:
    """Return a context whose client asks the server without sockets."""
    return make_context(ScriptedHttp(server.respond))


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        self.server = KlaviyoServer()
        return KlaviyoProfiles(SETTINGS, serve(self.server))

    def examples(self) -> list[Record]:
        return [
            {"email": "ada@example.com", "first_name": "Ada", "properties": {"plan": Json('"pro"')}},
            {"email": "bob@example.com", "phone_number": "+15005550006", "first_name": None},
        ]

    def rejected(self) -> Record:
        return {"email": "no address"}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        stored = self.server.profiles.by_id[id_]
        return {"email": stored["email"], "first_name": stored["first_name"]}


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        server = KlaviyoServer()
        for number in range(250):
            server.profiles.add(NOW + timedelta(seconds=number), email=f"user-{number}@example.com")
        return KlaviyoProfiles(SETTINGS, serve(server))


def test_the_requests_are_those_of_the_page() -> None:
    profiles, _ = make(respond(200))
    created = json.loads(blocks("klaviyo")["create"])
    updated = json.loads(blocks("klaviyo")["update"])
    request = profiles.request("", created["data"]["attributes"])
    assert (request.method, request.url, json.loads(request.body)) == ("POST", IMPORT_URL, created)
    request = profiles.request(updated["data"]["id"], updated["data"]["attributes"])
    assert (request.method, json.loads(request.body)) == ("PATCH", updated)
    assert request.url == f"{PROFILES_URL}/{updated['data']['id']}"
    assert IMPORT_URL in page("klaviyo") and f"{PROFILES_URL}/<id>" in page("klaviyo")


def test_the_properties_are_those_of_the_page() -> None:
    writable = WRITABLE_SCHEMA.by_name
    for name in READABLE_SCHEMA.by_name:
        assert f"| `{name}` | {'yes' if name in writable else 'no'} |" in page("klaviyo")


async def test_a_page_is_asked_for_with_few_fields_and_the_time() -> None:
    following = f"{PROFILES_URL}?page%5Bcursor%5D=bmV4dA%3D%3D"
    profiles, http = make(respond(200, {"data": [], "links": {"next": following}}))
    cursor = (await profiles.users("", NOW + timedelta(seconds=0.7))).cursor
    await profiles.users(cursor)
    first, second = (parse_qs(urlsplit(request.url).query) for request in http.requests)
    assert first["filter"] == ["greater-than(updated,2026-05-04T11:59:59Z)"]
    assert (first["sort"], first["page[size]"]) == (["updated"], ["100"])
    assert second["page[cursor]"] == ["bmV4dA=="] and "filter" not in second
    assert "content-type" not in http.requests[0].headers


async def test_a_cursor_that_klaviyo_no_longer_knows_is_refused() -> None:
    server = KlaviyoServer()
    server.profiles.add(email="ada@example.com")
    cursor = f"klaviyo.{'Z29uZQ'}"
    with pytest.raises(BadRequest, match="cursor"):
        await KlaviyoProfiles(SETTINGS, serve(server)).users(cursor)


@pytest.mark.parametrize(
    "attributes",
    [
        {"updated": "yesterday"},
        {"email": 7},
        {"location": []},
        {"properties": []},
    ],
)
async def test_a_profile_in_another_form_is_an_error_of_its_own(attributes: Any) -> None:
    good = {"id": "A", "attributes": {"email": "ada@example.com", "updated": "2026-05-04T12:00:00+02:00"}}
    profiles, _ = make(respond(200, {"data": [good, {"id": "B", "attributes": attributes}], "links": {"next": None}}))
    first, second = (await profiles.users("")).users
    assert (first.error, first.updated_at, first.attributes["email"]) == (
        "",
        NOW - timedelta(hours=2),
        "ada@example.com",
    )
    assert (second.id, second.attributes) == ("B", {}) and second.error
    assert isinstance(second, SourceUser)


@pytest.mark.parametrize("body", [{}, [], {"data": [{"attributes": {}}]}, "x"])
async def test_a_page_in_another_form_is_read_again(body: Any) -> None:
    profiles, _ = make(respond(200, body))
    with pytest.raises(Unavailable):
        await profiles.users("")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"email": "null"}, "MissingIdentity"),
        ({"first_name": "Ada"}, "MissingIdentity"),
        ({"email": "a@b.c", "first_name": "x" * MAX_PROFILE_BYTES}, "ProfileTooLarge"),
    ],
)
async def test_a_profile_that_klaviyo_never_accepts_is_not_sent(attributes: Any, reason: str) -> None:
    profiles, http = make(respond(500))
    [result] = await profiles.write_users([write(**attributes)])
    assert (result.outcome, result.reason, http.requests) == (Outcome.REJECTED, reason, [])


async def test_placeholders_are_left_out_of_updates() -> None:
    profiles, http = make(respond(200, {"data": {"id": "A"}}))
    await profiles.write_users([write(id="A", email="undefined", first_name="Ada")])
    assert json.loads(http.requests[0].body)["data"]["attributes"] == {"first_name": "Ada"}


async def test_identifiers_of_two_profiles_are_a_conflict() -> None:
    server = KlaviyoServer()
    server.profiles.add(email="ada@example.com")
    other = server.profiles.add(phone_number="+15005550006")
    profiles = KlaviyoProfiles(SETTINGS, serve(server))
    user = write(email="ada@example.com", phone_number="+15005550006")
    [result] = await profiles.write_users([user])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "DuplicateProfile")
    assert any(id_ in result.message for id_ in server.profiles.by_id) and other


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 302])
async def test_other_responses_say_nothing_about_the_user(status: int) -> None:
    profiles, _ = make(respond(status, f"a page about {KEY}", retry_after="7"))
    with pytest.raises(Unavailable) as failure:
        await profiles.write_users([write(email="a@b.c"), write(email="b@b.c")])
    assert failure.value.retry_after == 7 and KEY not in failure.value.message
    with pytest.raises(Unavailable):
        await profiles.users("")


@pytest.mark.parametrize("body", REFUSED_KEYS)
async def test_a_400_about_the_key_says_nothing_about_the_user(body: Any) -> None:
    profiles, _ = make(respond(400, body))
    with pytest.raises(Unavailable):
        await profiles.write_users([write(email="a@b.c")])


async def test_a_user_whose_outcome_is_unknown_is_sent_again_alone() -> None:
    def answer(request: HttpRequest) -> HttpResponse | TransportError:
        if b"bob" in request.body:
            return TransportError(TransportFailure.TIMED_OUT, "no response")
        return HttpResponse(status=201, body=b'{"data":{"id":"A"}}')

    profiles, _ = make(answer)
    first, second = await profiles.write_users([write(email="ada@b.c"), write(email="bob@b.c")])
    assert (first.outcome, first.id, second.outcome) == (Outcome.DELIVERED, "A", Outcome.RETRY)
