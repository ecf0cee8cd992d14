"""Workspaces: creation, names, and a deletion that removes everything in the workspace and nothing else."""

import pytest

from headwater.catalog import ApiKey, Catalog, Connection, UiPreferences
from headwater.management.api_keys import create_api_key
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.links import link_connections
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.management.workspaces import (
    create_workspace,
    delete_workspace,
    find_workspace,
    list_workspaces,
    update_workspace,
)
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

PREFERENCES = UiPreferences(image="photo", first_name="name.first", last_name="name.last", extra="email")


@pytest.fixture
async def unrestricted(catalog: Catalog, workspace: int) -> ApiKey:
    return (await create_api_key(catalog, None, "All", None)).key


@pytest.fixture
async def restricted(catalog: Catalog, workspace: int) -> ApiKey:
    return (await create_api_key(catalog, None, "One", workspace)).key


async def test_the_operator_and_an_unrestricted_key_make_workspaces(
    catalog: Catalog, other: Catalog, unrestricted: ApiKey
) -> None:
    for caller in (None, unrestricted):
        made = await create_workspace(catalog, caller, "Second", PREFERENCES)
        assert 1 <= made.id < 2**31
        await other.refresh()
        assert find_workspace(catalog, made.id) == find_workspace(other, made.id) == made
        assert (made.name, made.ui_preferences) == ("Second", PREFERENCES)
        assert catalog.connections(made.id) == []


async def test_a_restricted_key_makes_none(catalog: Catalog, restricted: ApiKey) -> None:
    async with refused(catalog, 403, "Forbidden"):
        await create_workspace(catalog, restricted, "")


@pytest.mark.parametrize("name", ["", "x" * 101, "a\0b", "\ud800"])
async def test_names_that_cannot_be(catalog: Catalog, workspace: int, name: str) -> None:
    async with refused(catalog, 400, "BadRequest", "name"):
        await create_workspace(catalog, None, name)
    async with refused(catalog, 400, "BadRequest", "name"):
        await update_workspace(catalog, workspace, name)


@pytest.mark.parametrize("name", ["x", "\N{GRINNING FACE}" * 100])
async def test_names_that_can(catalog: Catalog, other: Catalog, name: str) -> None:
    made = await create_workspace(catalog, None, name)
    await other.refresh()
    assert find_workspace(other, made.id).name == name


@pytest.mark.parametrize("path", ["1a", "a..b", "a b", ".", "a" * 1_025])
@pytest.mark.parametrize("member", ["image", "firstName", "lastName", "extra"])
async def test_preferences_are_paths_of_properties(catalog: Catalog, workspace: int, member: str, path: str) -> None:
    attribute = {"firstName": "first_name", "lastName": "last_name"}.get(member, member)
    preferences = UiPreferences(**{attribute: path})
    async with refused(catalog, 400, "BadRequest", f"uiPreferences.profile.{member}"):
        await create_workspace(catalog, None, "x", preferences)
    async with refused(catalog, 400, "BadRequest", f"uiPreferences.profile.{member}"):
        await update_workspace(catalog, workspace, "x", preferences)


async def test_an_update_replaces(catalog: Catalog, other: Catalog, workspace: int) -> None:
    await update_workspace(catalog, workspace, "New", PREFERENCES)
    await other.refresh()
    for each in (catalog, other):
        found = find_workspace(each, workspace)
        assert (found.name, found.ui_preferences) == ("New", PREFERENCES)
    await update_workspace(catalog, workspace, "New")
    assert find_workspace(catalog, workspace).ui_preferences == UiPreferences()


async def test_an_update_that_changes_nothing_is_no_change(catalog: Catalog, workspace: int) -> None:
    version = catalog._view.version
    await update_workspace(catalog, workspace, find_workspace(catalog, workspace).name)
    assert catalog._view.version == version


async def test_who_sees_which(
    catalog: Catalog, workspace: int, stranger: int, unrestricted: ApiKey, restricted: ApiKey
) -> None:
    for caller in (None, unrestricted):
        assert [each.id for each in list_workspaces(catalog, caller)] == sorted([workspace, stranger])
    assert [each.id for each in list_workspaces(catalog, restricted)] == [workspace]


async def test_a_deleted_workspace_takes_along_what_is_in_it_and_nothing_else(
    catalog: Catalog, other: Catalog, workspace: int, stranger: int, website: Connection, crm: Connection
) -> None:
    await link_connections(catalog, workspace, website.id, crm.id)
    request = CreatePipeline(connection=website.id, target="Event", name="Events")
    pipeline = await create_pipeline(catalog, workspace, request)
    inside = await create_api_key(catalog, None, "Inside", workspace)
    beside = await create_api_key(catalog, None, "Beside", stranger)
    above = await create_api_key(catalog, None, "Above", None)
    theirs = await create_connection(
        catalog, stranger, CreateConnection(name="x", role="Source", connector="javascript", strategy="Fusion")
    )
    await other.refresh()
    await delete_workspace(catalog, workspace)
    await other.refresh()
    for each in (catalog, other):
        assert each.workspace(workspace) is None
        assert each.connections(workspace) == []
        assert each.connection(workspace, website.id) is None
        assert each.pipeline(workspace, pipeline.id) is None
        assert each.find_source(website.event_write_keys[0]) is None
        assert each.api_key(inside.token) is None
        assert each.api_key(beside.token) == beside.key
        assert each.api_key(above.token) == above.key
        assert each.connections(stranger) == [theirs]
    async with refused(catalog, 404, "NotFound", "workspace"):
        await delete_workspace(catalog, workspace)


async def test_references_to_what_is_not_there(catalog: Catalog, workspace: int) -> None:
    for id_, status, code in (*((id_, 400, "BadRequest") for id_ in IMPOSSIBLE_IDS), (UNKNOWN_ID, 404, "NotFound")):
        async with refused(catalog, status, code, "workspace"):
            await delete_workspace(catalog, id_)
        async with refused(catalog, status, code, "workspace"):
            await update_workspace(catalog, id_, "")
