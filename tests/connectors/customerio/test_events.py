"""Customer.io's events: the contract, the requests of the page, limits, and errors by index."""

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
from headwater.connectors.contract import (
    ConnectorContext,
    EncodedEvent,
    EventRejected,
    EventSink,
    FailureScope,
    HttpRequest,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.customerio.api import ORIGINS, check, convert_times
from headwater.connectors.customerio.events import CustomerIoSink
from headwater.connectors.customerio.schemas import EVENT_TYPES
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.schemas import Json
from tests.connectors import unexpected
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.test_pages import blocks, page
from tests.connectors.unexpected import INDEXES, SCALARS, STATUSES, bodies
from tests.connectors.vendors.customerio import API_KEY, SITE_ID, CustomerIoServer

SETTINGS = CustomerIoSettings(site_id=SITE_ID, api_key=API_KEY, region="US")
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)


def event(number: int = 1, type_: str = "event", attributes: dict[str, Any] | None = None, **values: Any) -> Any:
    if attributes is not None:
        values["attributes"] = {name: Json(json.dumps(value)) for name, value in attributes.items()}
    given = {"id": f"user-{number}"} | ({"name": "Order Completed"} if type_ in ("event", "page", "screen") else {})
    return make_event(number, event_type=type_, timestamp=TIME, values=given | values)


def encode(*events: OutgoingEvent) -> list[Any]:
    """Return the items of a request, which Customer.io's server accepts."""
    sink, server = CustomerIoSink(SETTINGS, make_context()), CustomerIoServer()
    request = sink.request([sink.encode(each) for each in events], FIRST)
    assert server.respond(request).status == 200 and server.violations == []
    items: list[Any] = json.loads(request.body)["batch"]
    return items


def refusal(status: int, *errors: dict[str, Any]) -> HttpResponse:
    return HttpResponse(status=status, body=msgspec.json.encode({"errors": errors}))


def respond(response: HttpResponse, _request: HttpRequest) -> HttpResponse:
    return response


class TestContract(EventSinkConformance):
    SECRETS = (API_KEY,)

    def make(self, context: ConnectorContext) -> EventSink:
        return CustomerIoSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        made: OutgoingEvent = event(number)
        return made

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return HttpResponse(status=200, body=b"{}")

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return refusal(207, {"batch_index": 0, "reason": "invalid", "field": "name", "message": "no"})

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(id="undefined"),
            event(id="null", anonymous_id="0"),
            event(name=""),
            event(name="null"),
            event(type_="identify", id="0", email="undefined"),
            event(type_="identify", attributes={f"a{number}": 1 for number in range(301)}),
            event(type_="identify", attributes={"a" * 151: 1}),
            event(type_="identify", attributes={"": 1}),
            event(type_="identify", attributes={"a": "é" * 501}),
            event(type_="identify", attributes={"a": list(range(400))}),
            event(type_="identify", attributes={"cio_id": "1"}),
            event(type_="device", token="null", platform="ios"),
            event(type_="device", id="0", token="t", platform="ios"),
            event(type_="group", object_type_id="1", object_id="undefined"),
            event(type_="group", object_type_id="1", object_id="g", attributes={"a": "x" * 1_001}),
            event(type_="merge", previous_id="null"),
            event(type_="merge", previous_id="user-1"),
            msgspec.structs.replace(event(), event_type="other"),
        ]


def test_values_at_the_limits_are_accepted() -> None:
    encode(
        event(name="é" * 50),
        event(type_="identify", attributes={f"a{number}": 1 for number in range(300)}),
        event(type_="identify", attributes={"a" * 150: "é" * 500, "quotes": '"' * 1_000}),
        event(id="é" * 75, attributes={"a": "x" * 30_000}),
    )


def test_the_requests_are_those_of_the_page() -> None:
    made = [
        event(attributes={"orderId": "o-1", "total": 9.5, "shippedAt": "2026-05-04T10:00:00Z"}, id="ada"),
        event(type_="identify", id="ada", email="ada@example.com", anonymous_id="a-1", attributes={"plan": "pro"}),
        event(type_="device", id="ada", token="ff15bc0c20c4", platform="ios", device_model="iPhone"),
        event(type_="group", id="ada", object_type_id="1", object_id="acme", attributes={"name": "Acme"}),
        event(type_="merge", id="ada", previous_id="ada-old"),
    ]
    assert encode(*made) == json.loads(blocks("customerio")["batch"])["batch"]
    for origin in ORIGINS.values():
        assert f"{origin}/api/v2/batch" in page("customerio")


