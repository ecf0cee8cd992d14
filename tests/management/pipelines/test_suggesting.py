"""Suggested pipelines can be created as they are, and map properties with the same meaning."""

from typing import Any

import msgspec
import pytest

from headwater.catalog import Catalog, Connection, Definition, Matching
from headwater.catalog.profiles import Identifier, ResolutionSettings
from headwater.filters import print_text
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.pipelines import CreatePipeline, create_pipeline, suggest_pipeline
from headwater.management.pipelines.pairing import map_others, pair_properties
from headwater.management.workspaces import find_workspace
from headwater.schemas import ArrayType, BooleanType, IntType, JsonType, MapType, ObjectType, Property, UuidType, walk
from tests.management.pipelines.conftest import Connect
from tests.management.pipelines.examples import EXAMPLES, TEXT, profile, schema
from tests.management.pipelines.test_alignment import set_schema
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

WHOLE_ADDRESS = ObjectType(tuple(Property(name, TEXT, create_required=True) for name in ("city", "zip")))
PEOPLE = profile(email=TEXT, first_name=TEXT, age=IntType(32), address=profile(city=TEXT), unusual=TEXT)


async def connect_to(catalog: Catalog, workspace: int, connector: str, role: str = "Destination", **values: Any) -> int:
    request = CreateConnection(name=connector, role=role, connector=connector, **values)
    return (await create_connection(catalog, workspace, request)).id


async def suggest_created(catalog: Catalog, workspace: int, *arguments: Any) -> CreatePipeline:
    """Return a suggestion that was created without a change."""
    suggested = await suggest_pipeline(catalog, workspace, *arguments)
    assert (await create_pipeline(catalog, workspace, suggested)).enabled
    return suggested


def mapping(suggested: CreatePipeline) -> dict[str, str]:
    transformation = suggested.definition.transformation
    assert transformation is not None and transformation.mapping is not None
    return transformation.mapping


async def identify_by(catalog: Catalog, workspace: int, *paths: str) -> None:
    old = find_workspace(catalog, workspace)
    resolution = ResolutionSettings(identifiers=tuple(Identifier(path=path) for path in paths))
    async with catalog.change() as change:
        change.update_workspace(msgspec.structs.replace(old, resolution=resolution))


async def test_an_event_type_suggests_its_mapping(catalog: Catalog, workspace: int) -> None:
    klaviyo = await connect_to(catalog, workspace, "klaviyo", settings={"privateAPIKey": "pk_" + "0123456789" * 4})
    suggested = await suggest_created(catalog, workspace, klaviyo, "Event", "create_user_event")
    assert (suggested.name, suggested.event_type) == ("Create event of a user", "create_user_event")
    assert suggested.out_schema is not None
    assert [each.name for each in suggested.out_schema.properties] == list(mapping(suggested))
    assert mapping(suggested)["external_id"] == "userId"


async def test_an_event_type_suggests_its_filter(catalog: Catalog, workspace: int) -> None:
    settings = {"apiKey": "0123456789abcdef" * 2, "serverZone": "US"}
    amplitude = await connect_to(catalog, workspace, "amplitude", settings=settings)
    suggested = await suggest_created(catalog, workspace, amplitude, "Event", "identify")
    assert suggested.filter is not None and print_text(suggested.filter) == 'type is "identify"'


async def test_an_event_type_without_suggestions_has_no_transformation(catalog: Catalog, workspace: int) -> None:
    dummy = await connect_to(catalog, workspace, "dummy")
    suggested = await suggest_created(catalog, workspace, dummy, "Event", "send_event_with_no_schema")
    assert (suggested.filter, suggested.out_schema, suggested.definition) == (None, None, Definition())


async def test_a_source_suggests_to_collect_events(catalog: Catalog, workspace: int, website: Connection) -> None:
    suggested = await suggest_created(catalog, workspace, website.id, "Event")
    assert suggested == CreatePipeline(connection=website.id, target="Event", name="Events", enabled=True)


async def test_users_of_events_have_the_traits_of_any_spelling(
    catalog: Catalog, workspace: int, website: Connection
) -> None:
    suggested = await suggest_created(catalog, workspace, website.id, "User")
    assert (suggested.filter, suggested.definition) == (None, Definition()), "without a profile schema"
    await set_schema(catalog, workspace, profile(email=TEXT, first_name=TEXT, lastName=TEXT, address=profile(zip=TEXT)))
    suggested = await suggest_created(catalog, workspace, website.id, "User")
    assert suggested.filter is not None and print_text(suggested.filter) == 'type is "identify"'
    assert mapping(suggested) == {
        "email": "traits.email",
        "first_name": "coalesce(traits.first_name, traits.firstName)",
        "lastName": "coalesce(traits.lastName, traits.last_name)",
        "address.zip": "traits.address.zip",
    }


async def test_imports_map_properties_with_the_same_meaning(catalog: Catalog, workspace: int) -> None:
    await set_schema(catalog, workspace, PEOPLE)
    dummy = await connect_to(catalog, workspace, "dummy", "Source")
    suggested = await suggest_created(catalog, workspace, dummy, "User")
    assert mapping(suggested) == {"email": "email", "first_name": "firstName", "address.city": "address.city"}
    assert suggested.in_schema is not None
    assert [path for path, _ in walk(suggested.in_schema)] == ["email", "firstName", "address", "address.city"]


