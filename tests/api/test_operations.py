"""Dead letters, queues and operations over both APIs: what callers may ask for, and what another workspace sees."""

import json
from typing import Any

import pytest
from google.protobuf import json_format

from headwater.base.clock import microseconds
from headwater.catalog import Connection
from headwater.management.pipelines import set_pipeline_status
from headwater.rest.v1 import deliveries_pb2 as rest_pb
from headwater.state.deliveries import LaneHealth
from headwater.state.operations import MAX_UNFINISHED
from headwater.v1 import deliveries_pb2, operations_pb2
from tests.api.conftest import UNRESTRICTED, Api, CallError
from tests.delivery.operations import add_destination, execute, finish, ids, reread, send, track, waiting
from tests.harness import Harness, add_source, add_workspace

pytestmark = pytest.mark.both_databases

LIST, LIST_JSON = "DeliveryService/ListDeadLetters", "rest.DeliveryService/ListDeadLetters"
COUNT, QUEUE = "DeliveryService/CountDeadLetters", "DeliveryService/GetDestinationQueue"
RESEND, REPLAY = "OperationService/ResendDeadLetters", "OperationService/ReplayEvents"
GET, LIST_OPERATIONS, CANCEL = (
    f"OperationService/{name}" for name in ("GetOperation", "ListOperations", "CancelOperation")
)
MESSAGES = {
    RESEND: operations_pb2.ResendDeadLettersRequest,
    REPLAY: operations_pb2.ReplayEventsRequest,
    GET: operations_pb2.GetOperationRequest,
    LIST_OPERATIONS: operations_pb2.ListOperationsRequest,
    CANCEL: operations_pb2.CancelOperationRequest,
    LIST: deliveries_pb2.ListDeadLettersRequest,
    LIST_JSON: rest_pb.ListDeadLettersRequest,
    COUNT: deliveries_pb2.CountDeadLettersRequest,
    QUEUE: deliveries_pb2.GetDestinationQueueRequest,
}


async def call(api: Api, method: str, workspace: int | None = None, **members: Any) -> Any:
    """Call a method with the JSON members of its request, in the workspace of the harness or in another one."""
    request = json_format.ParseDict(members, MESSAGES[method]())
    if workspace is None:
        return await api.call(method, request)
    return await api.call(method, request, ("headwater-workspace", str(workspace)), key=UNRESTRICTED)


@pytest.fixture
async def destination(api: Api) -> Connection:
    """Create a destination with ten dead letters, of which the even ones were rejected."""
    return await dead_letters(api.harness)


async def dead_letters(harness: Harness, workspace: int | None = None) -> Connection:
    owner = workspace or harness.workspace
    source = await add_source(harness.catalog, owner, users=())
    destination = await add_destination(harness, source, workspace=owner)
    await send(harness, reread(harness, source), [track(number) for number in range(10)])
    await finish(harness, destination, lambda item: "Expired" if int(item.event.message_id[1:]) % 2 else "Rejected")
    harness.clock.advance(1)
    return destination


def messages(page: Any) -> list[str]:
    assert not isinstance(page, CallError), page
    return [letter.message_id for letter in page.dead_letters]


async def test_dead_letters_are_listed(api: Api, destination: Connection) -> None:
    page = await call(api, LIST, limit=3)
    assert len(page.dead_letters) == 3
    found = messages(page)
    while page.next_page_token:
        page = await call(api, LIST, limit=3, pageToken=page.next_page_token)
        found += messages(page)
    assert sorted(found) == [f"m{number}" for number in range(10)]
    [letter, *_] = (await call(api, LIST, reason="Rejected")).dead_letters
    assert (letter.destination, letter.pipeline, letter.reason) == (destination.id, ids(destination)[0], "Rejected")
    assert (letter.message, letter.status, letter.attempts, letter.number > 0) == ("no", 422, 1, True)
    assert letter.received_at.seconds <= letter.enqueue_time.seconds <= letter.die_time.seconds
    assert json.loads(letter.event_json)["messageId"] == letter.message_id
    assert await call(api, LIST_JSON) == await call(api, LIST)


CONDITIONS: list[tuple[dict[str, Any], int]] = [
    ({"reason": "Rejected"}, 5),
    ({"reason": "Other"}, 0),
    ({"destination": "DESTINATION"}, 10),
    ({"destination": 5}, 0),
    ({"pipeline": "PIPELINE", "reason": "Expired"}, 5),
    ({"pipeline": 5}, 0),
    ({"since": "2100-01-01T00:00:00Z"}, 0),
    ({"until": "2100-01-01T00:00:00Z", "since": "2020-01-01T00:00:00+02:00"}, 10),
]


async def test_the_conditions_select(api: Api, destination: Connection) -> None:
    names = {"DESTINATION": destination.id, "PIPELINE": ids(destination)[0]}
    for members, count in CONDITIONS:
        given = {name: names.get(value, value) for name, value in members.items()}
        for method in (LIST, LIST_JSON):
            assert len(messages(await call(api, method, **given))) == count, (method, given)


