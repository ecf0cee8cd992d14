"""HubSpot's events: the contract, the requests of the page, definitions, limits, and errors."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    UNEXPECTED_RESPONSE,
    ConnectorContext,
    EventRejected,
    EventSink,
    FailureScope,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.hubspot.api import VERSION, WAITS
from headwater.connectors.hubspot.events import (
    DEFINITIONS_URL,
    IDENTITY,
    LIMIT,
    MAX_PROPERTIES,
    PREFILLED,
    SEND_URL,
    HubSpotSink,
)
from headwater.connectors.hubspot.settings import HubSpotSettings
from headwater.connectors.hubspot.values import to_text
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.responses import find_wait
from headwater.schemas import EVENT_SCHEMA, DateTime, Json, Record, StringType, Value
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.conformance.vendor import plain_schema, prefilled
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.hubspot import DEFAULT_PROPERTIES, ORDER_COMPLETED, TOKEN, HubSpotServer, error

SETTINGS = HubSpotSettings(access_token=TOKEN)
KINDS = {"string": "string", "number": "float(64)", "enumeration": "string"}
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)


def event(number: int = 1, **values: Any) -> OutgoingEvent:
    given = {"email": f"user-{number}@example.com"} | values
    return make_event(number, event_type=ORDER_COMPLETED, timestamp=TIME, values=given)


def with_properties(count: int, value: str) -> OutgoingEvent:
    values: Record = {"email": "ada@example.com", **{f"p{number}": value for number in range(count)}}
    return msgspec.structs.replace(event(), values=values)


def answer(status: int, body: Any, **headers: str) -> HttpResponse:
    return HttpResponse(status=status, headers=headers, body=msgspec.json.encode(body))


class TestContract(EventSinkConformance):
    SECRETS = (TOKEN,)

    def make(self, context: ConnectorContext) -> EventSink:
        return HubSpotSink(SETTINGS, context)

    def sink(self, http: ScriptedHttp | None = None) -> EventSink:
        return super().sink(http or ScriptedHttp(HubSpotServer().respond))

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(email="undefined"),
            event(email="", objectId="0", utk="null"),
            with_properties(51, "x"),
            event(note="x" * 100_000),
            msgspec.structs.replace(event(), event_type="Order Completed"),
        ]


def test_values_at_the_limits_are_accepted() -> None:
    HubSpotSink(SETTINGS, make_context()).encode(with_properties(50, "x" * 1_000))


def test_the_request_is_that_of_the_page() -> None:
    sink = HubSpotSink(SETTINGS, make_context())
    first = event(1, email="ada@example.com", total=9.5, currency="EUR")
    second = event(2, email="null", objectId="512", is_gift=True)
    request = sink.request([sink.encode(first), sink.encode(second)], FIRST)
    assert (request.url, json.loads(request.body)) == (SEND_URL, json.loads(blocks("hubspot")["events"]))
    assert request.headers["authorization"] == f"Bearer {TOKEN}" and not request.authorize
    assert SEND_URL in page("hubspot") and DEFINITIONS_URL in page("hubspot")


def test_the_example_of_the_vendor_is_accepted_by_its_server() -> None:
    """The properties of the event of HubSpot's guide to custom events, in a definition of the server."""
    sink, server = HubSpotSink(SETTINGS, make_context()), HubSpotServer()
    request = sink.request([sink.encode(event(email="", objectId="608051", hs_country="United States"))], FIRST)
    assert server.respond(request).status == 204 and server.violations == []
    [given] = json.loads(request.body)["inputs"]
    assert (given["objectId"], given["properties"]) == ("608051", {"hs_country": "United States"})


