"""Mixpanel's users: the contract, the requests of the page, limits, and failed records."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    NOT_ATTEMPTED,
    HttpResponse,
    Outcome,
    TransportError,
    TransportFailure,
    UserSink,
    UserWrite,
)
from headwater.connectors.mixpanel.api import MAX_BODY_BYTES, MAX_RECORD_BYTES, MAX_RECORDS
from headwater.connectors.mixpanel.schemas import WRITABLE_NAMES, WRITABLE_SCHEMA
from headwater.connectors.mixpanel.settings import MixpanelSettings
from headwater.connectors.mixpanel.users import MAX_BATCH_BYTES, MAX_USERS, MixpanelUsers
from headwater.connectors.redaction import Redactor, format_request
from headwater.schemas import DateTime, Json, Record
from tests.connectors.conformance.context import Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.mixpanel import FORBIDDEN, TOKEN, MixpanelServer

SETTINGS = MixpanelSettings(project_id="3012345", project_token=TOKEN, data_residency="EU")
TIME = DateTime.of(datetime(2026, 5, 4, 10, 0, 0, 500_000, tzinfo=UTC))


def make(responder: Responder) -> tuple[MixpanelUsers, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return MixpanelUsers(SETTINGS, make_context(http, secrets=(TOKEN,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id="", attributes=attributes, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


class TestContract(UserSinkConformance):
    IS_WRITE_ONLY = True

    def make(self) -> UserSink:
        self.server = MixpanelServer()
        return make(self.server.respond)[0]

    def examples(self) -> list[Record]:
        return [
            {"distinct_id": "ada", "email": "ada@example.com", "created": TIME, "properties": {"plan": Json('"pro"')}},
            {"distinct_id": "bob", "email": "bob@example.com", "phone": None},
        ]

    def rejected(self) -> Record:
        return {"distinct_id": "null", "email": "ada@example.com"}

    def identity(self, example: Record) -> Record:
        return {"distinct_id": example["distinct_id"]}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        assert self.server.violations == []
        return {"distinct_id": id_, "email": self.server.profiles[id_]["$email"]}


async def test_the_request_is_that_of_the_page() -> None:
    server = MixpanelServer()
    users, http = make(server.respond)
    ada = write(
        distinct_id="ada",
        email="ada@example.com",
        created=TIME,
        city=None,
        properties={"plan": Json('"pro"'), "trial": Json("null")},
    )
    results = await users.write_users([ada, write(distinct_id="bob", timezone="Europe/Rome")])
    assert [(each.outcome, each.id) for each in results] == [(Outcome.DELIVERED, "ada"), (Outcome.DELIVERED, "bob")]
    shown = json.loads(format_request(http.requests[0], Redactor((TOKEN,))).partition("\r\n\n")[2])
    assert shown == json.loads(blocks("mixpanel")["users"])
    assert server.violations == []


def test_the_properties_are_those_of_the_page() -> None:
    rows = page("mixpanel").partition("## Exports")[2]
    for name in WRITABLE_SCHEMA.by_name:
        assert f"| `{name}` | {f'`{WRITABLE_NAMES[name]}`' if name in WRITABLE_NAMES else ''}" in rows


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        *[({"distinct_id": each, "name": "Ada"}, "MissingIdentity") for each in ("", " NULL ", *sorted(FORBIDDEN))],
        ({"email": "ada@example.com"}, "MissingIdentity"),
        ({"distinct_id": "1"}, "MissingProperties"),
        ({"distinct_id": "1", "properties": {}}, "MissingProperties"),
        ({"distinct_id": "1", "properties": {"$token": Json("null")}}, "ReservedProperty"),
        ({"distinct_id": "1", "properties": {"$distinct_id": Json('"2"')}}, "ReservedProperty"),
        ({"distinct_id": "1", "name": "x" * MAX_RECORD_BYTES}, "UserTooLarge"),
    ],
)
async def test_a_user_that_mixpanel_never_accepts_is_not_sent(attributes: Any, reason: str) -> None:
    users, http = make(respond(500))
    [result] = await users.write_users([write(**attributes)])
    assert (result.outcome, result.reason, http.requests) == (Outcome.REJECTED, reason, [])


async def test_a_request_of_the_largest_batch_is_within_the_limits() -> None:
    server = MixpanelServer()
    users, http = make(server.respond)
    text = "x" * (MAX_BATCH_BYTES // MAX_USERS - 300)
    await users.write_users([write(distinct_id=f"{number:0255}", name=text, city=None) for number in range(MAX_USERS)])
    body = http.requests[0].body
    assert len(json.loads(body)) == MAX_RECORDS and len(body) < MAX_BODY_BYTES
    assert server.violations == []


async def test_each_user_has_its_own_result() -> None:
    failed = [{"index": 2, "field": "$distinct_id", "message": f"not {TOKEN}"}]
    users, _ = make(respond(200, {"status": 0, "error": "some failed", "failed_records": failed, "num_good_events": 3}))
    given = [
        write(distinct_id="0", name="Nobody"),
        write(distinct_id="1", name="Ada", city=None),  # the records 0 and 1
        write(distinct_id="2", name="Bob", city=None),  # the records 2 and 3
    ]
    results = await users.write_users(given)
    assert [each.id for each in results] == ["", "1", ""]
    assert [each.reason for each in results] == ["MissingIdentity", "", "InvalidIdentity"]
    assert TOKEN not in results[2].message


async def test_counts_that_do_not_add_up_write_nothing() -> None:
    users, _ = make(respond(200, {"status": 1, "num_good_events": 1}))
    results = await users.write_users([write(distinct_id="1", name="Ada", city=None)])
    assert [each.outcome for each in results] == [Outcome.RETRY]


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, {"status": 0, "error": "no data"}), (400, {"error": "no data"}), (413, {"error": "no data"})],
)
async def test_a_batch_that_is_refused_is_halved(status: int, body: Any) -> None:
    users, _ = make(respond(status, body))
    two = [write(distinct_id="1", name="Ada"), write(distinct_id="2", name="Bob")]
    assert list(await users.write_users(two)) == [NOT_ATTEMPTED] * 2
    [result] = await users.write_users(two[:1])
    assert result.outcome is Outcome.REJECTED and result.reason and "no data" in result.message


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 302])
async def test_other_responses_say_nothing_about_users(status: int) -> None:
    users, _ = make(respond(status, TOKEN, retry_after="7"))
    with pytest.raises(Unavailable) as failure:
        await users.write_users([write(distinct_id="1", name="Ada")])
    assert failure.value.retry_after == 7 and TOKEN not in failure.value.message


@pytest.mark.parametrize("body", [1, 0, "x", {}, {"status": "?"}])
async def test_a_success_that_is_not_the_documented_one_is_no_success(body: Any) -> None:
    users, _ = make(respond(200, body))
    [result] = await users.write_users([write(distinct_id="1", name="Ada")])
    assert result.outcome is Outcome.RETRY


async def test_a_failure_of_the_transport_is_not_changed() -> None:
    def fail(_: Any) -> HttpResponse:
        raise TransportError(TransportFailure.ADDRESS_FORBIDDEN, "no")

    users, _ = make(fail)
    with pytest.raises(TransportError):
        await users.write_users([write(distinct_id="1", name="Ada")])
