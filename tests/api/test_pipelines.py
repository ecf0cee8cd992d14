"""Pipelines over gRPC: the messages have every member. The rules are tested in tests/management/pipelines."""

import json
from datetime import UTC
from typing import Any

import pytest
from google.protobuf import struct_pb2

from headwater.api.messages.schema import type_message
from headwater.base.clock import microseconds
from headwater.catalog import Connection, Pipeline
from headwater.management.pipelines import INCOMING_EVENT_SCHEMA
from headwater.processing.lanes import definition_digest
from headwater.state.lanestore import LaneProgress
from headwater.v1 import connections_pb2, filters_pb2, schemas_pb2, transformations_pb2
from headwater.v1 import pipelines_pb2 as pb
from tests.api.conftest import Api, CallError
from tests.api.test_pipeline_messages import make_request, message
from tests.harness import Harness, add_source, add_workspace
from tests.management.pipelines.examples import EXAMPLES, TEXT, Example, profile, remove_engine, schema
from tests.management.pipelines.test_alignment import set_schema
from tests.processing.test_lanes import COPY, add_pipeline, identify

IDENTIFIES = filters_pb2.Filter(
    logical="and", conditions=[filters_pb2.FilterCondition(property="type", operator="is", values=["identify"])]
)
MAPPING = struct_pb2.Struct(fields={"email": struct_pb2.Value(string_value="traits.email")})
MAPPED: dict[str, Any] = {
    "out_schema": type_message(profile(email=TEXT)),
    "transformation": transformations_pb2.Transformation(mapping=MAPPING),
}
USERS: dict[str, Any] = {
    "in_schema": type_message(schema(email=TEXT)),
    "out_schema": type_message(profile(email=TEXT)),
    "transformation": transformations_pb2.Transformation(
        mapping=struct_pb2.Struct(fields={"email": struct_pb2.Value(string_value="email")})
    ),
}


@pytest.fixture
async def source(harness: Harness) -> Connection:
    """Create a source without pipelines."""
    return await add_source(harness.catalog, harness.workspace, events=None, users=())


async def connected(harness: Harness, example: Example) -> Connection:
    """Create a connection of any connector, whether it is available or not."""
    async with harness.catalog.change() as change:
        connection = Connection(
            id=change.new_id(),
            workspace=harness.workspace,
            name="C",
            connector=example.connector,
            role=example.role,
            strategy=None,
            sending_mode=None,
            created_at=change.now,
        )
        change.add_connection(connection)
    return connection


async def create(api: Api, source: Connection, **values: Any) -> Any:
    request = pb.CreatePipelineRequest(**{"connection": source.id, "target": "User", "name": "People", **values})
    return await api.call("PipelineService/CreatePipeline", request)


async def get(api: Api, id_: int) -> Any:
    return await api.call("PipelineService/GetPipeline", pb.GetPipelineRequest(id=id_))


async def test_what_was_created_can_be_read_alone_and_in_its_connection(api: Api, source: Connection) -> None:
    id_ = (await create(api, source, enabled=True, filter=IDENTIFIES, **MAPPED)).id
    pipeline = await get(api, id_)
    assert pipeline == pb.Pipeline(
        id=id_,
        name="People",
        connector="http",
        connector_type="SDK",
        connection=source.id,
        connection_role="Source",
        target="User",
        enabled=True,
        filter=IDENTIFIES,
        in_schema=type_message(INCOMING_EVENT_SCHEMA),
        **MAPPED,
    )
    connection = await api.call("ConnectionService/GetConnection", connections_pb2.GetConnectionRequest(id=source.id))
    assert list(connection.pipelines) == [pipeline]


@pytest.mark.parametrize("kind", EXAMPLES)
async def test_every_kind_is_made_shown_and_made_again(harness: Harness, api: Api, kind: str) -> None:
    example = EXAMPLES[kind]
    connection = await connected(harness, example)
    request = make_request(message(kind, {}), kind, example.least)
    request.connection = connection.id
    made = await api.call("PipelineService/CreatePipeline", request)
    assert not isinstance(made, CallError), made
    shown = await get(api, made.id)
    again = make_request(shown, kind, example.least)
    assert again == request
    update = pb.UpdatePipelineRequest(id=made.id)
    for field, value in request.ListFields():
        if field.name in update.DESCRIPTOR.fields_by_name:
            if field.message_type is not None:
                getattr(update, field.name).CopyFrom(value)
            else:
                setattr(update, field.name, value)
    assert not isinstance(await api.call("PipelineService/UpdatePipeline", update), CallError)
    assert await get(api, made.id) == shown
    listed = await api.call("ConnectionService/ListConnections", connections_pb2.ListConnectionsRequest())
    assert [list(one.pipelines) for one in listed.connections] == [[shown]]


