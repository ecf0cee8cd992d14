"""Salesforce's records: the contracts, the requests of the page, schemas, limits, and errors."""

import asyncio
import json
from datetime import UTC, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import BadRequest, Unavailable
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
from headwater.connectors.salesforce.api import (
    CONCURRENCY_PAUSE_SECONDS,
    LIMIT_PAUSE_SECONDS,
    Description,
    Field,
    read_description,
)
from headwater.connectors.salesforce.records import SalesforceRecords
from headwater.connectors.salesforce.schemas import make_readable_schema, make_writable_schema
from headwater.connectors.salesforce.settings import SalesforceSettings
from headwater.schemas import BooleanType, DateTimeType, DateType, FloatType, IntType, Record, StringType
from tests.connectors.conformance.context import NOW, Responder, ScriptedHttp, make_context
from tests.connectors.conformance.user_sink import UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.salesforce import INSTANCE, TOKEN, SalesforceServer, fail

SETTINGS = SalesforceSettings(object="Contact", external_id_field="Headwater_ID__c")
KEY = "Headwater_ID__c"


def contextual(http: ScriptedHttp) -> ConnectorContext:
    async def url() -> str:
        return INSTANCE

    return msgspec.structs.replace(make_context(http, secrets=(TOKEN,)), account_url=url)


def authorized(responder: Responder) -> Responder:
    """Add the access token to requests, as the client does."""

    def respond(request: HttpRequest) -> HttpResponse | TransportError:
        assert request.authorize and "authorization" not in request.headers
        headers = {**request.headers, "authorization": f"Bearer {TOKEN}"}
        return responder(msgspec.structs.replace(request, headers=headers))

    return respond


def serve(server: SalesforceServer, settings: SalesforceSettings = SETTINGS) -> tuple[SalesforceRecords, ScriptedHttp]:
    http = ScriptedHttp(authorized(server.respond))
    return SalesforceRecords(settings, contextual(http)), http


def answering(*answers: HttpResponse | TransportError) -> tuple[SalesforceRecords, ScriptedHttp]:
    """Return records of a server that describes the object, and then gives these responses to other requests."""
    server, rest = SalesforceServer(), iter(answers)

    def respond(request: HttpRequest) -> HttpResponse | TransportError:
        return server.respond(request) if request.url.endswith("/describe") else next(rest)

    http = ScriptedHttp(authorized(respond))
    return SalesforceRecords(SETTINGS, contextual(http)), http


def write(number: int = 1, /, **attributes: Any) -> UserWrite:
    id_ = attributes.pop("id", "")
    return UserWrite(id=id_, attributes={KEY: f"user-{number}", "LastName": "A", **attributes}, key=f"{number:032x}")


def response(body: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, body=msgspec.json.encode(body))


