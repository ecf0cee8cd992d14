"""Sending and reading events over gRPC, with results equal to those of REST."""

import json
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.api.messages.events import event_message
from headwater.api.services.events import MAX_REJECTED_PAGE
from headwater.base.errors import BadRequest, PayloadTooLarge, Unauthorized
from headwater.catalog import Connection
from headwater.events import MAX_REJECTED_BYTES
from headwater.rest.v1 import events_pb2 as rest_pb
from headwater.v1 import connections_pb2
from headwater.v1 import events_pb2 as pb
from tests.api.conftest import RESTRICTED, UNRESTRICTED, Api, CallError
from tests.harness import add_source, add_workspace, track_call
from tests.jsontexts import json_values

SEND = "EventService/SendEvents"
LIST = "EventService/ListEvents"
LIST_JSON = "rest.EventService/ListEvents"
REJECTED = "EventService/ListRejectedEvents"


async def send(api: Api, source: Connection, *events: pb.Event, **request: Any) -> Any:
    return await api.call(SEND, pb.SendEventsRequest(events=events, **request), key=source.event_write_keys[0])


async def listed(api: Api, **request: Any) -> list[dict[str, Any]]:
    response = await api.call(LIST_JSON, rest_pb.ListEventsRequest(**request))
    assert not isinstance(response, CallError), response
    assert response.content_type == "application/json"
    events: list[dict[str, Any]] = json.loads(response.data)["events"]
    return events


# --- SendEvents ---------------------------------------------------------------------------------------------------


async def test_typed_events_are_stored_and_come_back_typed(api: Api, source: Connection) -> None:
    event = pb.Event(
        type="track",
        event="Order Completed",
        user_id="u",
        message_id="m",
        properties_json='{"total":9007199254740993}',
        context=pb.EventContext(ip="203.0.113.9", screen=pb.EventContext.Screen(width=320)),
        extra_json='{"_metadata":{"a":1}}',
        timestamp=Timestamp(seconds=1_700_000_000, nanos=123_456_000),
    )
    assert await send(api, source, event) == pb.SendEventsResponse(accepted=1)
    await api.harness.process_log()
    (stored,) = (await api.call(LIST, pb.ListEventsRequest())).events
    event.traits_json = "{}"
    event.connection_id = source.id
    for name in ("original_timestamp", "sent_at", "received_at"):
        assert stored.HasField(name)
    stored.ClearField("sent_at")
    stored.ClearField("received_at")
    event.original_timestamp.CopyFrom(event.timestamp)
    assert stored == event


async def test_the_time_of_sending_is_that_of_the_call(api: Api, source: Connection) -> None:
    now = int(api.harness.clock.now().timestamp())
    event = pb.Event(type="page", user_id="u", timestamp=Timestamp(seconds=now - 10))
    await send(api, source, event, sent_at=Timestamp(seconds=now - 5, nanos=500_000_000))
    await api.harness.process_log()
    (stored,) = await listed(api)
    assert stored["timestamp"] == "2026-11-22T12:00:05Z"
    assert stored["originalTimestamp"] == "2026-11-22T12:00:00Z"


async def test_rejected_events_are_reported_and_do_not_hold_up_the_others(api: Api, source: Connection) -> None:
    good = pb.Event(type="page", user_id="u")
    response = await send(
        api,
        source,
        pb.Event(type="track", user_id="u"),
        good,
        pb.Event(),
        pb.Event(type="page", user_id="u", traits_json="[]"),
    )
    assert response.accepted == 1
    assert [(each.index, each.code, each.path, each.message) for each in response.rejected] == [
        (0, "BadRequest", "event", "event is required in a track event"),
        (2, "BadRequest", "type", "type must be one of alias, group, identify, page, screen, track"),
        (3, "BadRequest", "traits", "traits must be an object or null"),
    ]
    await api.harness.process_log()
    assert len(await listed(api)) == 1
    kept = (await api.call(REJECTED, pb.ListRejectedEventsRequest(protocol="grpc"))).events
    assert [event.position for event in kept] == [4, 3, 1]


