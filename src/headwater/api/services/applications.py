"""ApplicationService: the users and the schemas of the application behind a connection."""

import msgspec
from google.api.httpbody_pb2 import HttpBody

from headwater.api.messages.schema import to_schema, type_message
from headwater.api.request import Context, require_workspace
from headwater.base.errors import Unimplemented
from headwater.catalog import Catalog
from headwater.connectors.environment import ConnectorEnvironment
from headwater.management import applications, connections
from headwater.rest.v1 import applications_pb2 as rest_pb
from headwater.rest.v1 import applications_pb2_grpc as rest_grpc
from headwater.schemas import Schema, parse_schema
from headwater.v1 import applications_pb2 as pb
from headwater.v1 import applications_pb2_grpc


class ApplicationServicer(applications_pb2_grpc.ApplicationServiceServicer):
    """Shows users and schemas."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment) -> None:
        self._catalog = catalog
        self._environment = environment

    async def ListApplicationUsers(
        self, request: pb.ListApplicationUsersRequest, context: Context
    ) -> pb.ListApplicationUsersResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        schema = to_schema(request.schema) if request.HasField("schema") else None
        users, cursor = await _users(self._catalog, workspace, request, schema, self._environment)
        return pb.ListApplicationUsersResponse(users_json=[user.decode() for user in users], cursor=cursor)

    async def GetUserSchemas(self, request: pb.GetUserSchemasRequest, context: Context) -> pb.GetUserSchemasResponse:
        workspace = await require_workspace(self._catalog, context)
        schemas = await applications.user_schemas(self._catalog, workspace, request.id, self._environment)
        message = pb.UserSchemas(source=type_message(schemas.source))
        if schemas.destination is not None:
            message.destination.CopyFrom(type_message(schemas.destination))
        return pb.GetUserSchemasResponse(schemas=message)

    async def GetEventTypeSchema(
        self, request: pb.GetEventTypeSchemaRequest, context: Context
    ) -> pb.GetEventTypeSchemaResponse:
        workspace = await require_workspace(self._catalog, context)
        schema = await applications.event_type_schema(
            self._catalog, workspace, request.id, request.type, self._environment
        )
        return pb.GetEventTypeSchemaResponse(schema=None if schema is None else type_message(schema))


class ApplicationRestServicer(rest_grpc.ApplicationServiceServicer):
    """Lists users as JSON."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment) -> None:
        self._catalog = catalog
        self._environment = environment

    async def ListApplicationUsers(self, request: rest_pb.ListApplicationUsersRequest, context: Context) -> HttpBody:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        schema = parse_schema(request.schema) if request.schema else None
        users, cursor = await _users(self._catalog, workspace, request, schema, self._environment)
        body = b'{"users":[' + b",".join(users) + b'],"cursor":' + msgspec.json.encode(cursor) + b"}"
        return HttpBody(content_type="application/json", data=body)


async def _users(
    catalog: Catalog,
    workspace: int,
    request: pb.ListApplicationUsersRequest | rest_pb.ListApplicationUsersRequest,
    schema: Schema | None,
    environment: ConnectorEnvironment,
) -> tuple[list[bytes], str]:
    if request.HasField("filter"):
        raise Unimplemented("filters are not built yet", field="filter")
    return await applications.users(catalog, workspace, request.id, schema, request.cursor, environment)
