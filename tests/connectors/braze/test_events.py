"""Braze's events: the contract, the requests of the page, limits, and errors by array and index."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.braze.api import check
from headwater.connectors.braze.commerce import STEPS
from headwater.connectors.braze.events import BrazeSink
from headwater.connectors.braze.schemas import EVENT_TYPES
from headwater.connectors.braze.settings import BrazeSettings
from headwater.connectors.contract import (
    ConnectorContext,
    EncodedEvent,
    EventSink,
    FailureScope,
    HttpRequest,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.schemas import Json
from tests.connectors import unexpected
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.test_pages import blocks, page
from tests.connectors.unexpected import INDEXES, SCALARS, STATUSES, bodies
from tests.connectors.vendors.braze import API_KEY, ENDPOINT, NO_DATA, BrazeServer

SETTINGS = BrazeSettings(rest_endpoint=ENDPOINT, api_key=API_KEY, app_id="app-1", alias_label="device")
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)
BACKPACK = {"sku": "backpack", "price": 40, "quantity": 2, "color": "red"}


def jsons(value: dict[str, Any]) -> dict[str, Json]:
    return {name: Json(json.dumps(each)) for name, each in value.items()}


def event(number: int = 1, properties: dict[str, Any] | None = None, type_: str = "event", **values: Any) -> Any:
    given: dict[str, Any] = {"external_id": f"user-{number}"}
    if type_ != "attributes":
        given |= {"name": "Order Completed", "properties": jsons(properties or {})}
    return make_event(number, event_type=type_, timestamp=TIME, values=given | values)


def purchase(number: int = 1, *products: dict[str, Any], **values: Any) -> Any:
    given = {"external_id": f"user-{number}", "currency": "EUR", "products": Json(json.dumps(products))}
    return make_event(number, event_type="purchase", timestamp=TIME, values=given | values)


def attributes(number: int = 1, custom: dict[str, Any] | None = None, **values: Any) -> Any:
    return event(number, type_="attributes", **({"custom_attributes": jsons(custom or {})} | values))


def step(number: int = 1, name: str = "Order Completed", **values: Any) -> Any:
    given: dict[str, Any] = {"external_id": "ada", "event": name, "currency": "eur", "source": "web"}
    if "product" in values:
        values["product"] = Json(json.dumps(values["product"]))
    if name.startswith(("Order", "Checkout")):
        given |= {
            "order_id": "o-1",
            "checkout_id": "c-1",
            "total_value": 82.5,
            "products": Json(json.dumps([BACKPACK])),
        }
    given = {key: value for key, value in (given | values).items() if value is not None}
    return make_event(number, event_type="ecommerce", timestamp=TIME, values=given)


BROKEN_STEPS = [
    step(order_id=""),
    step(total_value=None),
    step(total_value=-1.0),
    step(products=Json("[]")),
    step(products=Json(json.dumps([{"sku": "s", "price": "x"}]))),
    step(products=Json(json.dumps([{"sku": "s", "price": -1}]))),
    step(products=Json(json.dumps([{"price": 1}]))),
    step(name="Order Cancelled"),
    step(name="Product Added", product={"sku": "s", "price": 1}),
    step(name="Product Viewed"),
    step(external_id="0"),
]
"""Events that Braze would drop."""


def encode(*events: OutgoingEvent) -> dict[str, Any]:
    """Return the body of a request, which Braze's server accepts."""
    sink, server = BrazeSink(SETTINGS, make_context()), BrazeServer()
    request = sink.request([sink.encode(each) for each in events], FIRST)
    assert server.respond(request).status in (201, 202) and server.violations == []
    body: dict[str, Any] = json.loads(request.body)
    return body


def respond(response: HttpResponse, _request: HttpRequest) -> HttpResponse:
    return response


