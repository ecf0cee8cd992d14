"""The part of IdentityResolutionService that manages the settings."""

from headwater.api.request import Context, require_workspace
from headwater.catalog import Catalog, Identifier
from headwater.catalog.profiles import DEFAULT_MAX_IDENTITIES
from headwater.management import profiles, workspaces
from headwater.state.operations import OperationStore
from headwater.v1 import identity_resolution_pb2 as pb
from headwater.v1 import identity_resolution_pb2_grpc


class ResolutionSettingsCalls(identity_resolution_pb2_grpc.IdentityResolutionServiceServicer):
    """Reads, changes and previews the settings of identity resolution."""

    def __init__(self, catalog: Catalog, operations: OperationStore) -> None:
        self._catalog = catalog
        self._operations = operations

    async def GetIdentityResolutionSettings(
        self, request: pb.GetIdentityResolutionSettingsRequest, context: Context
    ) -> pb.GetIdentityResolutionSettingsResponse:
        workspace = await require_workspace(self._catalog, context)
        settings = workspaces.find_workspace(self._catalog, workspace).resolution
        return pb.GetIdentityResolutionSettingsResponse(
            run_on_batch_import=settings.run_on_batch_import,
            identifiers=[identifier.path for identifier in settings.identifiers],
            guards=[_guards(each) for each in settings.identifiers if each != Identifier(path=each.path)],
        )

    async def UpdateIdentityResolutionSettings(
        self, request: pb.UpdateIdentityResolutionSettingsRequest, context: Context
    ) -> pb.UpdateIdentityResolutionSettingsResponse:
        workspace = await require_workspace(self._catalog, context)
        await profiles.update_settings(self._catalog, self._operations, workspace, _read(request))
        return pb.UpdateIdentityResolutionSettingsResponse()


def _read(request: pb.UpdateIdentityResolutionSettingsRequest) -> profiles.SettingsRequest:
    return profiles.SettingsRequest(
        run_on_batch_import=request.run_on_batch_import,
        identifiers=tuple(request.identifiers),
        guards=tuple(
            profiles.GuardsRequest(
                identifier=each.identifier,
                blocked_values=tuple(each.blocked_values),
                blocked_presets=tuple(each.blocked_presets),
                max_identities=each.max_identities if each.HasField("max_identities") else None,
                max_values=each.max_values if each.HasField("max_values") else None,
                allow_blank=each.allow_blank,
            )
            for each in request.guards
        ),
    )


def _guards(identifier: Identifier) -> pb.IdentifierGuards:
    """Return the guards of an identifier. Defaults are absent."""
    limit = identifier.max_identities
    return pb.IdentifierGuards(
        identifier=identifier.path,
        blocked_values=identifier.blocked_values,
        blocked_presets=identifier.blocked_presets,
        max_identities=None if limit == DEFAULT_MAX_IDENTITIES else limit,
        max_values=identifier.max_values,
        allow_blank=identifier.allows_blank,
    )
