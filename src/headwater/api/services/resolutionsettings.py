"""The part of IdentityResolutionService that manages the settings."""

from typing import Final
from uuid import UUID

from headwater.api.request import Context, require_workspace
from headwater.base.fairness import FairSlots
from headwater.catalog import Catalog, Identifier, ResolutionSettings
from headwater.catalog.profiles import DEFAULT_MAX_IDENTITIES
from headwater.management import profiles, workspaces
from headwater.profiles.previewing import Preview
from headwater.state import StateStore
from headwater.state.operations import OperationStore
from headwater.v1 import identity_resolution_pb2 as pb
from headwater.v1 import identity_resolution_pb2_grpc

MAX_WAITING_PREVIEWS: Final = 2
"""Previews of one workspace that may wait. A process makes one at a time."""
PREVIEW_WAIT_SECONDS: Final = 10.0
"""Maximum time that a preview waits for others. With its own it stays below the time limit of the gateway."""


class ResolutionSettingsCalls(identity_resolution_pb2_grpc.IdentityResolutionServiceServicer):
    """Reads, changes and previews the settings of identity resolution."""

    def __init__(self, catalog: Catalog, state: StateStore, operations: OperationStore) -> None:
        self._catalog = catalog
        self._state = state
        self._operations = operations
        self._previews = FairSlots(1, max_waiting=MAX_WAITING_PREVIEWS, what="previews")

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
        if not request.validate_only:
            await profiles.update_settings(self._catalog, self._operations, workspace, _read(request))
            return pb.UpdateIdentityResolutionSettingsResponse()
        async with self._previews.slot(f"workspace {workspace}", seconds=PREVIEW_WAIT_SECONDS):
            settings, preview = await profiles.preview_settings(self._catalog, self._state, workspace, _read(request))
        return pb.UpdateIdentityResolutionSettingsResponse(preview=_preview(settings, preview))


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


def _preview(settings: ResolutionSettings, preview: Preview) -> pb.IdentityResolutionPreview:
    return pb.IdentityResolutionPreview(
        identities=preview.identities,
        profiles_before=preview.before,
        profiles_after=preview.after,
        merged=preview.merged,
        split=preview.split,
        changed=preview.changed,
        largest=[
            pb.ProfileSize(
                identities=each.identities,
                profiles=each.profiles,
                kpid=None if each.kpid is None else str(UUID(bytes=each.kpid)),
            )
            for each in preview.largest
        ],
        shared_values=[
            pb.SharedValue(
                identifier=settings.identifiers[each.value.identifier].path,
                value=each.value.value,
                identities=each.identities,
                links=each.links,
            )
            for each in preview.shared
        ],
    )
