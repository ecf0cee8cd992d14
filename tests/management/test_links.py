"""Links: symmetric, idempotent, and only between a source of events and a destination that takes them."""

import asyncio

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog, Connection
from headwater.management.connections import CreateConnection, create_connection, delete_connection, get_connection
from headwater.management.links import link_connections, unlink_connections
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused


async def _linked(catalog: Catalog, connection: Connection) -> tuple[int, ...]:
    return (await get_connection(catalog, connection.workspace, connection.id)).linked_connections


async def test_a_link_is_seen_from_both_ends_and_by_every_process(
    catalog: Catalog, other: Catalog, workspace: int, website: Connection, crm: Connection
) -> None:
    await link_connections(catalog, workspace, website.id, crm.id)
    await other.refresh()
    for each in (catalog, other):
        assert await _linked(each, website) == (crm.id,)
        assert await _linked(each, crm) == (website.id,)
    await unlink_connections(catalog, workspace, website.id, crm.id)
    await other.refresh()
    for each in (catalog, other):
        assert await _linked(each, website) == await _linked(each, crm) == ()


async def test_linking_twice_changes_nothing(
    catalog: Catalog, workspace: int, website: Connection, crm: Connection
) -> None:
    await link_connections(catalog, workspace, website.id, crm.id)
    version = catalog._view.version
    await link_connections(catalog, workspace, website.id, crm.id)
    assert catalog._view.version == version
    assert await _linked(catalog, website) == (crm.id,)


async def test_unlinking_what_is_not_linked_changes_nothing(
    catalog: Catalog, workspace: int, website: Connection, crm: Connection
) -> None:
    version = catalog._view.version
    await unlink_connections(catalog, workspace, website.id, crm.id)
    assert catalog._view.version == version


async def test_links_are_listed_in_ascending_order(catalog: Catalog, workspace: int, website: Connection) -> None:
    request = CreateConnection(name="CRM", role="Destination", connector="crm")
    ids = [(await create_connection(catalog, workspace, request)).id for _ in range(5)]
    for id_ in ids:
        await link_connections(catalog, workspace, website.id, id_)
    assert await _linked(catalog, website) == tuple(sorted(ids))


async def test_a_deleted_end_takes_the_link_along(
    catalog: Catalog, workspace: int, website: Connection, crm: Connection
) -> None:
    await link_connections(catalog, workspace, website.id, crm.id)
    await delete_connection(catalog, workspace, crm.id)
    assert await _linked(catalog, website) == ()


@pytest.mark.parametrize("call", [link_connections, unlink_connections])
async def test_each_end_has_its_rules(
    catalog: Catalog, workspace: int, stranger: int, website: Connection, crm: Connection, call: object
) -> None:
    assert callable(call)

    async def made(scope: int, role: str, connector: str) -> int:
        return (await create_connection(catalog, scope, CreateConnection(name="x", role=role, connector=connector))).id

    database_source = await made(workspace, "Source", "db")
    database = await made(workspace, "Destination", "db")
    theirs = await made(stranger, "Destination", "crm")
    impossible = [(id_, crm.id, 400, "source") for id_ in IMPOSSIBLE_IDS]
    impossible += [(website.id, id_, 400, "destination") for id_ in IMPOSSIBLE_IDS]
    for source, destination, status, field in (
        *impossible,
        (UNKNOWN_ID, crm.id, 404, "source"),
        (website.id, UNKNOWN_ID, 404, "destination"),
        (website.id, theirs, 404, "destination"),
        (crm.id, crm.id, 400, "source"),  # a destination
        (crm.id, UNKNOWN_ID, 400, "source"),  # the source is looked at before the destination is looked up
        (database_source, crm.id, 400, "source"),  # without events
        (website.id, website.id, 400, "destination"),  # itself
        (website.id, database, 400, "destination"),
    ):
        async with refused(catalog, status, "BadRequest" if status == 400 else "NotFound", field):
            await call(catalog, workspace, source, destination)


async def test_two_processes_linking_and_unlinking_leave_both_ends_equal(
    catalog: Catalog, other: Catalog, workspace: int, website: Connection, crm: Connection
) -> None:
    await other.refresh()
    results = await asyncio.gather(
        *(
            call(which, workspace, website.id, crm.id)
            for _ in range(5)
            for which in (catalog, other)
            for call in (link_connections, unlink_connections)
        ),
        return_exceptions=True,
    )
    assert all(result is None or isinstance(result, HeadwaterError) for result in results)
    for each in (catalog, other):
        await each.refresh()
        assert (crm.id in await _linked(each, website)) is (website.id in await _linked(each, crm))
