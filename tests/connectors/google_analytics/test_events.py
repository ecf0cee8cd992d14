"""Google Analytics' events: the contract, all event types with their suggested mappings, identities and limits."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.contract import (
    ConnectorContext,
    EventRejected,
    EventSink,
    EventType,
    HttpResponse,
    OutgoingEvent,
)
from headwater.connectors.google_analytics.api import check
from headwater.connectors.google_analytics.events import GoogleAnalyticsSink
from headwater.connectors.google_analytics.schemas import EVENT_TYPES
from headwater.connectors.google_analytics.settings import GoogleAnalyticsSettings
from headwater.management.pipelines import suggested_mapping
from headwater.schemas import EVENT_SCHEMA, Json
from headwater.transforms.mapping import CompiledMapping, MappingFailed
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.conformance.vendor import plain_schema
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.google_analytics import MEASUREMENT_ID, SECRET, GoogleAnalyticsServer

SETTINGS = GoogleAnalyticsSettings.read(
    {"measurementID": MEASUREMENT_ID, "apiSecret": SECRET, "collectionEndpoint": "EU"}
)
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)
BY_ID = {type_.id: type_ for type_ in EVENT_TYPES}
PRODUCT = {"product_id": "p-1", "name": "Cup", "price": 9.5, "quantity": 1, "brand": "B", "position": 3, "url": "u"}
ORDER = {"order_id": "o-1", "total": 9.5, "currency": "EUR", "products": [PRODUCT], "tax": 1, "coupon": "c"}
LEAD = {"value": 5, "currency": "EUR"}
RECORDED: dict[str, dict[str, Any]] = {
    "ad_impression": {"ad_platform": "MoPub", "value": 3.999, "currency": "USD"},
    "add_shipping_info": {**ORDER, "shipping_method": "post"},
    "add_payment_info": {**ORDER, "payment_method": "card"},
    "add_to_cart": PRODUCT,
    "add_to_wishlist": PRODUCT,
    "begin_checkout": ORDER,
    "post_score": {"score": 10_000, "level": 5, "character": "Player 1"},
    "purchase": ORDER,
    "refund": {"order_id": "o-1"},
    "remove_from_cart": PRODUCT,
    "search": {"query": "cups"},
    "select_item": {**PRODUCT, "list_id": "l-1"},
    "select_promotion": {"promotion_id": "promo-1", "creative": "top", "name": "Sale", "position": "home"},
    "spend_virtual_currency": {"value": 5, "virtual_currency_name": "Gems"},
    "unlock_achievement": {"achievement_id": "A_12345"},
    "view_cart": ORDER,
    "view_item": PRODUCT,
    "view_item_list": {"list_id": "l-1", "category": "Deals", "products": [PRODUCT]},
    "view_promotion": {"promotion_id": "promo-1", "creative": "top", "name": "Sale", "position": "home"},
    "custom_event": {"n": 1, "ratio": 0.5, "isNew": True, "note": None, "text": "x"},
}
"""Properties of events as SDKs send them, by event type; that of a lead for others."""


def event(type_: str = "custom_event", number: int = 1, **changes: Any) -> OutgoingEvent:
    """Return an event with the given `values`, `context` and `integrations`."""
    document = {name: changes.pop(name) for name in ("context", "integrations") if name in changes}
    given: dict[str, Any] = {"values": {"name": "Order Shipped"}, "timestamp": TIME, "document": _json(document)}
    return make_event(number, event_type=type_, **(given | changes))


def custom(name: str = "Order Shipped", /, **params: Any) -> OutgoingEvent:
    return event(values={"name": name, "params": {name: Json(json.dumps(each)) for name, each in params.items()}})


def purchase(*items: Any, **values: Any) -> OutgoingEvent:
    return event("purchase", values={"transaction_id": "o-1", "items": as_json([*items]), **values})


def described(**properties: Any) -> OutgoingEvent:
    """Return an event with properties of its user."""
    given = {name: as_json(value) for name, value in properties.items()}
    return event(values={"name": "Order Shipped", "user_properties": given})


def as_json(value: Any) -> Json:
    return Json(json.dumps(value))


def mapped(type_: EventType, properties: Any, **members: Any) -> Any:
    """Return the values that the suggested mapping makes of an event."""
    assert type_.schema is not None
    mapping = suggested_mapping(type_.schema)
    record = {"type": "track", "event": "Order Shipped", "properties": as_json(properties), **members}
    return CompiledMapping(mapping, EVENT_SCHEMA, plain_schema(type_.schema, mapping)).apply(record, "Create")


def sent(*events: OutgoingEvent) -> dict[str, Any]:
    """Return the body of the request, to which the validation server has no objection."""
    sink = GoogleAnalyticsSink(SETTINGS, make_context())
    request = sink.request([sink.encode(each) for each in events], FIRST)
    server = GoogleAnalyticsServer()
    server.respond(request)
    assert server.violations == [] and len(server.accepted) == len(events)
    body: dict[str, Any] = json.loads(request.body)
    return body


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


class TestContract(EventSinkConformance):
    SECRETS = (SECRET,)

    def make(self, context: ConnectorContext) -> EventSink:
        return GoogleAnalyticsSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number=number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(user_id="", anonymous_id=""),
            event(user_id="0", anonymous_id="undefined"),
            event(anonymous_id="x" * 257),
            event("other"),
            custom("..."),
            custom("1st order"),
            custom("x" * 41),
            custom("Session Start"),
            custom("ga_order"),
            custom(**{"order-id": 1}),
            custom(**{"x" * 41: 1}),
            custom(ga_x=1),
            custom(products=[1]),
            custom(nested={"a": 1}),
            custom(text="x" * 101),
            event(values={"name": "a", "params": {"n": Json("1e400")}}),
            event(values={"name": "a", "params": {"n": Json('"\\ud800"')}}),
            custom(**{f"p{number}": 1 for number in range(25)}),
            event("page_view", values={"page_location": "x" * 1_001}),
            purchase({"item_id": "a"}, {"coupon": "c"}),
            purchase(*[{"item_id": "a"}] * 201),
            purchase({"item_id": "x" * 101}),
            purchase({"item_id": ["a"]}),
            purchase({"item_id": "a", "price": "cheap"}),
            purchase("a"),
            purchase(),
            purchase({"item_id": "a"}, value=as_json("9,50")),
            purchase({"item_id": "a"}, currency="€"),
            described(nested={"a": 1}),
            described(**{"x" * 25: 1}),
            described(user_id="a"),
            described(plan="x" * 37),
            described(**{f"p{number}": 1 for number in range(26)}),
        ]


def test_values_at_the_limits_are_accepted() -> None:
    long = {"page_location": "x" * 1_000, "page_referrer": "x" * 420, "page_title": "é" * 300}
    sent(event("page_view", values=long), custom("x" * 40, **{f"p{number}": "x" * 100 for number in range(24)}))
    sent(purchase(*[{"item_id": "a"}] * 200))
    sent(described(**{f"{'p' * 22}{number}": "x" * 36 for number in range(10, 35)}))


@pytest.mark.parametrize("type_", EVENT_TYPES, ids=lambda type_: type_.id)
def test_suggested_mappings_suit_the_events_of_sdks(type_: EventType) -> None:
    """The validation server has no objection to a recorded event, and every given value is sent."""
    properties = RECORDED.get(type_.id, LEAD)
    values = {} if type_.schema is None else mapped(type_, properties)
    [made] = sent(event(type_.id, values=values))["events"]
    assert made["name"] == ("order_shipped" if type_.id == "custom_event" else type_.id)
    if "products" in properties or properties is PRODUCT:
        [item] = made["params"]["items"]
        expected = {"item_id": "p-1", "item_name": "Cup", "item_brand": "B", "index": 3, "price": 9.5, "quantity": 1}
        assert item == expected


def test_a_page_is_that_of_the_call_or_that_of_its_context() -> None:
    """Servers state the page in the properties of the call only; a browser states it in both."""
    page, other = (
        {"url": f"https://{host}/", "title": host, "referrer": f"https://{host}/r"} for host in ("a.b", "c.d")
    )
    expected = {"page_location": "https://a.b/", "page_title": "a.b", "page_referrer": "https://a.b/r"}
    for properties, context in ((page, {}), ({}, {"page": page}), (page, {"page": other})):
        values = mapped(BY_ID["page_view"], properties, type="page", context=context)
        [made] = sent(event("page_view", values=values))["events"]
        assert expected.items() <= made["params"].items()


def test_most_properties_have_a_suggestion() -> None:
    without = {"ad_user_data", "ad_personalization", "user_properties"}
    for type_ in EVENT_TYPES:
        if type_.schema is not None:
            assert {each.name for each in type_.schema.properties if not each.prefilled} == without


@pytest.mark.parametrize("products", [[], None, "o-1"])
def test_an_order_without_products_is_refused(products: Any) -> None:
    with pytest.raises(EventRejected, match="items"):
        sent(event("purchase", values=mapped(BY_ID["purchase"], {"order_id": "o-1", "products": products})))
    with pytest.raises(MappingFailed):
        mapped(BY_ID["purchase"], {"order_id": "o-1"})


def test_prices_may_be_texts_and_currencies_in_lower_case() -> None:
    product = {
        "sku": 7,
        "name": "Cup",
        "price": "9.50",
        "quantity": "2",
        "position": "3",
        "coupon": "",
        "category": None,
    }
    order = {"order_id": 12, "revenue": "19.00", "tax": "", "currency": "eur", "products": [product]}
    [made] = sent(event("purchase", values=mapped(BY_ID["purchase"], order)))["events"]
    params = made["params"]
    assert (params["value"], params["currency"], params["transaction_id"], "tax" in params) == (
        19.0,
        "EUR",
        "12",
        False,
    )
    assert params["items"] == [{"item_id": "7", "item_name": "Cup", "price": 9.5, "quantity": 2, "index": 3}]


@pytest.mark.parametrize(
    ("type_", "properties", "value"),
    [
        ("add_to_cart", {"product_id": "a", "price": "9.50", "quantity": 3}, 28.5),
        ("view_item", {"product_id": "a", "price": 9.5}, 9.5),
        ("view_item", {"product_id": "a", "price": 9.5, "quantity": 3, "value": 1}, 1),
        ("view_item", {"product_id": "a"}, None),
        (
            "view_cart",
            {"products": [{"sku": "a", "price": 0.1, "quantity": 3}, {"sku": "b", "price": 2}, {"sku": "c"}]},
            2.3,
        ),
        ("purchase", {"order_id": "o", "total": 5, "products": [{"sku": "a", "price": 1}]}, 5),
        ("view_promotion", {"promotion_id": "p", "name": "Sale", "price": 1}, None),
    ],
)
def test_the_value_is_that_of_the_items_without_another(type_: str, properties: Any, value: float | None) -> None:
    [made] = sent(event(type_, values=mapped(BY_ID[type_], properties)))["events"]
    assert made["params"].get("value") == value


@pytest.mark.parametrize(
    ("product", "item"),
    [
        ({"sku": "s", "productId": "i", "product_id": "p"}, {"item_id": "p"}),
        ({"sku": "s", "item_id": "", "name": "n", "item_name": "m"}, {"item_id": "s", "item_name": "m"}),
        ({"name": "Sale", "position": "home", "url": "u"}, {"item_name": "Sale"}),
        ({"name": True, "item_brand": 1.5, "index": "4"}, {"item_name": "true", "item_brand": "1.5", "index": 4}),
    ],
)
def test_products_become_items(product: Any, item: Any) -> None:
    assert sent(purchase(product))["events"][0]["params"]["items"] == [item]


def test_there_are_the_documented_event_types() -> None:
    assert len(EVENT_TYPES) == 39, "38 of Google, and custom events"
    purchases = BY_ID["purchase"]
    assert (purchases.name, purchases.description) == ("Purchase", "Send 'Purchase' events to Google Analytics")
    assert BY_ID["tutorial_begin"].schema is None and BY_ID["tutorial_complete"].schema is None
    assert purchases.schema is not None
    required = {each.name for each in purchases.schema.properties if each.create_required}
    assert required == {"transaction_id", "items"}


def test_the_page_has_the_event_types_and_mappings() -> None:
    text = page("google-analytics")
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` | `{type_.filter}`" in text or (not type_.filter and f"`{type_.id}`" in text)
    for id_, name in (
        ("purchase", "transaction_id"),
        ("purchase", "value"),
        ("purchase", "items"),
        ("view_item", "items"),
    ):
        schema = BY_ID[id_].schema
        assert schema is not None
        assert f"`{schema.by_name[name].prefilled}`" in text


def test_the_request_is_that_of_the_page() -> None:
    ids: dict[str, Any] = {
        "user_id": "ada",
        "integrations": {"GA4": {"clientId": "GA1.1.1234567890.1700000000", "sessionId": 1_777_895_999}},
    }
    product = {"product_id": "p-1", "name": "Cup", "price": 9.5, "quantity": 1}
    order = {"order_id": "o-1", "total": 9.5, "currency": "EUR", "products": [product]}
    context = {"ip": "203.0.113.9", "userAgent": "Mozilla/5.0"}
    first = event("purchase", values=mapped(BY_ID["purchase"], order, context=context), **ids)
    place = {"ip_override": context["ip"], "user_agent": context["userAgent"]}
    shipped = {"name": "Order Shipped", "params": {"carrier": Json('"post"')}, **place}
    second = event(values=shipped, number=2, **ids)
    assert sent(first, second) == json.loads(blocks("google-analytics")["request"])
    assert "`https://region1.google-analytics.com/mp/collect`" in page("google-analytics")


@pytest.mark.parametrize(
    ("changes", "client", "user"),
    [
        ({}, "anonymous-1", "user-1"),
        ({"user_id": ""}, "anonymous-1", None),
        ({"user_id": "null"}, "anonymous-1", None),
        ({"anonymous_id": ""}, "user-1", "user-1"),
        ({"integrations": {"Google Analytics 4": {"clientId": "1.2"}}}, "1.2", "user-1"),
        ({"integrations": {"Google Analytics": {"clientId": "1.2"}, "All": True}}, "1.2", "user-1"),
        ({"integrations": {"GA4": {"clientId": "GA1.1.1234567890.1700000000"}}}, "1234567890.1700000000", "user-1"),
        ({"integrations": {"GA4": {"clientId": "GA1.1-2.1.2"}}}, "1.2", "user-1"),
        ({"integrations": {"GA4": {"clientId": "undefined"}}}, "anonymous-1", "user-1"),
        ({"integrations": {"GA4": True, "x": {"clientId": "1.2"}}}, "anonymous-1", "user-1"),
        ({"integrations": {"GA4": {"clientId": 5}}}, "anonymous-1", "user-1"),
    ],
)
def test_users_are_named_by_the_ids_of_the_browser_or_the_event(
    changes: dict[str, Any], client: str, user: str | None
) -> None:
    body = sent(event(**changes))
    assert (body["client_id"], body.get("user_id")) == (client, user)


@pytest.mark.parametrize(
    ("tag", "session", "sent_id"),
    [
        ({}, "1777895999000", "1777895999000"),
        ({"sessionId": 1_777_895_999}, "1", "1777895999"),
        ({"sessionId": "1777895999"}, None, "1777895999"),
        ({"sessionId": "GS2.1.s1"}, "7", "7"),
        ({}, "a1b2", None),
        ({}, "0", None),
        ({}, -5, None),
    ],
)
def test_the_session_is_that_of_the_tag_or_the_event(tag: Any, session: Any, sent_id: str | None) -> None:
    given = event(context={"session": {"id": session}}, integrations={"GA4": tag})
    [made] = sent(given)["events"]
    assert made["params"] == {"engagement_time_msec": 1} | ({} if sent_id is None else {"session_id": sent_id})


def test_a_request_has_the_place_the_device_and_the_consent_of_its_user() -> None:
    values = {
        "name": "Order Shipped",
        "ip_override": "203.0.113.9",
        "user_agent": "Mozilla/5.0",
        "ad_user_data": "GRANTED",
        "ad_personalization": "DENIED",
        "user_properties": {"plan": as_json("pro"), "seats": as_json(3), "trial": as_json(True), "none": as_json(None)},
    }
    body = sent(event(values=values), event(values=values, number=2, anonymous_id="anonymous-1", user_id="user-1"))
    assert (body["ip_override"], body["user_agent"]) == ("203.0.113.9", "Mozilla/5.0")
    assert body["consent"] == {"ad_user_data": "GRANTED", "ad_personalization": "DENIED"}
    assert body["user_properties"] == {"plan": {"value": "pro"}, "seats": {"value": 3}, "trial": {"value": "true"}}
    assert [each["params"] for each in body["events"]] == [{"engagement_time_msec": 1}] * 2


def test_a_user_may_contain_any_text() -> None:
    """The parts of an encoded event are found by a text that an id cannot contain."""
    body = sent(event(user_id=',"events":['), event(number=2, user_id=',"events":['))
    assert body["user_id"] == ',"events":[' and len(body["events"]) == 2


def test_users_are_kept_apart() -> None:
    sink = GoogleAnalyticsSink(SETTINGS, make_context())
    same = {sink.encode(event(number=number, anonymous_id="a", user_id="u")).user for number in (1, 2)}
    others = {sink.encode(event(anonymous_id="a", user_id=user)).user for user in ("u", "v", "")}
    moved = {"name": "a", "ip_override": "203.0.113.9"}
    others.add(sink.encode(event(anonymous_id="a", user_id="u", values=moved)).user)
    assert len(same) == 1 and len(others) == 4


def test_the_policy_has_the_window_of_google() -> None:
    policy = GoogleAnalyticsSink.policy
    assert policy.max_age_seconds == timedelta(hours=72).total_seconds()
    assert (policy.scope, policy.limits.max_events, policy.idempotency.form) == ("User", 25, "None")


def test_reasons_are_those_of_the_page() -> None:
    for each in TestContract().unacceptable():
        with pytest.raises(EventRejected) as rejected:
            GoogleAnalyticsSink(SETTINGS, make_context()).encode(each)
        assert f"`{rejected.value.reason}`" in page("google-analytics") or rejected.value.reason == "UnknownEventType"


async def test_an_objection_of_the_validation_server_refuses_the_settings() -> None:
    body = {"validationMessages": [{"description": f"{SECRET} is wrong", "validationCode": "VALUE_INVALID"}]}
    http = ScriptedHttp(lambda _: HttpResponse(status=200, body=_json(body)))
    with pytest.raises(Unprocessable) as refused:
        await check(SETTINGS, make_context(http, secrets=(SECRET,)))
    assert refused.value.field == "settings.measurementID" and SECRET not in str(refused.value)
    assert http.requests[0].url.startswith("https://region1.google-analytics.com/debug/mp/collect?")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
async def test_another_body_of_the_validation_server_is_no_check(body: bytes) -> None:
    with pytest.raises(Unavailable):
        await check(SETTINGS, make_context(ScriptedHttp(lambda _: HttpResponse(status=200, body=body))))
