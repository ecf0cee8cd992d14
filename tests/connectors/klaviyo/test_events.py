"""Klaviyo's events: the contract, the requests of the page, limits, and errors by JSON pointers."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import (
    ConnectorContext,
    EventRejected,
    EventSink,
    FailureScope,
    HttpResponse,
    Outcome,
    OutgoingEvent,
)
from headwater.connectors.klaviyo.events import BULK_URL, EVENT_URL, KlaviyoSink
from headwater.connectors.klaviyo.schemas import EVENT_TYPES
from headwater.connectors.klaviyo.settings import KlaviyoSettings
from headwater.connectors.registry import CONNECTORS
from headwater.schemas import EVENT_SCHEMA, Json, ObjectType, Property, StringType
from headwater.transforms.mapping import CompiledMapping
from tests.connectors import unexpected
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, EventSinkConformance, make_event
from tests.connectors.test_pages import blocks, page
from tests.connectors.unexpected import SCALARS, STATUSES, bodies
from tests.connectors.vendors.klaviyo import KEY, REFUSED_KEYS

SETTINGS = KlaviyoSettings(private_api_key=KEY)
TIME = datetime(2026, 5, 4, 11, 59, 59, 500_000, tzinfo=UTC)


def event(number: int = 1, properties: dict[str, Any] | None = None, **values: Any) -> OutgoingEvent:
    if properties is not None:
        values["properties"] = {name: Json(json.dumps(value)) for name, value in properties.items()}
    given = {"metric_name": "Order Completed", "email": f"user-{number}@example.com"} | values
    return make_event(number, event_type="create_event", timestamp=TIME, values=given)


def refusal(*pointers: str) -> HttpResponse:
    errors = [{"code": "invalid", "detail": "no such thing", "source": {"pointer": each}} for each in pointers]
    return HttpResponse(status=400, body=msgspec.json.encode({"errors": errors}))


def pointer(element: int, index: int, member: str = "time") -> str:
    return f"/data/attributes/events-bulk-create/data/{element}/attributes/events/data/{index}/attributes/{member}"


class TestContract(EventSinkConformance):
    SECRETS = (KEY,)

    def make(self, context: ConnectorContext) -> EventSink:
        return KlaviyoSink(SETTINGS, context)

    def event(self, number: int) -> OutgoingEvent:
        return event(number)

    def unacceptable(self) -> Sequence[OutgoingEvent]:
        nested: Any = 1
        for _ in range(10):
            nested = {"a": nested}
        return [
            event(email="undefined"),
            event(metric_name=""),
            event(properties={f"p{number}": 1 for number in range(401)}),
            event(properties={"a": nested}),
            event(properties={"a": "x" * 100_001}),
            event(properties={"a": list(range(4_001))}),
            msgspec.structs.replace(event(), timestamp=datetime(1999, 12, 31, tzinfo=UTC)),
            msgspec.structs.replace(event(), event_type="other"),
        ]


def test_values_at_the_limits_are_accepted() -> None:
    nested: Any = 1
    for _ in range(8):
        nested = {"a": nested}
    properties = {f"p{number}": 1 for number in range(399)} | {"deep": [nested]}
    KlaviyoSink(SETTINGS, make_context()).encode(event(properties=properties))
    KlaviyoSink(SETTINGS, make_context()).encode(event(properties={"a": "é" * 50_000, "b": list(range(4_000))}))


def test_the_requests_are_those_of_the_page() -> None:
    sink = KlaviyoSink(SETTINGS, make_context())
    first = event(1, {"orderId": "o-1", "total": 9.5}, email="ada@example.com", value=9.5, value_currency="EUR")
    second = event(2, metric_name="Order Shipped", email="ada@example.com")
    single = sink.request([sink.encode(first)], FIRST)
    assert (single.url, json.loads(single.body)) == (EVENT_URL, json.loads(blocks("klaviyo")["single"]))
    bulk = sink.request([sink.encode(first), sink.encode(second)], FIRST)
    assert (bulk.url, json.loads(bulk.body)) == (BULK_URL, json.loads(blocks("klaviyo")["bulk"]))
    assert EVENT_URL in page("klaviyo") and BULK_URL in page("klaviyo")


def test_the_mappings_and_the_revision_are_those_of_the_page() -> None:
    for type_ in EVENT_TYPES:
        assert f"| `{type_.id}` |" in page("klaviyo") and type_.schema is not None
        for each in type_.schema.properties:
            shown = f"`{each.prefilled}`" if each.prefilled else "none"
            assert f"| `{each.name}` | {shown} |" in page("klaviyo")
    version = CONNECTORS["klaviyo"].version
    assert version is not None and version.ends_on is not None
    assert f"revision `{version.name}` of the API, until {version.ends_on:%-d %B %Y}" in page("klaviyo")


@pytest.mark.parametrize(
    ("name", "metric"), [("Order Completed", "Placed Order"), ("Product Viewed", "Viewed Product"), ("Other", "Other")]
)
def test_the_page_renames_metrics(name: str, metric: str) -> None:
    schema = ObjectType((Property("metric_name", StringType()),))
    mapping = CompiledMapping({"metric_name": blocks("klaviyo")["metric"].strip()}, EVENT_SCHEMA, schema)
    assert mapping.apply({"event": name}) == {"metric_name": metric}


async def test_errors_name_events_of_their_profiles() -> None:
    http = ScriptedHttp(lambda _: refusal(pointer(0, 1), pointer(1, 0, "unique_id")))
    sink = KlaviyoSink(SETTINGS, make_context(http))
    emails = ["ada@example.com", "bob@example.com", "ada@example.com", "cid@example.com"]
    events = [sink.encode(event(number, email=email)) for number, email in enumerate(emails, start=1)]
    result = await sink.send(sink.request(events, FIRST), events)
    assert result.failure is None
    # The second one of ada is rejected; Klaviyo has that of bob already; the others are sent again without a wait.
    assert [each.outcome for each in result.items] == [
        Outcome.RETRY,
        Outcome.DELIVERED,
        Outcome.REJECTED,
        Outcome.RETRY,
    ]
    assert result.items[0].retry_after_seconds == 0.0
    assert (result.items[2].reason, "no such thing" in result.items[2].message) == ("Invalid", True)


async def test_an_error_about_a_profile_rejects_its_events() -> None:
    where = "/data/attributes/events-bulk-create/data/0/attributes/profile/data/attributes/email"
    http = ScriptedHttp(lambda _: refusal(where))
    sink = KlaviyoSink(SETTINGS, make_context(http))
    emails = ["ada@example.com", "bob@example.com", "ada@example.com"]
    events = [sink.encode(event(number, email=email)) for number, email in enumerate(emails, start=1)]
    result = await sink.send(sink.request(events, FIRST), events)
    assert [each.outcome for each in result.items] == [Outcome.REJECTED, Outcome.RETRY, Outcome.REJECTED]


@pytest.mark.parametrize(
    "where",
    ["", "/data", "/data/attributes/events-bulk-create/data/9/x", "/data/attributes/events-bulk-create/data/x", "no"],
)
async def test_an_error_that_names_no_event_is_about_the_request(where: str) -> None:
    sink = KlaviyoSink(SETTINGS, make_context(ScriptedHttp(lambda _: refusal(where))))
    events = [sink.encode(event(number)) for number in (1, 2)]
    result = await sink.send(sink.request(events, FIRST), events)
    assert result.failure is not None and result.failure.scope is FailureScope.BATCH


@pytest.mark.parametrize("body", REFUSED_KEYS)
@pytest.mark.parametrize("count", [1, 2])
async def test_a_400_about_the_key_is_a_failure_of_the_credentials(body: Any, count: int) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=400, body=msgspec.json.encode(body)))
    sink = KlaviyoSink(SETTINGS, make_context(http))
    events = [sink.encode(event(number)) for number in range(count)]
    result = await sink.send(sink.request(events, FIRST), events)
    assert result.failure is not None and result.failure.scope is FailureScope.CREDENTIALS


async def test_an_error_of_an_event_with_such_a_text_rejects_the_event() -> None:
    error = {"code": "invalid", "detail": "The API key specified is invalid.", "source": {"pointer": pointer(0, 0)}}
    http = ScriptedHttp(lambda _: HttpResponse(status=400, body=msgspec.json.encode({"errors": [error]})))
    sink = KlaviyoSink(SETTINGS, make_context(http))
    events = [sink.encode(event(number)) for number in (1, 2)]
    result = await sink.send(sink.request(events, FIRST), events)
    assert result.failure is None and result.items[0].outcome is Outcome.REJECTED


def test_placeholders_are_left_out() -> None:
    sink = KlaviyoSink(SETTINGS, make_context())
    values = {"metric_name": "m", "external_id": "null", "anonymous_id": "a-1"}
    encoded = sink.encode(make_event(1, event_type="create_user_event", values=values))
    profile = json.loads(sink.request([encoded], FIRST).body)["data"]["attributes"]["profile"]
    assert profile == {"data": {"type": "profile", "attributes": {"anonymous_id": "a-1"}}}
    with pytest.raises(EventRejected, match="no identifier"):
        sink.encode(make_event(1, event_type="create_user_event", values={"metric_name": "m", "external_id": "0"}))


def test_a_profile_may_contain_any_text() -> None:
    """The parts of an encoded event are found by a text that an identifier cannot contain."""
    sink = KlaviyoSink(SETTINGS, make_context())
    email = ',"events":{"data":[{"@x'
    events = [sink.encode(event(number, email=email)) for number in (1, 2)]
    body = json.loads(sink.request(events, FIRST).body)
    [element] = body["data"]["attributes"]["events-bulk-create"]["data"]
    assert element["attributes"]["profile"]["data"]["attributes"]["email"] == email
    assert len(element["attributes"]["events"]["data"]) == 2


POINTERS = st.one_of(
    st.builds(
        pointer, st.integers(-1, 4), st.integers(-1, 3), st.sampled_from(["time", "unique_id", "value_currency"])
    ),
    st.sampled_from(
        ["", "/data", "/data/attributes/events-bulk-create/data/0", "/data/attributes/x/data/0", "//", "é"]
    ),
    SCALARS,
)
ERRORS = st.fixed_dictionaries(
    {"source": st.one_of(st.fixed_dictionaries({}, optional={"pointer": POINTERS}), SCALARS)},
    optional={"code": st.one_of(st.text(max_size=6), SCALARS), "detail": st.text(max_size=9)},
)


@given(status=STATUSES, body=bodies(st.fixed_dictionaries({}, optional={"errors": st.lists(ERRORS, max_size=4)})))
async def test_no_refusal_delivers_an_event_but_one_that_klaviyo_has(status: int, body: bytes) -> None:
    emails = ["ada@example.com", "bob@example.com", "ada@example.com"]
    events = [event(number, email=email) for number, email in enumerate(emails, start=1)]
    result = await unexpected.send(partial(KlaviyoSink, SETTINGS), events, status, body, knows_repetitions=True)
    if status >= 300 and Outcome.DELIVERED in {each.outcome for each in result.items}:
        assert status == 400 and b"/unique_id" in body
