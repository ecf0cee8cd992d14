"""Connections: each rule of the documented sequence, in its order, and the effects of creation, replacement and
deletion."""

import asyncio
from itertools import product
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Role, Strategy
from headwater.management.connections import (
    CreateConnection,
    UpdateConnection,
    create_connection,
    delete_connection,
    get_connection,
    list_connections,
    update_connection,
)
from headwater.management.pipelines import CreatePipeline, create_pipeline
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

WEBSITE = CreateConnection(name="Website", role="Source", connector="javascript", strategy="Conversion")
SERVER = CreateConnection(name="Server", role="Source", connector="python")
CRM = CreateConnection(name="CRM", role="Destination", connector="crm")

ON_A_DEVICE = ("android", "ios", "javascript")
ON_A_SERVER = ("client", "dotnet", "go", "http", "java", "nodejs", "python")


def _but(request: CreateConnection, **values: Any) -> CreateConnection:
    return msgspec.structs.replace(request, **values)


async def test_the_documented_example(catalog: Catalog, workspace: int) -> None:
    made = await create_connection(catalog, workspace, WEBSITE)
    assert 1 <= made.id < 2**31
    assert made == Connection(
        id=made.id,
        workspace=workspace,
        name="Website",
        connector="javascript",
        role="Source",
        strategy="Conversion",
        sending_mode=None,
        created_at=made.created_at,
        event_write_keys=made.event_write_keys,
    )
    assert await get_connection(catalog, workspace, made.id) == made
    assert catalog.find_source(made.event_write_keys[0]) == made


@pytest.mark.parametrize("connector", [*ON_A_DEVICE, *ON_A_SERVER, "webhook"])
async def test_connector_by_role_by_strategy(catalog: Catalog, workspace: int, connector: str) -> None:
    for role, strategy in product(get_args(Role), (None, *get_args(Strategy), "fusion", "")):
        request = CreateConnection(name="x", role=role, connector=connector, strategy=strategy)
        known = strategy is None or strategy in get_args(Strategy)
        if not known or (role == "Destination" and strategy is not None):
            async with refused(catalog, 400, "BadRequest", "strategy"):
                await create_connection(catalog, workspace, request)
        elif role == "Destination":
            async with refused(catalog, 400, "BadRequest", "role"):
                await create_connection(catalog, workspace, request)
        elif (connector in ON_A_DEVICE) is (strategy is None):
            async with refused(catalog, 400, "BadRequest", "strategy"):
                await create_connection(catalog, workspace, request)
        else:
            made = await create_connection(catalog, workspace, request)
            assert (made.connector, made.strategy, len(made.event_write_keys)) == (connector, strategy, 1)


@pytest.mark.parametrize(
    ("request_", "status", "code", "field"),
    [
        (_but(WEBSITE, role=""), 400, "BadRequest", "role"),
        (_but(WEBSITE, role="source"), 400, "BadRequest", "role"),
        (_but(WEBSITE, connector=""), 400, "BadRequest", "connector"),
        (_but(WEBSITE, name=""), 400, "BadRequest", "name"),
        (_but(WEBSITE, name="x" * 61), 400, "BadRequest", "name"),
        (_but(WEBSITE, name="a\0b"), 400, "BadRequest", "name"),
        (_but(WEBSITE, name="\ud800"), 400, "BadRequest", "name"),
        (_but(WEBSITE, sending_mode="server"), 400, "BadRequest", "sendingMode"),
        (_but(WEBSITE, sending_mode="Server"), 400, "BadRequest", "sendingMode"),
        (_but(WEBSITE, connector="fax"), 422, "ConnectorNotExist", "connector"),
        (_but(WEBSITE, auth_token="x"), 400, "BadRequest", "authToken"),
        (_but(WEBSITE, settings={}), 400, "BadRequest", "settings"),
        (_but(CRM, settings={"key": "x"}), 400, "BadRequest", "settings"),
        (_but(CRM, connector="ads", role="Source"), 400, "BadRequest", "role"),
        (_but(CRM, connector="ads"), 400, "BadRequest", "sendingMode"),
        (_but(CRM, connector="ads", sending_mode="ClientAndServer"), 400, "BadRequest", "sendingMode"),
        (_but(CRM, connector="db", sending_mode="Server"), 400, "BadRequest", "sendingMode"),
        (_but(WEBSITE, linked_connections=(UNKNOWN_ID,)), 422, "LinkedConnectionNotExist", "linkedConnections[0]"),
        (_but(WEBSITE, linked_connections=(0,)), 400, "BadRequest", "linkedConnections[0]"),
        (_but(WEBSITE, linked_connections=(-1,)), 400, "BadRequest", "linkedConnections[0]"),
        (_but(WEBSITE, linked_connections=(2**31,)), 400, "BadRequest", "linkedConnections[0]"),
        (_but(WEBSITE, linked_connections=(5, 5)), 400, "BadRequest", "linkedConnections[0]"),
        (_but(CRM, connector="db", linked_connections=(0,)), 400, "BadRequest", "linkedConnections"),
    ],
)
async def test_a_connection_that_breaks_a_rule_is_rejected(
    catalog: Catalog, workspace: int, request_: CreateConnection, status: int, code: str, field: str
) -> None:
    async with refused(catalog, status, code, field):
        await create_connection(catalog, workspace, request_)


