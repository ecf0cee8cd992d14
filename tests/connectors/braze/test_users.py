"""Braze's users: the contract, the requests of the page, limits, and errors by index."""

import json
from datetime import date
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.braze.schemas import WRITABLE_SCHEMA
from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.braze.users import MAX_USER_BYTES, BrazeUsers
from headwater.connectors.contract import NOT_ATTEMPTED, HttpResponse, Outcome, UserWrite
from headwater.schemas import Json
from tests.connectors.conformance.context import Responder, ScriptedHttp, make_context
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.braze import API_KEY, ENDPOINT, NO_DATA, BrazeServer

SETTINGS = BrazeSettings(rest_endpoint=ENDPOINT, api_key=API_KEY)


def make(responder: Responder) -> tuple[BrazeUsers, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return BrazeUsers(SETTINGS, make_context(http, secrets=(API_KEY,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id="", attributes=attributes, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


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
    assert json.loads(http.requests[0].body) == json.loads(blocks("braze")["users"])
    assert server.violations == []


def test_the_properties_are_those_of_the_page() -> None:
    for name in WRITABLE_SCHEMA.by_name:
        assert f"| `{name}` |" in page("braze").partition("## Users")[2]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"external_id": "null"}, "MissingIdentity"),
        ({"first_name": "Ada"}, "MissingIdentity"),
        ({"external_id": "1", "custom_attributes": {"external_id": Json('"2"')}}, "InvalidAttributes"),
        ({"external_id": "1", "custom_attributes": {"a": Json('{"b":null}')}}, "InvalidAttributes"),
        ({"external_id": "1", "first_name": "x" * MAX_USER_BYTES}, "UserTooLarge"),
    ],
)
async def test_a_user_that_braze_never_accepts_is_not_sent(attributes: Any, reason: str) -> None:
    users, http = make(respond(500))
    [result] = await users.write_users([write(**attributes)])
    assert (result.outcome, result.reason, http.requests) == (Outcome.REJECTED, reason, [])


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
    [(401, {}), (403, {}), (429, {}), (500, API_KEY), (302, {}), (200, "x"), (200, {"message": "no"})],
)
async def test_other_responses_say_nothing_about_users(status: int, body: Any) -> None:
    users, _ = make(respond(status, body, retry_after="7"))
    with pytest.raises(Unavailable) as failure:
        await users.write_users([write(external_id="1")])
    assert failure.value.retry_after == 7 and API_KEY not in failure.value.message