async def test_dead_letters_are_counted(api: Api, destination: Connection) -> None:
    [pipeline] = ids(destination)
    counts = (await call(api, COUNT)).counts
    assert {(each.destination, each.pipeline, each.reason, each.count) for each in counts} == {
        (destination.id, pipeline, "Rejected", 5),
        (destination.id, pipeline, "Expired", 5),
    }
    assert (await call(api, COUNT, destination=destination.id)).counts == counts
    assert not (await call(api, COUNT, destination=5)).counts


async def test_the_queue_of_a_destination_is_shown(api: Api, destination: Connection) -> None:
    queue = await call(api, QUEUE, id=destination.id)
    assert (queue.health, queue.open_items, queue.dead_items, queue.dead_bytes > 0) == ("Closed", 0, 10, True)
    for absent in ("failing_since", "paused_until", "last_success_time", "oldest_time", "last_status", "last_response"):
        assert not queue.HasField(absent)
    harness = api.harness
    [source] = (harness.catalog.connection(harness.workspace, each) for each in destination.linked_connections)
    assert source is not None
    await send(harness, source, [track(20)])
    now = microseconds(harness.clock.now())
    health = LaneHealth(
        destination=destination.id,
        workspace=harness.workspace,
        state="half_open",
        failing_since=now - 5_000_000,
        paused_until=now + 5_000_000,
        failures=3,
        last_status=503,
        last_error="busy",
        last_response=b"\xff busy",
        last_success_at=now - 9_000_000,
    )
    await harness.deliveries.commit(await harness.deliveries.claim(), [], health=[health], now=now)
    queue = await call(api, QUEUE, id=destination.id)
    assert (queue.health, queue.failures, queue.last_status, queue.last_error) == ("HalfOpen", 3, 503, "busy")
    assert (queue.last_response, queue.open_items, queue.open_bytes > 0) == ("\ufffd busy", 1, True)
    assert queue.failing_since.ToMicroseconds() == health.failing_since
    assert queue.paused_until.ToMicroseconds() == health.paused_until
    assert queue.last_success_time.ToMicroseconds() == health.last_success_at
    assert queue.oldest_time.ToMicroseconds() <= now


async def test_a_dry_run_sends_nothing(api: Api, destination: Connection) -> None:
    dry = await call(api, RESEND, reason="Rejected", validateOnly=True)
    assert (dry.total, dry.HasField("id")) == (5, False)
    dry = await call(api, REPLAY, pipeline=ids(destination)[0], validateOnly=True)
    assert (dry.total, dry.HasField("id")) == (10, False)
    assert not (await call(api, LIST_OPERATIONS)).operations
    assert await waiting(api.harness.deliveries, destination) == []


async def test_a_resend_is_shown_until_it_ends(api: Api, destination: Connection) -> None:
    started = await call(api, RESEND, destination=destination.id, reason="Rejected", since="2020-01-01T00:00:00Z")
    assert started.total == 5
    shown = await call(api, GET, id=started.id)
    assert (shown.kind, shown.status, shown.total, shown.done) == ("Resend", "Pending", 5, 0)
    assert (shown.destination, shown.HasField("pipeline"), shown.reason) == (destination.id, False, "Rejected")
    assert (shown.since.ToJsonString(), shown.HasField("until")) == ("2020-01-01T00:00:00Z", False)
    assert not shown.HasField("start_time") and not shown.HasField("end_time")
    await execute(api.harness)
    shown = await call(api, GET, id=started.id)
    assert (shown.status, shown.done, shown.enqueued, shown.error) == ("Completed", 5, 5, "")
    assert shown.create_time.seconds <= shown.start_time.seconds <= shown.end_time.seconds
    assert sorted(await waiting(api.harness.deliveries, destination)) == [
        (ids(destination)[0], f"m{number}") for number in range(0, 10, 2)
    ]


async def test_a_replay_is_shown_until_it_ends(api: Api, destination: Connection) -> None:
    filter_ = {"logical": "and", "conditions": [{"property": "event", "operator": "is", "values": ["E3"]}]}
    started = await call(api, REPLAY, pipeline=ids(destination)[0], filter=filter_, until="2100-01-01T00:00:00Z")
    assert started.total == 1
    shown = await call(api, GET, id=started.id)
    assert (shown.kind, shown.destination, shown.pipeline) == ("Replay", destination.id, ids(destination)[0])
    assert json_format.MessageToDict(shown.filter) == filter_
    assert shown.until.ToMicroseconds() == microseconds(api.harness.clock.now())  # a later moment means now
    await execute(api.harness)
    assert (await call(api, GET, id=started.id)).enqueued == 1
    assert await waiting(api.harness.deliveries, destination) == [(ids(destination)[0], "m3")]


async def test_operations_are_listed_and_cancelled(api: Api, destination: Connection) -> None:
    started = []
    for _ in range(3):
        started.append((await call(api, RESEND)).id)
        api.harness.clock.advance(1)
    page = await call(api, LIST_OPERATIONS, limit=2)
    assert [each.id for each in page.operations] == started[:0:-1]
    page = await call(api, LIST_OPERATIONS, limit=2, pageToken=page.next_page_token)
    assert ([each.id for each in page.operations], page.next_page_token) == (started[:1], "")
    cancelled = (await call(api, CANCEL, id=started[0])).operation
    assert (cancelled.status, cancelled.cancel_requested) == ("Cancelled", True)
    assert (await call(api, GET, id=started[0])) == cancelled