def refusal(status: int, code: str, message: str = "a message") -> HttpResponse:
    return response([{"errorCode": code, "message": message}], status)


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        self.server = SalesforceServer()
        return serve(self.server)[0]

    def examples(self) -> list[Record]:
        return [
            {KEY: "user-1", "LastName": "Lovelace", "Email": "ada@example.com", "Visits__c": 1.5},
            {KEY: "user-2", "LastName": "Hopper", "Email": None, "HasOptedOutOfEmail": True},
        ]

    def rejected(self) -> Record:
        return {KEY: "user-3", "LastName": "X", "Email": "no address"}

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        stored = self.server.by_id[id_]
        return {"LastName": stored["LastName"], "Email": stored["Email"]}


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        server = SalesforceServer()
        server.batch = 120
        for number in range(250):
            server.add(NOW + timedelta(seconds=number // 30), LastName="A", Email=f"user-{number}@example.com")
        return serve(server)[0]


async def test_the_requests_are_those_of_the_page() -> None:
    records, _ = serve(SalesforceServer())
    for name, is_update, path in (("create", False, f"/Contact/{KEY}"), ("update", True, "")):
        shown = json.loads(blocks("salesforce")[name])
        given = [{key: value for key, value in each.items() if key != "attributes"} for each in shown["records"]]
        request = await records.request(given, is_update=is_update)
        url = f"{INSTANCE}/services/data/v66.0/composite/sobjects{path}"
        assert (request.method, request.url, json.loads(request.body)) == ("PATCH", url, shown)
        assert f"PATCH {url.removeprefix(INSTANCE)}" in page("salesforce") and request.authorize


async def test_the_results_of_the_page_are_read() -> None:
    records, _ = answering(response(json.loads(blocks("salesforce")["results"])))
    first, second = await records.write_users([write(1), write(2)])
    assert (first.outcome, first.id) == (Outcome.DELIVERED, "0031x00001aBcDeAAK")
    assert (second.outcome, second.reason) == (Outcome.REJECTED, "DuplicatesDetected")


async def test_the_query_of_the_page_is_sent() -> None:
    server = SalesforceServer()
    records, http = serve(server)
    await records.users("")
    [query] = parse_qs(urlsplit(http.requests[-1].url).query)["q"]
    shown = blocks("salesforce")["query"].strip()
    names = query.removeprefix("SELECT ").partition(" FROM ")[0].split(",")
    assert names[:2] == ["Id", "SystemModstamp"]
    assert query.replace(",".join(names[2:]), "…") == shown


def test_the_types_of_fields() -> None:
    def field(name: str, type_: str, **others: Any) -> Field:
        return Field(name=name, type=type_, createable=True, updateable=True, **others)

    description = Description(
        [
            field("A", "string", length=80, nillable=False),
            field("B", "boolean", nillable=False),
            field("C", "int"),
            field("D", "currency"),
            field("E", "date"),
            field("F", "datetime"),
            field("G", "multipicklist", length=4_099),
            field("H", "address"),
            field("I", "base64"),
            field("J", "string", deprecated_and_hidden=True),
            field("K", "picklist", nillable=False, defaulted_on_create=True),
            Field(name="SystemModstamp", type="datetime", nillable=False),
            Field(name="Id", type="id", nillable=False, length=18),
        ]
    )
    readable = {each.name: each.type for each in make_readable_schema(description)}
    assert list(readable) == ["Id", "SystemModstamp", "A", "B", "C", "D", "E", "F", "G", "K"]
    assert [readable[name] for name in "ABCDEF"] == [
        StringType(),
        BooleanType(),
        IntType(32),
        FloatType(64, real=True),
        DateType(),
        DateTimeType(),
    ]
    writable = {each.name: each for each in make_writable_schema(description, "C")}
    assert list(writable) == list("ABCDEFGK")
    assert [name for name, each in writable.items() if each.create_required] == ["A", "C"]
    assert [name for name, each in writable.items() if not each.nullable] == ["A", "B", "C", "K"]
    assert writable["A"].type == StringType(max_length=80)


def test_more_names_than_a_url_has_are_left_out() -> None:
    names = ["Id", "SystemModstamp", *(f"Field_{number:040}__c" for number in range(800))]
    schema = make_readable_schema(Description([Field(name=name, type="string") for name in names]))
    assert 200 < len(tuple(schema)) < 800 and sum(len(each.name) + 1 for each in schema) <= 12_000


@pytest.mark.parametrize("body", [b"", b"[]", b'{"fields":[{}]}', b"\xff"])
def test_another_description_is_an_error(body: bytes) -> None:
    with pytest.raises(Unavailable):
        read_description(HttpResponse(status=200, body=body))


async def test_a_query_has_the_time_since_which_records_changed() -> None:
    records, http = serve(SalesforceServer())
    await records.users("", NOW.astimezone(timezone(timedelta(hours=2))))
    [query] = parse_qs(urlsplit(http.requests[-1].url).query)["q"]
    assert " WHERE SystemModstamp >= 2026-05-04T11:59:59.000Z ORDER BY" in query


async def test_pages_come_from_few_requests_and_continue_after_the_cursor_has_ended() -> None:
    server = SalesforceServer()
    server.batch = 200
    ids = [server.add(NOW, LastName=f"{number}") for number in range(450)]
    records, http = serve(server)
    read, cursor, queries = [], "", []
    while True:
        users = await records.users(cursor)
        read += [user.id for user in users.users]
        queries.append(len(http.requests))
        if not (cursor := users.cursor):
            break
        if len(read) == 300:
            server.forget_cursors()
    assert read == sorted(ids)
    assert queries[-1] == 5, "a description, and four queries for five pages"
    assert server.violations == []


async def test_a_page_that_failed_is_read_again() -> None:
    row = {"Id": "003xx000004TmiQAAS", "SystemModstamp": "2026-05-04T12:00:00.000+0000"}
    records, _ = answering(
        response({"done": False, "records": [row] * 150, "nextRecordsUrl": "/services/data/v66.0/query/01g-200"}),
        refusal(503, "SERVER_UNAVAILABLE"),
        response({"done": True, "records": [row] * 20}),
    )
    first = await records.users("")
    with pytest.raises(Unavailable):
        await records.users(first.cursor)
    second = await records.users(first.cursor)
    assert (len(first.users), len(second.users), second.cursor) == (100, 70, "")


@pytest.mark.parametrize("wrong", [{"Visits__c": "many"}, {"Birthdate": "soon"}, {"LastName": 7}, {"IsDeleted": "no"}])
async def test_a_record_in_another_form_is_an_error_of_its_own(wrong: Any) -> None:
    good = {"Id": "003xx000004TmiQAAS", "SystemModstamp": "2026-05-04T14:00:00.000+0200", "Visits__c": 3}
    records, _ = answering(response({"done": True, "records": [good, {**good, "Id": "B", **wrong}]}))
    first, second = (await records.users("")).users
    assert (first.error, first.updated_at, first.attributes["Visits__c"]) == ("", NOW.astimezone(UTC), 3.0)
    assert (second.id, second.attributes) == ("B", {}) and second.error


@pytest.mark.parametrize(
    "body",
    [{}, [], {"records": {}}, {"records": [{}] * 101}, {"records": [], "nextRecordsUrl": "https://evil.example"}],
)
async def test_a_response_in_another_form_is_read_again(body: Any) -> None:
    records, _ = answering(response(body))
    with pytest.raises(Unavailable):
        await records.users("")


@pytest.mark.parametrize("position", ["2026-05-04 x", "2026-05-04T12:00:00.000Z 1' OR Id != '"])
async def test_a_cursor_cannot_change_the_query(position: str) -> None:
    from headwater.connectors.users import format_cursor

    records, http = serve(SalesforceServer())
    with pytest.raises(BadRequest):
        await records.users(format_cursor("salesforce", position))
    assert http.requests == []


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (UserWrite(id="", attributes={"LastName": "A"}, key="1" * 32), "MissingIdentity"),
        (write(1, Headwater_ID__c="null"), "MissingIdentity"),
        (write(1, Headwater_ID__c="undefined"), "MissingIdentity"),
        (write(1, Headwater_ID__c="0"), "MissingIdentity"),
        (write(id="no-such-user"), "MalformedId"),
    ],
)
async def test_a_record_that_salesforce_never_accepts_is_not_sent(user: UserWrite, reason: str) -> None:
    records, http = answering()
    [result] = await records.write_users([user])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, reason) and result.message
    assert len(http.requests) == 1, "the description"