async def test_no_events_are_no_error(api: Api, source: Connection) -> None:
    assert await send(api, source) == pb.SendEventsResponse()


async def test_sending_again_stores_nothing_twice(api: Api, source: Connection) -> None:
    for _ in range(3):
        assert (await send(api, source, pb.Event(type="page", user_id="u", message_id="m"))).accepted == 1
    await api.harness.process_log()
    assert len(await listed(api)) == 1


@pytest.mark.parametrize(
    ("key", "request_", "status", "reason"),
    [
        (None, pb.SendEventsRequest(), "UNAUTHENTICATED", "Unauthorized"),
        ("unknown", pb.SendEventsRequest(), "UNAUTHENTICATED", "Unauthorized"),
        ("KEY", pb.SendEventsRequest(sent_at=Timestamp(seconds=10**15)), "INVALID_ARGUMENT", "BadRequest"),
        ("KEY", pb.SendEventsRequest(events=[pb.Event()] * 20_001), "INVALID_ARGUMENT", "PayloadTooLarge"),
        (
            "KEY",
            pb.SendEventsRequest(events=[pb.Event(traits_json='{"a":"%s"}' % ("x" * 30_000))] * 20),
            "INVALID_ARGUMENT",
            "PayloadTooLarge",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_call_can_be_rejected_as_a_whole(
    api: Api, source: Connection, key: str | None, request_: pb.SendEventsRequest, status: str, reason: str
) -> None:
    failed = await api.call(SEND, request_, key=source.event_write_keys[0] if key == "KEY" else key)
    assert (failed.status, failed.reason) == (status, reason)


# --- ListEvents of both packages --------------------------------------------------------------------------------


@pytest.fixture
async def ten(api: Api, source: Connection) -> list[str]:
    """Send ten events, one second apart; return their message ids, the oldest first."""
    times = [Timestamp(seconds=1_700_000_000 + number) for number in range(10)]
    await send(
        api,
        source,
        *(pb.Event(type="page", user_id="u", message_id=f"m{number}", timestamp=at) for number, at in enumerate(times)),
    )
    await api.harness.process_log()
    return [f"m{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("request_", "numbers"),
    [
        ({}, range(9, -1, -1)),
        ({"ascending": True}, range(10)),
        ({"order": "timestamp", "ascending": True}, range(10)),
        ({"order": "receivedAt"}, range(9, -1, -1)),
        ({"limit": 3}, (9, 8, 7)),
        ({"first": 8}, (1, 0)),
        ({"first": 2, "limit": 2, "ascending": True}, (2, 3)),
        ({"first": 10}, ()),
        ({"first": 2**31 - 1, "limit": 1000}, ()),
    ],
    ids=str,
)
async def test_pages_list_every_item_once(api: Api, ten: list[str], request_: dict[str, Any], numbers: Any) -> None:
    expected = [ten[number] for number in numbers]
    assert [event["messageId"] for event in await listed(api, **request_)] == expected
    typed = await api.call(LIST, pb.ListEventsRequest(**request_))
    assert [event.message_id for event in typed.events] == expected


@pytest.mark.parametrize(
    ("request_", "field", "message"),
    [
        ({"first": -1}, "first", "first must be 0 or greater"),
        ({"limit": 0}, "limit", "limit must be in the range from 1 to 1000"),
        ({"limit": 1001}, "limit", "limit must be in the range from 1 to 1000"),
        ({"order": "userId"}, "order", "events can be ordered by timestamp or receivedAt only"),
        ({"properties": ["nonsense"]}, "properties", "events have no property 'nonsense'"),
        ({"properties": ["extraJson"]}, "properties", "events have no property 'extraJson'"),
        ({"properties": ["propertiesJson"]}, "properties", "events have no property 'propertiesJson'"),
    ],
    ids=str,
)
async def test_invalid_requests_are_rejected(api: Api, request_: dict[str, Any], field: str, message: str) -> None:
    for method, request in (
        (LIST, pb.ListEventsRequest(**request_)),
        (LIST_JSON, rest_pb.ListEventsRequest(**request_)),
    ):
        failed = await api.call(method, request)
        assert (failed.status, failed.message, failed.metadata) == ("INVALID_ARGUMENT", message, (("field", field),))


async def test_a_page_can_have_only_some_properties(api: Api, ten: list[str]) -> None:
    assert await listed(api, properties=["messageId,type"], limit=1) == [{"messageId": ten[9], "type": "page"}]
    assert await listed(api, properties=["messageId", "integrations", "properties"], limit=1) == [
        {"messageId": ten[9], "properties": {}}
    ]
    typed = (await api.call(LIST, pb.ListEventsRequest(properties=["properties", "type"], limit=1))).events
    assert list(typed) == [pb.Event(type="page", properties_json="{}")]


async def test_events_of_another_workspace_are_not_listed(api: Api) -> None:
    other = await add_workspace(api.harness.catalog)
    await send(api, await add_source(api.harness.catalog, other.id), pb.Event(type="page", user_id="u"))
    await api.harness.process_log()
    assert await listed(api) == []


async def test_json_of_users_is_returned_as_text(api: Api, source: Connection) -> None:
    own = b'{"b":9007199254740993,"a":1.0,"n":1E400,"u":"\\u00e9"}'
    await api.harness.send(
        source, b'{"type":"track","event":"e","userId":"u","properties":%s,"mine":%s}' % (own, own), "track"
    )
    await api.harness.process_log()
    raw = await api.call(LIST_JSON, rest_pb.ListEventsRequest())
    assert raw.data.count(own) == 2
    (typed,) = (await api.call(LIST, pb.ListEventsRequest())).events
    assert (typed.properties_json, typed.extra_json) == (own.decode(), f'{{"mine":{own.decode()}}}')


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "name",
                "context",
                "traits",
                "properties",
                "integrations",
                "kpid",
                "extraJson",
                "connectionId",
                "receivedAt",
                "x",
            ]
        ),
        st.one_of(
            json_values, st.dictionaries(st.sampled_from(["ip", "os", "page", "extraJson"]), json_values, max_size=2)
        ),
        max_size=5,
    )
)
async def test_rest_and_grpc_list_the_same_events(api: Api, source: Connection, members: dict[str, Any]) -> None:
    await api.harness.send(source, json.dumps({"userId": "u", **members}).encode(), "page")
    await api.harness.process_log()
    typed = await api.call(LIST, pb.ListEventsRequest(limit=1, order="receivedAt"))
    raw = await api.call(LIST_JSON, rest_pb.ListEventsRequest(limit=1, order="receivedAt"))
    documents = msgspec.json.decode(
        msgspec.json.decode(raw.data, type=dict[str, msgspec.Raw])["events"], type=list[dict[str, msgspec.Raw]]
    )
    assert list(typed.events) == [event_message(document) for document in documents]


