"""Operations on pipelines: replaced, enabled, scheduled, deleted, kept over a restart, and never two collectors."""

import asyncio
from typing import Any

import msgspec
import pytest

from headwater.base.errors import HeadwaterError, Unprocessable
from headwater.catalog import Catalog, Connection, Definition, Pipeline
from headwater.connectors.connector import Driver
from headwater.management.connections import CreateConnection, create_connection, delete_connection
from headwater.management.pipelines import (
    create_pipeline,
    delete_pipeline,
    find_kind,
    get_pipeline,
    operations,
    set_pipeline_schedule,
    set_pipeline_status,
    update_pipeline,
)
from headwater.schemas import JsonType
from tests.management.pipelines.conftest import AVAILABLE, Connect
from tests.management.pipelines.examples import (
    EXAMPLES,
    TEXT,
    creation,
    function,
    mapped,
    profile,
    remove_engine,
    schema,
    show_members,
    update,
    where,
)
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

pytestmark = pytest.mark.both_databases

PERIODS = ("5m", "15m", "30m", "1h", "2h", "3h", "6h", "8h", "12h", "24h")
WITHOUT_ENGINE = ("SA", "DA")
"""The kinds whose example has a connector without an engine."""
FILTERED = {"filter": where("type", "is", "identify")}
MAPPED = {"outSchema": profile(email=TEXT), "transformation": mapped(email="traits.email")}
A_FUNCTION = {"outSchema": profile(email=TEXT), "transformation": function(out_paths=("email",))}

kinds = pytest.mark.parametrize("kind", EXAMPLES)


async def made(catalog: Catalog, workspace: int, connect: Connect, kind: str, **common: Any) -> Pipeline:
    connection = await connect(EXAMPLES[kind])
    return await create_pipeline(catalog, workspace, creation(kind, connection.id, EXAMPLES[kind].least, **common))


@pytest.fixture
async def events(catalog: Catalog, workspace: int, website: Connection) -> Pipeline:
    return await create_pipeline(catalog, workspace, creation("SE", website.id, {}, enabled=True))


@kinds
async def test_an_update_replaces_and_leaves_what_is_not_its_own(
    catalog: Catalog, other: Catalog, workspace: int, connect: Connect, kind: str
) -> None:
    connection = await connect(EXAMPLES[kind])
    given = EXAMPLES[kind].optional["filter" if kind != "SD" else "incremental"]
    full = creation(kind, connection.id, {**EXAMPLES[kind].least, **given}, enabled=kind in ("SU", "SE"))
    old = await create_pipeline(catalog, workspace, full)
    if EXAMPLES[kind].target == "User":
        old = await set_pipeline_schedule(catalog, workspace, old.id, "1h")
    new = await update_pipeline(catalog, workspace, old.id, update(EXAMPLES[kind].least, name="New"))
    assert new == msgspec.structs.replace(old, name="New", enabled=False, definition=new.definition)
    assert set(show_members(old)) - set(show_members(new)) == {member for member in given if member != "inSchema"}
    await other.refresh()
    assert await get_pipeline(other, workspace, old.id) == new


