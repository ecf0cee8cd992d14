"""Brevo's events: the contract, the requests of the page, limits, and errors by positions."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from headwater.connectors.brevo.events import BATCH_URL, EVENT_URL, BrevoSink
from headwater.connectors.brevo.schemas import EVENT_TYPES
from headwater.connectors.brevo.settings import BrevoSettings
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
from headwater.schemas import Json
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.brevo import KEY, BrevoServer

SETTINGS = BrevoSettings(api_key=KEY)
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)
PARTIAL = {"status": "partial_success", "total_events": 3, "successful_events": 2, "failed_events": 1}


def event(number: int = 1, properties: dict[str, Any] | None = None, **values: Any) -> OutgoingEvent:
    if properties is not None:
        values["event_properties"] = {name: Json(json.dumps(value)) for name, value in properties.items()}
    given = {"event_name": "Order Completed", "email_id": f"user-{number}@example.com"} | values
    return make_event(number, event_type="create_event", timestamp=TIME, values=given)


def user_event(**values: Any) -> OutgoingEvent:
    return make_event(1, event_type="create_user_event", timestamp=TIME, values={"event_name": "Bought"} | values)


def answer(status: int, body: Any) -> HttpResponse:
    return HttpResponse(status=status, body=msgspec.json.encode(body))


def nest(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = {"a": value}
    return value


class TestContract(EventSinkConformance):
    SECRETS = (KEY,)
    STATUS_ONLY = False

    def make(self, context: ConnectorContext) -> EventSink:
        return BrevoSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        return [
            event(email_id="undefined"),
            event(event_name=""),
            event(event_name="null"),
            event(event_name="\N{CJK UNIFIED IDEOGRAPH-6CE8}"),
            event(properties={"": 1}),
            event(properties={"order id": 1}),
            event(properties={"a" * 256: 1}),
            event(properties={"a": nest(3, [{"b.c": 1}])}),
            event(properties={"a": "x" * 50_001}),
            event(contact_properties={"NOTE": Json(json.dumps("x" * 512_000))}),
            user_event(),
            user_event(ext_id="0", email_id="null"),
            msgspec.structs.replace(event(), event_type="other"),
        ]

    def success(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return answer(202, {"message": "Batch accepted.", "count": len(events)})

    def mixed(self, events: Sequence[EncodedEvent]) -> HttpResponse:
        return answer(207, PARTIAL | {"errors": [{"eventIndex": [0], "message": "Invalid email_id"}]})


def test_values_at_the_limits_are_accepted() -> None:
    sink = BrevoSink(SETTINGS, make_context())
    sink.encode(event(event_name="x" * 255, properties={"a" * 255: "x" * 49_500, "B-1_": nest(20, [1, {"c": None}])}))


def test_the_requests_are_those_of_the_page() -> None:
    sink = BrevoSink(SETTINGS, make_context())
    first = event(1, {"orderId": "o-1", "total": 9.5, "coupon": None}, email_id="ada@example.com")
    second = user_event(ext_id="ada", contact_properties={"FIRSTNAME": Json('"Ada"')})
    single = sink.request([sink.encode(first)], FIRST)
    assert (single.url, json.loads(single.body)) == (EVENT_URL, json.loads(blocks("brevo")["single"]))
    batch = sink.request([sink.encode(first), sink.encode(second)], FIRST)
    assert (batch.url, json.loads(batch.body)) == (BATCH_URL, json.loads(blocks("brevo")["batch"]))
    assert EVENT_URL in page("brevo") and BATCH_URL in page("brevo")


def test_the_example_of_the_vendor_is_accepted_by_its_server() -> None:
    """The event of https://developers.brevo.com/docs/event-endpoints."""
    properties = {
        "video_title": "Brevo — The most approachable CRM suite",
        "duration": 142,
        "autoplayed": False,
        "upload_date": "2023-11-24T12:09:10+01:00",
    }
    contact = {"AGE": Json("32"), "GENDER": Json('"FEMALE"')}
    sink, server = BrevoSink(SETTINGS, make_context()), BrevoServer()
    given = event(1, properties, event_name="video_played", email_id="jane.doe@example.com", contact_properties=contact)
    request = sink.request([sink.encode(given)], FIRST)
    assert server.respond(request).status == 204 and server.violations == []
    assert json.loads(request.body)["event_properties"] == properties


def test_the_mappings_are_those_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` |" in page("brevo") and type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            assert f"| `{each.name}` | {shown} |" in page("brevo")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Order Completed", "Order_Completed"),
        ("  Video: played!  ", "Video_played"),
        ("cart-updated_2", "cart-updated_2"),
        ("Café ouvert", "Caf_ouvert"),
    ],
)
def test_a_name_has_only_characters_that_brevo_takes(given: str, sent: str) -> None:
    assert json.loads(BrevoSink(SETTINGS, make_context()).encode(event(event_name=given)).body)["event_name"] == sent


async def send(response: HttpResponse, count: int = 3) -> Any:
    sink = BrevoSink(SETTINGS, make_context(ScriptedHttp(lambda _: response)))
    events = [sink.encode(event(number)) for number in range(count)]
    return await sink.send(sink.request(events, FIRST), events)


async def test_several_events_can_have_one_error() -> None:
    errors = [{"eventIndex": [0, 2], "message": "Invalid email_id"}]
    result = await send(answer(207, PARTIAL | {"successful_events": 1, "failed_events": 2, "errors": errors}))
    assert [each.outcome for each in result.items] == [Outcome.REJECTED, Outcome.DELIVERED, Outcome.REJECTED]
    assert (result.items[2].reason, result.items[2].message) == ("InvalidEvent", "Invalid email_id")


@pytest.mark.parametrize(
    "response",
    [
        answer(207, PARTIAL | {"errors": []}),
        answer(207, PARTIAL | {"errors": [{"eventIndex": [3], "message": "no"}]}),
        answer(207, PARTIAL | {"errors": [{"eventIndex": [0, 1], "message": "no"}]}),
        answer(207, PARTIAL | {"errors": [{"message": "no"}]}),
        answer(202, {"message": "Batch accepted.", "count": 2}),
        answer(202, {"message": "Batch accepted."}),
        answer(204, ""),
    ],
)
async def test_a_response_that_does_not_account_for_all_events_delivers_none(response: HttpResponse) -> None:
    assert {each.outcome for each in (await send(response)).items} == {Outcome.RETRY}


async def test_an_event_that_brevo_refuses_has_its_reason() -> None:
    [item] = (await send(answer(400, {"code": "invalid_parameter", "message": "Invalid email_id"}), 1)).items
    assert (item.outcome, item.reason, item.message) == (Outcome.REJECTED, "InvalidParameter", "Invalid email_id")


async def test_a_batch_that_brevo_refuses_is_halved() -> None:
    result = await send(answer(400, {"code": "invalid_parameter", "message": "no"}))
    assert result.failure is not None and result.failure.scope is FailureScope.BATCH


async def test_the_wait_is_that_of_the_header() -> None:
    result = await send(HttpResponse(status=429, headers={"x-sib-ratelimit-reset": "17"}))
    assert result.failure is not None and result.failure.retry_after_seconds == 17.0


def test_placeholders_are_left_out() -> None:
    sink = BrevoSink(SETTINGS, make_context())
    body = json.loads(sink.encode(user_event(ext_id="null", email_id="ada@example.com", contact_id=7)).body)
    assert body["identifiers"] == {"email_id": "ada@example.com", "contact_id": 7}
    with pytest.raises(EventRejected, match="no identifier"):
        sink.encode(user_event(ext_id="undefined"))
