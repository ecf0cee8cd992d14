"""ApplicationService: the users and the schemas of the application behind a connection, and previews of requests."""

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
from headwater.catalog import Catalog, Matching
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
from headwater.management.userpreviews import (
    TransformedUser,
    UserPreviewRequest,
    begin_user_preview,
    end_user_preview,
    show_user_request,
)
from headwater.profiles.alignment import find_profile_schema
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


class _Matching(Struct, rename={"input": "in", "output": "out"}):
    input: str = ""
    output: str = ""


class _UserPreview(Struct, rename="camel"):
    user: Raw = NULL
    transformation: TransformationBody | None = None
    out_schema: Raw = NULL
    user_id: str = ""
    matching: _Matching | None = None


class Previewer:
    """Shows the requests with which events would be sent, and users written."""

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

    async def preview_user(
        self, workspace: int, id_: int, body: pb.PreviewExportUserRequest | HttpBody
    ) -> pb.PreviewExportUserResponse:
        """Return the preview of the user that the body describes, for a connection of the workspace."""
        connection = applications.find_user_destination(self._catalog, workspace, id_)
        found = find_profile_schema(self._catalog, workspace)
        profiles = None if found is None else found.schema
        owner, function = f"workspace {workspace}", trial_owner()
        begun = await compute(self._computing, owner, _begin_user_preview, body, profiles, function)
        if isinstance(begun, Prepared):
            ran = await run_trial(self._functions, begun, owner)
            begun = await compute(self._computing, owner, _end_user_preview, body, profiles, function, ran)
        shown = await show_user_request(self._catalog, connection, begun, self._environment)
        return pb.PreviewExportUserResponse(preview=shown)


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

    async def PreviewExportUser(
        self, request: pb.PreviewExportUserRequest, context: Context
    ) -> pb.PreviewExportUserResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        return await self._previewer.preview_user(workspace, request.id, request)

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
    """Lists users as JSON, and shows previews of requests with JSON."""

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

    async def PreviewExportUser(
        self, request: rest_pb.PreviewExportUserRequest, context: Context
    ) -> pb.PreviewExportUserResponse:
        workspace = await require_workspace(self._catalog, context)
        await connections.get_connection(self._catalog, workspace, request.id)
        return await self._previewer.preview_user(workspace, request.id, request.body)

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


def _begin_user_preview(
    request: pb.PreviewExportUserRequest | HttpBody, profiles: Schema | None, owner: str
) -> TransformedUser | Prepared:
    return begin_user_preview(_user_preview(request), profiles, owner)


def _end_user_preview(
    request: pb.PreviewExportUserRequest | HttpBody, profiles: Schema | None, owner: str, ran: RunOutput
) -> TransformedUser:
    return end_user_preview(_user_preview(request), profiles, owner, ran)


def _user_preview(request: pb.PreviewExportUserRequest | HttpBody) -> UserPreviewRequest:
    if isinstance(request, HttpBody):
        body = read_body(request, _UserPreview)
        return UserPreviewRequest(
            user=None if bytes(body.user) == bytes(NULL) else bytes(body.user),
            transformation=None if body.transformation is None else body.transformation.definition(),
            out_schema=_out_schema(parse_schema, bytes(body.out_schema)),
            user_id=body.user_id,
            matching=None if body.matching is None else Matching(body.matching.input, body.matching.output),
        )
    return UserPreviewRequest(
        user=request.user_json.encode() or None,
        transformation=read_transformation(request.transformation) if request.HasField("transformation") else None,
        out_schema=_out_schema(to_schema, request.out_schema) if request.HasField("out_schema") else None,
        user_id=request.user_id,
        matching=Matching(request.matching.input, request.matching.output) if request.HasField("matching") else None,
    )


def _out_schema(read: Callable[[_Given], Schema | None], given: _Given) -> Schema | None:
    try:
        return read(given)
    except InvalidType as error:
        raise BadRequest(f"outSchema: {error.message}", field=f"outSchema.{error.path}".rstrip(".")) from error