async def test_an_update_that_changes_nothing_is_no_change(catalog: Catalog, workspace: int, connect: Connect) -> None:
    pipeline = await made(catalog, workspace, connect, "SF")
    version = catalog._view.version
    assert await update_pipeline(catalog, workspace, pipeline.id, update(EXAMPLES["SF"].least)) == pipeline
    assert catalog._view.version == version


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
async def test_what_cannot_run_is_made_and_disabled_but_not_enabled(
    catalog: Catalog, workspace: int, connect: Connect, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connect(EXAMPLES[kind])
    remove_engine(catalog, connection.connector, monkeypatch)
    members = EXAMPLES[kind].least
    async with refused(catalog, 422, "EngineNotAvailable", "enabled"):
        await create_pipeline(catalog, workspace, creation(kind, connection.id, members, enabled=True))
    pipeline = await create_pipeline(catalog, workspace, creation(kind, connection.id, members))
    async with refused(catalog, 422, "EngineNotAvailable", "enabled"):
        await update_pipeline(catalog, workspace, pipeline.id, update(members, enabled=True))
    async with refused(catalog, 422, "EngineNotAvailable", "enabled"):
        await set_pipeline_status(catalog, workspace, pipeline.id, enabled=True)
    assert not (await set_pipeline_status(catalog, workspace, pipeline.id, enabled=False)).enabled


@pytest.mark.parametrize(
    ("kind", "members"),
    [("SE", {}), ("SE", FILTERED), ("SU", {}), ("SU", FILTERED), ("SU", MAPPED), ("SU", A_FUNCTION)],
    ids=lambda value: str(value)[:30],
)
async def test_what_runs(catalog: Catalog, workspace: int, connect: Connect, kind: str, members: Any) -> None:
    connection = await connect(EXAMPLES[kind])
    pipeline = await create_pipeline(catalog, workspace, creation(kind, connection.id, members, enabled=True))
    assert pipeline.enabled
    assert not (await set_pipeline_status(catalog, workspace, pipeline.id, enabled=False)).enabled
    assert (await set_pipeline_status(catalog, workspace, pipeline.id, enabled=True)).enabled
    version = catalog._view.version
    assert (await set_pipeline_status(catalog, workspace, pipeline.id, enabled=True)).enabled
    assert catalog._view.version == version


@pytest.mark.parametrize(
    ("kind", "members"), [("SF", {"format": "parquet"}), ("DF", {"format": "parquet"}), ("SD", {}), ("DD", {})]
)
async def test_what_is_not_installed_is_made_but_not_enabled(
    catalog: Catalog, workspace: int, connect: Connect, monkeypatch: pytest.MonkeyPatch, kind: str, members: Any
) -> None:
    connection = await connect(EXAMPLES[kind])
    code = members.get("format", connection.connector)
    missing = msgspec.structs.replace(AVAILABLE[code], driver=Driver("no_such_module", "extra"))
    monkeypatch.setitem(AVAILABLE, code, missing)
    definition = Definition(format=members.get("format", ""))
    found = find_kind(connection.role, AVAILABLE[connection.connector].type, "User")
    assert found is not None
    with pytest.raises(Unprocessable, match=r"pip install 'headwater\[extra\]'") as failure:
        operations._check_engine(AVAILABLE, connection, found, definition)
    assert (failure.value.code, failure.value.field) == ("EngineNotAvailable", "enabled")


async def test_what_cannot_run_any_more_can_be_disabled(catalog: Catalog, workspace: int, connect: Connect) -> None:
    """A return to an older version, which lacks an engine, has this effect."""
    pipeline = await made(catalog, workspace, connect, "SA")
    async with catalog.change() as change:
        change.update_pipeline(msgspec.structs.replace(pipeline, enabled=True))
    assert not (await set_pipeline_status(catalog, workspace, pipeline.id, enabled=False)).enabled


@kinds
async def test_schedules(catalog: Catalog, workspace: int, connect: Connect, kind: str) -> None:
    pipeline = await made(catalog, workspace, connect, kind)
    assert pipeline.schedule_period is None
    if EXAMPLES[kind].target == "Event":
        for period in (None, "1h", "never"):
            async with refused(catalog, 400, "BadRequest", "id"):
                await set_pipeline_schedule(catalog, workspace, pipeline.id, period)
        return
    for set_period in (*PERIODS, None):
        changed = await set_pipeline_schedule(catalog, workspace, pipeline.id, set_period)
        assert changed == msgspec.structs.replace(pipeline, schedule_period=set_period)
        assert await get_pipeline(catalog, workspace, pipeline.id) == changed
    for wrong in ("", "0m", "10m", "60m", "24H", "1d", "1h "):
        async with refused(catalog, 400, "BadRequest", "period"):
            await set_pipeline_schedule(catalog, workspace, pipeline.id, wrong)


async def test_pipelines_of_a_connection_start_together(catalog: Catalog, workspace: int, connect: Connect) -> None:
    starts = set()
    for _ in range(5):
        connection = await connect(EXAMPLES["SA"])
        request = creation("SA", connection.id, EXAMPLES["SA"].least)
        first, *others = [(await create_pipeline(catalog, workspace, request)).schedule_start for _ in range(3)]
        assert first is not None and 0 <= first < 1_440 and others == [first, first]
        starts.add(first)
    assert len(starts) > 1
    assert (await made(catalog, workspace, connect, "SU")).schedule_start is None


async def test_a_connection_collects_its_events_once_and_imports_as_often_as_asked(
    catalog: Catalog, workspace: int, website: Connection, events: Pipeline
) -> None:
    async with refused(catalog, 422, "TargetExist", "target"):
        await create_pipeline(catalog, workspace, creation("SE", website.id, FILTERED))
    for _ in range(3):
        await create_pipeline(catalog, workspace, creation("SU", website.id, {}))
    owner = catalog.connection(workspace, website.id)
    assert owner is not None and len(owner.pipelines) == 4
    assert [pipeline.id for pipeline in owner.pipelines] == sorted(pipeline.id for pipeline in owner.pipelines)
    await delete_pipeline(catalog, workspace, events.id)
    await create_pipeline(catalog, workspace, creation("SE", website.id, {}))


@pytest.mark.parametrize("kind", ["DV", "DA", "SA"])
async def test_other_connections_have_as_many_of_a_kind_as_asked(
    catalog: Catalog, workspace: int, connect: Connect, kind: str
) -> None:
    connection = await connect(EXAMPLES[kind])
    for _ in range(2):
        await create_pipeline(catalog, workspace, creation(kind, connection.id, EXAMPLES[kind].least))


async def test_two_processes_never_make_two_collectors(
    catalog: Catalog, other: Catalog, workspace: int, website: Connection
) -> None:
    await other.refresh()
    request = creation("SE", website.id, {})
    results = await asyncio.gather(
        *(create_pipeline(which, workspace, request) for _ in range(8) for which in (catalog, other)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Pipeline) for result in results) == 1
    assert {result.code for result in results if isinstance(result, HeadwaterError)} == {"TargetExist"}
    assert all(isinstance(result, Pipeline | HeadwaterError) for result in results)
    for each in (catalog, other):
        await each.refresh()
        owner = each.connection(workspace, website.id)
        assert owner is not None and len(owner.pipelines) == 1


async def test_updates_of_two_processes_leave_one_of_them_whole(
    catalog: Catalog, other: Catalog, workspace: int, website: Connection
) -> None:
    pipeline = await create_pipeline(catalog, workspace, creation("SU", website.id, {}))
    await other.refresh()
    requests = (update(FILTERED, name="filtered"), update(MAPPED, name="mapped"))
    await asyncio.gather(
        *(
            update_pipeline(which, workspace, pipeline.id, request)
            for _ in range(4)
            for which, request in zip((catalog, other), requests, strict=True)
        )
    )
    await catalog.refresh()
    await other.refresh()
    left = await get_pipeline(catalog, workspace, pipeline.id)
    assert left == await get_pipeline(other, workspace, pipeline.id)
    assert set(show_members(left)) == set(FILTERED if left.name == "filtered" else MAPPED)


EVENT_TYPES: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    ("send_generic_event", {}, None, None),
    ("send_event_with_no_schema", {}, None, None),
    ("send_custom_event", {"outSchema": schema(email=TEXT), "transformation": mapped(email="userId")}, None, None),
    ("send_generic_event ", {}, "EventTypeNotExist", "eventType"),
    ("Send_generic_event", {}, "EventTypeNotExist", "eventType"),
    ("send_add_to_cart", {}, "SchemaNotAligned", "outSchema"),
    (
        "send_add_to_cart",  # where email is required
        {"outSchema": schema(email=TEXT), "transformation": mapped(email="userId")},
        "SchemaNotAligned",
        "outSchema",
    ),
    (
        "send_custom_event",
        {"outSchema": schema(mail=TEXT), "transformation": mapped(mail="userId")},
        "SchemaNotAligned",
        "outSchema",
    ),
    (
        "send_custom_event",
        {"outSchema": schema(email=JsonType()), "transformation": mapped(email="userId")},
        "SchemaNotAligned",
        "outSchema",
    ),
    (
        "send_event_with_no_schema",
        {"outSchema": schema(email=TEXT), "transformation": mapped(email="userId")},
        "SchemaNotAligned",
        "outSchema",
    ),
]


