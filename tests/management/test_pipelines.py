"""Pipelines of connections that receive events: each rule, its place among the others, and what changes do."""

import asyncio
from typing import Any

import msgspec
import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.pipelines import (
    CreatePipeline,
    UpdatePipeline,
    create_pipeline,
    delete_pipeline,
    get_pipeline,
    set_pipeline_status,
    update_pipeline,
)
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

NEVER = (
    "eventType",
    "inSchema",
    "format",
    "path",
    "tableName",
    "sheet",
    "exportMode",
    "matching",
    "compression",
    "userIDColumn",
    "updatedAtColumn",
    "updatedAtFormat",
    "orderBy",
    "incremental",
    "formatSettings",
    "query",
    "tableKey",
    "updateOnDuplicates",
)


def _create(connection: Connection, target: str = "Event", name: str = "Collect", **values: Any) -> CreatePipeline:
    return CreatePipeline(connection=connection.id, target=target, name=name, **values)


@pytest.fixture
async def events(catalog: Catalog, workspace: int, website: Connection) -> Pipeline:
    return await create_pipeline(catalog, workspace, _create(website, enabled=True))


@pytest.mark.parametrize("target", ["User", "Event"])
@pytest.mark.parametrize("enabled", [True, False])
async def test_create(catalog: Catalog, workspace: int, website: Connection, target: Any, enabled: bool) -> None:
    made = await create_pipeline(catalog, workspace, _create(website, target, enabled=enabled))
    assert made == Pipeline(
        id=made.id,
        workspace=workspace,
        connection=website.id,
        name="Collect",
        target=target,
        enabled=enabled,
        created_at=made.created_at,
    )
    assert await get_pipeline(catalog, workspace, made.id) == made
    owner = catalog.connection(workspace, website.id)
    assert owner is not None and owner.pipelines == (made,)


async def test_pipelines_are_disabled_unless_said(catalog: Catalog, workspace: int, website: Connection) -> None:
    assert (await create_pipeline(catalog, workspace, _create(website))).enabled is False


async def test_a_connection_stores_its_events_once_and_makes_identities_as_often_as_asked(
    catalog: Catalog, workspace: int, website: Connection, events: Pipeline
) -> None:
    async with refused(catalog, 422, "TargetExist", "target"):
        await create_pipeline(catalog, workspace, _create(website))
    for _ in range(3):
        await create_pipeline(catalog, workspace, _create(website, "User"))
    owner = catalog.connection(workspace, website.id)
    assert owner is not None
    assert [pipeline.id for pipeline in owner.pipelines] == sorted(pipeline.id for pipeline in owner.pipelines)
    assert len(owner.pipelines) == 4
    await delete_pipeline(catalog, workspace, events.id)
    await create_pipeline(catalog, workspace, _create(website))


@pytest.mark.parametrize("target", ["", "Group", "event", "Events"])
async def test_targets_that_are_none(catalog: Catalog, workspace: int, website: Connection, target: str) -> None:
    async with refused(catalog, 400, "BadRequest", "target"):
        await create_pipeline(catalog, workspace, _create(website, target))


async def test_the_target_comes_before_the_connection(catalog: Catalog, workspace: int) -> None:
    async with refused(catalog, 400, "BadRequest", "target"):
        await create_pipeline(catalog, workspace, CreatePipeline(connection=0, target="", name="x"))


async def test_a_target_that_the_connector_lacks(catalog: Catalog, workspace: int) -> None:
    source = await create_connection(catalog, workspace, CreateConnection(name="x", role="Source", connector="crm"))
    async with refused(catalog, 400, "BadRequest", "target"):
        await create_pipeline(catalog, workspace, _create(source, "Event"))


async def test_pipelines_of_other_connections_are_not_built(catalog: Catalog, workspace: int, crm: Connection) -> None:
    async with refused(catalog, 501, "NotImplemented"):
        await create_pipeline(catalog, workspace, _create(crm, "Event"))


async def test_the_connection_of_the_body_is_404(
    catalog: Catalog, workspace: int, stranger: int, website: Connection
) -> None:
    for id_ in IMPOSSIBLE_IDS:
        async with refused(catalog, 400, "BadRequest", "connection"):
            await create_pipeline(catalog, workspace, CreatePipeline(connection=id_, target="User", name="x"))
    async with refused(catalog, 404, "NotFound", "connection"):
        await create_pipeline(catalog, workspace, CreatePipeline(connection=UNKNOWN_ID, target="User", name="x"))
    async with refused(catalog, 404, "NotFound", "connection"):
        await create_pipeline(catalog, stranger, _create(website))


@pytest.mark.parametrize("name", ["", "x" * 61, "a\0b", "\udfff"])
async def test_names(catalog: Catalog, workspace: int, website: Connection, events: Pipeline, name: str) -> None:
    async with refused(catalog, 400, "BadRequest", "name"):
        await create_pipeline(catalog, workspace, _create(website, "User", name))
    async with refused(catalog, 400, "BadRequest", "name"):
        await update_pipeline(catalog, workspace, events.id, UpdatePipeline(name=name))


async def test_the_longest_name(catalog: Catalog, workspace: int, website: Connection) -> None:
    assert (await create_pipeline(catalog, workspace, _create(website, name="é" * 60))).name == "é" * 60


