"""Meta's events: the contract, the requests of the page, hashes, identities, and errors by their codes."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unprocessable
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
from headwater.connectors.meta_conversions.api import VERSION, check, events_url
from headwater.connectors.meta_conversions.events import MetaConversionsSink
from headwater.connectors.meta_conversions.hashing import hash_parameter
from headwater.connectors.meta_conversions.schemas import EVENT_TYPES
from headwater.connectors.meta_conversions.settings import MetaConversionsSettings
from headwater.delivery.preparing import SourceEvent
from headwater.events.event import Event, encode_event
from headwater.filters import check_filter, compile_filter, parse_text
from headwater.schemas import EVENT_SCHEMA, Json, Record
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.conformance.vendor import plain_schema, prefilled
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.meta_conversions import DATASET, TOKEN, MetaConversionsServer

SETTINGS = MetaConversionsSettings(dataset_id=DATASET, access_token=TOKEN)
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)
AGENT = "Mozilla/5.0 (X11; Linux x86_64)"


def event(number: int = 1, type_: str = "Purchase", /, **values: Any) -> OutgoingEvent:
    """Return a purchase, or an event of another type, whose values are changed. None removes one."""
    given = {"em": f"user-{number}@example.com", "value": Json("9.5"), "currency": "EUR"} | values
    present = {name: value for name, value in given.items() if value is not None}
    return make_event(number, event_type=type_, timestamp=present.pop("timestamp", TIME), values=present)


def app_event(context: dict[str, Any], **values: Any) -> OutgoingEvent:
    """Return an event of an app with this context."""
    given = event(action_source="app", **values)
    return msgspec.structs.replace(given, document=msgspec.json.encode({"context": context}))


def sink(http: ScriptedHttp | None = None) -> MetaConversionsSink:
    return MetaConversionsSink(SETTINGS, make_context(http))


def encode(given: OutgoingEvent) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(sink().encode(given).body)
    return body


def refusal(status: int = 400, /, **members: Any) -> HttpResponse:
    error = {"message": "Invalid parameter", "type": "OAuthException", "code": 100, "fbtrace_id": "A"} | members
    return HttpResponse(status=status, body=msgspec.json.encode({"error": error}))


class TestContract(EventSinkConformance):
    SECRETS = (TOKEN,)
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return MetaConversionsSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(em="undefined"),
            event(em=None),
            event(em=None, client_user_agent=AGENT, country="de"),
            event(em=None, fn="Ada", ge="f"),
            event(value=None),
            event(currency=None),
            event(currency="€"),
            event(action_source="website", client_user_agent=AGENT),
            event(action_source="website", event_source_url="https://shop.example/"),
            event(event_source_url="shop.example"),
            event(value=Json('"9,50"')),
            event(value=Json('""')),
            event(timestamp=NOW - timedelta(days=8)),
            event(timestamp=NOW - timedelta(days=63), action_source="physical_store"),
            app_event({}),
            app_event({"os": {"name": "Windows", "version": "11"}}),
            app_event({"os": {"name": "iOS"}}),
            app_event({"os": "iOS"}),
            event(contents=Json('[{"id":"p-1","price":"cheap"}]')),
            event(contents=Json('"p-1"')),
            event(contents=Json("[1]")),
            event(contents=Json(json.dumps([{"id": "p"}] * 1_001))),
            event(1, "Custom", event_name="null"),
            event(1, "other"),
        ]

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return HttpResponse(status=200, body=b'{"events_received":%d,"messages":[],"fbtrace_id":"A"}' % len(events))


def test_the_requests_are_those_of_the_page() -> None:
    shown = json.loads(blocks("meta-conversions")["request"])
    given = event(
        em=" Ada@Example.com",
        ph="+1 (650) 555-1212",
        external_id="user-1",
        client_ip_address="203.0.113.9",
        client_user_agent=AGENT,
        event_source_url="https://shop.example/thanks?fbclid=AbCdEf",
        contents=Json('[{"product_id":"p-1","quantity":1,"price":9.5,"name":"Mug"}]'),
        order_id="o-1",
    )
    encoded = sink().encode(given)
    request = sink().request([encoded], FIRST)
    assert (request.url, json.loads(request.body)) == (events_url(SETTINGS), shown)
    assert events_url(SETTINGS).replace(DATASET, "<dataset>") in page("meta-conversions")
    coded = MetaConversionsSink(msgspec.structs.replace(SETTINGS, test_event_code="TEST1"), make_context())
    assert json.loads(coded.request([encoded], FIRST).body) == {**shown, "test_event_code": "TEST1"}


def test_the_types_the_mapping_and_the_version_are_those_of_the_page() -> None:
    text = page("meta-conversions")
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` | `{type_.filter}` |" in text and type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            assert f"| `{each.name}` | {shown}" in text or (each.name in ("contents", "value") and shown in text)
    assert VERSION.ends_on is not None
    assert f"version `{VERSION.name}` of the API, until {VERSION.ends_on:%-d %B %Y}" in text


def test_reasons_are_those_of_the_page() -> None:
    for each in TestContract().unacceptable():
        with pytest.raises(EventRejected) as rejected:
            sink().encode(each)
        assert f"`{rejected.value.reason}`" in page("meta-conversions") or rejected.value.reason == "UnknownEventType"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("em", " John_Smith@gmail.com ", "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
        ("ph", "+1 (650)555-1212", "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"),
        ("ph", "001 650 555 1212", "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"),
        ("fn", "Mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
        ("fn", "정", "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14"),
        ("fn", "Valéry", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    ],
)
def test_documented_values_have_the_documented_hash(name: str, value: str, expected: str) -> None:
    assert hash_parameter(name, value) == expected
    assert hash_parameter(name, expected) == hash_parameter(name, expected.upper()) == expected, "hashed once"


@pytest.mark.parametrize(
    ("name", "value", "normalised"),
    [
        ("fn", "Anne-Marie", "annemarie"),
        ("ln", " O'Neill  Jr. ", "oneill jr"),
        ("fn", "कमला", "कमला"),
        ("ct", "St. Louis", "stlouis"),
        ("ct", "São Paulo", "sãopaulo"),
        ("st", "C.A.", "ca"),
        ("zp", "94025-1234", "94025"),
        ("zp", "M1 1AE", "m11ae"),
        ("country", "ID", "id"),
        ("country", "NA", "na"),
        ("ge", "Female", "f"),
        ("db", "1991-05-26", "19910526"),
        ("db", "1991-05-26T00:00:00Z", "19910526"),
        ("external_id", " User-1 ", "User-1"),
    ],
)
def test_values_are_normalised_before_they_are_hashed(name: str, value: str, normalised: str) -> None:
    assert hash_parameter(name, value) == sha256(normalised.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("em", "ada"),
        ("em", "null"),
        ("ph", "12345"),
        ("ph", "call me"),
        ("ge", "x"),
        ("db", "26 May"),
        ("country", "Germany"),
        ("external_id", "undefined"),
        ("external_id", "0"),
        ("fn", "!"),
    ],
)
def test_values_without_their_form_are_left_out(name: str, value: str) -> None:
    assert hash_parameter(name, value) == ""


def test_placeholders_are_left_out_and_other_identities_stay() -> None:
    assert set(encode(event(em="null", external_id="user-1"))["user_data"]) == {"external_id"}
    with pytest.raises(EventRejected, match="finds its user"):
        encode(event(em="null", external_id="0"))


def test_the_event_id_is_the_message_id_or_a_mapped_one() -> None:
    assert encode(event(1))["event_id"] == "message-1"
    assert encode(event(1, event_id="order-7"))["event_id"] == "order-7"
    assert sink().policy.idempotency.uses_message_id


def test_the_time_is_not_later_than_the_receipt() -> None:
    """Meta refuses the future, and clocks of clients are fast."""
    early = msgspec.structs.replace(event(), timestamp=NOW + timedelta(minutes=2), received_at=NOW)
    assert encode(early)["event_time"] == int(NOW.timestamp())
    assert encode(event())["event_time"] == int(TIME.timestamp())


@pytest.mark.parametrize(
    ("values", "source"),
    [
        ({}, "other"),
        ({"client_user_agent": AGENT}, "other"),
        ({"client_user_agent": AGENT, "event_source_url": "https://shop.example/"}, "website"),
        ({"action_source": "phone_call"}, "phone_call"),
    ],
)
def test_an_event_of_a_page_is_one_of_a_website(values: dict[str, str], source: str) -> None:
    assert encode(event(**values))["action_source"] == source


def test_the_click_of_the_url_is_that_of_the_cookie() -> None:
    url = "https://shop.example/?a=b&fbclid=Xy_1-z#top"
    assert encode(event(event_source_url=url))["user_data"]["fbc"] == f"fb.1.{int(TIME.timestamp())}000.Xy_1-z"
    assert encode(event(event_source_url=url, fbc="fb.1.1.a"))["user_data"]["fbc"] == "fb.1.1.a"


def test_products_have_the_names_of_meta() -> None:
    products = [{"sku": 7, "price": 2}, {"name": "no id"}, {"id": "a", "quantity": 2, "product_id": "b"}]
    data = encode(event(contents=Json(json.dumps(products))))["custom_data"]
    assert data["contents"] == [{"id": "7", "item_price": 2}, {"id": "a", "quantity": 2}]
    assert (data["content_ids"], data["content_type"]) == (["7", "a"], "product")
    texts = [{"sku": "a", "price": "2.50", "quantity": "2"}, {"sku": "b", "price": ""}]
    data = encode(event(contents=Json(json.dumps(texts))))["custom_data"]
    assert data["contents"] == [{"id": "a", "item_price": 2.5, "quantity": 2}, {"id": "b"}]
    given = {"content_ids": ["x"], "content_type": "product_group", "contents": Json('{"product_id":"a"}')}
    data = encode(event(**given))["custom_data"]
    assert (data["content_ids"], data["content_type"], data["contents"]) == (["x"], "product_group", [{"id": "a"}])
    for empty in ("null", "{}", "[]"):
        assert "contents" not in encode(event(contents=Json(empty)))["custom_data"]


@pytest.mark.parametrize(
    ("value", "products", "expected"),
    [
        ('"19.99"', [], 19.99),
        ("null", [{"id": "a", "price": 0.1, "quantity": 3}, {"id": "b", "price": 2}, {"id": "c"}], 2.3),
        ("1", [{"id": "a", "price": 2}], 1),
        ("null", [{"id": "a"}], None),
    ],
)
def test_the_value_is_that_of_the_products_without_another(value: str, products: Any, expected: float | None) -> None:
    given = event(1, "AddToCart", value=Json(value), contents=Json(json.dumps(products)))
    assert encode(given)["custom_data"].get("value") == expected


def test_further_properties_do_not_replace_those_of_meta() -> None:
    custom = {"value": Json("1"), "coupon": Json('"SUMMER"')}
    data = encode(event(currency="eur", custom_data=custom))["custom_data"]
    assert data == {"value": 9.5, "currency": "EUR", "coupon": "SUMMER"}


@pytest.mark.parametrize(
    ("response", "scope", "wait"),
    [
        (refusal(code=190, error_subcode=460), FailureScope.CREDENTIALS, None),
        (refusal(401, code=190), FailureScope.CREDENTIALS, None),
        (refusal(403, code=200), FailureScope.CREDENTIALS, None),
        (refusal(code=100, error_subcode=33), FailureScope.CLOSED, None),
        (refusal(code=100, error_subcode=2_804_003), FailureScope.BATCH, None),
        (refusal(code=1), FailureScope.DESTINATION, None),
        (refusal(500, code=2), FailureScope.DESTINATION, None),
        (refusal(code=9_999, is_transient=True), FailureScope.DESTINATION, None),
        (refusal(code=4), FailureScope.DESTINATION, None),
        (refusal(code=80_004), FailureScope.DESTINATION, None),
        (HttpResponse(status=400, body=b"<html>"), FailureScope.BATCH, None),
        (
            msgspec.structs.replace(
                refusal(code=80_004),
                headers={"x-business-use-case-usage": '{"1":[{"estimated_time_to_regain_access":3}]}'},
            ),
            FailureScope.DESTINATION,
            180.0,
        ),
        (
            msgspec.structs.replace(refusal(code=17), headers={"x-business-use-case-usage": "nonsense"}),
            FailureScope.DESTINATION,
            None,
        ),
    ],
)
async def test_the_code_of_an_error_decides(response: HttpResponse, scope: FailureScope, wait: float | None) -> None:
    events = [sink().encode(event(number)) for number in (1, 2)]
    result = await sink(ScriptedHttp(lambda _: response)).send(sink().request(events, FIRST), events)
    assert result.failure is not None
    assert (result.failure.scope, result.failure.retry_after_seconds) == (scope, wait)


async def test_the_text_for_users_is_the_reason() -> None:
    members = {"error_subcode": 2_804_003, "error_user_title": "Too old", "error_user_msg": "Send newer events."}
    events = [sink().encode(event())]
    result = await sink(ScriptedHttp(lambda _: refusal(**members))).send(sink().request(events, FIRST), events)
    assert result.failure is not None
    assert (result.failure.reason, result.failure.message) == (
        "MetaError100Subcode2804003",
        "Too old: Send newer events.",
    )


async def test_a_response_that_counts_fewer_events_delivers_none() -> None:
    events = [sink().encode(event(number)) for number in (1, 2)]
    answer = HttpResponse(status=200, body=b'{"events_received":1}')
    result = await sink(ScriptedHttp(lambda _: answer)).send(sink().request(events, FIRST), events)
    assert [each.outcome for each in result.items] == [Outcome.RETRY] * 2


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (SETTINGS, ""),
        (msgspec.structs.replace(SETTINGS, access_token="EAAother"), "settings.accessToken"),
        (msgspec.structs.replace(SETTINGS, dataset_id="7"), "settings.datasetID"),
    ],
)
async def test_the_wrong_setting_is_named(settings: MetaConversionsSettings, field: str) -> None:
    server = MetaConversionsServer()
    context = make_context(ScriptedHttp(server.respond), secrets=settings.secrets())
    if not field:
        assert await check(settings, context) == settings
        assert server.violations == [] and server.accepted == []
        return
    with pytest.raises(Unprocessable) as caught:
        await check(settings, context)
    assert (caught.value.code, caught.value.field) == ("InvalidSettings", field)


async def test_a_documented_body_is_valid_for_the_server() -> None:
    """The example of a purchase on Meta's page about its parameters, with a time of today."""
    server = MetaConversionsServer()
    now = int(server.today().timestamp())
    documented = {
        "event_name": "Purchase",
        "event_time": now,
        "event_id": "e-1",
        "user_data": {
            "em": ["309a0a5c3e211326ae75ca18196d301a9bdbd1a882a4d2569511033da23f0abd"],
            "ph": ["254aa248acb47dd654ca3ea53f48c2c26d641d23d7e2e93a1ec56258df7674c4"],
            "client_ip_address": "123.123.123.123",
            "client_user_agent": AGENT,
            "fbc": "fb.1.1554763741205.AbCdEfGhIjKlMnOpQrStUvWxYz1234567890",
            "fbp": "fb.1.1558571054389.1098115397",
        },
        "custom_data": {
            "currency": "usd",
            "value": 123.45,
            "contents": [{"id": "product123", "quantity": 1, "delivery_category": "home_delivery"}],
        },
        "event_source_url": "http://jaspers-market.com/product/123",
        "action_source": "website",
    }
    request = sink().request([EncodedEvent(id="e-1", body=msgspec.json.encode(documented))], FIRST)
    assert server.respond(request).status == 200
    assert server.violations == []