async def send(status: int, body: Any, *events: OutgoingEvent) -> Any:
    http = ScriptedHttp()
    http.respond = partial(respond, HttpResponse(status=status, body=msgspec.json.encode(body)))
    sink = BrazeSink(SETTINGS, make_context(http))
    encoded = [sink.encode(each) for each in events]
    return await sink.send(sink.request(encoded, FIRST), encoded)


class TestContract(EventSinkConformance):
    SECRETS = (API_KEY,)
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return BrazeSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        made: OutgoingEvent = event(number)
        return made

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        body = {"message": "success", "events_processed": len(events)}
        return HttpResponse(status=201, body=msgspec.json.encode(body))

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        errors = [{"type": "no", "input_array": "events", "index": 0}]
        body = {"message": "success", "events_processed": len(events) - 1, "errors": errors}
        return HttpResponse(status=201, body=msgspec.json.encode(body))

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(external_id="undefined"),
            event(external_id="null", email="", alias_name="0"),
            event(name=""),
            event(properties={"$price": 1}),
            event(properties={"": 1}),
            event(properties={"a" * 256: 1}),
            event(properties={"a": "x" * 102_400}),
            event(properties={"time": "noon"}),
            event(properties={"event_name": "x"}),
            purchase(1, {"price": 1}),
            purchase(1, {"sku": "null", "price": 1}),
            purchase(1, {"sku": "s" * 256, "price": 1}),
            purchase(1, {"sku": "s"}),
            purchase(1, {"sku": "s", "price": "nine"}),
            purchase(1, {"sku": "s", "price": "inf"}),
            purchase(1, {"sku": "s", "price": True}),
            purchase(1, {"sku": "s", "price": 1, "time": "noon"}),
            purchase(1, {"sku": "s", "price": 1, "quantity": 0}),
            purchase(1, {"sku": "s", "price": 1, "quantity": 1.5}),
            purchase(1, {"sku": "s", "price": 1, "quantity": 7_501}),
            purchase(1, *[{"sku": f"s{number}", "price": 1} for number in range(76)]),
            attributes(external_id="0"),
            attributes(custom={"$a": 1}),
            attributes(custom={"external_id": "2"}),
            attributes(custom={"push_tokens": []}),
            *BROKEN_STEPS,
            make_event(1, event_type="identify", values={"external_id": "1", "alias_name": "0"}),
            make_event(1, event_type="merge", values={"external_id": "null", "previous_id": "1"}),
            make_event(1, event_type="merge", values={"external_id": "1", "previous_id": "1"}),
            msgspec.structs.replace(event(), event_type="other"),
        ]


def test_values_at_the_limits_are_accepted() -> None:
    encode(event(name="é" * 255, properties={"a" * 255: "x" * 102_000}))
    encode(purchase(1, *[{"sku": f"s{number}", "price": 1.5, "quantity": 100} for number in range(75)]))
    encode(attributes(custom={"a": None, "nullable": {"b": "null"}}))
    encode(step(products=Json(json.dumps([{"product_id": 7, "price": "0", "quantity": "2"}])), total_value=0.0))


def test_the_requests_are_those_of_the_page() -> None:
    made = [
        event(properties={"title": "Egg"}, external_id="ada", name="Movie Rented"),
        event(external_id="undefined", alias_name="a-1", name="Viewed Home"),
        purchase(1, BACKPACK, {"product_id": "pencil", "price": 2.5}, external_id="ada"),
        attributes(external_id="ada", email="ada@example.com", first_name="Ada", custom={"plan": "pro"}),
    ]
    assert encode(*made) == json.loads(blocks("braze")["track"])
    assert encode(
        step(
            cart_id="a-1",
            tax=2.5,
            products=Json(json.dumps([BACKPACK | {"name": "Backpack"}])),
            metadata=jsons({"coupon": "X"}),
        ),
        step(2, "Product Added", cart_id="a-1", product={"sku": "pencil", "name": "Pencil", "price": "2.50"}),
    ) == json.loads(blocks("braze")["ecommerce"])
    identify = make_event(1, event_type="identify", values={"external_id": "ada", "alias_name": "a-1"})
    assert encode(identify) == json.loads(blocks("braze")["identify"])
    merge = make_event(1, event_type="merge", values={"external_id": "ada", "previous_id": "ada-old"})
    assert encode(merge) == json.loads(blocks("braze")["merge"])
    for path in ("track", "identify", "merge"):
        assert f"{ENDPOINT}/users/{path}" in page("braze")