async def test_the_first_rule_that_fails_answers(catalog: Catalog, workspace: int) -> None:
    """All members are invalid at first. Each reported member is corrected, one after the other."""
    request = CreateConnection(
        name="",
        role="",
        connector="",
        strategy="?",
        sending_mode="?",
        linked_connections=(UNKNOWN_ID,),
        settings={},
        auth_token="x",
    )
    named: list[str | None] = []
    steps: list[dict[str, Any]] = [
        {"role": "Destination"},
        {"connector": "fax"},
        {"name": "x"},
        {"strategy": "Fusion"},
        {"strategy": None},
        {"sending_mode": "Client"},
        {"connector": "javascript"},
        {"role": "Source"},
        {"linked_connections": ()},
        {"strategy": "Fusion"},
        {"sending_mode": None},
        {"auth_token": ""},
        {"settings": None},
    ]
    for step in steps:
        with pytest.raises(HeadwaterError) as caught:
            await create_connection(catalog, workspace, request)
        named.append(caught.value.field)
        request = _but(request, **step)
    assert named == [
        "role",
        "connector",
        "name",
        "strategy",
        "strategy",
        "sendingMode",
        "connector",
        "role",
        "linkedConnections[0]",
        "strategy",
        "sendingMode",
        "authToken",
        "settings",
    ]
    assert (await create_connection(catalog, workspace, request)).name == "x"


names = st.text(st.characters(exclude_categories=(), exclude_characters=""), max_size=70)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names)
@example(name="😀" * 60)
@example(name="😀" * 61)
@example(name=" ")
async def test_any_name_is_kept_as_it_is_or_rejected(catalog: Catalog, workspace: int, name: str) -> None:
    request = _but(SERVER, name=name)
    if 1 <= len(name) <= 60 and "\0" not in name and not any("\ud800" <= char <= "\udfff" for char in name):
        made = await create_connection(catalog, workspace, request)
        assert (await get_connection(catalog, workspace, made.id)).name == name
        await delete_connection(catalog, workspace, made.id)
    else:
        async with refused(catalog, 400, "BadRequest", "name"):
            await create_connection(catalog, workspace, request)


async def test_names_need_not_differ(catalog: Catalog, workspace: int) -> None:
    first = await create_connection(catalog, workspace, SERVER)
    second = await create_connection(catalog, workspace, SERVER)
    assert first.id != second.id
    assert first.event_write_keys != second.event_write_keys


async def test_the_only_sending_mode_may_be_left_out(catalog: Catalog, workspace: int) -> None:
    assert (await create_connection(catalog, workspace, CRM)).sending_mode == "Server"
    ads = _but(CRM, connector="ads", sending_mode="Client")
    assert (await create_connection(catalog, workspace, ads)).sending_mode == "Client"


async def test_a_connection_that_receives_no_events_has_no_key(crm: Connection) -> None:
    assert crm.event_write_keys == ()


async def test_links_are_made_in_both_directions(catalog: Catalog, workspace: int, crm: Connection) -> None:
    second = await create_connection(catalog, workspace, CRM)
    linked = (max(crm.id, second.id), min(crm.id, second.id))
    source = await create_connection(catalog, workspace, _but(WEBSITE, linked_connections=linked))
    assert source.linked_connections == tuple(sorted(linked))
    assert (await get_connection(catalog, workspace, source.id)) == source
    third = await create_connection(catalog, workspace, _but(CRM, linked_connections=(source.id,)))
    for id_ in (crm.id, second.id, third.id):
        assert (await get_connection(catalog, workspace, id_)).linked_connections == (source.id,)
    assert (await get_connection(catalog, workspace, source.id)).linked_connections == tuple(
        sorted((*linked, third.id))
    )


async def test_links_to_what_cannot_be_linked(
    catalog: Catalog, workspace: int, stranger: int, website: Connection, crm: Connection
) -> None:
    users = await create_connection(catalog, workspace, _but(SERVER, connector="crm"))
    theirs = await create_connection(catalog, stranger, CRM)
    for linked, status, code in (
        ((crm.id, website.id), 400, "BadRequest"),  # an SDK cannot be a destination of events
        ((crm.id, users.id), 400, "BadRequest"),  # its connector can, in the other role
        ((crm.id, theirs.id), 422, "LinkedConnectionNotExist"),
    ):
        async with refused(catalog, status, code, "linkedConnections[1]"):
            await create_connection(catalog, workspace, _but(WEBSITE, linked_connections=linked))


