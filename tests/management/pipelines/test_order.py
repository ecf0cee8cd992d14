"""The order of the rules: of several broken rules the first one is reported."""

from typing import Any

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog, Connection, Matching
from headwater.management.pipelines import CreatePipeline, create_pipeline, update_pipeline
from headwater.schemas import ObjectType, Property
from tests.management.pipelines.drafts import fails
from tests.management.pipelines.examples import EXAMPLES, TEXT, creation, mapped, profile, schema, update, where
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

UNUSED = schema(id=TEXT, email=TEXT, unused=TEXT)
OUT = ObjectType((Property("email", TEXT, create_required=True),))

ORDERS: dict[str, list[tuple[str, dict[str, Any], str, str]]] = {
    "SE": [
        ("eventType", {"eventType": "track"}, "BadRequest", "eventType"),
        ("in schema", {"inSchema": schema(x=TEXT)}, "BadRequest", "inSchema"),
        ("out schema", {"outSchema": schema(x=TEXT)}, "BadRequest", "outSchema"),
        ("format", {"format": "word"}, "BadRequest", "format"),
        ("name", {}, "BadRequest", "name"),
        ("filter", {"filter": where("nothing", "is", "x")}, "BadRequest", "filter.conditions[0].property"),
        ("transformation", {"transformation": mapped(x="1")}, "BadRequest", "transformation"),
        ("path", {"path": "x"}, "BadRequest", "path"),
        ("exportMode", {"exportMode": "x"}, "BadRequest", "exportMode"),
        ("matching", {"matching": Matching("a", "b")}, "BadRequest", "matching"),
        ("compression", {"compression": "x"}, "BadRequest", "compression"),
        ("userIDColumn", {"userIDColumn": "x"}, "BadRequest", "userIDColumn"),
        ("updatedAtColumn", {"updatedAtColumn": "x"}, "BadRequest", "updatedAtColumn"),
        ("orderBy", {"orderBy": "x"}, "BadRequest", "orderBy"),
        ("incremental", {"incremental": True}, "BadRequest", "incremental"),
        ("query", {"query": "x"}, "BadRequest", "query"),
        ("updateOnDuplicates", {"updateOnDuplicates": True}, "BadRequest", "updateOnDuplicates"),
    ],
    "SF": [
        ("format", {"format": "word"}, "FormatNotExist", "format"),
        ("name", {}, "BadRequest", "name"),
        ("filter", {"filter": where("nothing", "is", "x")}, "BadRequest", "filter.conditions[0].property"),
        ("transformation", {"transformation": mapped(email="x")}, "BadRequest", "transformation.mapping.email"),
        ("path", {"path": "${now}"}, "BadRequest", "path"),
        ("sheet", {"sheet": "x"}, "BadRequest", "sheet"),
        ("compression", {"compression": "x"}, "BadRequest", "compression"),
        ("userIDColumn", {"userIDColumn": "x"}, "BadRequest", "userIDColumn"),
        ("updatedAtColumn", {"updatedAtColumn": "x"}, "BadRequest", "updatedAtColumn"),
        ("attributes", {"outSchema": OUT}, "BadRequest", "outSchema.email"),
        ("query", {"query": "x"}, "BadRequest", "query"),
        ("unused", {"inSchema": UNUSED}, "BadRequest", "inSchema.unused"),
        ("settings", {"formatSettings": {"separator": ""}}, "InvalidSettings", "formatSettings.separator"),
    ],
    "DA": [
        ("name", {}, "BadRequest", "name"),
        ("transformation", {"transformation": mapped(name="x")}, "BadRequest", "transformation.mapping.name"),
        ("exportMode", {"exportMode": "x"}, "BadRequest", "exportMode"),
        ("matching", {"matching": Matching("x", "email")}, "BadRequest", "matching.in"),
        ("unused", {"inSchema": profile(email=TEXT, name=TEXT, unused=TEXT)}, "BadRequest", "inSchema.unused"),
    ],
}