RECORDED: dict[str, dict[str, Any]] = {
    "Purchase": {
        "event": "Order Completed",
        "properties": {"order_id": "o-1", "revenue": 25.5, "currency": "usd", "products": [{"product_id": "p-1"}]},
    },
    "InitiateCheckout": {"event": "Checkout Started", "properties": {"value": 25.5, "products": [{"sku": "s-1"}]}},
    "AddPaymentInfo": {"event": "Payment Info Entered", "properties": {"checkout_id": "c"}},
    "AddToCart": {"event": "Product Added", "properties": {"product_id": "p-1", "price": 18.99, "quantity": 1}},
    "AddToWishlist": {"event": "Product Added to Wishlist", "properties": {"product_id": "p-1", "name": "Mug"}},
    "ViewContent": {"event": "Product Viewed", "properties": {"product_id": "p-1", "category": "Games"}},
    "Search": {"event": "Products Searched", "properties": {"query": "blue hotpants"}},
    "Lead": {"event": "Lead Generated", "properties": {}},
    "CompleteRegistration": {"event": "Signed Up", "properties": {"plan": "Pro"}},
    "StartTrial": {"event": "Trial Started", "properties": {}},
    "Subscribe": {"event": "Subscription Started", "properties": {"value": 5}},
    "PageView": {"type": "page", "properties": {}},
    "Custom": {"event": "Anything Else", "properties": {"total": 1.5}},
}
"""Events of the documented e-commerce events of SDKs, by the event type that suits each."""