def test_the_mappings_are_those_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` |" in page("customerio") and type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            assert any(
                line.startswith(f"| `{each.name}` |") and shown in line for line in page("customerio").splitlines()
            )


@pytest.mark.parametrize(
    ("values", "person"),
    [
        ({"id": "u-1", "email": "ada@example.com"}, {"id": "u-1"}),
        ({"id": "ada@example.com"}, {"email": "ada@example.com"}),
        ({"id": "cio_0a1b"}, {"cio_id": "0a1b"}),
        ({"id": "cio_"}, {"id": "cio_"}),
        ({"id": "", "email": "ada@example.com", "anonymous_id": "a-1"}, {"email": "ada@example.com"}),
        ({"id": "undefined", "anonymous_id": "a-1"}, {"anonymous_id": "a-1"}),
        ({"id": "0", "email": "null", "anonymous_id": "a-1"}, {"anonymous_id": "a-1"}),
    ],
)
def test_an_item_has_one_identifier(values: dict[str, Any], person: dict[str, str]) -> None:
    [item] = encode(event(**values))
    assert item["identifiers"] == person


def test_identify_gives_the_other_identifiers_as_attributes() -> None:
    [item] = encode(event(type_="identify", id="u-1", email="ada@example.com", anonymous_id="undefined"))
    assert (item["identifiers"], item["attributes"]) == ({"id": "u-1"}, {"email": "ada@example.com"})
    [item] = encode(event(type_="identify", id="", email="ada@example.com", anonymous_id="a-1"))
    assert (item["identifiers"], item["attributes"]) == ({"email": "ada@example.com"}, {"anonymous_id": "a-1"})
    with pytest.raises(EventRejected, match="no identifier"):
        encode(event(type_="identify", id="", anonymous_id="a-1"))


@pytest.mark.parametrize("time", ['"2026-05-04T10:00:00.123Z"', "1777888800", "1777888800123"])
def test_the_time_of_the_sign_up_is_in_seconds(time: str) -> None:
    [item] = encode(event(type_="identify", created_at=Json(time), attributes={"createdAt": "2026-05-04T10:00:00Z"}))
    assert item["attributes"] == {"createdAt": 1777888800, "created_at": 1777888800}


def test_a_device_belongs_to_its_person() -> None:
    server = CustomerIoServer()
    sink = CustomerIoSink(SETTINGS, make_context())
    made = event(type_="device", id="ada", token="t-1", platform="android", app_version="1.2")
    assert server.respond(sink.request([sink.encode(made)], FIRST)).status == 200 and server.violations == []
    device = {"token": "t-1", "platform": "android", "last_used": 1777895999, "attributes": {"app_version": "1.2"}}
    assert server.devices == {"t-1": {**device, "person": "ada"}}


def test_a_group_without_a_person_is_an_object() -> None:
    [item] = encode(event(type_="group", id="null", object_type_id="2", object_id="acme"))
    assert item["identifiers"] == {"object_type_id": "2", "object_id": "acme"} and "cio_relationships" not in item


def test_a_merge_moves_attributes_to_the_person_that_stays() -> None:
    sink, server = CustomerIoSink(SETTINGS, make_context()), CustomerIoServer()
    made = [
        event(type_="identify", id="ada-old", attributes={"plan": "pro", "city": "Rome"}),
        event(type_="identify", id="ada", attributes={"city": "Oslo"}),
        event(type_="merge", id="ada", previous_id="ada-old"),
    ]
    assert server.respond(sink.request([sink.encode(each) for each in made], FIRST)).status == 200
    assert list(server.people.values()) == [{"id": "ada", "plan": "pro", "city": "Oslo"}]


def test_an_event_has_the_same_ulid_for_each_attempt() -> None:
    [first], [again], [other] = encode(event()), encode(event()), encode(event(2))
    assert first["id"] == again["id"] != other["id"]
    old = msgspec.structs.replace(event(), timestamp=datetime(1960, 1, 1, tzinfo=UTC))
    assert encode(old)[0]["id"].startswith("0000000000")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2026-05-04T10:00:00Z", 1_777_888_800),
        ("2026-05-04T12:00:00.123456789+02:00", 1_777_888_800),
        ("2026-05-04T10:00", 1_777_888_800),
        ("2026-05-04", "2026-05-04"),
        ("2026-13-04T10:00:00Z", "2026-13-04T10:00:00Z"),
        ("on 2026-05-04T10:00:00Z", "on 2026-05-04T10:00:00Z"),
        ("1777888800", "1777888800"),
    ],
)
def test_times_become_seconds(given: str, sent: object) -> None:
    value = {"a": [{"b": given}], "c": given}
    assert json.loads(convert_times(msgspec.json.encode(value))) == {"a": [{"b": sent}], "c": sent}


async def test_the_items_that_are_named_are_rejected() -> None:
    errors = [
        {"batch_index": 1, "reason": "invalid", "field": "name", "message": "too long"},
        {"batch_index": 2, "reason": "required"},
    ]
    for status, others in ((207, Outcome.DELIVERED), (200, Outcome.DELIVERED), (400, Outcome.RETRY)):
        http = ScriptedHttp()
        http.respond = partial(respond, refusal(status, *errors))
        sink = CustomerIoSink(SETTINGS, make_context(http))
        events = [sink.encode(event(number)) for number in (1, 2, 3)]
        result = await sink.send(sink.request(events, FIRST), events)
        assert [each.outcome for each in result.items] == [others, Outcome.REJECTED, Outcome.REJECTED]
        assert [each.reason for each in result.items[1:]] == ["Invalid", "Required"]
        assert result.items[1].message == "too long (name)"


@pytest.mark.parametrize(
    "error", [{"batch_index": 9, "message": "no"}, {"message": "no"}, {"batch_index": -1}, {"batch_index": "0"}]
)
async def test_an_error_about_no_item_of_the_request_is_not_a_success(error: dict[str, Any]) -> None:
    sink = CustomerIoSink(SETTINGS, make_context(ScriptedHttp(lambda _: refusal(207, error))))
    events = [sink.encode(event())]
    [item] = (await sink.send(sink.request(events, FIRST), events)).items
    assert (item.outcome, item.reason) == (Outcome.RETRY, "UnexpectedResponse")


async def test_a_request_that_cannot_be_read_is_halved() -> None:
    body = b'{"meta":{"error":"batch must be an array"}}'
    sink = CustomerIoSink(SETTINGS, make_context(ScriptedHttp(lambda _: HttpResponse(status=400, body=body))))
    events = [sink.encode(event(number)) for number in (1, 2)]
    failure = (await sink.send(sink.request(events, FIRST), events)).failure
    assert failure is not None and failure.scope is FailureScope.BATCH and "must be an array" in failure.message


async def test_the_region_must_be_that_of_the_account() -> None:
    server = CustomerIoServer(region="eu")
    context = make_context(ScriptedHttp(server.respond))
    with pytest.raises(Unprocessable, match="EU") as refused:
        await check(SETTINGS, context)
    assert (refused.value.code, refused.value.field) == ("InvalidSettings", "settings.region")
    in_europe = msgspec.structs.replace(SETTINGS, region="EU")
    assert await check(in_europe, context) == in_europe
    with pytest.raises(Unavailable):
        await check(SETTINGS, make_context(ScriptedHttp(lambda _: HttpResponse(status=429))))


ERRORS = st.fixed_dictionaries(
    {},
    optional={"batch_index": INDEXES, "reason": st.one_of(st.text(max_size=5), SCALARS), "field": st.text(max_size=3)},
)


@given(
    status=STATUSES,
    body=bodies(st.fixed_dictionaries({}, optional={"errors": st.one_of(SCALARS, st.lists(ERRORS, max_size=4))})),
)
async def test_no_response_delivers_an_event_that_it_does_not_account_for(status: int, body: bytes) -> None:
    events = [event(number) for number in (1, 2, 3)]
    result = await unexpected.send(partial(CustomerIoSink, SETTINGS), events, status, body)
    delivered = [each.outcome for each in result.items].count(Outcome.DELIVERED)
    if delivered:
        named = {each["batch_index"] for each in json.loads(body).get("errors", [])}
        assert named <= {0, 1, 2} and delivered == 3 - len(named)
