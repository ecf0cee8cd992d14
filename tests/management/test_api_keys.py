"""API keys: shown once, kept as digests, and never opening more than the key that made them."""

import re

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import ApiKey, Catalog, api_key_digest
from headwater.management.api_keys import create_api_key, delete_api_key, key_hint, list_api_keys
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused


@pytest.fixture
async def unrestricted(catalog: Catalog, workspace: int) -> ApiKey:
    return (await create_api_key(catalog, None, "All", None)).key


@pytest.fixture
async def restricted(catalog: Catalog, workspace: int) -> ApiKey:
    return (await create_api_key(catalog, None, "One", workspace)).key


async def test_a_key_is_shown_once_and_kept_as_its_digest(catalog: Catalog, other: Catalog, workspace: int) -> None:
    made = await create_api_key(catalog, None, "CI", workspace)
    assert re.fullmatch(r"api_[A-Za-z0-9]{43}", made.token)
    assert made.key.digest == api_key_digest(made.token)
    assert made.key.hint == f"{made.token[:8]}...{made.token[-6:]}"
    assert made.token not in repr(made)
    await other.refresh()
    for each in (catalog, other):
        assert each.api_key(made.token) == made.key
        assert made.token not in repr(each.api_keys())


def test_the_hint_of_a_short_key_gives_less_of_it_away() -> None:
    assert key_hint("api_0123456789abcdef") == "api_...cdef"


async def test_a_revoked_key_opens_nothing_immediately(catalog: Catalog, other: Catalog, workspace: int) -> None:
    made = await create_api_key(catalog, None, "CI", workspace)
    await other.refresh()
    await delete_api_key(catalog, None, made.key.id)
    assert catalog.api_key(made.token) is None
    assert made.key not in catalog.api_keys()
    await other.refresh()
    assert other.api_key(made.token) is None
    async with refused(catalog, 404, "NotFound", "id"):
        await delete_api_key(catalog, None, made.key.id)


async def test_who_sees_and_revokes_which(
    catalog: Catalog, workspace: int, stranger: int, unrestricted: ApiKey, restricted: ApiKey
) -> None:
    theirs = (await create_api_key(catalog, None, "Theirs", stranger)).key
    for caller in (None, unrestricted):
        assert {key.id for key in list_api_keys(catalog, caller)} >= {unrestricted.id, restricted.id, theirs.id}
    assert {key.workspace for key in list_api_keys(catalog, restricted)} == {workspace}
    for hidden in (unrestricted, theirs):
        async with refused(catalog, 404, "NotFound", "id"):
            await delete_api_key(catalog, restricted, hidden.id)
    await delete_api_key(catalog, restricted, restricted.id)
    await delete_api_key(catalog, unrestricted, theirs.id)


async def test_keys_are_listed_in_the_order_of_their_creation(catalog: Catalog, workspace: int) -> None:
    before = len(list_api_keys(catalog, None))
    ids = [(await create_api_key(catalog, None, "x", workspace)).key.id for _ in range(4)]
    assert [key.id for key in list_api_keys(catalog, None)][before:] == ids


async def test_who_makes_which(
    catalog: Catalog, workspace: int, stranger: int, unrestricted: ApiKey, restricted: ApiKey
) -> None:
    allowed = [(None, None), (None, stranger), (unrestricted, None), (unrestricted, stranger), (restricted, workspace)]
    for caller, scope in allowed:
        assert (await create_api_key(catalog, caller, "x", scope)).key.workspace == scope
    for scope in (None, stranger, UNKNOWN_ID):  # a key of another workspace need not exist to be rejected
        async with refused(catalog, 403, "Forbidden"):
            await create_api_key(catalog, restricted, "x", scope)


@pytest.mark.parametrize("name", ["", "x" * 101, "a\0b", "\ud800"])
async def test_names_that_cannot_be(catalog: Catalog, workspace: int, name: str) -> None:
    async with refused(catalog, 400, "BadRequest", "name"):
        await create_api_key(catalog, None, name, workspace)


async def test_a_name_may_be_long_and_of_emoji(catalog: Catalog, workspace: int) -> None:
    assert (await create_api_key(catalog, None, "\N{GRINNING FACE}" * 100, workspace)).key.name


async def test_references_and_types(catalog: Catalog, workspace: int) -> None:
    for id_ in IMPOSSIBLE_IDS:
        async with refused(catalog, 400, "BadRequest", "workspace"):
            await create_api_key(catalog, None, "x", id_)
        async with refused(catalog, 400, "BadRequest", "id"):
            await delete_api_key(catalog, None, id_)
    async with refused(catalog, 422, "WorkspaceNotExist", "workspace"):
        await create_api_key(catalog, None, "x", UNKNOWN_ID)
    async with refused(catalog, 404, "NotFound", "id"):
        await delete_api_key(catalog, None, UNKNOWN_ID)
    for type_ in ("MCP", "api", ""):
        async with refused(catalog, 400, "BadRequest", "type"):
            await create_api_key(catalog, None, "x", workspace, type_)


async def test_a_key_is_not_made_for_a_workspace_that_another_process_deletes(
    catalog: Catalog, other: Catalog, stranger: int
) -> None:
    from headwater.management.workspaces import delete_workspace

    await other.refresh()
    await delete_workspace(catalog, stranger)
    with pytest.raises(HeadwaterError) as caught:
        await create_api_key(other, None, "x", stranger)
    assert caught.value.code == "WorkspaceNotExist"
