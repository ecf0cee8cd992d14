"""Reads and changes how a workspace resolves identities."""

from collections.abc import Collection, Mapping
from typing import Final, get_args

import msgspec

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Catalog, Identifier, ProfileSchema, ResolutionSettings
from headwater.catalog.profiles import DEFAULT_MAX_IDENTITIES, MAX_IDENTIFIERS, BlockedPreset
from headwater.management.profiles.schema import can_identify
from headwater.management.workspaces import find_workspace
from headwater.profiles.previewing import Preview, preview
from headwater.schemas import PropertyNotFound, is_path, property_at
from headwater.state import StateStore
from headwater.state.operations import RESOLUTION_KINDS, IdentityResolutionParameters, OperationStore

MAX_BLOCKED_VALUES: Final = 1_000
"""Maximum number of blocked values of one identifier."""
MAX_BLOCKED_CHARACTERS: Final = 1_024
"""Maximum length of a blocked value, in code points."""
MAX_MAX_IDENTITIES: Final = 10_000
"""Maximum of `max_identities`. An event that changes an identity reads as many rows."""
MAX_MAX_VALUES: Final = 1_000
"""Maximum of `max_values`."""
MAX_PATH_CHARACTERS: Final = 1_024
_PRESETS: Final[tuple[BlockedPreset, ...]] = get_args(BlockedPreset)


class GuardsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The guards of an identifier, in a request. None stands for the default."""

    identifier: str
    blocked_values: tuple[str, ...] = ()
    blocked_presets: tuple[str, ...] = ()
    max_identities: int | None = None
    max_values: int | None = None
    allow_blank: bool = False


class SettingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of identity resolution to store. They replace all settings."""

    run_on_batch_import: bool = False
    identifiers: tuple[str, ...] = ()
    guards: tuple[GuardsRequest, ...] = ()


def check_settings(request: SettingsRequest, profiles: ProfileSchema | None) -> ResolutionSettings:
    """Return the settings that a request describes.

    Raises BadRequest, and Unprocessable with PropertyNotExist or TypeNotAllowed for an identifier that the profile
    schema does not have or whose type cannot be one.
    """
    _check_identifiers(request.identifiers)
    guards = _check_guards(request.guards, request.identifiers)
    for index, path in enumerate(request.identifiers):
        _check_property(path, profiles, f"identifiers[{index}]")
    return ResolutionSettings(
        run_on_batch_import=request.run_on_batch_import,
        identifiers=tuple(_identifier(path, guards) for path in request.identifiers),
    )


async def update_settings(
    catalog: Catalog, operations: OperationStore, workspace: int, request: SettingsRequest
) -> ResolutionSettings:
    """Replace the settings, and start to resolve all identities if the identifiers or their guards change.

    Raises BadRequest, Unprocessable with one of these codes, and Unavailable:

    - PropertyNotExist, TypeNotAllowed: see `check_settings`
    - AlterSchemaInExecution, IdentityResolutionInExecution: such an operation executes
    - OperationAlreadyExecuting: the workspace has too many operations
    """
    async with catalog.change() as change:
        old = find_workspace(catalog, workspace)
        settings = check_settings(request, old.profile_schema)
        await check_idle(operations, workspace)
        if settings != old.resolution:
            change.update_workspace(msgspec.structs.replace(old, resolution=settings))
        if settings.identifiers != old.resolution.identifiers:
            # The last step of the change: the operation waits for its end, and is not created without it.
            await _resolve(operations, workspace)
    return settings


async def _resolve(operations: OperationStore, workspace: int) -> None:
    try:
        await operations.create(workspace, IdentityResolutionParameters(), None)
    except Unprocessable:
        await check_idle(operations, workspace)  # one was started in the meantime
        raise


async def preview_settings(
    catalog: Catalog, state: StateStore, workspace: int, request: SettingsRequest
) -> tuple[ResolutionSettings, Preview]:
    """Return the settings that a request describes, and the difference that they would make. Nothing is changed.

    Raises as `check_settings` does, Unprocessable with TooExpensive, and Unavailable.
    """
    present = find_workspace(catalog, workspace)
    settings = check_settings(request, present.profile_schema)
    return settings, await preview(state, workspace, settings, present.profile_schema)