async def test_the_event_types_are_the_definitions_of_the_account() -> None:
    http = ScriptedHttp(HubSpotServer().respond)
    order, said = await HubSpotSink(SETTINGS, make_context(http)).event_types()
    assert len(http.requests) == 2, "the pages of definitions"
    assert (order.id, order.name, order.filter) == (ORDER_COMPLETED, "Order Completed", 'event is "Order Completed"')
    assert said.filter == 'event is "Said \\"hello\\""'
    assert order.schema is not None and said.schema is not None
    kinds = {each.name: (str(each.type), each.prefilled) for each in order.schema.properties}
    assert kinds == {
        **{each.name: (str(each.type), each.prefilled) for each in IDENTITY},
        "n": ("float(64)", "trim(properties.n)"),
        "total": ("float(64)", "trim(properties.total)"),
        "currency": ("string", "properties.currency"),
        "is_gift": ("boolean", "trim(properties.is_gift)"),
        "shipped_at": ("datetime", "properties.shipped_at"),
        **{each["name"]: (KINDS[each["type"]], PREFILLED.get(each["name"], "")) for each in DEFAULT_PROPERTIES},
    }
    lengths = {each.name: each.type.max_length for each in order.schema if isinstance(each.type, StringType)}
    assert (lengths["currency"], lengths["hs_page_url"], lengths["hs_referrer"]) == (256, 1_024, 1_024)


async def test_the_suggested_mappings_read_an_order_of_a_shop() -> None:
    sink = HubSpotSink(SETTINGS, make_context(ScriptedHttp(HubSpotServer().respond)))
    schema = (await sink.event_types())[0].schema
    assert schema is not None
    mapping = CompiledMapping(prefilled(schema), EVENT_SCHEMA, plain_schema(schema, prefilled(schema)))
    order: Record = {
        "traits": Json('{"email":" Ada@Example.com "}'),
        "properties": Json('{"n":2,"total":"19.99","currency":"EUR","is_gift":"true","products":[{"sku":"a"}]}'),
        "context": {
            "campaign": {"name": "spring", "source": "news"},
            "page": {"url": "https://shop.example.com/?" + "x" * 2_000, "title": "Thanks"},
            "screen": {"height": 900, "width": 1440},
            "userAgent": "Mozilla/5.0 " + "x" * 300,
        },
    }
    given = json.loads(sink.encode(msgspec.structs.replace(event(), values=mapping.apply(order, "Create"))).body)
    own = {"n": "2", "total": "19.99", "currency": "EUR", "is_gift": "true"}
    default = {"hs_utm_campaign": "spring", "hs_utm_source": "news", "hs_page_title": "Thanks"}
    assert given["email"] == "ada@example.com"
    assert given["properties"].items() >= (own | default | {"hs_screen_width": "1440"}).items()
    assert [len(given["properties"][name]) for name in ("hs_page_url", "hs_user_agent")] == [1_024, 256]


async def test_the_suggested_mappings_are_not_more_than_an_event_can_have() -> None:
    own = [{"name": f"p{number}", "type": "string"} for number in range(45)]
    definition = {"fullyQualifiedName": "pe1_a", "properties": [*DEFAULT_PROPERTIES, *own]}
    http = ScriptedHttp(lambda _: answer(200, {"results": [definition]}))
    [found] = await HubSpotSink(SETTINGS, make_context(http)).event_types()
    assert found.schema is not None
    mapped = [each.name for each in found.schema if each.prefilled and each not in IDENTITY]
    assert len(mapped) == MAX_PROPERTIES and {each["name"] for each in own} <= {*mapped}


async def test_an_account_without_custom_events_says_so() -> None:
    server = HubSpotServer()
    server.has_events = False
    with pytest.raises(Unavailable, match="no custom events"):
        await HubSpotSink(SETTINGS, make_context(ScriptedHttp(server.respond))).event_types()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"results":[{}]}', b"\xff"])
async def test_definitions_in_another_form_are_read_again(body: bytes) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=200, body=body))
    with pytest.raises(Unavailable):
        await HubSpotSink(SETTINGS, make_context(http)).event_types()


