"""The extra `dataclasses`: messages of betterproto2 against the running system, over gRPC and as the JSON of REST."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from betterproto2 import Message
from grpc import aio
from headwater_dataclasses.headwater.v1 import (
    Connection,
    CreateConnectionRequest,
    CreateConnectionResponse,
    CreatePipelineRequest,
    CreatePipelineResponse,
    Event,
    EventContext,
    EventContextPage,
    GetConnectionRequest,
    ListConnectionsRequest,
    ListConnectionsResponse,
    ListEventsRequest,
    ListEventsResponse,
    Matching,
    Pipeline,
    SendEventsRequest,
    SendEventsResponse,
)

from headwater.v1 import connections_pb2
from tests.e2e.source import make_source
from tests.system import HTTP, RunningSystem


@pytest.fixture
async def channel(system: RunningSystem) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        yield channel


async def call(channel: aio.Channel, method: str, request: Message, result: type[Message], key: str) -> Any:
    """Make a call with the dataclasses as (de)serialisers, as a client would."""
    bound: Any = channel.unary_unary(
        f"/headwater.v1.{method}", request_serializer=bytes, response_deserializer=result.parse
    )
    return await bound(request, metadata=(("authorization", f"Bearer {key}"),), timeout=15)


async def test_connections_are_managed(system: RunningSystem, channel: aio.Channel) -> None:
    request = CreateConnectionRequest(name="Boutique ☂", role="Source", connector="http")
    created: CreateConnectionResponse = await call(
        channel, "ConnectionService/CreateConnection", request, CreateConnectionResponse, system.api_key
    )
    pipeline = CreatePipelineRequest(connection=created.id, target="Event", name="Store", enabled=True)
    made: CreatePipelineResponse = await call(
        channel, "PipelineService/CreatePipeline", pipeline, CreatePipelineResponse, system.api_key
    )
    got: Connection = await call(
        channel, "ConnectionService/GetConnection", GetConnectionRequest(id=created.id), Connection, system.api_key
    )
    assert (got.name, got.connector_type, got.role) == ("Boutique ☂", "SDK", "Source")
    assert [one.id for one in got.pipelines] == [made.id]
    listed: ListConnectionsResponse = await call(
        channel,
        "ConnectionService/ListConnections",
        ListConnectionsRequest(),
        ListConnectionsResponse,
        system.api_key,
    )
    assert got in listed.connections


async def test_events_go_in_and_come_out(system: RunningSystem, channel: aio.Channel) -> None:
    source = make_source(system)
    event = Event(
        type="track",
        user_id="ada",
        event="Order Completed",
        message_id=f"dataclasses-{source.id}",
        context=EventContext(page=EventContextPage(path="/checkout")),
        properties_json='{"total":9007199254740993}',
    )
    sent: SendEventsResponse = await call(
        channel,
        "EventService/SendEvents",
        SendEventsRequest(events=[event, Event(type="nosuch")]),
        SendEventsResponse,
        source.write_key,
    )
    assert sent.accepted == 1
    assert [(one.index, one.code) for one in sent.rejected] == [(1, "BadRequest")]
    source.wait_for(1)
    listed: ListEventsResponse = await call(
        channel,
        "EventService/ListEvents",
        ListEventsRequest(order="receivedAt", limit=1000),
        ListEventsResponse,
        system.api_key,
    )
    (stored,) = [one for one in listed.events if one.message_id == event.message_id]
    assert stored.properties_json == '{"total":9007199254740993}'
    assert stored.context is not None
    assert stored.context.page == EventContextPage(path="/checkout")
    assert stored.timestamp is not None


def test_rest_uses_the_json_of_the_dataclasses(system: RunningSystem) -> None:
    request = CreateConnectionRequest(name="Shop", role="Source", connector="javascript", strategy="Fusion")
    response = HTTP.post(
        f"{system.base_url}/v1/connections", content=request.to_json(), headers=system.authorization, timeout=15
    )
    created = CreateConnectionResponse.from_json(response.content)
    result = HTTP.get(f"{system.base_url}/v1/connections/{created.id}", headers=system.authorization, timeout=15)
    got = Connection.from_json(result.content, ignore_unknown_fields=True)
    assert (got.id, got.strategy, got.linked_connections) == (created.id, "Fusion", [])


def test_both_runtimes_serialise_to_the_same_bytes() -> None:
    request = CreateConnectionRequest(name="ä", role="Source", connector="http", linked_connections=[3, 1])
    message = connections_pb2.CreateConnectionRequest(
        name="ä", role="Source", connector="http", linked_connections=[3, 1]
    )
    assert bytes(request) == message.SerializeToString(deterministic=True)
    assert CreateConnectionRequest.parse(message.SerializeToString()) == request


def test_json_names_of_the_protos_are_not_supported() -> None:
    """The one limit of the extra: betterproto2 has no json_name, so these few members must go over gRPC."""
    assert Pipeline(user_id_column="id").to_json() == '{"userIdColumn": "id"}'
    assert Matching(input="email").to_json() == '{"input": "email"}'
