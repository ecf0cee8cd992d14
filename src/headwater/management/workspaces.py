"""Creates, reads, renames and deletes workspaces.

`caller` is the API key of the call; None stands for the operator at the command line, who may do everything.
"""

import msgspec

from headwater.base.errors import BadRequest, Forbidden, NotFound
from headwater.catalog import (
    MAX_RETENTION_DAYS,
    ApiKey,
    Catalog,
    ProfileSchema,
    RetentionSettings,
    UiPreferences,
    Workspace,
)
from headwater.management.names import MAX_TITLE_CHARACTERS, check_identifier, check_name
from headwater.schemas import Schema, is_path


def list_workspaces(catalog: Catalog, caller: ApiKey | None) -> list[Workspace]:
    """Return the workspaces that the caller has access to, by ascending id."""
    found = [each for each in catalog.workspaces() if caller is None or caller.workspace in (None, each.id)]
    return sorted(found, key=lambda workspace: workspace.id)


def find_workspace(catalog: Catalog, id_: int) -> Workspace:
    """Return the workspace. Raises BadRequest, NotFound."""
    check_identifier(id_, "workspace identifier", field="workspace")
    workspace = catalog.workspace(id_)
    if workspace is None:
        raise NotFound(f"workspace {id_} does not exist", field="workspace")
    return workspace


def check_may_create(caller: ApiKey | None) -> None:
    """Raise Forbidden for a caller that cannot create workspaces."""
    if caller is not None and caller.workspace is not None:
        raise Forbidden("an API key that is restricted to a workspace cannot create workspaces")


async def create_workspace(
    catalog: Catalog,
    caller: ApiKey | None,
    name: str,
    preferences: UiPreferences | None = None,
    profile_schema: Schema | None = None,
) -> Workspace:
    """Create an empty workspace, with a profile schema that is valid. Raises Forbidden for a restricted key,
    BadRequest."""
    check_may_create(caller)
    preferences = preferences or UiPreferences()
    check_name(name, max_characters=MAX_TITLE_CHARACTERS)
    _check_preferences(preferences)
    async with catalog.change() as change:
        workspace = Workspace(
            id=change.new_id(),
            name=name,
            created_at=change.now,
            ui_preferences=preferences,
            profile_schema=None if profile_schema is None else ProfileSchema(schema=profile_schema),
        )
        change.add_workspace(workspace)
    return workspace


async def update_workspace(
    catalog: Catalog, id_: int, name: str, preferences: UiPreferences | None = None
) -> Workspace:
    """Replace the name and the preferences of a workspace. Raises BadRequest, NotFound."""
    preferences = preferences or UiPreferences()
    async with catalog.change() as change:
        old = find_workspace(catalog, id_)
        check_name(name, max_characters=MAX_TITLE_CHARACTERS)
        _check_preferences(preferences)
        new = msgspec.structs.replace(old, name=name, ui_preferences=preferences)
        if new != old:
            change.update_workspace(new)
    return new


async def update_retention(catalog: Catalog, id_: int, retention: RetentionSettings) -> None:
    """Replace how long a workspace keeps its data. Raises BadRequest, NotFound."""
    for field, days in (
        ("eventDays", retention.event_days),
        ("rejectedEventDays", retention.rejected_event_days),
        ("anonymousIdentityDays", retention.anonymous_identity_days),
    ):
        if days is not None and not 1 <= days <= MAX_RETENTION_DAYS:
            raise BadRequest(f"{field} must be from 1 to {MAX_RETENTION_DAYS}", field=field)
    async with catalog.change() as change:
        old = find_workspace(catalog, id_)
        new = msgspec.structs.replace(old, retention=retention)
        if new != old:
            change.update_workspace(new)


async def delete_workspace(catalog: Catalog, id_: int, caller: ApiKey | None = None) -> None:
    """Delete a workspace with its connections, their pipelines and keys, and the API keys restricted to it.

    Stored events remain in the warehouse. Raises BadRequest, NotFound; Forbidden for a restricted key, which may change
    everything in its workspace except whether the workspace exists.
    """
    if caller is not None and caller.workspace is not None:
        raise Forbidden("an API key that is restricted to a workspace cannot delete it")
    async with catalog.change() as change:
        change.remove_workspace(find_workspace(catalog, id_))


def _check_preferences(preferences: UiPreferences) -> None:
    for member, path in (
        ("image", preferences.image),
        ("firstName", preferences.first_name),
        ("lastName", preferences.last_name),
        ("extra", preferences.extra),
    ):
        if path and (len(path) > 1_024 or not is_path(path)):
            raise BadRequest(
                f"{member} must be the path of a property, such as address.city",
                field=f"uiPreferences.profile.{member}",
            )