async def test_a_suggestion_is_created_as_it_is(harness: Harness, api: Api) -> None:
    await set_schema(harness.catalog, harness.workspace, profile(email=TEXT, first_name=TEXT))
    request = connections_pb2.CreateConnectionRequest(name="Dummy", role="Destination", connector="dummy")
    dummy = (await api.call("ConnectionService/CreateConnection", request)).id
    asked = pb.GetPipelineSuggestionRequest(connection=dummy, target="User")
    suggested = await api.call("PipelineService/GetPipelineSuggestion", asked)
    request_of_it = pb.CreatePipelineRequest.FromString(suggested.SerializeToString())
    created = await api.call("PipelineService/CreatePipeline", request_of_it)
    shown = await api.call("PipelineService/GetPipeline", pb.GetPipelineRequest(id=created.id))
    for member in ("name", "target", "enabled", "in_schema", "out_schema", "transformation", "matching", "export_mode"):
        assert getattr(shown, member) == getattr(suggested, member), member
    assert shown.transformation.mapping == struct_pb2.Struct(
        fields={"firstName": struct_pb2.Value(string_value="first_name")}
    )


async def test_an_update_replaces(api: Api, source: Connection) -> None:
    id_ = (await create(api, source, enabled=True, filter=IDENTIFIES)).id
    await api.call("PipelineService/UpdatePipeline", pb.UpdatePipelineRequest(id=id_, name="Persons", **MAPPED))
    pipeline = await get(api, id_)
    assert (pipeline.name, pipeline.enabled, pipeline.HasField("filter")) == ("Persons", False, False)
    assert pipeline.transformation == MAPPED["transformation"]
    await api.call("PipelineService/SetPipelineStatus", pb.SetPipelineStatusRequest(id=id_, enabled=True))
    assert (await get(api, id_)).enabled is True


async def test_a_schedule_is_set_and_unset(harness: Harness, api: Api) -> None:
    connection = await connected(harness, EXAMPLES["SA"])
    ids = [(await create(api, connection, **USERS)).id for _ in range(2)]
    starts = []
    for id_ in ids:
        request = pb.SetPipelineScheduleRequest(id=id_, period="6h")
        assert await api.call("PipelineService/SetPipelineSchedule", request) == pb.SetPipelineScheduleResponse()
        pipeline = await get(api, id_)
        assert (pipeline.schedule_period, pipeline.HasField("schedule_start")) == ("6h", True)
        starts.append(pipeline.schedule_start)
    assert starts[0] == starts[1]
    await api.call("PipelineService/SetPipelineSchedule", pb.SetPipelineScheduleRequest(id=ids[0]))
    pipeline = await get(api, ids[0])
    assert not pipeline.HasField("schedule_period") and not pipeline.HasField("schedule_start")
    for period in ("", "7m"):
        request = pb.SetPipelineScheduleRequest(id=ids[0], period=period)
        failed = await api.call("PipelineService/SetPipelineSchedule", request)
        assert (failed.reason, failed.metadata) == ("BadRequest", (("field", "period"),))


async def test_a_deleted_pipeline_is_gone(api: Api, source: Connection) -> None:
    id_ = (await create(api, source)).id
    delete = pb.DeletePipelineRequest(id=id_)
    assert await api.call("PipelineService/DeletePipeline", delete) == pb.DeletePipelineResponse()
    for failed in (await get(api, id_), await api.call("PipelineService/DeletePipeline", delete)):
        assert isinstance(failed, CallError)
        assert (failed.status, failed.reason) == ("NOT_FOUND", "NotFound")


async def test_a_missing_pipeline_is_reported_before_invalid_members(api: Api, source: Connection) -> None:
    wrong = schemas_pb2.DataType(kind="nothing")
    failed = await api.call(
        "PipelineService/UpdatePipeline", pb.UpdatePipelineRequest(id=5, name="P", out_schema=wrong)
    )
    assert (failed.reason, failed.metadata) == ("NotFound", (("field", "id"),))


INFINITE = struct_pb2.Struct(fields={"separator": struct_pb2.Value(number_value=float("-inf"))})