@pytest.mark.parametrize(("event_type", "members", "code", "field"), EVENT_TYPES, ids=lambda value: str(value)[:30])
async def test_event_types(
    catalog: Catalog,
    workspace: int,
    connect: Connect,
    event_type: str,
    members: Any,
    code: str | None,
    field: str | None,
) -> None:
    connection = await connect(EXAMPLES["DV"])
    request = creation("DV", connection.id, {**members, "eventType": event_type})
    if code is None:
        pipeline = await create_pipeline(catalog, workspace, request)
        assert pipeline.event_type == event_type
        await update_pipeline(catalog, workspace, pipeline.id, update(members))
    else:
        async with refused(catalog, 422, code, field):
            await create_pipeline(catalog, workspace, request)


async def test_an_update_is_checked_against_the_event_type_that_the_pipeline_has(
    catalog: Catalog, workspace: int, connect: Connect
) -> None:
    pipeline = await made(catalog, workspace, connect, "DV")
    wrong = {"outSchema": schema(email=TEXT), "transformation": mapped(email="userId")}
    async with refused(catalog, 422, "SchemaNotAligned", "outSchema"):
        await update_pipeline(catalog, workspace, pipeline.id, update(wrong))


async def test_delete(catalog: Catalog, other: Catalog, workspace: int, website: Connection, events: Pipeline) -> None:
    await delete_pipeline(catalog, workspace, events.id)
    for each in (catalog, other):
        await each.refresh()
        owner = each.connection(workspace, website.id)
        assert owner is not None and owner.pipelines == ()
        assert each.pipeline(workspace, events.id) is None
    async with refused(catalog, 404, "NotFound", "id"):
        await delete_pipeline(catalog, workspace, events.id)


