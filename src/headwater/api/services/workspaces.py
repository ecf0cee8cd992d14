"""WorkspaceService: workspaces, and the one that a call works on."""

from headwater.api.pages import NO_LIMIT, Page
from headwater.api.request import Context, require_caller, require_workspace
from headwater.base.errors import Unimplemented
from headwater.catalog import Catalog, UiPreferences, Workspace
from headwater.management import workspaces
from headwater.v1 import workspaces_pb2 as pb
from headwater.v1 import workspaces_pb2_grpc


class WorkspaceServicer(workspaces_pb2_grpc.WorkspaceServiceServicer):
    """Create, list, read, rename and delete workspaces."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListWorkspaces(self, request: pb.ListWorkspacesRequest, context: Context) -> pb.ListWorkspacesResponse:
        caller = await require_caller(self._catalog, context)
        page = Page(request, int, default_limit=NO_LIMIT)
        found, token = page.select(workspaces.list_workspaces(self._catalog, caller.key), lambda each: each.id)
        return pb.ListWorkspacesResponse(workspaces=[_message(workspace) for workspace in found], next_page_token=token)

    async def CreateWorkspace(self, request: pb.CreateWorkspaceRequest, context: Context) -> pb.CreateWorkspaceResponse:
        caller = await require_caller(self._catalog, context)
        if request.HasField("profile_schema"):
            raise Unimplemented("profile schemas are not built yet", field="profileSchema")
        created = await workspaces.create_workspace(
            self._catalog, caller.key, request.name, _preferences(request.ui_preferences)
        )
        return pb.CreateWorkspaceResponse(id=created.id)

    async def GetCurrentWorkspace(self, request: pb.GetCurrentWorkspaceRequest, context: Context) -> pb.Workspace:
        workspace = await require_workspace(self._catalog, context)
        return _message(workspaces.find_workspace(self._catalog, workspace))

    async def UpdateCurrentWorkspace(
        self, request: pb.UpdateCurrentWorkspaceRequest, context: Context
    ) -> pb.UpdateCurrentWorkspaceResponse:
        workspace = await require_workspace(self._catalog, context)
        await workspaces.update_workspace(self._catalog, workspace, request.name, _preferences(request.ui_preferences))
        return pb.UpdateCurrentWorkspaceResponse()

    async def DeleteCurrentWorkspace(
        self, request: pb.DeleteCurrentWorkspaceRequest, context: Context
    ) -> pb.DeleteCurrentWorkspaceResponse:
        caller = await require_caller(self._catalog, context)
        await workspaces.delete_workspace(self._catalog, caller.require_workspace(), caller.key)
        return pb.DeleteCurrentWorkspaceResponse()


def _preferences(message: pb.UiPreferences) -> UiPreferences:
    profile = message.profile
    return UiPreferences(
        image=profile.image, first_name=profile.first_name, last_name=profile.last_name, extra=profile.extra
    )


def _message(workspace: Workspace) -> pb.Workspace:
    """Return the message. Profiles are not built yet: their members are those of a workspace without properties."""
    preferences = workspace.ui_preferences
    return pb.Workspace(
        id=workspace.id,
        name=workspace.name,
        resolve_identities_on_batch_import=True,
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