@pytest.mark.parametrize("kind", ORDERS)
def test_the_first_rule_that_is_broken_answers(kind: str) -> None:
    """All rules are broken at first. They are repaired one after another, in the documented order."""
    left = list(ORDERS[kind])
    while left:
        rule, _, code, field = left[0]
        members = {member: value for _, broken, _, _ in left for member, value in broken.items()}
        name = "" if any(other == "name" for other, *_ in left) else "P"
        assert fails(kind, members, name=name)[1:] == (code, field), rule
        del left[0]


@pytest.mark.parametrize("target", ["", "Group", "event", "Events", "user"])
async def test_the_target_comes_first(catalog: Catalog, workspace: int, target: str) -> None:
    async with refused(catalog, 400, "BadRequest", "target"):
        await create_pipeline(catalog, workspace, CreatePipeline(connection=0, target=target, name=""))


async def test_the_connection_comes_before_everything_about_its_kind(
    catalog: Catalog, workspace: int, stranger: int, website: Connection
) -> None:
    """The status is 404, although the id is in the body."""
    for id_ in IMPOSSIBLE_IDS:
        async with refused(catalog, 400, "BadRequest", "connection"):
            await create_pipeline(catalog, workspace, CreatePipeline(connection=id_, target="User", name=""))
    for which, id_ in ((workspace, UNKNOWN_ID), (stranger, website.id)):
        async with refused(catalog, 404, "NotFound", "connection"):
            request = creation("SU", id_, {"eventType": "x", "inSchema": UNUSED}, name="")
            await create_pipeline(catalog, which, request)


@pytest.mark.parametrize("kind", ["SA", "SD", "SF", "DD", "DF"])
async def test_a_target_that_the_connection_does_not_have(
    catalog: Catalog, workspace: int, connect: Any, kind: str
) -> None:
    connection = await connect(EXAMPLES[kind])
    async with refused(catalog, 400, "BadRequest", "target"):
        await create_pipeline(catalog, workspace, creation(kind, connection.id, {}, name="", target="Event"))


async def test_a_target_that_the_connector_does_not_have(catalog: Catalog, workspace: int, connect: Any) -> None:
    """The kind exists, but this application accepts no events."""
    connection = await connect(EXAMPLES["DA"])
    async with refused(catalog, 400, "BadRequest", "target"):
        await create_pipeline(catalog, workspace, creation("DV", connection.id, {"eventType": "x"}))


async def test_the_pipeline_comes_before_its_members(catalog: Catalog, workspace: int, stranger: int) -> None:
    wrong = update({"inSchema": UNUSED, "format": "word"}, name="")
    for which, id_, status, code in (
        (workspace, 0, 400, "BadRequest"),
        (workspace, UNKNOWN_ID, 404, "NotFound"),
        (stranger, UNKNOWN_ID, 404, "NotFound"),
    ):
        async with refused(catalog, status, code, "id"):
            await update_pipeline(catalog, which, id_, wrong)


async def test_the_state_comes_last(catalog: Catalog, workspace: int, connect: Any) -> None:
    """The order: rules of the body, of the application, and of existing pipelines."""
    principal = await connect(EXAMPLES["DV"])
    given = {"eventType": "nothing", "outSchema": schema(x=TEXT), "transformation": mapped(x="userId")}
    expected = [
        ({**given, "query": "x"}, "query"),
        (given, "eventType"),
        ({**given, "eventType": "send_generic_event"}, "outSchema"),
    ]
    for members, field in expected:
        with pytest.raises(HeadwaterError) as caught:
            await create_pipeline(catalog, workspace, creation("DV", principal.id, members, enabled=True))
        assert caught.value.field == field
    collector = await connect(EXAMPLES["SE"])
    await create_pipeline(catalog, workspace, creation("SE", collector.id, {}))
    async with refused(catalog, 400, "BadRequest", "name"):
        await create_pipeline(catalog, workspace, creation("SE", collector.id, {}, name=""))
    async with refused(catalog, 422, "TargetExist", "target"):
        await create_pipeline(catalog, workspace, creation("SE", collector.id, {}))
