"""Connections and their keys over gRPC: the messages have every member. The rules are tested in tests/management."""

import json
from typing import Any

from google.protobuf import json_format, struct_pb2

from headwater.rest.v1 import connections_pb2 as rest_pb
from headwater.v1 import connections_pb2 as pb
from tests.api.conftest import REST, Api, CallError


async def create(api: Api, **values: Any) -> int:
    website = {"name": "Website", "role": "Source", "connector": "javascript", "strategy": "Fusion"}
    request = pb.CreateConnectionRequest(**{**website, **values})
    response = await api.call("ConnectionService/CreateConnection", request)
    assert not isinstance(response, CallError), response
    return int(response.id)


async def get(api: Api, id_: int) -> pb.Connection | CallError:
    response: pb.Connection | CallError = await api.call(
        "ConnectionService/GetConnection", pb.GetConnectionRequest(id=id_)
    )
    return response


async def test_what_was_created_can_be_read(api: Api) -> None:
    id_ = await create(api)
    connection = await get(api, id_)
    assert connection == pb.Connection(
        id=id_, name="Website", connector="javascript", connector_type="SDK", role="Source", strategy="Fusion"
    )
    assert isinstance(connection, pb.Connection)
    assert (connection.HasField("strategy"), connection.HasField("sending_mode")) == (True, False)


async def test_a_list_holds_every_connection_by_name(api: Api) -> None:
    for name in ("b", "a", "c"):
        await create(api, name=name, connector="http", strategy=None)
    response = await api.call("ConnectionService/ListConnections", pb.ListConnectionsRequest())
    assert [connection.name for connection in response.connections] == ["a", "b", "c"]


async def test_the_list_in_json_equals_the_typed_list(api: Api) -> None:
    empty = await api.call("rest.ConnectionService/ListConnections", rest_pb.ListConnectionsRequest())
    assert (empty.content_type, empty.data) == ("application/json", b'{"connections":[],"nextPageToken":""}')
    source = await create(api)
    await create(api, name="CRM", role="Destination", connector="dummy", strategy=None, linked_connections=[source])
    typed = await api.call("ConnectionService/ListConnections", pb.ListConnectionsRequest())
    for _ in range(2):  # built, and cached
        listed = await api.call("rest.ConnectionService/ListConnections", rest_pb.ListConnectionsRequest())
        assert json_format.Parse(listed.data, pb.ListConnectionsResponse()) == typed
    await api.call("ConnectionService/DeleteConnection", pb.DeleteConnectionRequest(id=source))
    listed = await api.call("rest.ConnectionService/ListConnections", rest_pb.ListConnectionsRequest())
    (left,) = json.loads(listed.data)["connections"]
    assert (left["name"], left["linkedConnections"]) == ("CRM", [])


async def test_an_update_replaces(api: Api) -> None:
    id_ = await create(api)
    update = pb.UpdateConnectionRequest(id=id_, name="Shop", strategy="Isolation")
    assert await api.call("ConnectionService/UpdateConnection", update) == pb.UpdateConnectionResponse()
    connection = await get(api, id_)
    assert isinstance(connection, pb.Connection)
    assert (connection.name, connection.strategy) == ("Shop", "Isolation")
    failed = await api.call("ConnectionService/UpdateConnection", pb.UpdateConnectionRequest(id=id_, name="Shop"))
    assert (failed.reason, failed.metadata) == ("BadRequest", (("field", "strategy"),)), "left out is not kept"


async def test_a_deleted_connection_is_gone(api: Api) -> None:
    id_ = await create(api)
    delete = pb.DeleteConnectionRequest(id=id_)
    assert await api.call("ConnectionService/DeleteConnection", delete) == pb.DeleteConnectionResponse()
    for failed in (await get(api, id_), await api.call("ConnectionService/DeleteConnection", delete)):
        assert isinstance(failed, CallError)
        assert (failed.status, failed.reason, failed.message) == (
            "NOT_FOUND",
            "NotFound",
            f"connection {id_} does not exist",
        )


async def test_keys_are_made_listed_and_deleted(api: Api) -> None:
    id_ = await create(api)
    (first,) = (await api.call("ConnectionService/ListEventWriteKeys", pb.ListEventWriteKeysRequest(id=id_))).keys
    second = (await api.call("ConnectionService/CreateEventWriteKey", pb.CreateEventWriteKeyRequest(id=id_))).key
    keys = await api.call("ConnectionService/ListEventWriteKeys", pb.ListEventWriteKeysRequest(id=id_))
    assert list(keys.keys) == [first, second]
    delete = pb.DeleteEventWriteKeyRequest(id=id_, key=first)
    assert await api.call("ConnectionService/DeleteEventWriteKey", delete) == pb.DeleteEventWriteKeyResponse()
    delete.key = second
    assert (await api.call("ConnectionService/DeleteEventWriteKey", delete)).reason == "SingleEventWriteKey"


async def test_errors_reach_rest_callers_as_the_envelope(api: Api) -> None:
    request = pb.CreateConnectionRequest(name="x", role="Source", connector="nonsense")
    failed = await api.call("ConnectionService/CreateConnection", request, REST)
    error = {"code": "ConnectorNotExist", "message": 'connector "nonsense" does not exist', "field": "connector"}
    assert failed.http == (422, {"error": error})
    request.connector = "http"
    request.settings.CopyFrom(struct_pb2.Struct(fields={"a": struct_pb2.Value(number_value=1)}))
    failed = await api.call("ConnectionService/CreateConnection", request)
    assert (failed.reason, failed.metadata) == ("BadRequest", (("field", "settings"),))
