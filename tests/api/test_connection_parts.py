"""Links, settings, event types and authorization of connections over gRPC."""

from typing import Any

import pytest
from google.protobuf import struct_pb2

from headwater.connectors.dummy.settings import DummySettings
from headwater.v1 import connections_pb2 as pb
from tests.api.conftest import UNRESTRICTED, Api, CallError

CREATE, GET, LIST, UPDATE, LINK, UNLINK, AUTH_URL, AUTH_TOKEN = (
    f"ConnectionService/{name}"
    for name in (
        "CreateConnection",
        "GetConnection",
        "ListConnections",
        "UpdateConnection",
        "LinkConnections",
        "UnlinkConnections",
        "GetAuthorizationUrl",
        "GetAuthorizationToken",
    )
)


def struct(**members: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(members)
    return made


async def create(api: Api, connector: str, role: str, **values: Any) -> int:
    response = await api.call(CREATE, pb.CreateConnectionRequest(name="x", role=role, connector=connector, **values))
    assert not isinstance(response, CallError), response
    return int(response.id)


async def test_connections_are_linked_and_unlinked(api: Api) -> None:
    source, destination = await create(api, "http", "Source"), await create(api, "dummy", "Destination")
    for method, request, links in (
        (LINK, pb.LinkConnectionsRequest(source=source, destination=destination), [destination]),
        (LINK, pb.LinkConnectionsRequest(source=source, destination=destination), [destination]),
        (UNLINK, pb.UnlinkConnectionsRequest(source=source, destination=destination), []),
        (UNLINK, pb.UnlinkConnectionsRequest(source=source, destination=destination), []),
    ):
        assert not isinstance(await api.call(method, request), CallError)
        assert (await api.call(GET, pb.GetConnectionRequest(id=source))).linked_connections == links
        other_end = (await api.call(GET, pb.GetConnectionRequest(id=destination))).linked_connections
        assert list(other_end) == [source][: len(links)]
    failed = await api.call(LINK, pb.LinkConnectionsRequest(source=source, destination=source))
    assert (failed.reason, failed.metadata) == ("BadRequest", (("field", "destination"),))


async def test_event_types_come_with_one_connection_and_not_with_the_list(api: Api) -> None:
    id_ = await create(api, "dummy", "Destination")
    connection = await api.call(GET, pb.GetConnectionRequest(id=id_))
    assert connection.sending_mode == "Server"
    assert [event_type.id for event_type in connection.event_types][:2] == ["send_add_to_cart", "send_custom_event"]
    assert connection.event_types[0] == pb.EventType(
        id="send_add_to_cart", name="Send Add to Cart", description="Send Add to Cart to Dummy"
    )
    (listed,) = (await api.call(LIST, pb.ListConnectionsRequest())).connections
    assert list(listed.event_types) == []


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (struct(operationDelay=5), "settings.operationDelay"),
        (struct(operationDelay=["5ms"]), "settings.operationDelay"),
        (struct(operationDelay={"a": "5ms"}), "settings.operationDelay"),
        (struct(customerExportFailPercentage="5"), "settings.customerExportFailPercentage"),
        (struct(customerExportFailPercentage=True), "settings.customerExportFailPercentage"),
        (struct(customerExportFailPercentage=1.5), "settings.customerExportFailPercentage"),
        (struct(customerExportFailPercentage=float("inf")), "settings.customerExportFailPercentage"),
        (struct(customerExportFailPercentage=float("nan")), "settings.customerExportFailPercentage"),
    ],
)
async def test_a_wrong_type_inside_settings_is_named(api: Api, settings: struct_pb2.Struct, field: str) -> None:
    request = pb.CreateConnectionRequest(name="x", role="Source", connector="dummy", settings=settings)
    failed = await api.call(CREATE, request)
    assert (failed.status, failed.reason) == ("FAILED_PRECONDITION", "InvalidSettings")
    assert failed.metadata == (("field", field),)


async def test_settings_are_stored_replaced_and_never_returned(api: Api) -> None:
    id_ = await create(api, "dummy", "Source", settings=struct(operationDelay="0-1ms", unknown=None))
    catalog, workspace = api.harness.catalog, api.harness.workspace

    def delay() -> object:
        connection = catalog.connection(workspace, id_)
        assert connection is not None
        settings = catalog.decrypt_settings(connection)
        assert isinstance(settings, DummySettings)
        return settings.operation_delay

    assert delay() == "0-1ms"
    await api.call(UPDATE, pb.UpdateConnectionRequest(id=id_, name="y"))
    assert delay() == "0-1ms"
    await api.call(UPDATE, pb.UpdateConnectionRequest(id=id_, name="y", settings=struct(operationDelay="2ms")))
    assert delay() == "2ms"
    failed = await api.call(UPDATE, pb.UpdateConnectionRequest(id=id_, name="z", settings=struct(operationDelay="x")))
    assert failed.reason == "InvalidSettings"
    connection = await api.call(GET, pb.GetConnectionRequest(id=id_))
    assert connection.name == "y"
    assert "2ms" not in str(connection)


async def test_authorization(api: Api) -> None:
    url = pb.GetAuthorizationUrlRequest(connector="dummy", role="Source", redirect_uri="https://example.com")
    for key in (None, UNRESTRICTED):
        failed = await api.call(AUTH_URL, url, key=key)
        assert failed.reason == ("Unauthorized" if key is None else "BadRequest"), "no workspace is needed"
    token = pb.GetAuthorizationTokenRequest(connector="fax", auth_code="x", redirect_uri="https://example.com")
    assert (await api.call(AUTH_TOKEN, token, key=UNRESTRICTED)).reason == "Forbidden", "a workspace is needed"
    assert (await api.call(AUTH_TOKEN, token)).reason == "ConnectorNotExist"
