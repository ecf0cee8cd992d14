"""Mixpanel's events and profiles: the contract, the requests of the page, limits, and failed records."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import (
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventSink,
    FailureScope,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.mixpanel.events import MixpanelSink
from headwater.connectors.mixpanel.responses import RULES
from headwater.connectors.mixpanel.schemas import EVENT_TYPES
from headwater.connectors.mixpanel.settings import MixpanelSettings
from headwater.connectors.redaction import Redactor, format_request
from headwater.connectors.responses import NOT_TAKEN, read_response
from headwater.schemas import Json
from tests.connectors.bodies import JSON, bodies
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.mixpanel import FORBIDDEN, RESERVED, TOKEN

SETTINGS = MixpanelSettings(project_id="3012345", project_token=TOKEN, data_residency="EU")
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)


def as_json(properties: dict[str, Any]) -> dict[str, Json]:
    return {name: Json(json.dumps(value)) for name, value in properties.items()}


def event(
    number: int = 1, properties: dict[str, Any] | None = None, type_: str = "track", **changes: Any
) -> OutgoingEvent:
    values: dict[str, Any] = {"event": "Order Completed"} if type_ != "identify" else {}
    if properties is not None:
        values["properties"] = as_json(properties)
    values |= changes.pop("values", {})
    return make_event(number, event_type=type_, timestamp=TIME, values=values, **changes)


def imported(events: Sequence[EncodedEvent], *failed: dict[str, Any], taken: int | None = None) -> HttpResponse:
    count = sum(each.count for each in events) - len(failed) if taken is None else taken
    body = {"code": 400 if failed else 200, "num_records_imported": count, "failed_records": list(failed)}
    return HttpResponse(status=400 if failed else 200, body=msgspec.json.encode(body))


def sink(response: HttpResponse | None = None) -> MixpanelSink:
    return MixpanelSink(SETTINGS, make_context(ScriptedHttp(lambda _: response or HttpResponse(status=500))))


class TestContract(EventSinkConformance):
    SECRETS = (TOKEN,)
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return MixpanelSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return imported(events)

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return imported(events, {"index": 0, "insert_id": events[0].id, "field": "properties.time", "message": "no"})

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(user_id="", anonymous_id=""),
            *[event(user_id=each, anonymous_id="undefined") for each in (*FORBIDDEN, "null", " NULL ", "0")],
            event(values={"event": " "}),
            event(values={"event": "$merge"}),
            *[event(properties={name: 1}) for name in ("time", "distinct_id", "$insert_id", *RESERVED)],
            event(values={"campaign": as_json({"bucket": "a"})}),
            event(properties={f"p{number}": 1 for number in range(250)}),
            event(properties={"a": {"b": {"c": {"d": {}}}}}),
            event(properties={"a": [{"b": {"c": [{"d": {}}]}}]}),
            event(properties={"a": list(range(255))}),
            event(properties={"a": {f"p{number}": 1 for number in range(255)}}),
            event(values={"products": [as_json({"sku": "a"})] * 1_000}, type_="product_purchased"),
            event(type_="identify", user_id="", properties={"a": 1}),
            event(type_="identify", user_id="null", properties={"a": 1}),
            event(type_="identify", properties={}),
            event(type_="identify", properties={"$distinct_id": "x"}),
            event(type_="other"),
            msgspec.structs.replace(event(), timestamp=datetime(1970, 12, 31, tzinfo=UTC)),
        ]


class TestContractOfProfiles(EventSinkConformance):
    SECRETS = (TOKEN,)
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return MixpanelSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number, {"plan": "pro"}, type_="identify")

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return HttpResponse(status=200, body=b'{"error":null,"status":1}')

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        failed, taken = [{"index": 0, "message": "no"}], len(events) - 1
        body = {"status": 0, "error": "some failed", "failed_records": failed, "num_good_events": taken}
        return HttpResponse(status=200, body=msgspec.json.encode(body))


def test_values_at_the_limits_are_accepted() -> None:
    values = {f"p{number}": 1 for number in range(247)}
    sink().encode(event(properties=values | {"deep": {"b": [{"c": {"d": 1}}]}}))  # with 6 of the connector's, 254
    sink().encode(event(properties={"a": list(range(254)), "b": {f"p{number}": 1 for number in range(254)}}))
    sink().encode(msgspec.structs.replace(event(), timestamp=datetime(1971, 1, 1, tzinfo=UTC)))


def test_the_requests_are_those_of_the_page() -> None:
    order = {"order_id": "o-1", "total": 9.5}
    context = {
        "ip": "203.0.113.9",
        "current_url": "https://shop.example/",
        "os": "iOS",
        "browser": "Safari",
        "campaign": as_json({"utm_source": "news"}),
    }
    tracked = sink().request([sink().encode(event(1, order, values=context, user_id="ada", anonymous_id="d-1"))], FIRST)
    assert json.loads(tracked.body) == json.loads(blocks("mixpanel")["import"])
    products = [as_json({"sku": "a", "price": 4.5}), as_json({"sku": "b", "price": 5})]
    purchased = event(
        2,
        order,
        type_="product_purchased",
        user_id="",
        anonymous_id="d-1",
        values={"event": "Product Purchased", "products": products},
    )
    encoded = sink().encode(purchased)
    assert encoded.count == 2
    assert json.loads(sink().request([encoded], FIRST).body) == json.loads(blocks("mixpanel")["products"])
    traits = {"email": "ada@example.com", "plan": "pro", "firstName": "Ada"}
    values = {"email": "ada@example.com", "first_name": "Ada"}
    identified = sink().request([sink().encode(event(3, traits, "identify", values=values, user_id="ada"))], FIRST)
    shown = json.loads(format_request(identified, Redactor((TOKEN,))).partition("\r\n\n")[2])
    assert shown == json.loads(blocks("mixpanel")["profile"])
    assert f"`POST {tracked.url}`" in page("mixpanel") and f"`POST {identified.url}`" in page("mixpanel")


def test_the_mappings_are_those_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` | {type_.filter.replace('|', '')} |" in page("mixpanel") and type_.schema is not None
        for each in type_.schema.properties:
            assert f"`{each.prefilled}`" in page("mixpanel"), each.prefilled


@pytest.mark.parametrize(
    ("amount", "sent"),
    [
        ("19.99", 19.99),
        (" 7 ", 7),
        ("-0.5", -0.5),
        (19.99, 19.99),
        ("", ""),
        ("007", "007"),
        ("1,50", "1,50"),
        ("€5", "€5"),
        ("1e5", "1e5"),
        (None, None),
        (True, True),
        ({"amount": "5"}, {"amount": "5"}),
    ],
)
def test_amounts_of_orders_are_numbers(amount: Any, sent: Any) -> None:
    order = {"total": amount, "order_id": "7"}
    values = {"products": [as_json({"price": amount, "sku": "7"})]}
    purchased = event(1, order, "product_purchased", values=values)
    [product] = json.loads(b"[%s]" % sink().encode(purchased).body)
    completed = json.loads(sink().encode(event(1, order, "order_completed")).body)
    tracked = json.loads(sink().encode(event(1, order, "track")).body)
    assert (product["properties"]["total"], product["properties"]["price"]) == (sent, sent)
    assert (completed["properties"]["total"], completed["properties"]["order_id"]) == (sent, "7")
    assert product["properties"]["sku"] == "7" and tracked["properties"]["total"] == amount


@pytest.mark.parametrize("member", ["insert_id", "$insert_id"])
async def test_failed_records_are_named_by_id_and_by_index(member: str) -> None:
    events = [sink().encode(event(number)) for number in (1, 2, 3)]
    records = [{"index": 9, member: events[2].id, "field": "properties.distinct_id", "message": "no such user"}]
    response = imported(events, *records, {"index": 0, "field": "properties.a", "message": "'a' is invalid"})
    connector = sink(response)
    result = await connector.send(connector.request(events, FIRST), events)
    assert [each.outcome for each in result.items] == [Outcome.REJECTED, Outcome.DELIVERED, Outcome.REJECTED]
    assert [each.reason for each in result.items] == ["InvalidProperty", "", "InvalidIdentity"]
    assert result.items[2].message == "no such user (properties.distinct_id)"


async def test_the_documented_example_of_a_validation_error() -> None:
    """23 records were imported, and those with the indexes 0 and 3 were not. The ids are those of the example."""
    records = [
        {"index": 0, "$insert_id": "8a66058c-a56d-4ef6-8123-28b7c9f7e82f", "field": "properties.time", "message": "no"},
        {"index": 3, "$insert_id": "29fc2962-6d9c-455d-95ad-95b84f09b9e4", "field": "properties.utm_source"},
    ]
    events = [sink().encode(event(number)) for number in range(25)]
    connector = sink(imported(events, *records, taken=23))
    result = await connector.send(connector.request(events, FIRST), events)
    assert [index for index, each in enumerate(result.items) if each.outcome is Outcome.REJECTED] == [0, 3]
    assert sum(each.outcome is Outcome.DELIVERED for each in result.items) == 23


async def test_a_failed_product_rejects_its_event() -> None:
    products = {"event": "Product Purchased", "products": [as_json({"sku": sku}) for sku in "abc"]}
    events = [sink().encode(event(1)), sink().encode(event(2, type_="product_purchased", values=products))]
    for record in ({"index": 2}, {"index": 7, "insert_id": f"{events[1].id}-1"}):
        connector = sink(imported(events, {**record, "field": "properties.sku", "message": "no"}))
        result = await connector.send(connector.request(events, FIRST), events)
        assert [each.outcome for each in result.items] == [Outcome.DELIVERED, Outcome.REJECTED]


async def test_counts_that_do_not_add_up_deliver_nothing() -> None:
    events = [sink().encode(event(number)) for number in (1, 2)]
    for response in (imported(events, taken=1), imported(events, {"index": 0, "message": "no"}, taken=0)):
        connector = sink(response)
        result = await connector.send(connector.request(events, FIRST), events)
        assert result.failure is None and result.items[1].outcome is Outcome.RETRY
    response = imported(events, {"index": 5, "insert_id": "f" * 32, "message": "no"})
    connector = sink(response)
    result = await connector.send(connector.request(events, FIRST), events)
    assert {each.outcome for each in result.items} == {Outcome.RETRY}


@pytest.mark.parametrize("body", [b'{"status":0,"error":"data, missing or empty"}', b'{"status":0}'])
async def test_a_refusal_of_profiles_without_names_halves_the_request(body: bytes) -> None:
    events = [sink().encode(event(number, {"a": 1}, type_="identify")) for number in (1, 2)]
    connector = sink(HttpResponse(status=200, body=body))
    result = await connector.send(connector.request(events, FIRST), events)
    assert result.failure is not None and result.failure.scope is FailureScope.BATCH
    [item] = (await connector.send(connector.request(events[:1], FIRST), events[:1])).items
    assert (item.outcome, item.reason) == (Outcome.REJECTED, "InvalidProfile") and item.message


@pytest.mark.parametrize("count", [None, 0])
async def test_profiles_that_are_not_counted_are_sent_again(count: int | None) -> None:
    events = [sink().encode(event(number, {"a": 1}, type_="identify")) for number in (1, 2)]
    failed = [{"index": 1, "message": "no"}]
    body = {"status": 0, "error": "some failed", "failed_records": failed, "num_good_events": count}
    connector = sink(HttpResponse(status=200, body=msgspec.json.encode(body)))
    result = await connector.send(connector.request(events, FIRST), events)
    assert (result.failure, result.items[0], result.items[1].outcome) == (None, NOT_TAKEN, Outcome.REJECTED)


RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(-1, 4) | JSON,
            "insert_id": st.sampled_from(["", f"{2:032x}", f"{3:032x}-1", "x"]) | JSON,
            "field": st.text(max_size=3) | JSON,
            "message": st.text(max_size=3) | JSON,
        },
    ),
    max_size=4,
)
RESPONSES = bodies(
    {
        "status": st.sampled_from([0, 1, "OK", "Bad Request"]),
        "error": st.none() | st.text(max_size=3),
        "num_records_imported": st.integers(-1, 6),
        "num_good_events": st.integers(-1, 6),
        "failed_records": RECORDS,
    }
)


@given(body=RESPONSES, status=st.sampled_from([200, 400]), type_=st.sampled_from(["product_purchased", "identify"]))
def test_no_response_delivers_an_event_that_it_does_not_account_for(body: bytes, status: int, type_: str) -> None:
    products = {"products": [as_json({"sku": "a"}), as_json({"sku": "b"})]} if type_ != "identify" else {}
    events = [sink().encode(event(number, {"a": 1}, type_=type_, values=products)) for number in (1, 2, 3)]
    response = HttpResponse(status=status, body=body)
    result = read_response(response, events, RULES[events[0].route], NOW)
    assert len(result.items) == 3
    delivered = sum(item.outcome is Outcome.DELIVERED for item in result.items)
    if delivered:
        answer = json.loads(body)
        failed = len(answer.get("failed_records") or ())
        counted = [answer[name] for name in ("num_records_imported", "num_good_events") if answer.get(name) is not None]
        assert status == 200 or failed
        assert sum(each.count for each in events) - failed in counted or (not failed and answer["status"] in (1, "OK"))


async def test_a_refused_token_pauses_the_destination() -> None:
    for status in (401, 403):
        for type_ in ("track", "identify"):
            events = [sink().encode(event(1, {"a": 1}, type_=type_))]
            connector = sink(HttpResponse(status=status, body=b'{"error":"Invalid credentials"}'))
            result = await connector.send(connector.request(events, FIRST), events)
            assert result.failure is not None and result.failure.scope is FailureScope.CREDENTIALS


def test_a_placeholder_is_left_out_if_there_is_another_identity() -> None:
    body = json.loads(sink().encode(event(user_id="null", anonymous_id="d-1")).body)
    assert body["properties"]["distinct_id"] == "$device:d-1" and "$user_id" not in body["properties"]


def test_the_reason_names_the_reserved_property() -> None:
    with pytest.raises(EventRejected, match='reserves the property "token": map it to another name'):
        sink().encode(event(properties={"token": "x"}))