# --- ListRejectedEvents -------------------------------------------------------------------------------------------


async def test_rejected_events_are_listed_with_their_reason_and_bytes(api: Api, source: Connection) -> None:
    other = await add_source(api.harness.catalog, api.harness.workspace)
    await api.harness.send(source, b'{"batch":[{"type":"page"},{"type":"page","userId":"u"}]}')
    await api.harness.send(other, b'{"batch":[7]}')
    await api.harness.process_log()
    second, first = (await api.call(REJECTED, pb.ListRejectedEventsRequest())).events
    assert first == pb.RejectedEvent(
        position=1,
        connection=source.id,
        protocol="track",
        code="BadRequest",
        path="userId",
        message="userId or anonymousId is required in a page event",
        body=b'{"type":"page"}',
        body_text='{"type":"page"}',
        received_at=first.received_at,
    )
    assert first.received_at.ToJsonString() == "2026-11-22T12:00:10.500Z"
    assert (second.position, second.body) == (3, b"7")

    async def positions(**request: Any) -> list[int]:
        return [event.position for event in (await api.call(REJECTED, pb.ListRejectedEventsRequest(**request))).events]

    assert await positions(connection=source.id) == [1]
    assert await positions(connection=other.id) == [3]
    assert await positions(connection=5) == []
    assert await positions(protocol="grpc") == []
    assert await positions(first=1) == [1]
    assert await positions(limit=1) == [3]
    assert (await api.call(REJECTED, pb.ListRejectedEventsRequest(limit=0))).reason == "BadRequest"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"name":"Zoë \\u0000"}'.encode(), '{"name":"Zoë \\u0000"}'),
        (b"", ""),
        (b"\xff{", None),
        (b"{\xc3", None),
        (b"x" * 65_535 + "ë".encode(), "x" * 65_535),
    ],
    ids=["text", "empty", "not UTF-8", "incomplete", "cut in a character"],
)
async def test_a_rejected_body_is_readable_when_it_is_text(
    api: Api, source: Connection, body: bytes, text: str | None
) -> None:
    with pytest.raises((BadRequest, PayloadTooLarge)):
        await api.harness.send(source, body + b"{" if body.startswith(b"{") else body, "page")
    await api.harness.process_log()
    (event,) = (await api.call(REJECTED, pb.ListRejectedEventsRequest())).events
    expected = text + "{" if text is not None and text.startswith("{") else text
    assert (event.body_text if event.HasField("body_text") else None) == expected
    assert event.body == (body + b"{" if body.startswith(b"{") else body)[:MAX_REJECTED_BYTES]


