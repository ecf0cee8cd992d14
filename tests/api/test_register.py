"""Every call that the protos document is answered: those that are built, and the others with 501."""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from tests.api.conftest import REST, Api, Refused, headwater_service, message_class

BUILT = {
    "ConnectionService": {
        "CreateConnection",
        "UpdateConnection",
        "ListConnections",
        "ListConnectionsJson",
        "GetConnection",
        "DeleteConnection",
        "GetAuthorizationUrl",
        "GetAuthorizationToken",
        "LinkConnections",
        "UnlinkConnections",
        "ListEventWriteKeys",
        "CreateEventWriteKey",
        "DeleteEventWriteKey",
        "TestConnection",
    },
    "ConnectorService": {"ListConnectors", "GetConnector"},
    "ApplicationService": {
        "ListApplicationUsers",
        "ListApplicationUsersJson",
        "GetUserSchemas",
        "GetEventTypeSchema",
    },
    "WorkspaceService": {
        "ListWorkspaces",
        "CreateWorkspace",
        "GetCurrentWorkspace",
        "UpdateCurrentWorkspace",
        "DeleteCurrentWorkspace",
    },
    "ApiKeyService": {"ListApiKeys", "CreateApiKey", "DeleteApiKey"},
    "PipelineService": {
        "CreatePipeline",
        "GetPipeline",
        "UpdatePipeline",
        "SetPipelineStatus",
        "SetPipelineSchedule",
        "GetPipelineLane",
        "DeletePipeline",
    },
    "EventService": {
        "SendEvents",
        "StreamEvents",
        "ListEvents",
        "ListEventsJson",
        "ListRejectedEvents",
        "CountRejectedEvents",
        "TraceEvent",
    },
    "IdentityService": {"ListConnectionIdentities"},
    "DeviceService": {"ListDevices"},
    "ClientService": {"Alias", "Identify", "RegisterDevice", "PostEvents", "Track"},
    "TrackService": {"Identify", "Track", "Page", "Screen", "Group", "Alias", "Batch", "GetProjectSettings"},
    "NativeEventService": {"PostEvents", "PostEvent", "GetEventSettings"},
    "FilterService": {"ParseFilter", "ExplainFilter", "ExplainFilterJson"},
    "SchemaService": {"GetEventSchema"},
    "TransformationService": {
        "ListTransformationLanguages",
        "ValidateExpression",
        "ValidateExpressionJson",
        "ListExpressionProperties",
        "ListExpressionPropertiesJson",
        "TransformData",
        "TransformDataJson",
    },
    "SystemService": {"GetHealth", "GetOpenApi"},
}


def documented() -> list[tuple[str, str]]:
    """All methods of the descriptor set that the gateway serves."""
    descriptors = Path(__file__).parents[2] / "envoy" / "descriptors.pb"
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    return [(service.name, method.name) for file in files for service in file.service for method in service.method]


async def test_every_documented_call_is_answered(api: Api) -> None:
    assert len(documented()) > 80
    for service, method in documented():
        request = message_class(headwater_service(f"{service}/{method}").input_type)()
        native: Any = await api.call(f"{service}/{method}", request)
        rest: Any = await api.call(f"{service}/{method}", request, REST)
        if method in BUILT.get(service, ()):
            if isinstance(native, Refused):
                assert native.status not in ("INTERNAL", "UNKNOWN", "UNIMPLEMENTED"), (service, method, native)
                assert native.reason, (service, method, native)
        else:
            assert (native.status, native.reason, native.message) == (
                "UNIMPLEMENTED",
                "NotImplemented",
                "this call is not built yet",
            ), (service, method)
            assert rest.http is not None
            assert rest.http[0] == 501, (service, method)


async def test_a_call_that_is_not_documented_is_unimplemented(api: Api) -> None:
    call: Any = api.channel.unary_unary("/headwater.v1.ConnectionService/Nonsense")
    try:
        await call(b"")
    except Exception as error:
        assert "UNIMPLEMENTED" in str(error)
    else:
        raise AssertionError("it was answered")
