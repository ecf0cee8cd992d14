"""Brevo's events: the contract, the requests of the page, limits, and errors by positions."""

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from tests.connectors.pacing import call_times, most_within
from tests.connectors.test_pages import blocks, page
from tests.connectors.vendors.brevo import KEY, BrevoServer

SETTINGS = BrevoSettings(api_key=KEY)
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)
PARTIAL = {"status": "partial_success", "total_events": 3, "successful_events": 2, "failed_events": 1}


def event(number: int = 1, properties: dict[str, Any] | None = None, **values: Any) -> OutgoingEvent:
    if properties is not None:
        values["event_properties"] = {name: Json(json.dumps(value)) for name, value in properties.items()}
    named = {"event_name": "Order Completed", "email_id": f"user-{number}@example.com"} | values
    return make_event(number, event_type="create_event", timestamp=TIME, values=named)


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
    contact = {"AGE": Json("32"), "GENDER": Json('"FEMALE"'), "CITY": Json("null")}
    sink, server = BrevoSink(SETTINGS, make_context()), BrevoServer()
    video = event(1, properties, event_name="video_played", email_id="jane.doe@example.com", contact_properties=contact)
    request = sink.request([sink.encode(video)], FIRST)
    assert server.respond(request).status == 204 and server.violations == []
    assert json.loads(request.body)["event_properties"] == properties
    assert json.loads(request.body)["contact_properties"] == {"AGE": 32, "GENDER": "FEMALE"}, "null is left out"


def test_the_filters_and_mappings_are_those_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert re.search(rf"\| `{type_.id}` \| .* \| `{re.escape(type_.filter)}` \|", page("brevo"))
        assert type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            assert f"| `{each.name}` | {shown} |" in page("brevo")


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("Order Completed", "Order_Completed"),
        ("  Video: played!  ", "Video_played"),
        ("cart-updated_2", "cart-updated_2"),
        ("Café ouvert", "Caf_ouvert"),
    ],
)
def test_a_name_has_only_characters_that_brevo_takes(name: str, sent: str) -> None:
    assert json.loads(BrevoSink(SETTINGS, make_context()).encode(event(event_name=name)).body)["event_name"] == sent


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


NONE = PARTIAL | {"status": "failed", "successful_events": 0, "failed_events": 3}


async def test_each_event_of_a_batch_without_a_valid_one_has_its_reason() -> None:
    errors = [{"eventIndex": [0, 2], "message": "Invalid email_id"}, {"eventIndex": [1], "message": "Invalid date"}]
    result = await send(answer(400, NONE | {"errors": errors}))
    assert [each.message for each in result.items] == ["Invalid email_id", "Invalid date", "Invalid email_id"]
    assert {each.outcome for each in result.items} == {Outcome.REJECTED}


async def test_an_event_of_a_refused_batch_without_a_reason_is_sent_again() -> None:
    result = await send(answer(400, NONE | {"errors": [{"eventIndex": [1], "message": "Invalid email_id"}]}))
    assert [each.outcome for each in result.items] == [Outcome.RETRY, Outcome.REJECTED, Outcome.RETRY]


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b'{"events":[]}', b"[]", b"null", b"\xff"])
async def test_a_success_in_another_form_delivers_no_event(body: bytes) -> None:
    """A proxy or a web server under the address of Brevo responds to everything."""
    for status, count in ((200, 1), (204, 1), (200, 3), (202, 3)):
        result = await send(HttpResponse(status=status, body=body), count)
        assert {each.outcome for each in result.items} == {Outcome.RETRY}, (status, count)


@settings(max_examples=300)
@given(
    status=st.sampled_from([200, 202, 204, 207, 400]),
    count=st.integers(1, 4),
    body=st.one_of(
        st.binary(max_size=40),
        st.fixed_dictionaries(
            {},
            optional={
                "count": st.one_of(st.integers(-1, 5), st.none(), st.text(max_size=2)),
                "total_events": st.integers(0, 5),
                "successful_events": st.one_of(st.integers(-1, 5), st.none()),
                "errors": st.lists(
                    st.fixed_dictionaries(
                        {"eventIndex": st.lists(st.integers(-1, 5), max_size=4)},
                        optional={"message": st.text(max_size=5)},
                    ),
                    max_size=3,
                ),
            },
        ).map(msgspec.json.encode),
    ),
)
def test_an_event_is_delivered_only_if_the_response_accounts_for_it(status: int, count: int, body: bytes) -> None:
    result = asyncio.run(send(HttpResponse(status=status, body=body), count))
    assert len(result.items) == count
    delivered = sum(each.outcome is Outcome.DELIVERED for each in result.items)
    if delivered and count > 1:
        stated = json.loads(body)
        assert status < 300 and delivered in (stated.get("count"), stated.get("successful_events"))
    elif delivered:
        assert status < 300 and body.strip() in (b"", b"{}")


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


def test_at_full_load_the_limits_of_the_account_are_kept_and_used() -> None:
    times = call_times(BrevoSink.policy.rates, seconds=7_200)
    assert most_within(times, 1) <= 10 and 0.95 * 36_000 <= most_within(times, 3_600) <= 36_000