async def test_without_an_external_id_records_are_only_updated() -> None:
    server = SalesforceServer()
    id_ = server.add(LastName="A")
    records, _ = serve(server, SalesforceSettings(object="Contact"))
    [result] = await records.write_users([write()])
    assert (result.outcome, result.reason) == (Outcome.REJECTED, "NoExternalIDField")
    [result] = await records.write_users([UserWrite(id=id_, attributes={"LastName": "B"}, key="1" * 32)])
    assert result.id == id_ and server.by_id[id_]["LastName"] == "B"


async def test_two_records_with_one_external_id_are_sent_one_after_the_other() -> None:
    server = SalesforceServer()
    records, _ = serve(server)
    first, second = await records.write_users([write(1), write(1, Headwater_ID__c="USER-1")])
    assert first.outcome is Outcome.DELIVERED
    assert (second.outcome, second.retry_after_seconds) == (Outcome.RETRY, 0.0)
    assert server.violations == []


async def test_locked_rows_are_sent_again_alone() -> None:
    server = SalesforceServer()
    records, _ = serve(server)
    server.locked = 1
    first, second = await records.write_users([write(1), write(2)])
    assert (first.outcome, first.reason, second.outcome) == (Outcome.RETRY, "UnableToLockRow", Outcome.DELIVERED)


