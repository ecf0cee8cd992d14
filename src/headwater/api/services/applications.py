"""ApplicationService: the users and the schemas of the application behind a connection, and previews of events."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Raw, Struct

from headwater.api.messages.events import event_json
from headwater.api.messages.pipelines import read_transformation
from headwater.api.messages.rawjson import NULL, TransformationBody, read_body
from headwater.api.messages.schema import to_filter, to_schema, type_message
from headwater.api.offloop import compute
from headwater.api.request import Context, require_workspace
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest
from headwater.catalog import Catalog
from headwater.connectors.environment import ConnectorEnvironment
from headwater.filters import Filter, InvalidFilter, parse_json
from headwater.management import applications, connections
from headwater.management.previewing import (
    PreviewRequest,
    Transformed,
    begin_preview,
    end_preview,
    show_request,
)
from headwater.management.transformations import run_trial, trial_owner
from headwater.rest.v1 import applications_pb2 as rest_pb
from headwater.rest.v1 import applications_pb2_grpc as rest_grpc
from headwater.schemas import InvalidType, Schema, parse_schema
from headwater.transforms.functions import Prepared, Runner, RunOutput
from headwater.v1 import applications_pb2 as pb
from headwater.v1 import applications_pb2_grpc

_Given = TypeVar("_Given")


class _Preview(Struct, rename="camel"):
    type: str = ""
    event: Raw = NULL
    transformation: TransformationBody | None = None
    out_schema: Raw = NULL


class Previewer:
    """Shows the requests with which events would be sent."""

    def __init__(
        self, catalog: Catalog, functions: Runner, computing: Computing, environment: ConnectorEnvironment
    ) -> None:
        self._catalog = catalog
        self._functions = functions
        self._computing = computing
        self._environment = environment

    async def preview(
        self, workspace: int, id_: int, body: pb.PreviewSendEventRequest | HttpBody
    ) -> pb.PreviewSendEventResponse:
        """Return the preview that the body describes, for a connection of the workspace."""
        connection = applications.find_event_destination(self._catalog, workspace, id_)
        owner, function = f"workspace {workspace}", trial_owner()
        begun = await compute(self._computing, owner, _begin_preview, body, function)
        if isinstance(begun, Prepared):
            ran = await run_trial(self._functions, begun, owner)
            begun = await compute(self._computing, owner, _end_preview, body, function, ran)
        shown = await show_request(self._catalog, connection, begun, self._environment)
        return pb.PreviewSendEventResponse(preview=shown)


class ApplicationServicer(applications_pb2_grpc.ApplicationServiceServicer):
    """Shows users, schemas and previews."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment, previewer: Previewer) -> None:
        self._catalog = catalog
        self._environment = environment
        self._previewer = previewer

    async def PreviewSendEvent(
        self, request: pb.PreviewSendEventRequest, context: Context
    ) -> pb.PreviewSendEventResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        return await self._previewer.preview(workspace, request.id, request)

    async def ListApplicationUsers(
        self, request: pb.ListApplicationUsersRequest, context: Context
    ) -> pb.ListApplicationUsersResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        schema = to_schema(request.schema) if request.HasField("schema") else None
        filter_ = to_filter(request.filter) if request.HasField("filter") else None
        users, cursor = await applications.users(
            self._catalog, workspace, request.id, schema, request.cursor, self._environment, filter_=filter_
        )
        return pb.ListApplicationUsersResponse(users_json=[user.decode() for user in users], cursor=cursor)

    async def GetUserSchemas(self, request: pb.GetUserSchemasRequest, context: Context) -> pb.GetUserSchemasResponse:
        workspace = await require_workspace(self._catalog, context)
        schemas = await applications.user_schemas(self._catalog, workspace, request.id, self._environment)
        message = pb.UserSchemas(source=None if schemas.source is None else type_message(schemas.source))
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
    """Lists users as JSON, and shows previews of events as JSON."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment, previewer: Previewer) -> None:
        self._catalog = catalog
        self._environment = environment
        self._previewer = previewer

    async def PreviewSendEvent(
        self, request: rest_pb.PreviewSendEventRequest, context: Context
    ) -> pb.PreviewSendEventResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        return await self._previewer.preview(workspace, request.id, request.body)

    async def ListApplicationUsers(self, request: rest_pb.ListApplicationUsersRequest, context: Context) -> HttpBody:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        schema = parse_schema(request.schema) if request.schema else None
        filter_ = _filter(request.filter) if request.HasField("filter") else None
        users, cursor = await applications.users(
            self._catalog, workspace, request.id, schema, request.cursor, self._environment, filter_=filter_
        )
        body = b'{"users":[' + b",".join(users) + b'],"cursor":' + msgspec.json.encode(cursor) + b"}"
        return HttpBody(content_type="application/json", data=body)


def _filter(text: str) -> Filter:
    try:
        parsed = parse_json(text)
    except InvalidFilter as error:
        raise BadRequest(f"filter: {error.message}", field="filter") from error
    if parsed is None:
        raise BadRequest("filter cannot be null", field="filter")
    return parsed


def _begin_preview(request: pb.PreviewSendEventRequest | HttpBody, owner: str) -> Transformed | Prepared:
    return begin_preview(_preview(request), owner)


def _end_preview(request: pb.PreviewSendEventRequest | HttpBody, owner: str, ran: RunOutput) -> Transformed:
    return end_preview(_preview(request), owner, ran)


def _preview(request: pb.PreviewSendEventRequest | HttpBody) -> PreviewRequest:
    if isinstance(request, HttpBody):
        body = read_body(request, _Preview)
        return PreviewRequest(
            type=body.type,
            event=None if bytes(body.event) == bytes(NULL) else bytes(body.event),
            transformation=None if body.transformation is None else body.transformation.definition(),
            out_schema=_out_schema(parse_schema, bytes(body.out_schema)),
        )
    return PreviewRequest(
        type=request.type,
        event=event_json(request.event) if request.HasField("event") else None,
        transformation=read_transformation(request.transformation) if request.HasField("transformation") else None,
        out_schema=_out_schema(to_schema, request.out_schema) if request.HasField("out_schema") else None,
    )


def _out_schema(read: Callable[[_Given], Schema | None], given: _Given) -> Schema | None:
    try:
        return read(given)
    except InvalidType as error:
        raise BadRequest(f"outSchema: {error.message}", field=f"outSchema.{error.path}".rstrip(".")) from error
