"""The first workspace and its key: created once, even by concurrent starts, and never twice."""

import asyncio

import pytest

from headwater.base.errors import BadRequest
from headwater.catalog import Catalog, Workspace
from headwater.management.bootstrap import bootstrap

pytestmark = pytest.mark.both_databases

GIVEN = "api_0123456789abcdefghijklmnopqrstuvwxyz"


async def test_the_first_start_makes_a_workspace_and_a_key_that_is_restricted_to_it(catalog: Catalog) -> None:
    made = await bootstrap(catalog)
    assert made.created
    assert catalog.workspaces() == [made.workspace]
    assert made.workspace.name == "Default"
    assert made.api_key is not None and made.api_key.startswith("api_") and len(made.api_key) == 47
    key = catalog.api_key(made.api_key)
    assert key is not None and key.workspace == made.workspace.id
    assert key.hint == f"{made.api_key[:8]}...{made.api_key[-6:]}"


async def test_a_later_start_makes_nothing(catalog: Catalog, other: Catalog) -> None:
    first = await bootstrap(catalog)
    for each in (catalog, other):
        again = await bootstrap(each)
        assert (again.workspace, again.created, again.api_key) == (first.workspace, False, None)


async def test_the_given_key_is_registered_once(catalog: Catalog) -> None:
    first = await bootstrap(catalog, api_key=GIVEN)
    assert first.api_key == GIVEN
    assert (await bootstrap(catalog, api_key=GIVEN)).api_key is None
    key = catalog.api_key(GIVEN)
    assert key is not None and key.workspace == first.workspace.id


async def test_a_key_that_is_given_later_is_registered_for_the_oldest_workspace(catalog: Catalog) -> None:
    first = await bootstrap(catalog)
    async with catalog.change() as change:
        change.add_workspace(Workspace(id=change.new_id(), name="Second", created_at=change.now))
    later = await bootstrap(catalog, api_key=GIVEN)
    assert (later.workspace, later.created, later.api_key) == (first.workspace, False, GIVEN)
    assert first.api_key is not None
    for token in (GIVEN, first.api_key):
        key = catalog.api_key(token)
        assert key is not None and key.workspace == first.workspace.id


@pytest.mark.parametrize(
    "key",
    [
        "",
        "api_",
        GIVEN[:39],
        GIVEN.replace("api_", "key_"),
        GIVEN.replace("0", " "),
        GIVEN.replace("0", "é"),
        "api_" + "0123456789a" * 10,
    ],
)
async def test_a_key_that_cannot_be_one(catalog: Catalog, key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await bootstrap(catalog, api_key=key)
    assert caught.value.field == "apiKey"
    assert catalog.workspaces() == []


async def test_concurrent_starts_create_one_workspace_and_one_key(catalog: Catalog, other: Catalog) -> None:
    results = await asyncio.gather(*(bootstrap(each) for _ in range(5) for each in (catalog, other)))
    assert len({result.workspace.id for result in results}) == 1
    assert sum(result.created for result in results) == 1
    assert sum(result.api_key is not None for result in results) == 1