@pytest.mark.parametrize(
    ("values", "reason", "field"),
    [
        ({"filter": filters_pb2.Filter()}, "BadRequest", "filter.logical"),
        ({"transformation": transformations_pb2.Transformation()}, "BadRequest", "transformation"),
        ({"out_schema": schemas_pb2.DataType()}, "BadRequest", "outSchema.kind"),
        ({"out_schema": MAPPED["out_schema"]}, "BadRequest", "outSchema"),
        ({"in_schema": MAPPED["out_schema"]}, "BadRequest", "inSchema"),
        ({"query": "SELECT 1"}, "BadRequest", "query"),
        ({"user_id_column": "id"}, "BadRequest", "userIDColumn"),
        ({"format": "csv"}, "BadRequest", "format"),
        ({"format_settings": INFINITE}, "BadRequest", "formatSettings"),
        ({"incremental": True}, "BadRequest", "incremental"),
        ({"matching": pb.Matching(input="x")}, "BadRequest", "matching"),
        ({"event_type": "track"}, "BadRequest", "eventType"),
        ({"target": "Nothing"}, "BadRequest", "target"),
        ({"connection": 0}, "BadRequest", "connection"),
        ({"connection": 5}, "NotFound", "connection"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_members_reach_the_rules_under_their_documented_names(
    api: Api, source: Connection, values: dict[str, Any], reason: str, field: str
) -> None:
    failed = await create(api, source, **values)
    assert (failed.reason, failed.metadata) == (reason, (("field", field),))


@pytest.mark.parametrize(
    "values",
    [{"query": ""}, {"incremental": False}, {"format": ""}, {"order_by": ""}, {"matching": pb.Matching()}],
    ids=str,
)
async def test_empty_members_are_absent(api: Api, source: Connection, values: dict[str, Any]) -> None:
    assert not isinstance(await create(api, source, **values), CallError)


async def test_conflicts_with_the_state(
    harness: Harness, api: Api, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(api, source, target="Event")
    failed = await create(api, source, target="Event")
    assert (failed.status, failed.reason) == ("FAILED_PRECONDITION", "TargetExist")
    application = await connected(harness, EXAMPLES["SA"])
    remove_engine(harness.catalog, application.connector, monkeypatch)
    failed = await create(api, application, enabled=True, **USERS)
    assert (failed.status, failed.reason, failed.metadata) == (
        "FAILED_PRECONDITION",
        "EngineNotAvailable",
        (("field", "enabled"),),
    )


async def test_the_lane_of_a_pipeline_has_its_backlog_and_state(api: Api, harness: Harness, source: Connection) -> None:
    pipeline = await add_pipeline(harness, source, COPY)
    request = pb.GetPipelineLaneRequest(id=pipeline)
    empty = await api.call("PipelineService/GetPipelineLane", request)
    assert (empty.waiting, empty.paused, empty.HasField("oldest_at")) == (0, False, False)

    await harness.send(source, json.dumps({"batch": [identify("u", "u@x"), identify("v", "v@x")]}).encode())
    await harness.process_log()
    waiting = await api.call("PipelineService/GetPipelineLane", request)
    assert (waiting.waiting, waiting.paused) == (2, False)
    assert waiting.bytes > 0
    assert waiting.oldest_at.ToDatetime(UTC) == harness.clock.now()

    paused_until = microseconds(harness.clock.now()) + 5_000_000
    definition = next(each.definition for each in list_pipelines(harness, source) if each.id == pipeline)
    paused = LaneProgress(0, 1, paused_until, "too slow", definition_digest(definition))
    await harness.store.complete(pipeline, LaneProgress(), paused, [])
    found = await api.call("PipelineService/GetPipelineLane", request)
    assert (found.paused, found.paused_until.ToMicroseconds(), found.reason) == (True, paused_until, "too slow")
    harness.clock.advance(6)
    assert not (await api.call("PipelineService/GetPipelineLane", request)).paused


async def test_the_lane_of_another_workspaces_pipeline_does_not_exist(api: Api, harness: Harness) -> None:
    other = await add_workspace(harness.catalog, "Other")
    pipeline = await add_pipeline(harness, await add_source(harness.catalog, other.id, users=()), COPY)
    failed = await api.call("PipelineService/GetPipelineLane", pb.GetPipelineLaneRequest(id=pipeline))
    assert isinstance(failed, CallError)
    assert failed.reason == "NotFound"


def list_pipelines(harness: Harness, source: Connection) -> tuple[Pipeline, ...]:
    found = harness.catalog.connection(harness.workspace, source.id)
    assert found is not None
    return found.pipelines