@pytest.mark.parametrize("target", ["User", "Event"])
async def test_members_of_other_kinds_of_pipelines(
    catalog: Catalog, workspace: int, website: Connection, target: str
) -> None:
    for member in NEVER:
        async with refused(catalog, 400, "BadRequest", member):
            await create_pipeline(catalog, workspace, _create(website, target, others=frozenset({member, "filter"})))


@pytest.mark.parametrize(
    ("target", "member", "status", "code"),
    [
        ("User", "filter", 501, "NotImplemented"),
        ("User", "transformation", 501, "NotImplemented"),
        ("User", "outSchema", 501, "NotImplemented"),
        ("Event", "filter", 501, "NotImplemented"),
        ("Event", "transformation", 400, "BadRequest"),
        ("Event", "outSchema", 400, "BadRequest"),
    ],
)
async def test_members_that_have_no_engine_yet(
    catalog: Catalog, workspace: int, website: Connection, target: str, member: str, status: int, code: str
) -> None:
    given = frozenset({member})
    async with refused(catalog, status, code, member):
        await create_pipeline(catalog, workspace, _create(website, target, others=given))
    made = await create_pipeline(catalog, workspace, _create(website, target))
    async with refused(catalog, status, code, member):
        await update_pipeline(catalog, workspace, made.id, UpdatePipeline(name="x", others=given))


async def test_the_first_rule_that_fails_answers(
    catalog: Catalog, workspace: int, website: Connection, events: Pipeline
) -> None:
    members = ["eventType", "inSchema", "outSchema", "query", "transformation", "filter"]
    request = _create(website, name="", others=frozenset(members))
    named: list[str | None] = []
    for member in (*members[:3], "name", *members[3:], "target"):
        with pytest.raises(HeadwaterError) as caught:
            await create_pipeline(catalog, workspace, request)
        named.append(caught.value.field)
        name = "x" if member == "name" else request.name
        request = msgspec.structs.replace(request, name=name, others=request.others - {member})
    assert named == ["eventType", "inSchema", "outSchema", "name", "query", "transformation", "filter", "target"]


async def test_unknown_members_are_ignored(catalog: Catalog, workspace: int, website: Connection) -> None:
    request = _create(website, others=frozenset({"scheduleStart", "colour"}))
    assert (await create_pipeline(catalog, workspace, request)).name == "Collect"


async def test_an_update_replaces(catalog: Catalog, workspace: int, events: Pipeline) -> None:
    updated = await update_pipeline(catalog, workspace, events.id, UpdatePipeline(name="New"))
    assert updated == msgspec.structs.replace(events, name="New", enabled=False)
    assert await get_pipeline(catalog, workspace, events.id) == updated


async def test_an_update_ignores_what_cannot_be_changed(catalog: Catalog, workspace: int, events: Pipeline) -> None:
    request = UpdatePipeline(name="New", others=frozenset({"connection", "target", "eventType"}))
    assert (await update_pipeline(catalog, workspace, events.id, request)).target == "Event"


async def test_status(catalog: Catalog, workspace: int, events: Pipeline) -> None:
    version = catalog._view.version
    assert (await set_pipeline_status(catalog, workspace, events.id, enabled=True)).enabled is True
    assert catalog._view.version == version
    assert (await set_pipeline_status(catalog, workspace, events.id, enabled=False)).enabled is False
    assert (await get_pipeline(catalog, workspace, events.id)).enabled is False


async def test_delete(catalog: Catalog, workspace: int, website: Connection, events: Pipeline) -> None:
    await delete_pipeline(catalog, workspace, events.id)
    owner = catalog.connection(workspace, website.id)
    assert owner is not None and owner.pipelines == ()
    async with refused(catalog, 404, "NotFound", "id"):
        await delete_pipeline(catalog, workspace, events.id)


async def _update(catalog: Catalog, workspace: int, id_: int) -> None:
    await update_pipeline(catalog, workspace, id_, UpdatePipeline(name=""))


async def _status(catalog: Catalog, workspace: int, id_: int) -> None:
    await set_pipeline_status(catalog, workspace, id_, enabled=False)


@pytest.mark.parametrize("call", [get_pipeline, _update, _status, delete_pipeline])
async def test_references_to_what_is_not_there(
    catalog: Catalog, workspace: int, stranger: int, events: Pipeline, call: Any
) -> None:
    for id_ in IMPOSSIBLE_IDS:
        async with refused(catalog, 400, "BadRequest", "id"):
            await call(catalog, workspace, id_)
    async with refused(catalog, 404, "NotFound", "id"):
        await call(catalog, workspace, UNKNOWN_ID)
    async with refused(catalog, 404, "NotFound", "id"):
        await call(catalog, stranger, events.id)


async def test_two_catalogs_never_make_two_pipelines_for_events(
    catalog: Catalog, other: Catalog, workspace: int, website: Connection
) -> None:
    await other.refresh()
    results = await asyncio.gather(
        *(create_pipeline(which, workspace, _create(website)) for _ in range(10) for which in (catalog, other)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Pipeline) for result in results) == 1
    assert {result.code for result in results if isinstance(result, HeadwaterError)} == {"TargetExist"}
    for each in (catalog, other):
        await each.refresh()
        owner = each.connection(workspace, website.id)
        assert owner is not None and len(owner.pipelines) == 1