async def test_lists_are_sorted_by_name(catalog: Catalog, workspace: int, stranger: int) -> None:
    for name in ("b", "B", "a"):
        await create_connection(catalog, workspace, _but(SERVER, name=name))
    await create_connection(catalog, stranger, SERVER)
    assert [connection.name for connection in await list_connections(catalog, workspace)] == ["B", "a", "b"]


async def test_an_update_replaces(catalog: Catalog, workspace: int, website: Connection) -> None:
    updated = await update_connection(
        catalog, workspace, website.id, UpdateConnection(name="New", strategy="Isolation")
    )
    assert updated == msgspec.structs.replace(website, name="New", strategy="Isolation")
    assert await get_connection(catalog, workspace, website.id) == updated


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (UpdateConnection(name="", strategy="Fusion"), "name"),
        (UpdateConnection(name="x" * 61, strategy="Fusion"), "name"),
        (UpdateConnection(name="x", strategy="fusion", sending_mode="?"), "strategy"),
        (UpdateConnection(name="x", sending_mode="?"), "sendingMode"),
        (UpdateConnection(name="x"), "strategy"),
        (UpdateConnection(name="x", strategy="Fusion", sending_mode="Server"), "sendingMode"),
    ],
)
async def test_rejected_updates(
    catalog: Catalog, workspace: int, website: Connection, request_: UpdateConnection, field: str
) -> None:
    async with refused(catalog, 400, "BadRequest", field):
        await update_connection(catalog, workspace, website.id, request_)


async def test_an_update_of_a_destination_must_say_its_sending_mode(
    catalog: Catalog, workspace: int, crm: Connection
) -> None:
    async with refused(catalog, 400, "BadRequest", "sendingMode"):
        await update_connection(catalog, workspace, crm.id, UpdateConnection(name="x"))
    async with refused(catalog, 400, "BadRequest", "strategy"):
        await update_connection(
            catalog, workspace, crm.id, UpdateConnection(name="x", strategy="Fusion", sending_mode="Server")
        )
    updated = await update_connection(catalog, workspace, crm.id, UpdateConnection(name="x", sending_mode="Server"))
    assert updated.name == "x"


async def test_an_update_that_changes_nothing_is_no_change(
    catalog: Catalog, workspace: int, website: Connection
) -> None:
    version = catalog._view.version
    await update_connection(catalog, workspace, website.id, UpdateConnection(name="Website", strategy="Fusion"))
    assert catalog._view.version == version


async def test_a_deleted_connection_takes_its_parts_along(
    catalog: Catalog, workspace: int, website: Connection
) -> None:
    crm = await create_connection(catalog, workspace, _but(CRM, linked_connections=(website.id,)))
    request = CreatePipeline(connection=website.id, target="Event", name="Events")
    pipeline = await create_pipeline(catalog, workspace, request)
    await delete_connection(catalog, workspace, website.id)
    assert [connection.id for connection in await list_connections(catalog, workspace)] == [crm.id]
    assert (await get_connection(catalog, workspace, crm.id)).linked_connections == ()
    assert catalog.pipeline(workspace, pipeline.id) is None
    assert catalog.find_source(website.event_write_keys[0]) is None
    async with refused(catalog, 404, "NotFound", "id"):
        await delete_connection(catalog, workspace, website.id)


async def _get(catalog: Catalog, workspace: int, id_: int) -> None:
    await get_connection(catalog, workspace, id_)


async def _update(catalog: Catalog, workspace: int, id_: int) -> None:
    await update_connection(catalog, workspace, id_, UpdateConnection(name=""))


@pytest.mark.parametrize("call", [_get, _update, delete_connection])
async def test_references_to_what_is_not_there(
    catalog: Catalog, workspace: int, stranger: int, website: Connection, call: Any
) -> None:
    for id_ in IMPOSSIBLE_IDS:
        async with refused(catalog, 400, "BadRequest", "id"):
            await call(catalog, workspace, id_)
    async with refused(catalog, 404, "NotFound", "id"):
        await call(catalog, workspace, UNKNOWN_ID)
    async with refused(catalog, 404, "NotFound", "id"):
        await call(catalog, stranger, website.id)


async def test_a_link_never_points_to_a_connection_that_was_deleted_meanwhile(
    catalog: Catalog, other: Catalog, workspace: int
) -> None:
    await other.refresh()
    for _ in range(5):
        crm = await create_connection(catalog, workspace, CRM)
        await other.refresh()
        results = await asyncio.gather(
            create_connection(catalog, workspace, _but(WEBSITE, linked_connections=(crm.id,))),
            delete_connection(other, workspace, crm.id),
            return_exceptions=True,
        )
        for result in results:
            assert not isinstance(result, BaseException) or (
                isinstance(result, HeadwaterError) and result.code == "LinkedConnectionNotExist"
            )
        await catalog.refresh()
        assert all(each.linked_connections == () for each in catalog.connections(workspace))