@pytest.mark.parametrize(
    ("identifiers", "matching", "mapped"),
    [
        ((), ("email", "email"), {"firstName": "first_name", "address.city": "address.city"}),
        (("unusual", "first_name"), ("first_name", "firstName"), {"email": "email", "address.city": "address.city"}),
    ],
)
async def test_exports_match_by_an_identifier(
    catalog: Catalog, workspace: int, identifiers: tuple[str, ...], matching: tuple[str, str], mapped: dict[str, str]
) -> None:
    await set_schema(catalog, workspace, PEOPLE)
    await identify_by(catalog, workspace, *identifiers)
    dummy = await connect_to(catalog, workspace, "dummy")
    suggested = await suggest_created(catalog, workspace, dummy, "User")
    assert suggested.definition.matching == Matching(*matching)
    assert suggested.definition.export_mode == "CreateOrUpdate"
    assert mapping(suggested) == mapped


@pytest.mark.parametrize(
    ("inputs", "outputs", "pairs"),
    [
        (schema(first_name=TEXT), schema(FirstName=TEXT), {"FirstName": "first_name"}),
        (schema(last_name=TEXT), schema(merge=schema(LNAME=TEXT)), {"merge.LNAME": "last_name"}),
        (schema(zip=TEXT), schema(address=schema(postal_code=TEXT)), {"address.postal_code": "zip"}),
        (schema(city=TEXT), schema(billing=schema(city=TEXT), shipping=schema(city=TEXT)), {}),
        (schema(city=TEXT, home=schema(city=TEXT)), schema(city=TEXT), {"city": "city"}),
        (schema(email_address=TEXT, email=TEXT), schema(email=TEXT), {"email": "email_address"}),
        (schema(tags=ArrayType(TEXT)), schema(tags=BooleanType()), {}),
        (schema(age=TEXT, id=UuidType()), schema(age=IntType(32), id=IntType(32)), {"age": "age"}),
        (schema(data=JsonType()), schema(other=TEXT), {}),
        (schema(city=TEXT, zip=TEXT), schema(home=WHOLE_ADDRESS), {"home.city": "city", "home.zip": "zip"}),
        (schema(city=TEXT, email=TEXT), schema(home=WHOLE_ADDRESS, email=TEXT), {"email": "email"}),
    ],
)
def test_pairs_of_properties(inputs: ObjectType, outputs: ObjectType, pairs: dict[str, str]) -> None:
    assert pair_properties(inputs, outputs) == pairs


@pytest.mark.parametrize(
    ("outputs", "mapped"),
    [
        (schema(email=TEXT, properties=MapType(JsonType())), {"properties": 'map("plan", plan, "zip", home.zip)'}),
        (schema(email=TEXT, zip=TEXT, properties=MapType(JsonType())), {"properties": 'map("plan", plan)'}),
        (schema(email=TEXT, metadata=MapType(TEXT)), {}),
        (schema(email=TEXT, a=MapType(JsonType()), b=MapType(JsonType())), {}),
        (schema(email=TEXT, plan=TEXT, zip=TEXT, properties=MapType(JsonType())), {}),
    ],
)
def test_other_properties_go_to_a_map(outputs: ObjectType, mapped: dict[str, str]) -> None:
    inputs = profile(email=TEXT, plan=TEXT, home=profile(city=TEXT, zip=TEXT), work=profile(city=TEXT))
    assert map_others(pair_properties(inputs, outputs), inputs, outputs) == mapped


async def test_refused_suggestions(catalog: Catalog, workspace: int, website: Connection, connect: Connect) -> None:
    dummy = await connect_to(catalog, workspace, "dummy")
    database = (await connect(EXAMPLES["DD"])).id
    cases: tuple[tuple[tuple[Any, ...], int, str, str | None], ...] = (
        ((dummy, "", "x"), 400, "BadRequest", "target"),
        ((dummy, "Users", "x"), 400, "BadRequest", "target"),
        ((dummy, "Event", ""), 400, "BadRequest", "eventType"),
        ((dummy, "User", "x"), 400, "BadRequest", "eventType"),
        ((website.id, "Event", "x"), 400, "BadRequest", "eventType"),
        ((database, "Event"), 400, "BadRequest", "target"),
        ((database, "User"), 400, "BadRequest", "connection"),
        ((dummy, "Event", "x"), 422, "EventTypeNotExist", "eventType"),
        ((dummy, "User"), 422, "SchemaNotAligned", None),
        ((UNKNOWN_ID, "User"), 404, "NotFound", "connection"),
        *(((id_, "User"), 400, "BadRequest", "connection") for id_ in IMPOSSIBLE_IDS),
    )
    for arguments, status, code, field in cases:
        async with refused(catalog, status, code, field):
            await suggest_pipeline(catalog, workspace, *arguments)


@pytest.mark.parametrize(
    ("role", "people"),
    [
        ("Source", profile(unusual=TEXT)),
        ("Destination", profile(unusual=TEXT)),
        ("Destination", profile(email=TEXT)),
        ("Destination", profile(first_name=TEXT)),
    ],
)
async def test_profiles_that_the_application_cannot_have_are_refused(
    catalog: Catalog, workspace: int, role: str, people: ObjectType
) -> None:
    await set_schema(catalog, workspace, people)
    dummy = await connect_to(catalog, workspace, "dummy", role)
    async with refused(catalog, 422, "SchemaNotAligned"):
        await suggest_pipeline(catalog, workspace, dummy, "User")


async def test_connections_of_another_workspace_do_not_exist(
    catalog: Catalog, workspace: int, stranger: int, website: Connection
) -> None:
    async with refused(catalog, 404, "NotFound", "connection"):
        await suggest_pipeline(catalog, stranger, website.id, "User")
