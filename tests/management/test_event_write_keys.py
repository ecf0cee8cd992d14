"""Event write keys: between 1 and 20 for a connection that receives events, also under concurrent changes."""

import asyncio
import os
import re
import sys

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog, Connection
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.event_write_keys import (
    create_event_write_key,
    delete_event_write_key,
    list_event_write_keys,
)
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

pytestmark = pytest.mark.both_databases


@pytest.mark.parametrize(
    ("connector", "form"),
    [
        ("python", r"[A-Za-z0-9]{32}"),
        ("client", r"pk_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    ],
)
async def test_the_form_of_a_key(catalog: Catalog, workspace: int, connector: str, form: str) -> None:
    request = CreateConnection(name="x", role="Source", connector=connector)
    connection = await create_connection(catalog, workspace, request)
    keys = (*connection.event_write_keys, await create_event_write_key(catalog, workspace, connection.id))
    assert len(set(keys)) == 2
    for key in keys:
        assert re.fullmatch(form, key)


async def test_keys_are_listed_in_the_order_of_their_creation(
    catalog: Catalog, other: Catalog, workspace: int, website: Connection
) -> None:
    keys = list(website.event_write_keys)
    for _ in range(4):
        keys.append(await create_event_write_key(catalog, workspace, website.id))
    await delete_event_write_key(catalog, workspace, website.id, keys.pop(2))
    keys.append(await create_event_write_key(catalog, workspace, website.id))
    assert list(await list_event_write_keys(catalog, workspace, website.id)) == keys
    await other.refresh()
    assert list(await list_event_write_keys(other, workspace, website.id)) == keys


async def test_a_new_key_finds_its_connection_and_a_deleted_one_does_not(
    catalog: Catalog, workspace: int, website: Connection
) -> None:
    key = await create_event_write_key(catalog, workspace, website.id)
    source = catalog.find_source(key)
    assert source is not None and source.id == website.id
    await delete_event_write_key(catalog, workspace, website.id, key)
    assert catalog.find_source(key) is None


async def test_the_21st_key_is_rejected(catalog: Catalog, workspace: int, website: Connection) -> None:
    for _ in range(19):
        await create_event_write_key(catalog, workspace, website.id)
    async with refused(catalog, 422, "TooManyEventWriteKeys"):
        await create_event_write_key(catalog, workspace, website.id)


async def test_the_last_key_stays(catalog: Catalog, workspace: int, website: Connection) -> None:
    async with refused(catalog, 422, "SingleEventWriteKey"):
        await delete_event_write_key(catalog, workspace, website.id, website.event_write_keys[0])


async def test_deleting_a_key_that_is_not_the_connections_does_nothing(
    catalog: Catalog, workspace: int, website: Connection
) -> None:
    second = await create_connection(catalog, workspace, CreateConnection(name="x", role="Source", connector="python"))
    await create_event_write_key(catalog, workspace, second.id)
    version = catalog._view.version
    for key in ("unknown", "", second.event_write_keys[0]):
        await delete_event_write_key(catalog, workspace, website.id, key)
    assert catalog._view.version == version


async def test_a_connection_that_receives_no_events(catalog: Catalog, workspace: int, crm: Connection) -> None:
    async with refused(catalog, 400, "BadRequest", "id"):
        await list_event_write_keys(catalog, workspace, crm.id)
    async with refused(catalog, 404, "NotFound", "id"):
        await create_event_write_key(catalog, workspace, crm.id)
    async with refused(catalog, 400, "BadRequest", "id"):
        await delete_event_write_key(catalog, workspace, crm.id, "x")


async def test_references_to_what_is_not_there(
    catalog: Catalog, workspace: int, stranger: int, website: Connection
) -> None:
    unknown = [(workspace, UNKNOWN_ID, 404, "NotFound"), (stranger, website.id, 404, "NotFound")]
    impossible = [(workspace, id_, 400, "BadRequest") for id_ in IMPOSSIBLE_IDS]
    for scope, id_, status, code in (*unknown, *impossible):
        async with refused(catalog, status, code, "id"):
            await list_event_write_keys(catalog, scope, id_)
        async with refused(catalog, status, code, "id"):
            await create_event_write_key(catalog, scope, id_)
        async with refused(catalog, status, code, "id"):
            await delete_event_write_key(catalog, scope, id_, website.event_write_keys[0])


async def test_two_catalogs_deleting_all_keys_leave_one(
    catalog: Catalog, other: Catalog, workspace: int, website: Connection
) -> None:
    keys = [*website.event_write_keys]
    for _ in range(9):
        keys.append(await create_event_write_key(catalog, workspace, website.id))
    await other.refresh()
    results = await asyncio.gather(
        *(
            delete_event_write_key(which, workspace, website.id, key)
            for key in keys
            for which in (catalog, other, catalog)
        ),
        return_exceptions=True,
    )
    assert {result.code for result in results if isinstance(result, HeadwaterError)} == {"SingleEventWriteKey"}
    assert all(result is None or isinstance(result, HeadwaterError) for result in results)
    for each in (catalog, other):
        await each.refresh()
        assert len(await list_event_write_keys(each, workspace, website.id)) == 1


DELETE = """
import asyncio, sys
from headwater.base.clock import SystemClock
from headwater.base.errors import Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.management.event_write_keys import delete_event_write_key

async def main(url, workspace, connection, *keys):
    async with open_catalog(url, clock=SystemClock(), identifiers=Identifiers()) as catalog:
        print("ready", flush=True)
        sys.stdin.readline()
        for key in keys:
            try:
                await delete_event_write_key(catalog, int(workspace), int(connection), key)
            except Unprocessable as error:
                assert error.code == "SingleEventWriteKey"

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.process
async def test_two_processes_deleting_all_keys_leave_one(
    catalog: Catalog, workspace: int, website: Connection, url: str
) -> None:
    keys = [*website.event_write_keys]
    for _ in range(19):
        keys.append(await create_event_write_key(catalog, workspace, website.id))
    pipe = asyncio.subprocess.PIPE
    arguments = (sys.executable, "-c", DELETE, url, str(workspace), str(website.id))
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    processes = [
        await asyncio.create_subprocess_exec(*arguments, *order, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        for order in (keys, keys[::-1])
    ]
    for process in processes:
        assert process.stdout is not None and process.stdin is not None
        assert await asyncio.wait_for(process.stdout.readline(), timeout=30) == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    for process in processes:
        _, errors = await asyncio.wait_for(process.communicate(), timeout=30)
        assert process.returncode == 0, errors.decode()
    await catalog.refresh()
    assert len(await list_event_write_keys(catalog, workspace, website.id)) == 1