INVALID: list[tuple[str, dict[str, Any], str, str]] = [
    (LIST, {"reason": ""}, "BadRequest", "reason"),
    (LIST, {"reason": "x" * 101}, "BadRequest", "reason"),
    (LIST, {"reason": "\0"}, "BadRequest", "reason"),
    (LIST, {"limit": 0}, "BadRequest", "limit"),
    (LIST, {"pageToken": "x"}, "BadRequest", "pageToken"),
    (LIST_JSON, {"since": "yesterday"}, "BadRequest", "since"),
    (LIST_JSON, {"until": ""}, "BadRequest", "until"),
    (QUEUE, {"id": 0}, "BadRequest", "id"),
    (QUEUE, {"id": 5}, "NotFound", "id"),
    (QUEUE, {"id": "SOURCE"}, "BadRequest", "id"),
    (RESEND, {"destination": 0}, "BadRequest", "destination"),
    (RESEND, {"destination": 5}, "NotFound", "destination"),
    (RESEND, {"destination": "SOURCE"}, "BadRequest", "destination"),
    (RESEND, {"pipeline": 5}, "NotFound", "pipeline"),
    (RESEND, {"reason": ""}, "BadRequest", "reason"),
    (REPLAY, {}, "BadRequest", "pipeline"),
    (REPLAY, {"pipeline": 5}, "NotFound", "pipeline"),
    (REPLAY, {"pipeline": "COLLECTING"}, "BadRequest", "pipeline"),
    (REPLAY, {"pipeline": "PIPELINE", "filter": {"logical": "x"}}, "BadRequest", "filter.logical"),
    (GET, {"id": 0}, "BadRequest", "id"),
    (GET, {"id": 5}, "NotFound", "id"),
    (CANCEL, {"id": 5}, "NotFound", "id"),
    (LIST_OPERATIONS, {"limit": 1001}, "BadRequest", "limit"),
]


async def test_invalid_requests_are_rejected(api: Api, destination: Connection) -> None:
    [source] = destination.linked_connections
    found = api.harness.catalog.connection(api.harness.workspace, source)
    assert found is not None
    names = {"SOURCE": source, "COLLECTING": found.pipelines[0].id, "PIPELINE": ids(destination)[0]}
    for method, members, reason, field in INVALID:
        given = {
            name: names[value] if isinstance(value, str) and value in names else value
            for name, value in members.items()
        }
        failed = await call(api, method, **given)
        assert isinstance(failed, CallError), (method, given, failed)
        assert (failed.reason, dict(failed.metadata)["field"]) == (reason, field), (method, given)


async def test_a_disabled_pipeline_gets_no_replay(api: Api, destination: Connection) -> None:
    [pipeline] = ids(destination)
    await set_pipeline_status(api.harness.catalog, api.harness.workspace, pipeline, enabled=False)
    failed = await call(api, REPLAY, pipeline=pipeline, validateOnly=True)
    assert failed.reason == "PipelineDisabled"


async def test_the_operations_of_a_workspace_are_limited(api: Api, destination: Connection) -> None:
    for _ in range(MAX_UNFINISHED):
        assert (await call(api, RESEND)).id
    assert (await call(api, RESEND)).reason == "OperationAlreadyExecuting"
    assert (await call(api, REPLAY, pipeline=ids(destination)[0])).reason == "OperationAlreadyExecuting"
    assert (await call(api, RESEND, validateOnly=True)).total == 10


async def test_another_workspace_sees_nothing(api: Api, destination: Connection) -> None:
    other = (await add_workspace(api.harness.catalog, "Other")).id
    mine = (await call(api, RESEND)).id
    [pipeline] = ids(destination)
    assert messages(await call(api, LIST, other)) == []
    assert messages(await call(api, LIST, other, destination=destination.id, pipeline=pipeline)) == []
    assert messages(await call(api, LIST_JSON, other)) == []
    assert not (await call(api, COUNT, other, destination=destination.id)).counts
    assert not (await call(api, LIST_OPERATIONS, other)).operations
    assert (await call(api, RESEND, other, validateOnly=True)).total == 0
    for method, members in (
        (QUEUE, {"id": destination.id}),
        (GET, {"id": mine}),
        (CANCEL, {"id": mine}),
        (RESEND, {"destination": destination.id}),
        (RESEND, {"pipeline": pipeline}),
        (REPLAY, {"pipeline": pipeline}),
    ):
        assert (await call(api, method, other, **members)).reason == "NotFound"
    assert not (await call(api, GET, id=mine)).cancel_requested
    theirs = await dead_letters(api.harness, other)
    await call(api, RESEND, other)
    await execute(api.harness)
    assert len(await waiting(api.harness.deliveries, theirs)) == 10
    assert len(await waiting(api.harness.deliveries, destination)) == 10
