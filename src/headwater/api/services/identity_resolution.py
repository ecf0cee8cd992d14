"""IdentityResolutionService: starts resolutions, and lists refused evidence."""

from headwater.api.messages.refusals import refusal_message, refused_identities
from headwater.api.messages.times import set_time
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.api.services.resolutionsettings import ResolutionSettingsCalls
from headwater.catalog import Catalog
from headwater.management.workspaces import find_workspace
from headwater.state import StateStore
from headwater.state.operations import IdentityResolutionParameters, OperationStore
from headwater.v1 import identity_resolution_pb2 as pb


class IdentityResolutionServicer(ResolutionSettingsCalls):
    """Starts resolutions, lists refused evidence, and manages the settings."""

    def __init__(self, catalog: Catalog, state: StateStore, operations: OperationStore) -> None:
        super().__init__(catalog, state, operations)
        self._profiles = state.profiles

    async def StartIdentityResolution(
        self, request: pb.StartIdentityResolutionRequest, context: Context
    ) -> pb.StartIdentityResolutionResponse:
        workspace = await require_workspace(self._catalog, context)
        await self._operations.create(workspace, IdentityResolutionParameters(), None)
        return pb.StartIdentityResolutionResponse()

    async def GetLatestIdentityResolution(
        self, request: pb.GetLatestIdentityResolutionRequest, context: Context
    ) -> pb.GetLatestIdentityResolutionResponse:
        workspace = await require_workspace(self._catalog, context)
        response = pb.GetLatestIdentityResolutionResponse()
        latest = await self._operations.latest(workspace, "IdentityResolution")
        if latest is None:
            return response
        set_time(response, "start_time", latest.started_at or latest.created_at)
        set_time(response, "end_time", latest.ended_at)
        if latest.status == "Failed":
            response.error = latest.error
        elif latest.status == "Cancelled":
            response.error = "the resolution was cancelled"
        return response

    async def ListRefusals(self, request: pb.ListRefusalsRequest, context: Context) -> pb.ListRefusalsResponse:
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, int)
        found = await self._profiles.refused(workspace, limit=page.limit + 1, after=page.after)
        shown, token = page.cut(found, lambda each: each.id)
        identities = await self._profiles.identities(refused_identities(each.refused for each in shown))
        settings = find_workspace(self._catalog, workspace).resolution
        return pb.ListRefusalsResponse(
            refusals=[refusal_message(each.refused, each.identities, identities, settings) for each in shown],
            next_page_token=token,
        )