@pytest.mark.parametrize(
    ("code", "message", "outcome"),
    [
        ("UNABLE_TO_LOCK_ROW", "", Outcome.RETRY),
        ("SERVER_UNAVAILABLE", "", Outcome.RETRY),
        ("REQUEST_LIMIT_EXCEEDED", "", Outcome.RETRY),
        ("DUPLICATE_VALUE", f"duplicate value found: {KEY} duplicates value on record with id: 003", Outcome.RETRY),
        ("DUPLICATE_VALUE", "duplicate value found: Other__c duplicates value", Outcome.REJECTED),
        ("DUPLICATES_DETECTED", "Use one of these records?", Outcome.REJECTED),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "a rule", Outcome.REJECTED),
        ("STRING_TOO_LONG", f"too long: {TOKEN}", Outcome.REJECTED),
        ("", "", Outcome.REJECTED),
    ],
)
async def test_the_codes_of_records(code: str, message: str, outcome: Outcome) -> None:
    records, _ = answering(response([fail(code, message, "Field")]))
    [result] = await records.write_users([write()])
    assert result.outcome is outcome and result.reason and TOKEN not in result.message


@pytest.mark.parametrize(
    "body", [[], [{"success": True, "id": "003"}] * 3, {"success": True}, "x", [{"id": "003"}, {"id": "004"}]]
)
async def test_results_that_do_not_add_up_are_unknown(body: Any) -> None:
    records, _ = answering(response(body))
    with pytest.raises(Unavailable):
        await records.write_users([write(1), write(2)])


@pytest.mark.parametrize(("more", "violations"), [(0, []), (1, ["201 records"])])
async def test_the_largest_call_is_one_that_salesforce_takes(more: int, violations: list[str]) -> None:
    server = SalesforceServer()
    records, _ = serve(server)
    await records.write_users([write(number) for number in range(records.write_limits.max_events + more)])
    assert [each.partition(": ")[2] for each in server.violations] == violations


RESULTS = st.lists(
    st.fixed_dictionaries(
        {"success": st.booleans()},
        optional={
            "id": st.sampled_from(["003xx000004TmiQAAS", "", None]),
            "errors": st.lists(
                st.fixed_dictionaries({"statusCode": st.sampled_from(["UNABLE_TO_LOCK_ROW", "STRING_TOO_LONG", ""])}),
                max_size=2,
            ),
        },
    ),
    max_size=4,
)


@given(results=RESULTS, kept=st.integers(0, 2_000))
def test_no_response_delivers_a_record_without_a_success_of_its_own(results: list[dict[str, Any]], kept: int) -> None:
    body = msgspec.json.encode(results)
    records, _ = answering(HttpResponse(status=200, body=body[:kept]))
    users = [write(number) for number in range(3)]
    try:
        written = asyncio.run(records.write_users(users))
    except Unavailable:
        assert kept < len(body) or len(results) != len(users)
        return
    for result, given_ in zip(written, results, strict=True):
        assert (result.outcome is Outcome.DELIVERED) is bool(given_["success"] and given_.get("id"))
        assert result.outcome is Outcome.DELIVERED or result.reason