def test_the_identifiers_and_the_version_are_those_of_the_page() -> None:
    for each in IDENTITY:
        shown = f"`{each.prefilled}`" if each.prefilled else "none"
        assert f"| `{each.name}` | {shown} |" in page("hubspot")
    assert CONNECTORS["hubspot"].version == VERSION and VERSION.ends_on is not None
    assert f"version `{VERSION.name}` of the API, until {VERSION.ends_on:%-d %B %Y}" in page("hubspot")
    for name, expression in PREFILLED.items():
        assert f"| `{name}` | `{expression}` |" in page("hubspot")
    assert f"{LIMIT.count + LIMIT.burst:,} requests with events in a second" in page("hubspot")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("é", "é"),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (3.0, "3"),
        (9.5, "9.5"),
        (1e300, str(int(1e300))),
        (date(2026, 5, 4), "2026-05-04"),
        (DateTime.parse("2026-05-04T12:00:00.123456Z"), "2026-05-04T12:00:00.123Z"),
        (["red", "blue"], "red;blue"),
        (Json('{"a":1}'), '{"a":1}'),
    ],
)
def test_values_are_texts(value: Value, text: str) -> None:
    assert to_text(value) == text


async def send(response: HttpResponse, count: int = 2) -> Any:
    sink = HubSpotSink(SETTINGS, make_context(ScriptedHttp(lambda _: response)))
    events = [sink.encode(event(number)) for number in range(count)]
    return await sink.send(sink.request(events, FIRST), events)


@pytest.mark.parametrize(("more", "violations"), [(0, []), (1, ["a batch has 1 to 500 events"])])
def test_the_largest_request_is_one_that_hubspot_takes(more: int, violations: list[str]) -> None:
    sink, server = HubSpotSink(SETTINGS, make_context()), HubSpotServer()
    events = [sink.encode(event(number)) for number in range(sink.policy.limits.max_events + more)]
    server.respond(sink.request(events, FIRST))
    assert [each.partition(": ")[2] for each in server.violations] == violations


@pytest.mark.parametrize("body", [{}, {"status": "COMPLETE"}, "<html>Sign in to the network</html>"])
async def test_a_response_of_another_server_delivers_no_event(body: Any) -> None:
    assert {(each.outcome, each.reason) for each in (await send(answer(200, body))).items} == {
        (Outcome.RETRY, UNEXPECTED_RESPONSE)
    }


async def test_an_event_that_hubspot_refuses_has_its_reason() -> None:
    [item] = (await send(answer(400, error("VALIDATION_ERROR", "note is too long")), 1)).items
    assert (item.outcome, item.reason, item.message) == (Outcome.REJECTED, "ValidationError", "note is too long")


async def test_a_request_that_hubspot_refuses_is_halved() -> None:
    result = await send(answer(400, error("VALIDATION_ERROR", "note is too long")))
    assert result.failure is not None and result.failure.scope is FailureScope.BATCH


@pytest.mark.parametrize("status", [403, 423, 477, 521, 523, 524])
async def test_other_statuses_are_about_the_account(status: int) -> None:
    result = await send(answer(status, error("", "later"), **{"retry-after": "30"}))
    assert result.failure is not None and result.failure.scope is FailureScope.DESTINATION
    assert result.failure.retry_after_seconds == 30.0


async def test_the_wait_is_that_of_the_limit() -> None:
    headers = {"x-hubspot-ratelimit-interval-milliseconds": "10000"}
    assert find_wait(headers, WAITS, NOW) == 10.0
    short = await send(answer(429, {"policyName": "TEN_SECONDLY_ROLLING"}, **headers))
    assert short.failure.retry_after_seconds == 10.0


def test_placeholders_are_left_out() -> None:
    sink = HubSpotSink(SETTINGS, make_context())
    given = json.loads(sink.encode(event(email="undefined", utk="0123abcd")).body)
    assert given["utk"] == "0123abcd" and "email" not in given
    with pytest.raises(EventRejected, match="no email, objectId or utk"):
        sink.encode(event(email="null"))
