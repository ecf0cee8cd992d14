"""Amplitude's events: the contract, the requests of the page, limits, and the documented forms of rejections."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.amplitude.api import check
from headwater.connectors.amplitude.events import AmplitudeSink
from headwater.connectors.amplitude.schemas import EVENT_TYPES
from headwater.connectors.amplitude.settings import AmplitudeSettings
from headwater.connectors.contract import (
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventSink,
    FailureScope,
    HttpResponse,
    Outcome,
    OutgoingEvent,
    SendResult,
)
from headwater.connectors.redaction import Redactor, format_request
from headwater.schemas import EVENT_SCHEMA, Json
from headwater.transforms.mapping import CompiledMapping
from tests.connectors.bodies import bodies
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.conformance.vendor import plain_schema, prefilled
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.amplitude import INVALID_IDS, KEY

SETTINGS = AmplitudeSettings(api_key=KEY, server_zone="EU")
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)


def as_json(properties: dict[str, Any]) -> dict[str, Json]:
    return {name: Json(json.dumps(value)) for name, value in properties.items()}


def event(
    number: int = 1, properties: dict[str, Any] | None = None, type_: str = "track", **values: Any
) -> OutgoingEvent:
    members: dict[str, Any] = {"user_id": f"user-{number}", "device_id": f"device-{number}"}
    if type_ != "identify":
        members["event_type"] = "Order Completed"
    if properties is not None:
        members["user_properties" if type_ == "identify" else "event_properties"] = as_json(properties)
    members = {name: value for name, value in (members | values).items() if value is not None}
    return make_event(number, event_type=type_, timestamp=TIME, values=members)


def accepted(events: Sequence[EncodedEvent], count: int | None = None) -> HttpResponse:
    number = len(events) if count is None else count
    body = {"code": 200, "events_ingested": number, "payload_size_bytes": 50, "server_upload_time": 1396381378123}
    return HttpResponse(status=200, body=msgspec.json.encode(body))


def sink(response: HttpResponse | None = None) -> AmplitudeSink:
    return AmplitudeSink(SETTINGS, make_context(ScriptedHttp(lambda _: response or HttpResponse(status=500))))


async def send(count: int, status: int, **body: Any) -> SendResult:
    """Send events 0 to `count` - 1 of as many users, and return the result of a response."""
    connector = sink(HttpResponse(status=status, body=msgspec.json.encode({"code": status, **body})))
    events = [connector.encode(event(number)) for number in range(count)]
    return await connector.send(connector.request(events, FIRST), events)


def outcomes(result: SendResult) -> str:
    """Return the outcomes as one letter each: D, X for rejected, N for a retry without a wait, W for one with."""
    letters = {Outcome.DELIVERED: "D", Outcome.REJECTED: "X"}
    return "".join(letters.get(each.outcome) or ("W" if each.retry_after_seconds else "N") for each in result.items)


class TestContract(EventSinkConformance):
    SECRETS = (KEY,)
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return AmplitudeSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return accepted(events)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        nested: Any = 1
        for _ in range(40):
            nested = {"a": nested}
        return [
            event(user_id=None, device_id=None),
            *[event(user_id=each, device_id="undefined") for each in (*INVALID_IDS, " NULL ")],
            event(event_type=" "),
            event(event_type="$identify"),
            event(event_type="$groupidentify"),
            event(properties={"a": nested}),
            event(type_="identify", properties={"a": [nested]}),
            event(type_="identify", properties={}),
            event(type_="identify"),
            event(type_="other"),
        ]


def test_values_at_the_limits_are_accepted() -> None:
    nested: Any = 1
    for _ in range(38):
        nested = {"a": nested}
    sink().encode(event(properties={"a": [nested], "b": [[] for _ in range(50)]}))


def test_the_requests_are_those_of_the_page() -> None:
    order = {"orderId": "o-1", "revenue": 9.5}
    values: dict[str, Any] = {
        "ip": "203.0.113.9",
        "os_name": "iOS",
        "app_version": "2.1.0",
        "language": "en-US",
        "platform": "ios",
        "revenue": 9.5,
        "currency": "EUR",
    }
    campaign = as_json({"utm_source": "news", "utm_campaign": "spring"})
    tracked = event(1, order, user_id="ada", device_id="d-1", user_properties=campaign, **values)
    identified = event(2, {"plan": "pro"}, "identify", user_id="ada", device_id=None)
    for name, each in (("track", tracked), ("identify", identified)):
        request = sink().request([sink().encode(each)], FIRST)
        shown = format_request(request, Redactor((KEY,))).partition("\r\n\n")[2]
        assert json.loads(shown) == json.loads(blocks("amplitude")[name])
        assert f"`POST {request.url}`" in page("amplitude")


def test_many_events_and_large_ones_go_to_the_other_endpoint() -> None:
    events = [sink().encode(event(number)) for number in range(11)]
    assert sink().request(events[:10], FIRST).url == "https://api.eu.amplitude.com/2/httpapi"
    assert sink().request(events, FIRST).url == "https://api.eu.amplitude.com/batch"
    large = sink().encode(event(properties={"a": "x" * 1_000_000}))
    assert sink().request([large], FIRST).url == "https://api.eu.amplitude.com/batch"
    assert "`POST https://api.eu.amplitude.com/batch`" in page("amplitude")


def test_the_mappings_are_those_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` | {type_.filter} |" in page("amplitude") and type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            assert shown in page("amplitude") and f"`{each.name}`" in page("amplitude"), each


@pytest.mark.parametrize(
    ("values", "sent"),
    [
        ({"revenue": 9.5, "currency": "EUR"}, {"revenue": 9.5, "currency": "EUR"}),
        ({"price": 9.5, "quantity": 2, "productId": "p"}, {"price": 9.5, "quantity": 2, "productId": "p"}),
        ({"revenue": 9.5, "currency": "Euro"}, {"revenue": 9.5}),
        ({"revenue": 9.5, "currency": "eur"}, {"revenue": 9.5}),
        ({"currency": "EUR", "productId": "p", "revenueType": "r"}, {}),
        ({"user_properties": {}, "groups": {}, "event_properties": {}}, {}),
    ],
)
def test_what_amplitude_does_not_take_is_left_out(values: dict[str, Any], sent: dict[str, Any]) -> None:
    body = json.loads(sink().encode(event(**values)).body)
    always = {"event_type", "user_id", "device_id", "time", "insert_id"}
    assert {name: value for name, value in body.items() if name not in always} == sent


@pytest.mark.parametrize(
    ("name", "properties", "revenue"),
    [
        ("Order Completed", '{"revenue":44.98,"total":49.98}', 44.98),
        ("Order Completed", '{"revenue":"44.98","total":"49.98"}', 44.98),
        ("Order Completed", '{"revenue":"","total":49.98}', None),
        ("Order Completed", '{"total":49.98}', 49.98),
        ("Order Completed", '{"total":" 49.98 "}', 49.98),
        ("Order Completed", "{}", None),
        ("Order Updated", '{"total":49.98}', None),
    ],
)
def test_the_revenue_is_that_of_the_event_or_the_total_of_an_order(
    name: str, properties: str, revenue: float | None
) -> None:
    [schema] = [type_.schema for type_ in EVENT_TYPES if type_.id == "track" and type_.schema is not None]
    mapping = CompiledMapping(prefilled(schema), EVENT_SCHEMA, plain_schema(schema, prefilled(schema)))
    values = mapping.apply({"event": name, "properties": Json(properties), "traits": Json("{}")})
    assert values.get("revenue") == revenue


async def test_the_firewall_rejects_the_event_with_the_value() -> None:
    blocked = HttpResponse(status=403, body=b'{"code":403,"error":"Forbidden"}')
    connector, events = sink(blocked), [sink().encode(event(number)) for number in (1, 2)]
    result = await connector.send(connector.request(events, FIRST), events)
    assert result.failure is not None and result.failure.scope is FailureScope.BATCH
    [item] = (await connector.send(connector.request(events[:1], FIRST), events[:1])).items
    assert (item.outcome, item.reason) == (Outcome.REJECTED, "Blocked") and "firewall" in item.message
    with pytest.raises(Unavailable, match="status 403"):
        await check(SETTINGS, make_context(ScriptedHttp(lambda _: blocked)))


async def test_invalid_and_missing_fields_reject_their_events() -> None:
    result = await send(
        8,
        400,
        error="Request missing required field",
        missing_field=None,
        events_with_invalid_fields={"time": [3, 4, 7]},
        events_with_missing_fields={"event_type": [0, 4]},
        events_with_invalid_id_lengths={"device_id": [1]},
    )
    assert outcomes(result) == "XXNXXNNX" and result.failure is None
    assert [result.items[index].reason for index in (0, 1, 3)] == ["MissingField", "InvalidIdLength", "InvalidField"]
    assert result.items[3].message == "time is not valid: Request missing required field"


async def test_silenced_devices_reject_their_events_and_throttled_ones_wait() -> None:
    result = await send(
        7,
        400,
        error="Events silenced for device_id",
        eps_threshold=100,
        silenced_devices=["device-5", "device-6"],
        silenced_events=[5, 6],
        exceeded_daily_quota_devices={},
        throttled_devices={"device-3": 0, "device-4": 100},
        throttled_events=[3, 4],
    )
    assert outcomes(result) == "NNNWWXX"
    assert result.items[5].reason == "SilencedDevice"
    assert result.items[3].retry_after_seconds == 30.0


async def test_throttled_users_wait_and_others_are_sent_again() -> None:
    result = await send(
        8,
        429,
        error="Too many requests for some devices and users",
        eps_threshold=1000,
        throttled_devices={"device-3": 4000},
        throttled_users={"user-4": 4000},
        exceeded_daily_quota_users={"user-0": 500200},
        exceeded_daily_quota_devices={"device-1": 500900},
        throttled_events=[3, 4, 7],
    )
    assert outcomes(result) == "WWNWWNNW" and result.failure is None
    assert [result.items[index].retry_after_seconds for index in (0, 1, 3, 4, 7)] == [3_600, 3_600, 30, 30, 30]
    assert (result.items[0].reason, result.items[3].reason) == ("DailyQuotaExceeded", "ThrottledUser")


async def test_a_rejection_that_names_no_event_is_about_the_request() -> None:
    throttled = await send(2, 429, error="Too many requests for this project")
    assert throttled.failure is not None and throttled.failure.scope is FailureScope.DESTINATION
    assert throttled.failure.retry_after_seconds == 30.0
    for body in ({"error": "no"}, {"silenced_events": [9]}, {"events_with_invalid_fields": {"time": [-1]}}):
        result = await send(2, 400, **body)
        assert result.failure is not None and result.failure.scope is FailureScope.BATCH


@pytest.mark.parametrize(
    "body",
    [{"error": "Invalid API key: 4f1a"}, {"error": "Request missing required field", "missing_field": "api_key"}],
)
async def test_a_refused_key_pauses_the_destination(body: dict[str, str]) -> None:
    result = await send(2, 400, **body)
    assert result.failure is not None and result.failure.scope is FailureScope.CREDENTIALS


INDEXES = st.lists(st.integers(-1, 4), max_size=3)
OWNERS = st.dictionaries(st.sampled_from(["user-0", "device-1", "x"]), st.floats(0, 9), max_size=2)
RESPONSES = bodies(
    {
        "code": st.sampled_from([200, 400]),
        "events_ingested": st.integers(0, 4),
        "error": st.sampled_from(["", "Invalid API key: x", "Request missing required field"]),
        "missing_field": st.none() | st.sampled_from(["api_key", "events"]),
        "events_with_invalid_fields": st.dictionaries(st.text(max_size=3), INDEXES, max_size=2),
        "events_with_missing_fields": st.dictionaries(st.text(max_size=3), INDEXES, max_size=2),
        "events_with_invalid_id_lengths": st.dictionaries(st.text(max_size=3), INDEXES, max_size=2),
        "silenced_events": INDEXES,
        "throttled_events": INDEXES,
        "throttled_users": OWNERS,
        "throttled_devices": OWNERS,
        "exceeded_daily_quota_users": OWNERS,
        "exceeded_daily_quota_devices": OWNERS,
    }
)


@given(body=RESPONSES, status=st.sampled_from([200, 200, 400, 403, 429]))
async def test_no_response_delivers_an_event_that_it_does_not_count(body: bytes, status: int) -> None:
    connector = sink(HttpResponse(status=status, body=body))
    events = [connector.encode(event(number)) for number in range(3)]
    result = await connector.send(connector.request(events, FIRST), events)
    assert len(result.items) == 3
    if any(item.outcome is Outcome.DELIVERED for item in result.items):
        assert status == 200 and json.loads(body)["events_ingested"] == 3
        assert {item.outcome for item in result.items} == {Outcome.DELIVERED}


async def test_the_check_of_a_refused_key_names_the_zone() -> None:
    refused = HttpResponse(status=400, body=b'{"code":400,"error":"Invalid API key: ' + KEY.encode() + b'"}')
    with pytest.raises(Unprocessable, match="not accepted by Amplitude in the zone EU") as failure:
        await check(SETTINGS, make_context(ScriptedHttp(lambda _: refused), secrets=(KEY,)))
    assert failure.value.field == "settings.apiKey" and KEY not in failure.value.message


async def test_a_success_must_count_all_events() -> None:
    events = [sink().encode(event(number)) for number in (1, 2)]
    connector = sink(accepted(events, 1))
    result = await connector.send(connector.request(events, FIRST), events)
    assert {each.outcome for each in result.items} == {Outcome.RETRY}


def test_placeholders_are_left_out_and_short_ids_are_kept() -> None:
    request = sink().request([sink().encode(event(user_id="undefined", device_id="7"))], FIRST)
    body = json.loads(request.body)
    assert "user_id" not in body["events"][0] and body["events"][0]["device_id"] == "7"
    assert body["options"] == {"min_id_length": 1}


def test_the_reason_is_understood() -> None:
    with pytest.raises(EventRejected, match="no user id and no device id, or only placeholders"):
        sink().encode(event(user_id="null", device_id="0"))
