"""Workspaces over gRPC."""

from headwater.v1 import connections_pb2
from headwater.v1 import workspaces_pb2 as pb
from tests.api.conftest import RESTRICTED, UNRESTRICTED, Api, CallError
from tests.harness import add_workspace

LIST, CREATE, GET, UPDATE, DELETE = (
    f"WorkspaceService/{name}"
    for name in (
        "ListWorkspaces",
        "CreateWorkspace",
        "GetCurrentWorkspace",
        "UpdateCurrentWorkspace",
        "DeleteCurrentWorkspace",
    )
)
PREFERENCES = pb.UiPreferences(profile=pb.UiPreferences.Profile(image="photo", first_name="name.first"))


def at(id_: int) -> tuple[str, str]:
    return ("headwater-workspace", str(id_))


async def test_a_workspace_is_made_read_changed_and_deleted(api: Api) -> None:
    request = pb.CreateWorkspaceRequest(name="Second", ui_preferences=PREFERENCES)
    id_ = (await api.call(CREATE, request, key=UNRESTRICTED)).id
    workspace = await api.call(GET, pb.GetCurrentWorkspaceRequest(), at(id_), key=UNRESTRICTED)
    assert workspace == pb.Workspace(
        id=id_,
        name="Second",
        resolve_identities_on_batch_import=True,
        warehouse_mode="Normal",
        ui_preferences=PREFERENCES,
    )
    update = pb.UpdateCurrentWorkspaceRequest(name="New")
    assert await api.call(UPDATE, update, at(id_), key=UNRESTRICTED) == pb.UpdateCurrentWorkspaceResponse()
    workspace = await api.call(GET, pb.GetCurrentWorkspaceRequest(), at(id_), key=UNRESTRICTED)
    assert (workspace.name, workspace.ui_preferences.profile.image) == ("New", "")
    assert await api.call(DELETE, pb.DeleteCurrentWorkspaceRequest(), at(id_), key=UNRESTRICTED) == (
        pb.DeleteCurrentWorkspaceResponse()
    )
    failed = await api.call(GET, pb.GetCurrentWorkspaceRequest(), at(id_), key=UNRESTRICTED)
    assert (failed.reason, failed.message) == ("NotFound", f"workspace {id_} does not exist")


async def test_a_key_lists_the_workspaces_that_it_opens(api: Api) -> None:
    other = await add_workspace(api.harness.catalog)
    own = [workspace.id for workspace in (await api.call(LIST, pb.ListWorkspacesRequest())).workspaces]
    assert own == [api.harness.workspace]
    everything = (await api.call(LIST, pb.ListWorkspacesRequest(), key=UNRESTRICTED)).workspaces
    assert [workspace.id for workspace in everything] == sorted([api.harness.workspace, other.id])


async def test_keys_that_may_not_manage_workspaces(api: Api) -> None:
    failed = await api.call(CREATE, pb.CreateWorkspaceRequest(name="x"))
    assert (failed.status, failed.reason) == ("PERMISSION_DENIED", "Forbidden")
    for method, request in (
        (GET, pb.GetCurrentWorkspaceRequest()),
        (UPDATE, pb.UpdateCurrentWorkspaceRequest(name="x")),
        (DELETE, pb.DeleteCurrentWorkspaceRequest()),
    ):
        assert (await api.call(method, request, key=UNRESTRICTED)).reason == "Forbidden", "it must say which one"
        other = await add_workspace(api.harness.catalog)
        assert (await api.call(method, request, at(other.id))).reason == "NotFound"
        assert (await api.call(method, request, key=None)).reason == "Unauthorized"


async def test_rejected_requests(api: Api) -> None:
    for name in ("", "x" * 101):
        for method, request in (
            (CREATE, pb.CreateWorkspaceRequest(name=name)),
            (UPDATE, pb.UpdateCurrentWorkspaceRequest(name=name)),
        ):
            failed = await api.call(method, request, at(api.harness.workspace), key=UNRESTRICTED)
            assert (failed.reason, failed.metadata) == ("BadRequest", (("field", "name"),))
    assert len(api.harness.catalog.workspaces()) == 1


async def test_a_restricted_key_cannot_delete_its_workspace(api: Api) -> None:
    failed = await api.call(DELETE, pb.DeleteCurrentWorkspaceRequest(), key=RESTRICTED)
    assert (failed.reason, failed.status) == ("Forbidden", "PERMISSION_DENIED")
    assert api.harness.catalog.workspace(api.harness.workspace) is not None


async def test_a_key_goes_with_its_workspace(api: Api) -> None:
    await api.call(DELETE, pb.DeleteCurrentWorkspaceRequest(), at(api.harness.workspace), key=UNRESTRICTED)
    response = await api.call(
        "ConnectionService/ListConnections", connections_pb2.ListConnectionsRequest(), key=RESTRICTED
    )
    assert isinstance(response, CallError) and response.reason == "Unauthorized"
