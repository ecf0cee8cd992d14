"""Pipelines over the typed face: what goes in comes out. The rules are tested in tests/management."""

from typing import Any

import pytest

from headwater.catalog import Connection
from headwater.v1 import connections_pb2, filters_pb2, schemas_pb2, transformations_pb2
from headwater.v1 import pipelines_pb2 as pb
from tests.api.conftest import Api, Refused
from tests.parts import OpenParts, add_source


@pytest.fixture
async def source(parts: OpenParts) -> Connection:
    """Without pipelines."""
    return await add_source(parts.catalog, parts.workspace, events=None, users=())


async def create(api: Api, source: Connection, **values: Any) -> Any:
    request = pb.CreatePipelineRequest(**{"connection": source.id, "target": "User", "name": "People", **values})
    return await api.call("PipelineService/CreatePipeline", request)


async def get(api: Api, id_: int) -> Any:
    return await api.call("PipelineService/GetPipeline", pb.GetPipelineRequest(id=id_))


async def test_what_was_created_can_be_read_alone_and_in_its_connection(api: Api, source: Connection) -> None:
    id_ = (await create(api, source, enabled=True)).id
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
    )
    connection = await api.call("ConnectionService/GetConnection", connections_pb2.GetConnectionRequest(id=source.id))
    assert list(connection.pipelines) == [pipeline]


async def test_an_update_replaces(api: Api, source: Connection) -> None:
    id_ = (await create(api, source, enabled=True)).id
    await api.call("PipelineService/UpdatePipeline", pb.UpdatePipelineRequest(id=id_, name="Persons"))
    pipeline = await get(api, id_)
    assert (pipeline.name, pipeline.enabled) == ("Persons", False)
    await api.call("PipelineService/SetPipelineStatus", pb.SetPipelineStatusRequest(id=id_, enabled=True))
    assert (await get(api, id_)).enabled is True


async def test_a_deleted_pipeline_is_gone(api: Api, source: Connection) -> None:
    id_ = (await create(api, source)).id
    delete = pb.DeletePipelineRequest(id=id_)
    assert await api.call("PipelineService/DeletePipeline", delete) == pb.DeletePipelineResponse()
    for refused in (await get(api, id_), await api.call("PipelineService/DeletePipeline", delete)):
        assert isinstance(refused, Refused)
        assert (refused.status, refused.reason) == ("NOT_FOUND", "NotFound")


@pytest.mark.parametrize(
    ("values", "reason", "field"),
    [
        ({"filter": filters_pb2.Filter()}, "NotImplemented", "filter"),
        ({"transformation": transformations_pb2.Transformation()}, "NotImplemented", "transformation"),
        ({"out_schema": schemas_pb2.Type()}, "NotImplemented", "outSchema"),
        ({"in_schema": schemas_pb2.Type()}, "BadRequest", "inSchema"),
        ({"query": "SELECT 1"}, "BadRequest", "query"),
        ({"user_id_column": "id"}, "BadRequest", "userIDColumn"),
        ({"incremental": True}, "BadRequest", "incremental"),
        ({"matching": pb.Matching()}, "BadRequest", "matching"),
        ({"target": "Nothing"}, "BadRequest", "target"),
        ({"connection": 0}, "BadRequest", "connection"),
        ({"connection": 5}, "NotFound", "connection"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_members_reach_the_rules_under_their_documented_names(
    api: Api, source: Connection, values: dict[str, Any], reason: str, field: str
) -> None:
    refused = await create(api, source, **values)
    assert (refused.reason, refused.metadata) == (reason, (("field", field),))


@pytest.mark.parametrize("values", [{"query": ""}, {"incremental": False}, {"format": ""}, {"order_by": ""}], ids=str)
async def test_empty_members_were_not_given(api: Api, source: Connection, values: dict[str, Any]) -> None:
    assert not isinstance(await create(api, source, **values), Refused)


async def test_a_connection_has_one_event_pipeline(api: Api, source: Connection) -> None:
    await create(api, source, target="Event")
    refused = await create(api, source, target="Event")
    assert (refused.status, refused.reason) == ("FAILED_PRECONDITION", "TargetExist")