async def check_idle(operations: OperationStore, workspace: int) -> None:
    """Raise Unprocessable with AlterSchemaInExecution or IdentityResolutionInExecution while one of these executes."""
    for operation in await operations.unfinished(workspace, RESOLUTION_KINDS):
        if operation.kind == "ProfileSchemaUpdate":
            raise Unprocessable("AlterSchemaInExecution", "the profile schema is being updated: wait for its end")
        raise Unprocessable("IdentityResolutionInExecution", "identities are being resolved: wait for the end")


def _check_identifiers(identifiers: Collection[str]) -> None:
    if len(identifiers) > MAX_IDENTIFIERS:
        raise BadRequest(f"identifiers must have at most {MAX_IDENTIFIERS} elements", field="identifiers")
    seen: set[str] = set()
    for index, path in enumerate(identifiers):
        field = f"identifiers[{index}]"
        if not is_path(path) or len(path) > MAX_PATH_CHARACTERS:
            raise BadRequest(f"{field} must be the path of a property, such as address.city", field=field)
        if path in seen:
            raise BadRequest(f"{field} is repeated: {path}", field=field)
        seen.add(path)


def _check_guards(guards: Collection[GuardsRequest], identifiers: Collection[str]) -> dict[str, GuardsRequest]:
    checked: dict[str, GuardsRequest] = {}
    for index, each in enumerate(guards):
        field = f"guards[{index}]"
        if each.identifier not in identifiers:
            raise BadRequest(f"{field}.identifier must be one of identifiers", field=f"{field}.identifier")
        if each.identifier in checked:
            raise BadRequest(f"{field}.identifier is repeated: {each.identifier}", field=f"{field}.identifier")
        checked[each.identifier] = each
        _check_blocked(each, field)
        for member, value, most in (
            ("maxIdentities", each.max_identities, MAX_MAX_IDENTITIES),
            ("maxValues", each.max_values, MAX_MAX_VALUES),
        ):
            if value is not None and not 1 <= value <= most:
                raise BadRequest(f"{field}.{member} must be from 1 to {most}", field=f"{field}.{member}")
    return checked


def _check_blocked(guards: GuardsRequest, field: str) -> None:
    values, presets = guards.blocked_values, guards.blocked_presets
    if len(values) > MAX_BLOCKED_VALUES:
        raise BadRequest(
            f"{field}.blockedValues must have at most {MAX_BLOCKED_VALUES} elements", field=f"{field}.blockedValues"
        )
    for index, value in enumerate(values):
        member = f"{field}.blockedValues[{index}]"
        if not 1 <= len(value) <= MAX_BLOCKED_CHARACTERS or "\0" in value:
            raise BadRequest(f"{member} must have 1 to {MAX_BLOCKED_CHARACTERS} characters and no NUL", field=member)
    for index, preset in enumerate(presets):
        member = f"{field}.blockedPresets[{index}]"
        if preset not in _PRESETS:
            raise BadRequest(f"{member} must be one of {', '.join(_PRESETS)}", field=member)
    for name, given in (("blockedValues", values), ("blockedPresets", presets)):
        if len(set(given)) < len(given):
            raise BadRequest(f"{field}.{name} has an element twice", field=f"{field}.{name}")


def _check_property(path: str, profiles: ProfileSchema | None, field: str) -> None:
    if profiles is None:
        raise Unprocessable("PropertyNotExist", f"property {path} does not exist: profiles have no schema", field=field)
    try:
        type_ = property_at(profiles.schema, path).type
    except PropertyNotFound as error:
        raise Unprocessable("PropertyNotExist", f"property {path} {error.rule}", field=field) from error
    if not can_identify(type_):
        raise Unprocessable(
            "TypeNotAllowed", f"property {path} of kind {type_.kind} cannot be an identifier", field=field
        )


def _identifier(path: str, guards: Mapping[str, GuardsRequest]) -> Identifier:
    given = guards.get(path) or GuardsRequest(identifier=path)
    return Identifier(
        path=path,
        blocked_values=given.blocked_values,
        blocked_presets=tuple(preset for preset in _PRESETS if preset in given.blocked_presets),
        max_identities=DEFAULT_MAX_IDENTITIES if given.max_identities is None else given.max_identities,
        max_values=given.max_values,
        allows_blank=given.allow_blank,
    )