def test_the_mappings_are_those_of_the_page() -> None:
    lines = page("braze").splitlines()
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` |" in page("braze") and type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            if not each.prefilled.startswith("map("):
                assert any(line.startswith(f"| `{each.name}` |") and shown in line for line in lines)


@pytest.mark.parametrize(
    ("values", "user"),
    [
        ({"external_id": "u", "email": "ada@example.com"}, {"external_id": "u"}),
        ({"external_id": "", "email": "ada@example.com", "phone": "+15005550006"}, {"email": "ada@example.com"}),
        ({"external_id": "0", "email": "null", "phone": "+15005550006"}, {"phone": "+15005550006"}),
        (
            {"external_id": "", "alias_name": "a-1"},
            {"user_alias": {"alias_name": "a-1", "alias_label": "device"}, "_update_existing_only": False},
        ),
    ],
)
def test_an_object_has_one_identifier(values: dict[str, Any], user: dict[str, Any]) -> None:
    [sent] = encode(event(**values))["events"]
    assert {name: sent[name] for name in sent if name not in ("name", "time", "properties", "app_id")} == user


def test_placeholders_are_no_attributes() -> None:
    [sent] = encode(attributes(email="undefined", first_name="Ada"))["attributes"]
    assert sent == {"_update_existing_only": False, "first_name": "Ada", "external_id": "user-1"}


def test_names_of_people_are_not_sent_twice_and_genders_are_codes() -> None:
    custom = {"firstName": "Ada", "lastName": "King", "plan": "pro"}
    [sent] = encode(attributes(first_name="Ada", gender="Female", custom=custom))["attributes"]
    assert (sent["first_name"], sent["lastName"], sent["gender"]) == ("Ada", "King", "F") and "firstName" not in sent


def test_null_inside_an_attribute_is_left_out() -> None:
    custom = {"address": {"city": "Rome", "state": None}, "tags": ["a", None, {"b": None}], "plan": None}
    [sent] = encode(attributes(custom=custom))["attributes"]
    assert (sent["address"], sent["tags"], sent["plan"]) == ({"city": "Rome"}, ["a", {}], None)


@pytest.mark.parametrize("name", STEPS)
def test_each_step_of_an_order_is_an_event_of_braze(name: str) -> None:
    product = {"product_id": "p-1", "sku": "s-1", "name": "Game", "price": "18.99", "quantity": "2", "time": "noon"}
    values: dict[str, Any] = {
        "cart_id": "c",
        "cancel_reason": "late",
        "tax": 1.5,
        "shipping": 0.0,
        "total_discounts": 2.0,
    }
    [sent] = encode(step(name=name, product=product, **values))["events"]
    assert sent["name"] == STEPS[name].name and sent["properties"]["currency"] == "EUR"
    products = sent["properties"].get("products", [sent["properties"]])
    assert products[0]["price"] in (18.99, 40) and products[0]["variant_id"] in ("s-1", "backpack")


def test_a_refund_of_a_whole_order_has_no_products() -> None:
    [sent] = encode(step(name="Order Refunded", products=Json("[]")))["events"]
    assert sent["properties"]["products"] == [] and sent["properties"]["total_value"] == 82.5


def test_the_properties_of_a_purchase_have_no_reserved_names() -> None:
    product = {"product_id": 7, "sku": "s", "price": "19.99", "currency": "usd", "quantity": "2", "brand": "b"}
    [sent] = encode(purchase(1, product, currency="eur", properties=jsons({"currency": "eur"})))["purchases"]
    assert (sent["product_id"], sent["price"], sent["quantity"], sent["currency"]) == ("7", 19.99, 2, "EUR")
    assert sent["properties"] == {"sku": "s", "brand": "b"}


def test_merges_and_aliases_fit_in_their_requests() -> None:
    sink = BrazeSink(SETTINGS, make_context())
    limit = sink.policy.limits.max_events
    alias = sink.encode(make_event(1, event_type="identify", values={"external_id": "1", "alias_name": "a"}))
    merge = sink.encode(make_event(1, event_type="merge", values={"external_id": "1", "previous_id": "2"}))
    assert limit // alias.count <= 50 and limit // merge.count == 1
    assert len({alias.route, merge.route, sink.encode(event()).route}) == 3


def test_an_alias_of_an_identified_user_is_that_user() -> None:
    sink, server = BrazeSink(SETTINGS, make_context()), BrazeServer()
    made = [
        event(external_id="", alias_name="a-1"),
        make_event(1, event_type="identify", values={"external_id": "ada", "alias_name": "a-1"}),
        attributes(external_id="ada-old", custom={"plan": "pro"}),
        make_event(1, event_type="merge", values={"external_id": "ada", "previous_id": "ada-old"}),
    ]
    for each in made:
        server.respond(sink.request([sink.encode(each)], FIRST))
    assert server.violations == [] and list(server.users) == ["ada"] and server.users["ada"]["plan"] == "pro"


@pytest.mark.parametrize(("type_", "name"), [("identify", "alias_name"), ("merge", "previous_id")])
async def test_a_merge_is_delivered_halved_or_paused_by_the_response(type_: str, name: str) -> None:
    events = [
        make_event(number, event_type=type_, values={"external_id": "1", name: f"a{number}"}) for number in (1, 2)
    ]
    delivered = await send(202, {"message": "success", "aliases_processed": 2}, *events)
    assert [each.outcome for each in delivered.items] == [Outcome.DELIVERED] * 2
    refused = await send(400, {"message": "identifiers must be objects"}, *events)
    assert refused.failure is not None and refused.failure.scope is FailureScope.BATCH
    forbidden = await send(403, {"message": "Access Denied"}, *events)
    assert forbidden.failure is not None and forbidden.failure.scope is FailureScope.DESTINATION
    unknown = await send(200, {"message": "no"}, *events)
    assert [each.reason for each in unknown.items] == ["UnexpectedResponse"] * 2


def test_an_app_is_optional() -> None:
    sink = BrazeSink(msgspec.structs.replace(SETTINGS, app_id=None), make_context())
    assert b"app_id" not in sink.encode(event()).body


def test_a_large_quantity_is_several_purchases() -> None:
    sent = encode(purchase(1, {"sku": "s", "price": 1, "quantity": 250}))["purchases"]
    assert [each["quantity"] for each in sent] == [100, 100, 50]


async def test_the_objects_that_are_named_reject_their_events() -> None:
    events = [
        event(1),
        purchase(2, BACKPACK, BACKPACK),
        event(3),
        attributes(4),
        purchase(5, BACKPACK),
    ]
    errors = [
        {"type": "bad event", "input_array": "events", "index": 1},
        {"type": "bad purchase", "input_array": "purchases", "index": 1},
    ]
    counts = {"events_processed": 1, "purchases_processed": 2, "attributes_processed": 1}
    result = await send(201, {"message": "success", **counts, "errors": errors}, *events)
    delivered, refused = Outcome.DELIVERED, Outcome.REJECTED
    assert [each.outcome for each in result.items] == [delivered, refused, refused, delivered, delivered]
    assert [result.items[index].message for index in (1, 2)] == ["purchase 2 of 2: bad purchase", "bad event"]


async def test_a_request_without_any_valid_object_rejects_what_it_names() -> None:
    errors = [{"type": "bad", "input_array": "events", "index": index} for index in (0, 1)]
    result = await send(400, {"message": NO_DATA, "errors": errors}, event(1), event(2))
    assert [each.outcome for each in result.items] == [Outcome.REJECTED, Outcome.REJECTED]
    result = await send(400, {"message": "Max Input Length Exceeded"}, event(1), event(2))
    assert result.failure is not None and result.failure.scope is FailureScope.BATCH


@pytest.mark.parametrize(
    "body",
    [
        {"message": "success", "events_processed": 1},
        {"message": "success", "errors": [{"type": "no", "input_array": "events", "index": 2}]},
        {"message": "success", "errors": [{"type": "no", "input_array": "visits", "index": 0}]},
        {"message": NO_DATA, "errors": []},
        {"events_processed": 2},
    ],
)
async def test_a_response_that_does_not_account_for_the_events_is_no_success(body: dict[str, Any]) -> None:
    result = await send(201, body, event(1), event(2))
    assert [each.reason for each in result.items] == ["UnexpectedResponse"] * 2


@pytest.mark.parametrize(
    "body",
    [{"message": "queued"}, {"message": "success"}, {"message": "success", "errors": ["minor"], "events_processed": 2}],
)
async def test_a_success_delivers(body: dict[str, Any]) -> None:
    result = await send(202, body, event(1), event(2))
    assert [each.outcome for each in result.items] == [Outcome.DELIVERED] * 2


async def test_the_header_of_braze_states_the_wait() -> None:
    http = ScriptedHttp()
    sink = BrazeSink(SETTINGS, make_context(http))
    events = [sink.encode(event())]
    reset = str(int(NOW.timestamp()) + 9)
    headers = {"x-ratelimit-retry-after": "4", "x-ratelimit-reset": reset}
    http.respond = partial(respond, HttpResponse(status=429, headers=headers))
    failure = (await sink.send(sink.request(events, FIRST), events)).failure
    assert failure is not None and failure.retry_after_seconds == 4
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    http.respond = partial(respond, HttpResponse(status=201, headers=headers, body=b'{"message":"success"}'))
    assert (await sink.send(sink.request(events, FIRST), events)).pause_seconds == 9


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_key_that_is_refused_is_reported(status: int) -> None:
    context = make_context(ScriptedHttp(lambda _: HttpResponse(status=status, body=API_KEY.encode())))
    with pytest.raises(Unprocessable) as refused:
        await check(SETTINGS, make_context(context.http, secrets=(API_KEY,)))
    assert (refused.value.code, refused.value.field) == ("InvalidSettings", "settings.apiKey")
    assert API_KEY not in str(refused.value) and ENDPOINT in str(refused.value)
    with pytest.raises(Unavailable):
        await check(SETTINGS, make_context(ScriptedHttp(lambda _: HttpResponse(status=503))))


ERRORS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(st.text(max_size=5), SCALARS),
        "input_array": st.sampled_from(["events", "purchases", "attributes", "visits", None]),
        "index": INDEXES,
    },
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "message": st.sampled_from(["success", "queued", NO_DATA, "", None, 5]),
        "events_processed": st.one_of(st.integers(-1, 4), SCALARS),
        "purchases_processed": st.integers(0, 3),
        "errors": st.one_of(SCALARS, st.lists(st.one_of(ERRORS, SCALARS), max_size=4)),
    },
)


@given(status=STATUSES, body=bodies(ANSWERS))
async def test_no_response_delivers_an_event_that_it_does_not_account_for(status: int, body: bytes) -> None:
    events = [event(1), purchase(2, BACKPACK, BACKPACK), event(3)]
    result = await unexpected.send(partial(BrazeSink, SETTINGS), events, status, body)
    delivered = [each.outcome for each in result.items].count(Outcome.DELIVERED)
    if delivered:
        answer = json.loads(body)
        assert answer["message"] in ("success", "queued")
        errors = [each for each in answer.get("errors", []) if isinstance(each, dict)]
        named = [(each["input_array"], each["index"]) for each in errors if each.get("index") is not None]
        assert delivered == 3 - len({array if array == "purchases" else index for array, index in named})
