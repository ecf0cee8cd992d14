"""The part of ProfileService that manages the schema of profiles."""

from headwater.api.messages.schema import read_member_schema, read_object
from headwater.api.messages.times import set_time
from headwater.api.offloop import compute
from headwater.api.request import Context, require_workspace
from headwater.api.schemacache import SchemaMessages
from headwater.base.computing import Computing
from headwater.catalog import Catalog
from headwater.management import profiles, workspaces
from headwater.state import StateStore
from headwater.state.operations import OperationStore
from headwater.v1 import profiles_pb2 as pb
from headwater.v1 import profiles_pb2_grpc, schemas_pb2


class ProfileSchemaCalls(profiles_pb2_grpc.ProfileServiceServicer):
    """Reads, changes and previews the schema of profiles."""

    def __init__(self, catalog: Catalog, state: StateStore, operations: OperationStore, computing: Computing) -> None:
        self._catalog = catalog
        self._state = state
        self._operations = operations
        self._computing = computing
        self._schemas = SchemaMessages(computing)

    async def GetProfileSchema(self, request: pb.GetProfileSchemaRequest, context: Context) -> schemas_pb2.DataType:
        workspace = await require_workspace(self._catalog, context)
        return await self._schemas.profile_schema(workspaces.find_workspace(self._catalog, workspace))

    async def GetIdentifierSchema(
        self, request: pb.GetIdentifierSchemaRequest, context: Context
    ) -> schemas_pb2.DataType:
        workspace = await require_workspace(self._catalog, context)
        return await self._schemas.identifier_schema(workspaces.find_workspace(self._catalog, workspace))

    async def UpdateProfileSchema(
        self, request: pb.UpdateProfileSchemaRequest, context: Context
    ) -> pb.UpdateProfileSchemaResponse:
        workspace = await require_workspace(self._catalog, context)
        update = await compute(self._computing, f"workspace {workspace}", _read_update, request)
        await profiles.update_profile_schema(
            self._catalog, self._state, self._operations, workspace, update, computing=self._computing
        )
        return pb.UpdateProfileSchemaResponse()

    async def PreviewProfileSchemaUpdate(
        self, request: pb.PreviewProfileSchemaUpdateRequest, context: Context
    ) -> pb.PreviewProfileSchemaUpdateResponse:
        workspace = await require_workspace(self._catalog, context)
        update = await compute(self._computing, f"workspace {workspace}", _read_preview, request)
        steps = await profiles.preview_profile_schema(self._catalog, workspace, update, computing=self._computing)
        return pb.PreviewProfileSchemaUpdateResponse(queries=steps)

    async def GetLatestProfileSchemaUpdate(
        self, request: pb.GetLatestProfileSchemaUpdateRequest, context: Context
    ) -> pb.GetLatestProfileSchemaUpdateResponse:
        workspace = await require_workspace(self._catalog, context)
        response = pb.GetLatestProfileSchemaUpdateResponse()
        operation = await profiles.latest_update(self._operations, workspace)
        if operation is not None:
            set_time(response, "start_time", operation.created_at)
            set_time(response, "end_time", operation.ended_at)
            if operation.error:
                response.error = operation.error
            elif operation.status == "Cancelled":
                response.error = "the update was cancelled"
        return response


def _read_update(request: pb.UpdateProfileSchemaRequest) -> profiles.SchemaRequest:
    return profiles.SchemaRequest(
        schema=read_member_schema(request, "schema", "schema"),
        primary_sources=dict(request.primary_sources),
        re_paths=read_object(request.re_paths),
        allow_data_loss=request.allow_data_loss,
    )


def _read_preview(request: pb.PreviewProfileSchemaUpdateRequest) -> profiles.SchemaRequest:
    return profiles.SchemaRequest(
        schema=read_member_schema(request, "schema", "schema"),
        primary_sources=None,
        re_paths=read_object(request.re_paths),
        allow_data_loss=True,
    )
