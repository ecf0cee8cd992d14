"""WorkspaceService: workspaces, and the one that a call works on."""

from headwater.api.messages.schema import read_member_schema
from headwater.api.offloop import compute, find_owner
from headwater.api.pages import NO_LIMIT, Page
from headwater.api.request import Context, require_caller, require_workspace
from headwater.api.schemacache import SchemaMessages
from headwater.base.computing import Computing
from headwater.catalog import Catalog, RetentionSettings, UiPreferences, Workspace
from headwater.management import workspaces
from headwater.management.profiles import check_schema
from headwater.schemas import Schema
from headwater.v1 import workspaces_pb2 as pb
from headwater.v1 import workspaces_pb2_grpc


class WorkspaceServicer(workspaces_pb2_grpc.WorkspaceServiceServicer):
    """Create, list, read, rename and delete workspaces."""

    def __init__(self, catalog: Catalog, computing: Computing) -> None:
        self._catalog = catalog
        self._computing = computing
        self._schemas = SchemaMessages(computing)

    async def ListWorkspaces(self, request: pb.ListWorkspacesRequest, context: Context) -> pb.ListWorkspacesResponse:
        caller = await require_caller(self._catalog, context)
        page = Page(request, int, default_limit=NO_LIMIT)
        found, token = page.select(workspaces.list_workspaces(self._catalog, caller.key), lambda each: each.id)
        shown = [await self._message(workspace) for workspace in found]
        return pb.ListWorkspacesResponse(workspaces=shown, next_page_token=token)

    async def CreateWorkspace(self, request: pb.CreateWorkspaceRequest, context: Context) -> pb.CreateWorkspaceResponse:
        caller = await require_caller(self._catalog, context)
        workspaces.check_may_create(caller.key)  # before the body is looked into
        schema = await compute(self._computing, find_owner(caller.key), _read_schema, request)
        created = await workspaces.create_workspace(
            self._catalog, caller.key, request.name, _preferences(request.ui_preferences), schema
        )
        return pb.CreateWorkspaceResponse(id=created.id)

    async def GetCurrentWorkspace(self, request: pb.GetCurrentWorkspaceRequest, context: Context) -> pb.Workspace:
        workspace = await require_workspace(self._catalog, context)
        return await self._message(workspaces.find_workspace(self._catalog, workspace))

    async def UpdateCurrentWorkspace(
        self, request: pb.UpdateCurrentWorkspaceRequest, context: Context
    ) -> pb.UpdateCurrentWorkspaceResponse:
        workspace = await require_workspace(self._catalog, context)
        await workspaces.update_workspace(self._catalog, workspace, request.name, _preferences(request.ui_preferences))
        return pb.UpdateCurrentWorkspaceResponse()

    async def GetRetention(self, request: pb.GetRetentionRequest, context: Context) -> pb.Retention:
        workspace = await require_workspace(self._catalog, context)
        settings = workspaces.find_workspace(self._catalog, workspace).retention
        return pb.Retention(
            event_days=settings.event_days,
            rejected_event_days=settings.rejected_event_days,
            anonymous_identity_days=settings.anonymous_identity_days,
        )

    async def UpdateRetention(self, request: pb.UpdateRetentionRequest, context: Context) -> pb.UpdateRetentionResponse:
        workspace = await require_workspace(self._catalog, context)

        settings = RetentionSettings(
            event_days=request.event_days if request.HasField("event_days") else None,
            rejected_event_days=request.rejected_event_days if request.HasField("rejected_event_days") else None,
            anonymous_identity_days=(
                request.anonymous_identity_days if request.HasField("anonymous_identity_days") else None
            ),
        )
        await workspaces.update_retention(self._catalog, workspace, settings)
        return pb.UpdateRetentionResponse()

    async def DeleteCurrentWorkspace(
        self, request: pb.DeleteCurrentWorkspaceRequest, context: Context
    ) -> pb.DeleteCurrentWorkspaceResponse:
        caller = await require_caller(self._catalog, context)
        await workspaces.delete_workspace(self._catalog, caller.require_workspace(), caller.key)
        return pb.DeleteCurrentWorkspaceResponse()

    async def _message(self, workspace: Workspace) -> pb.Workspace:
        preferences, resolution, profiles = workspace.ui_preferences, workspace.resolution, workspace.profile_schema
        message = pb.Workspace(
            id=workspace.id,
            name=workspace.name,
            resolve_identities_on_batch_import=resolution.run_on_batch_import,
            identifiers=[identifier.path for identifier in resolution.identifiers],
            warehouse_mode="Normal",
            ui_preferences=pb.UiPreferences(
                profile=pb.UiPreferences.Profile(
                    image=preferences.image,
                    first_name=preferences.first_name,
                    last_name=preferences.last_name,
                    extra=preferences.extra,
                )
            ),
        )
        if profiles is not None:
            message.profile_schema.CopyFrom(await self._schemas.profile_schema(workspace))
            for path, connection in profiles.primary_sources.items():
                if self._catalog.connection(workspace.id, connection) is not None:
                    message.primary_sources[path] = connection
        return message


def _preferences(message: pb.UiPreferences) -> UiPreferences:
    profile = message.profile
    return UiPreferences(
        image=profile.image, first_name=profile.first_name, last_name=profile.last_name, extra=profile.extra
    )


def _read_schema(request: pb.CreateWorkspaceRequest) -> Schema | None:
    schema = read_member_schema(request, "profile_schema", "profileSchema")
    return None if schema is None else check_schema(schema, "profileSchema")