def stored_record(given: dict[str, Any]) -> Record:
    """Return an event of a browser as the record that filters and mappings read."""
    context = {"ip": "203.0.113.9", "userAgent": AGENT, "page": {"url": "https://shop.example/"}}
    traits = {"email": "ada@example.com", "address": {"city": "London"}}
    stored = Event(
        connection_id=7,
        message_id="m-1",
        type=given.get("type", "track"),
        event=given.get("event"),
        user_id="ada",
        context=msgspec.Raw(msgspec.json.encode(context)),
        properties=msgspec.Raw(msgspec.json.encode(given["properties"])),
        traits=msgspec.Raw(msgspec.json.encode(traits)),
        timestamp=NOW,
        original_timestamp=NOW,
        sent_at=NOW,
        received_at=NOW,
    )
    return SourceEvent(encode_event(stored)).record


@pytest.mark.parametrize("id_", RECORDED)
async def test_suggested_filters_and_mappings_suit_the_events_of_sdks(id_: str) -> None:
    [type_] = [each for each in EVENT_TYPES if each.id == id_]
    assert type_.schema is not None
    mapping = prefilled(type_.schema)
    compiled = CompiledMapping(mapping, EVENT_SCHEMA, plain_schema(type_.schema, mapping))
    record = stored_record(RECORDED[id_])
    filter_ = parse_text(type_.filter)
    assert filter_ is not None
    checked = check_filter(filter_, EVENT_SCHEMA, role="Destination", target="Event")
    assert compile_filter(checked)(record)
    server = MetaConversionsServer()
    now = server.today()
    outgoing = make_event(1, event_type=id_, timestamp=now, received_at=now, values=compiled.apply(record, "Create"))
    assert server.respond(sink().request([sink().encode(outgoing)], FIRST)).status == 200
    assert server.violations == []
    [item] = server.accepted
    assert item.content["event_name"] == ("Anything Else" if id_ == "Custom" else id_)
    assert item.content["action_source"] == "website"
    assert {"em", "external_id", "client_ip_address", "client_user_agent", "ct"} <= set(item.content["user_data"])