async def test_pipelines_go_with_their_connection(
    catalog: Catalog, workspace: int, website: Connection, events: Pipeline
) -> None:
    await delete_connection(catalog, workspace, website.id)
    for call in CALLS:
        async with refused(catalog, 404, "NotFound", "id"):
            await call(catalog, workspace, events.id)


async def _update(catalog: Catalog, workspace: int, id_: int) -> None:
    await update_pipeline(catalog, workspace, id_, update({"query": "x"}, name=""))


async def _status(catalog: Catalog, workspace: int, id_: int) -> None:
    await set_pipeline_status(catalog, workspace, id_, enabled=False)


async def _schedule(catalog: Catalog, workspace: int, id_: int) -> None:
    await set_pipeline_schedule(catalog, workspace, id_, "never")


CALLS: tuple[Any, ...] = (get_pipeline, _update, _status, _schedule, delete_pipeline)


async def test_references_to_what_is_not_there(
    catalog: Catalog, workspace: int, stranger: int, events: Pipeline
) -> None:
    for call in CALLS:
        for id_ in IMPOSSIBLE_IDS:
            async with refused(catalog, 400, "BadRequest", "id"):
                await call(catalog, workspace, id_)
        async with refused(catalog, 404, "NotFound", "id"):
            await call(catalog, workspace, UNKNOWN_ID)
        async with refused(catalog, 404, "NotFound", "id"):
            await call(catalog, stranger, events.id)


async def test_a_connection_deleted_meanwhile(catalog: Catalog, other: Catalog, workspace: int) -> None:
    """The other process does not know yet when it begins."""
    connection = await create_connection(
        catalog, workspace, CreateConnection(name="C", role="Source", connector="webhook")
    )
    await other.refresh()
    await delete_connection(catalog, workspace, connection.id)
    async with refused(catalog, 404, "NotFound", "connection"):
        await create_pipeline(other, workspace, creation("SE", connection.id, {}))
