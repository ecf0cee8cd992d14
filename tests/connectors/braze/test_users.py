"""Braze's users: the contract, the requests of the page, limits, and errors by index."""

import json
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.braze.schemas import WRITABLE
from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.braze.users import MAX_PAGES, MAX_USER_BYTES, BrazeUsers
from headwater.connectors.contract import NOT_ATTEMPTED, HttpResponse, Outcome, UserSink, UserWrite
from headwater.schemas import DateTime, Json, Record
from tests.connectors.conformance.context import Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.braze import API_KEY, ENDPOINT, NO_DATA, BrazeServer

SETTINGS = BrazeSettings(rest_endpoint=ENDPOINT, api_key=API_KEY)


def make(responder: Responder) -> tuple[BrazeUsers, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return BrazeUsers(SETTINGS, make_context(http, secrets=(API_KEY,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id="", attributes=attributes, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    """Return a responder for writes. Custom attributes are not listed, as for a key without the permission."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))
    return lambda request: HttpResponse(status=403) if request.method == "GET" else response


def attribute(name: str, data_type: str | None = "String", status: str | None = "Active") -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "status": status, "array_length": None, "tag_names": []}


class TestContract(UserSinkConformance):
    IS_WRITE_ONLY = True

    def make(self) -> UserSink:
        self.server = BrazeServer()
        return make(self.server.respond)[0]

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        return {name: value for name, value in self.server.users[id_].items() if name in WRITABLE.by_name}

    def examples(self) -> list[Record]:
        return [
            {"external_id": "1", "email": "ada@example.com", "first_name": "Ada", "language": "it"},
            {"external_id": "2", "email": "bob@example.com", "first_name": "Bob", "home_city": "Oslo"},
        ]

    def identity(self, example: Record) -> Record:
        return {"external_id": example["external_id"]}

    def rejected(self) -> Record:
        return {"external_id": "3", "email": "no address"}


async def test_the_request_is_that_of_the_page() -> None:
    server = BrazeServer()
    users, http = make(server.respond)
    ada = write(
        external_id="ada",
        email="ada@example.com",
        dob=date(1990, 12, 21),
        home_city=None,
        custom_attributes={"plan": Json('"pro"')},
    )
    results = await users.write_users([ada, write(email="bob@example.com", language="de")])
    assert [(each.outcome, each.id) for each in results] == [
        (Outcome.DELIVERED, "ada"),
        (Outcome.DELIVERED, "bob@example.com"),
    ]
    assert json.loads(http.requests[-1].body) == json.loads(blocks("braze")["users"])
    assert server.violations == []


def test_the_properties_are_those_of_the_page() -> None:
    for name in WRITABLE.by_name:
        assert f"| `{name}` |" in page("braze").partition("## Users")[2]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"external_id": "null"}, "MissingIdentity"),
        ({"first_name": "Ada"}, "MissingIdentity"),
        ({"external_id": "1", "custom_attributes": {"external_id": Json('"2"')}}, "InvalidAttributes"),
        ({"external_id": "1", "custom_attributes": {"$a": Json("1")}}, "InvalidAttributes"),
        ({"external_id": "1", "first_name": "x" * MAX_USER_BYTES}, "UserTooLarge"),
    ],
)
async def test_a_user_that_braze_never_accepts_is_not_sent(attributes: Any, reason: str) -> None:
    users, http = make(BrazeServer().respond)
    [result] = await users.write_users([write(**attributes)])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, reason)
    assert {each.method for each in http.requests} == {"GET"}


async def test_custom_attributes_of_the_workspace_are_properties() -> None:
    server = BrazeServer()
    types = {
        "visits": ("Number", "float"),
        "tags": ("Array", "array"),
        "address": ("Object (Automatically Detected)", "map"),
        "stays": ("object_array", "array"),
        "vip": ("Boolean", "boolean"),
        "seen": ("Date (Automatically Detected)", "datetime"),
        "other": ("Hologram", "json"),
        "plan": (None, "json"),
    }
    server.custom_attributes = [attribute(name, type_) for name, (type_, _) in types.items()]
    server.custom_attributes += [
        attribute("Favourite color"),
        attribute("push_tokens"),
        attribute("email"),
        attribute("old", status="Blocklisted"),
        *[attribute(f"a{number}", "String") for number in range(120)],
    ]
    users, http = make(server.respond)
    schema = await users.writable_schema()
    listed = {each.name: each.type.kind for each in schema if each.name not in WRITABLE.by_name}
    assert listed == {name: kind for name, (_, kind) in types.items()} | {f"a{n}": "string" for n in range(120)}
    assert len(http.requests) == 3 and all(each.url.startswith(ENDPOINT) for each in http.requests)
    seen = DateTime.of(datetime(2026, 5, 4, 10, tzinfo=UTC))
    address = {"city": Json('"Rome"'), "state": Json("null")}
    [result] = await users.write_users([write(external_id="ada", visits=2.0, seen=seen, a1=None, address=address)])
    assert result.outcome is Outcome.DELIVERED and server.violations == []
    assert [each.method for each in http.requests[3:]] == ["POST"], "the schema is not read again"
    stored = server.users["ada"]
    assert (stored["visits"], stored["seen"], stored["address"]) == (2, "2026-05-04T10:00:00Z", {"city": "Rome"})


@pytest.mark.parametrize(
    ("response", "count"),
    [
        (HttpResponse(status=403), 1),
        (
            HttpResponse(
                status=200, headers={"link": f'<{ENDPOINT}/x?cursor=1>; rel="next"'}, body=b'{"attributes":[]}'
            ),
            2,
        ),
        (HttpResponse(status=200, headers={"link": "<https://other.example>"}, body=b'{"attributes":[]}'), 1),
    ],
)
async def test_without_listed_attributes_the_schema_is_that_of_all_workspaces(
    response: HttpResponse, count: int
) -> None:
    users, http = make(lambda _: response)
    assert await users.writable_schema() == WRITABLE and len(http.requests) == count


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"attributes":5}', b'{"attributes":[{"name":1}]}', b"[" * 9_000]
)
@pytest.mark.parametrize("status", [200, 401, 429, 500])
async def test_a_list_that_cannot_be_read_is_not_an_empty_one(status: int, body: bytes) -> None:
    users, _ = make(lambda _: HttpResponse(status=status, headers={"x-ratelimit-retry-after": "9"}, body=body))
    with pytest.raises(Unavailable):
        await users.writable_schema()


async def test_the_number_of_pages_is_limited() -> None:
    pages = iter(range(1, 1_000))
    users, http = make(
        lambda _: HttpResponse(
            status=200, headers={"link": f'<{ENDPOINT}/?cursor={next(pages)}>; rel="next"'}, body=b'{"attributes":[]}'
        )
    )
    await users.writable_schema()
    assert len(http.requests) == MAX_PAGES


async def test_each_user_has_its_own_result() -> None:
    error = {"type": f"not {API_KEY}", "input_array": "attributes", "index": 1}
    users, _ = make(respond(201, {"message": "success", "attributes_processed": 2, "errors": [error]}))
    given = [write(email="0"), write(external_id="1"), write(external_id="2", email="no"), write(external_id="3")]
    results = await users.write_users(given)
    assert [each.id for each in results] == ["", "1", "", "3"]
    assert [each.reason for each in results] == ["MissingIdentity", "", "InvalidUser", ""]
    assert API_KEY not in results[2].message


async def test_a_batch_that_is_refused_is_halved() -> None:
    users, _ = make(respond(400, {"message": "Max Input Length Exceeded"}))
    assert await users.write_users([write(external_id="1"), write(external_id="2")]) == [NOT_ATTEMPTED] * 2
    [result] = await users.write_users([write(external_id="1")])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "Status400") and "Exceeded" in result.message


async def test_the_only_user_can_be_refused_by_name() -> None:
    error = {"type": "not a valid email", "input_array": "attributes", "index": 0}
    users, _ = make(respond(400, {"message": NO_DATA, "errors": [error]}))
    [result] = await users.write_users([write(email="no")])
    assert (result.outcome, result.message) == (Outcome.REJECTED, "not a valid email")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *[(401, {}), (403, {}), (429, {}), (500, API_KEY), (302, {}), (200, "x"), (200, {"message": "no"})],
        (201, {"message": "success", "errors": [{"type": "no", "input_array": "attributes", "index": 1}]}),
        (201, {"message": "success", "errors": [{"type": "no", "input_array": "events", "index": 0}]}),
    ],
)
async def test_other_responses_say_nothing_about_users(status: int, body: Any) -> None:
    users, _ = make(respond(status, body, retry_after="7"))
    with pytest.raises(Unavailable) as failure:
        await users.write_users([write(external_id="1")])
    assert failure.value.retry_after == (1 if status == 201 else 7) and API_KEY not in failure.value.message