async def test_a_success_without_an_id_is_sent_again() -> None:
    records, _ = answering(response([{"success": True, "errors": []}]))
    [result] = await records.write_users([write()])
    assert result.outcome is Outcome.RETRY


async def test_a_request_that_is_refused_for_one_record_is_halved() -> None:
    server = SalesforceServer()
    records, http = serve(server)

    def respond(request: HttpRequest) -> HttpResponse | TransportError:
        if b"user-13" in request.body:
            return refusal(400, "JSON_PARSER_ERROR", "Cannot deserialize instance of double")
        return server.respond(request)

    http.respond = authorized(respond)
    results = await records.write_users([write(number) for number in range(10, 26)])
    assert [index for index, each in enumerate(results) if each.outcome is Outcome.REJECTED] == [3]
    assert all(each.outcome is Outcome.DELIVERED for index, each in enumerate(results) if index != 3)
    assert results[3].reason == "JsonParserError" and len(http.requests) == 1 + 9


async def test_a_field_that_is_gone_is_not_searched_for_in_single_records() -> None:
    records, http = answering(refusal(400, "INVALID_FIELD", "No such column 'X__c' on sobject of type Contact"))
    results = await records.write_users([write(number) for number in range(10)])
    assert {(each.outcome, each.reason) for each in results} == {(Outcome.REJECTED, "InvalidField")}
    assert len(http.requests) == 2


async def test_results_are_kept_if_a_later_half_has_none() -> None:
    good = [{"success": True, "id": "003xx000004TmiQAAS"}]
    records, _ = answering(
        refusal(400, "JSON_PARSER_ERROR"), response(good), TransportError(TransportFailure.TIMED_OUT, "no response")
    )
    first, second = await records.write_users([write(1), write(2)])
    assert (first.outcome, second.outcome) == (Outcome.DELIVERED, Outcome.RETRY)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 302])
async def test_other_responses_say_nothing_about_the_records(status: int) -> None:
    records, _ = answering(*[refusal(status, "SOME_CODE", f"about {TOKEN}")] * 2)
    with pytest.raises(Unavailable) as failure:
        await records.write_users([write(1), write(2)])
    assert TOKEN not in failure.value.message
    with pytest.raises(Unavailable):
        await records.users("")


@pytest.mark.parametrize("status", [400, 404])
async def test_another_server_rejects_no_record(status: int) -> None:
    records, http = answering(HttpResponse(status=status, body=b"<html>no such page</html>"))
    with pytest.raises(Unavailable):
        await records.write_users([write(1), write(2)])
    assert len(http.requests) == 2


async def test_the_daily_limit_pauses() -> None:
    records, _ = answering(*[refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")] * 2)
    for call in (records.write_users([write()]), records.users("")):
        with pytest.raises(Unavailable, match="24 hours") as failure:
            await call
        assert failure.value.retry_after == LIMIT_PAUSE_SECONDS


@pytest.mark.parametrize("message", ["ConcurrentRequests (Concurrent API Requests) Limit exceeded.", "CONCURRENT"])
async def test_too_many_requests_at_the_same_time_pause_shortly(message: str) -> None:
    records, _ = answering(refusal(403, "REQUEST_LIMIT_EXCEEDED", message))
    with pytest.raises(Unavailable, match="same time") as failure:
        await records.write_users([write()])
    assert failure.value.retry_after == CONCURRENCY_PAUSE_SECONDS


async def test_a_connection_without_an_account_is_to_be_authorized() -> None:
    records = SalesforceRecords(SETTINGS, make_context(ScriptedHttp()))
    with pytest.raises(TransportError) as failure:
        await records.readable_schema()
    assert failure.value.failure is TransportFailure.AUTHORIZATION_REVOKED
