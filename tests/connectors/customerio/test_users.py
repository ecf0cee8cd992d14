"""Customer.io's people: the contract, the requests of the page, limits, and errors by index."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import NOT_ATTEMPTED, HttpResponse, Outcome, UserSink, UserWrite
from headwater.connectors.customerio.schemas import WRITABLE_SCHEMA
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.connectors.customerio.users import BATCH_PEOPLE, MAX_BATCH_BYTES, CustomerIoPeople
from headwater.schemas import DateTime, Json, Record
from tests.connectors.conformance.context import Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.customerio import API_KEY, MAX_BODY_BYTES, SITE_ID, CustomerIoServer

SETTINGS = CustomerIoSettings(site_id=SITE_ID, api_key=API_KEY, region="EU")
TIME = DateTime.of(datetime(2026, 5, 4, 10, tzinfo=UTC))


def make(responder: Responder) -> tuple[CustomerIoPeople, ScriptedHttp]:
    http = ScriptedHttp(responder)
    return CustomerIoPeople(SETTINGS, make_context(http, secrets=(API_KEY,))), http


def write(**attributes: Any) -> UserWrite:
    return UserWrite(id="", attributes=attributes, key="1" * 32)


def respond(status: int, body: Any = None, **headers: str) -> Responder:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: HttpResponse(status=status, headers=named, body=msgspec.json.encode(body))


class TestContract(UserSinkConformance):
    IS_WRITE_ONLY = True

    def make(self) -> UserSink:
        self.server = CustomerIoServer()
        return make(self.server.respond)[0]

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        [cio_id] = self.server.find(id=id_)
        return {name: value for name, value in self.server.people[cio_id].items() if name in WRITABLE_SCHEMA.by_name}

    def examples(self) -> list[Record]:
        return [
            {"id": "1", "email": "ada@example.com", "phone": "+15005550006", "timezone": "Europe/Rome"},
            {"id": "2", "email": "bob@example.com", "timezone": "Europe/Oslo", "unsubscribed": True},
        ]

    def identity(self, example: Record) -> Record:
        return {"id": example["id"]}

    def rejected(self) -> Record:
        return {"id": "3", "email": "no address"}


async def test_the_request_is_that_of_the_page() -> None:
    server = CustomerIoServer()
    people, http = make(server.respond)
    ada = write(
        id="ada",
        email="ada@example.com",
        created_at=TIME,
        timezone=None,
        attributes={"plan": Json('"pro"')},
    )
    results = await people.write_users([ada, write(email="bob@example.com", unsubscribed=True)])
    assert [(each.outcome, each.id) for each in results] == [
        (Outcome.DELIVERED, "ada"),
        (Outcome.DELIVERED, "bob@example.com"),
    ]
    assert json.loads(http.requests[0].body) == json.loads(blocks("customerio")["people"])
    assert server.violations == []


def test_the_properties_are_those_of_the_page() -> None:
    for name in WRITABLE_SCHEMA.by_name:
        assert f"| `{name}` |" in page("customerio").partition("## People")[2]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"email": "null"}, "MissingIdentity"),
        ({"timezone": "Etc/UTC"}, "MissingIdentity"),
        ({"id": "1", "phone": "x" * 1_001}, "InvalidAttributes"),
        ({"id": "1", "attributes": {"cio_id": Json('"2"')}}, "InvalidAttributes"),
        ({"id": "1", "attributes": {f"a{n}": Json(f'"{"x" * 900}"') for n in range(40)}}, "PersonTooLarge"),
    ],
)
async def test_a_person_that_customerio_never_accepts_is_not_sent(attributes: Any, reason: str) -> None:
    people, http = make(respond(500))
    [result] = await people.write_users([write(**attributes)])
    assert (result.outcome, result.reason, http.requests) == (Outcome.REJECTED, reason, [])


async def test_each_person_has_its_own_result() -> None:
    error = {"batch_index": 1, "reason": "invalid", "field": "attributes.email", "message": f"not {API_KEY}"}
    people, _ = make(respond(207, {"errors": [error]}))
    users = [write(email="0"), write(id="1"), write(id="2", email="no"), write(id="3")]
    results = await people.write_users(users)
    assert [each.id for each in results] == ["", "1", "", "3"]
    assert [each.reason for each in results] == ["MissingIdentity", "", "Invalid", ""]
    assert API_KEY not in results[2].message


async def test_a_batch_that_is_refused_is_halved() -> None:
    people, _ = make(respond(400, {"meta": {"error": "no"}}))
    assert await people.write_users([write(id="1"), write(id="2")]) == [NOT_ATTEMPTED] * 2
    [result] = await people.write_users([write(id="1")])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "Status400") and "no" in result.message


@pytest.mark.parametrize(("status", "body"), [(401, {}), (403, {}), (429, {}), (500, API_KEY), (302, {}), (200, "x")])
async def test_other_responses_say_nothing_about_people(status: int, body: Any) -> None:
    people, _ = make(respond(status, body, retry_after="7"))
    with pytest.raises(Unavailable) as failure:
        await people.write_users([write(id="1")])
    assert failure.value.retry_after == 7 and API_KEY not in failure.value.message


@pytest.mark.parametrize("error", [{"batch_index": 1}, {"batch_index": -1}, {"reason": "invalid"}])
async def test_an_error_about_no_person_of_the_request_is_not_a_success(error: dict[str, Any]) -> None:
    people, _ = make(respond(207, {"errors": [error]}))
    with pytest.raises(Unavailable, match="not in the request"):
        await people.write_users([write(id="1")])


async def test_the_largest_batch_is_within_the_limit() -> None:
    server = CustomerIoServer()
    people, _ = make(server.respond)
    size = MAX_BATCH_BYTES // BATCH_PEOPLE - 300
    users = [
        write(
            email=f"{n:03d}{'x' * 230}@example.com",
            attributes={f"a{index}": Json(f'"{"y" * (size // 2 - 10)}"') for index in range(2)},
        )
        for n in range(BATCH_PEOPLE)
    ]
    assert {each.outcome for each in await people.write_users(users)} == {Outcome.DELIVERED}
    assert server.violations == [] and MAX_BATCH_BYTES < MAX_BODY_BYTES