async def test_the_largest_page_of_rejected_events_fits_the_gateway(api: Api, source: Connection) -> None:
    body = b"\x01" * MAX_REJECTED_BYTES  # each byte is six characters in JSON
    for _ in range(3):
        with pytest.raises(PayloadTooLarge):
            await api.harness.send(source, body, "page")
    await api.harness.process_log()
    response = await api.call(REJECTED, pb.ListRejectedEventsRequest())
    sizes = [len(MessageToJson(event)) for event in response.events]
    assert max(sizes) * (MAX_REJECTED_PAGE // MAX_REJECTED_BYTES) < 64 * 1024 * 1024


@pytest.mark.parametrize(
    ("key", "header", "workspaces"),
    [
        (UNRESTRICTED, None, "unknown"),
        (UNRESTRICTED, "known", "known"),
        (RESTRICTED, None, "known"),
        (RESTRICTED, "known", "known"),
    ],
)
async def test_calls_with_an_unknown_key_are_listed_for_keys_of_every_workspace(
    api: Api, source: Connection, key: str, header: str | None, workspaces: str
) -> None:
    for authorization in ("Bearer nobody-has-it", None):
        with pytest.raises(Unauthorized):
            await api.harness.intake.accept(
                track_call(call="page", body=b'{"userId":"u"}', authorization=authorization)
            )
    await api.harness.send(source, b'{"batch":[7]}')
    await api.harness.process_log()
    metadata = [("headwater-workspace", str(api.harness.workspace))] if header else []
    listed_ = (await api.call(REJECTED, pb.ListRejectedEventsRequest(), *metadata, key=key)).events
    counts = (
        await api.call("EventService/CountRejectedEvents", pb.CountRejectedEventsRequest(), *metadata, key=key)
    ).counts
    if workspaces == "known":
        assert [(event.connection, event.body_text) for event in listed_] == [(source.id, "7")]
        assert [(row.connection, row.code, row.count) for row in counts] == [(source.id, "BadRequest", 1)]
    else:
        assert [(event.HasField("connection"), event.code, event.message) for event in listed_] == [
            (
                False,
                "Unauthorized",
                "a write key is required: as Basic user, as Bearer token, in X-Write-Key, or as writeKey in the body",
            ),
            (False, "Unauthorized", "the write key is not known"),
        ]
        assert [(row.connection, row.code, row.count) for row in counts] == [(0, "Unauthorized", 2)]


# --- CountRejectedEvents and TraceEvent ---------------------------------------------------------------------------


async def test_rejected_events_are_counted_by_source_and_rule(api: Api, source: Connection) -> None:
    other = await add_source(api.harness.catalog, api.harness.workspace)
    for _ in range(2):
        await api.harness.send(source, b'{"batch":[{"type":"page"},{"type":"track","userId":"u"}]}')
        await api.harness.send(source, b'{"batch":[{"type":"page"}]}')
    await api.harness.send(other, b'{"batch":[7]}')
    await api.harness.process_log()
    counts = (await api.call("EventService/CountRejectedEvents", pb.CountRejectedEventsRequest())).counts
    assert [(row.connection, row.code, row.path, row.count) for row in counts] == [
        (source.id, "BadRequest", "userId", 4),
        (source.id, "BadRequest", "event", 2),
        (other.id, "BadRequest", "", 1),
    ]
    assert counts[0].first_at.ToJsonString() == counts[0].last_at.ToJsonString() == "2026-11-22T12:00:10.500Z"
    request = pb.CountRejectedEventsRequest(connection=other.id)
    assert [row.count for row in (await api.call("EventService/CountRejectedEvents", request)).counts] == [1]


async def test_a_trace_has_the_outcome_of_a_message(api: Api, source: Connection) -> None:
    body = b'{"batch":[{"type":"page","userId":"u","messageId":"m"},{"type":"page","messageId":"m"}]}'
    await api.harness.send(source, body)
    await api.harness.process_log()
    await api.harness.send(source, body)
    await api.harness.process_log()
    traces = (await api.call("EventService/TraceEvent", pb.TraceEventRequest(message_id="m"))).traces
    assert [(each.connection, each.position, each.outcome, each.duplicates) for each in traces] == [
        (source.id, 1, "Processed", 1),
        (source.id, 2, "Rejected", 0),
        (source.id, 3, "Duplicate", 0),
        (source.id, 4, "Rejected", 0),
    ]
    assert {(step.pipeline, step.step, step.outcome) for step in traces[0].steps} == {
        (pipeline.id, "Finalize", "Passed") for pipeline in source.pipelines
    }
    assert {step.at.ToJsonString() for step in traces[0].steps} == {"2026-11-22T12:00:10.500Z"}
    assert traces[1].message == "userId or anonymousId is required in a page event"
    assert not (await api.call("EventService/TraceEvent", pb.TraceEventRequest(message_id="unknown"))).traces


@pytest.mark.parametrize(
    ("events", "users", "outcome", "warned"),
    [
        (None, (), "NoPipeline", True),
        (False, (False,), "NoPipeline", True),
        (True, (), "Processed", False),
        (None, (True,), "Processed", False),
        (False, (True,), "Processed", False),
    ],
)
async def test_a_source_without_an_enabled_pipeline_has_that_outcome(
    api: Api, events: bool | None, users: tuple[bool, ...], outcome: str, warned: bool
) -> None:
    source = await add_source(api.harness.catalog, api.harness.workspace, events=events, users=users)
    for received in (False, True):
        tested = await api.call("ConnectionService/TestConnection", connections_pb2.TestConnectionRequest(id=source.id))
        assert (tested.received, [warning.code for warning in tested.warnings]) == (
            received,
            ["NoPipeline"] if warned else [],
        )
        assert all(warning.message for warning in tested.warnings)
        await api.harness.send(source, b'{"batch":[{"type":"page","userId":"u","messageId":"m"}]}')
        await api.harness.process_log()
    trace, repeated = (await api.call("EventService/TraceEvent", pb.TraceEventRequest(message_id="m"))).traces
    assert (trace.outcome, bool(trace.message), bool(trace.steps)) == (outcome, warned, not warned)
    assert (repeated.outcome, repeated.message) == ("Duplicate", "")
