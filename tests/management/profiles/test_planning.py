"""A change of the profile schema: its rules, and what changes with it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import (
    Definition,
    FunctionDefinition,
    Identifier,
    ProfileSchema,
    Rename,
    ResolutionSettings,
    TransformationDefinition,
    UiPreferences,
    Workspace,
)
from headwater.management.profiles import SchemaRequest
from headwater.management.profiles.planning import SchemaPlan, UserPipeline, check_schema, describe, plan_update
from headwater.schemas import ArrayType, ObjectType, Property, Schema, StringType, serialise
from tests.management.profiles.schemas import profile

SCHEMA = profile(email="string", phone="string", name=profile(first="string", last="string"), tags="array", m="map")
WORKSPACE = Workspace(
    id=1,
    name="Shop",
    created_at=datetime(2026, 11, 30, tzinfo=UTC),
    ui_preferences=UiPreferences(image="photo", first_name="name.first", last_name="name.last", extra="email"),
    resolution=ResolutionSettings(identifiers=(Identifier(path="email", max_values=2), Identifier(path="name.last"))),
    profile_schema=ProfileSchema(schema=SCHEMA, primary_sources={"email": 7}, version=4),
)
SOURCES = {7: True, 8: True, 9: False}


def plan(
    schema: Schema | None, *pipelines: UserPipeline, workspace: Workspace = WORKSPACE, **members: Any
) -> SchemaPlan:
    request = SchemaRequest(schema=schema, **{"primary_sources": {"email": 7}, **members})
    return plan_update(workspace, request, pipelines, SOURCES)


def failure(schema: Schema | None, *pipelines: UserPipeline, **members: Any) -> tuple[str, str | None]:
    with pytest.raises(HeadwaterError) as caught:
        plan(schema, *pipelines, **members)
    return caught.value.code, caught.value.field


def with_properties(**types: Any) -> Schema:
    """The schema with other properties, and with those that are not None."""
    known = {property.name: property.type for property in SCHEMA.properties}
    return profile(**{name: type_ for name, type_ in {**known, **types}.items() if type_ is not None})


def pipeline(id_: int, *, reads: Schema | None = None, **types: Any) -> UserPipeline:
    """A pipeline with a mapping that writes these properties, or that reads profiles with a schema."""
    if reads is not None:
        mapping = TransformationDefinition(mapping={"x": next(iter(reads)).name})
        return UserPipeline(id_, "Destination", Definition(in_schema=serialise(reads).decode(), transformation=mapping))
    mapping = TransformationDefinition(mapping=dict.fromkeys(types, "userId"))
    schema = serialise(profile(**types)).decode()
    return UserPipeline(id_, "Source", Definition(out_schema=schema, transformation=mapping))


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (None, "schema"),
        (profile(_kpid="string"), "schema._kpid"),
        (profile(a="string", A="string"), "schema.A"),
        (profile(a=profile(b="string"), a_b="string"), "schema.a_b"),
        (profile(a=profile(b="string"), A_B="string"), "schema.A_B"),
        (profile(a=ArrayType(profile(b="string"))), "schema.a"),
        (profile(a=ArrayType(StringType(), max_elements=3)), "schema.a"),
        (profile(a=StringType(values=("x",))), "schema.a"),
        (profile(a=StringType(pattern="x")), "schema.a"),
        (ObjectType((Property("a", StringType()),)), "schema.a"),
        (ObjectType((Property("a", StringType(), read_optional=True, nullable=True),)), "schema.a"),
        (ObjectType((Property("a", StringType(), read_optional=True, prefilled="b"),)), "schema.a"),
        (ObjectType((Property("a", StringType(), read_optional=True, create_required=True),)), "schema.a"),
        (profile(o=profile(p=ObjectType((Property("a", StringType()),)))), "schema.o.p.a"),
        (profile(**{f"p{number}": "string" for number in range(2_001)}), "schema"),
        (profile(**{"p" * 2_000_000: "string"}), "schema"),
    ],
)
def test_schemas_that_are_never_valid(schema: Schema | None, field: str) -> None:
    assert failure(schema, primary_sources={}) == ("BadRequest", field)


def test_the_largest_schema() -> None:
    assert check_schema(profile(**{f"p{number}": "string" for number in range(2_000)})) is not None


@pytest.mark.parametrize(
    ("sources", "error"),
    [
        ({"email": 8}, None),
        ({"m": 8}, None),
        ({"name.first": 8}, None),
        ({"": 8}, ("BadRequest", "primarySources")),
        ({"a b": 8}, ("BadRequest", "primarySources")),
        ({"zip": 8}, ("BadRequest", "primarySources")),
        ({"email.x": 8}, ("BadRequest", "primarySources")),
        ({"m.key": 8}, ("BadRequest", "primarySources")),
        ({"name": 8}, ("BadRequest", "primarySources.name")),
        ({"tags": 8}, ("BadRequest", "primarySources.tags")),
        ({"email": 0}, ("BadRequest", "primarySources.email")),
        ({"email": -1}, ("BadRequest", "primarySources.email")),
        ({"email": 9}, ("BadRequest", "primarySources.email")),
        ({"email": 10}, ("ConnectionNotExist", "primarySources.email")),
        # Malformed members are named before missing ones.
        ({"email": 10, "zip": 8}, ("BadRequest", "primarySources")),
    ],
)
def test_primary_sources(sources: dict[str, int], error: tuple[str, str] | None) -> None:
    if error is None:
        assert plan(SCHEMA, primary_sources=sources).profiles.primary_sources == sources
    else:
        assert failure(SCHEMA, primary_sources=sources) == error


@pytest.mark.parametrize(
    ("schema", "members", "version", "renames"),
    [
        (SCHEMA, {}, 4, ()),
        (with_properties(age="int"), {}, 5, ()),
        (with_properties(phone=None), {}, 5, (Rename(old="phone", new=None),)),
        (SCHEMA, {"re_paths": {"phone": None}}, 5, (Rename(old="phone", new=None),)),
        (SCHEMA, {"primary_sources": {}}, 5, ()),
        (SCHEMA, {"primary_sources": {"email": 8}}, 5, ()),
        (SCHEMA, {"primary_sources": None}, 4, ()),
    ],
)
def test_the_version_grows_if_profiles_depend_on_the_change(
    schema: Schema, members: dict[str, Any], version: int, renames: tuple[Rename, ...]
) -> None:
    found = plan(schema, **members)
    assert (found.profiles.version, found.profiles.renames, found.profiles.schema) == (version, renames, schema)


def test_a_description_is_no_new_version() -> None:
    described = ObjectType(
        tuple(
            Property(each.name, each.type, read_optional=True, description="New")
            for each in reversed(SCHEMA.properties)
        )
    )
    found = plan(described)
    assert found.profiles.version == 4
    assert found.profiles.schema.properties[0].description == "New"
    assert describe(found) == []


def test_the_first_schema() -> None:
    workspace = Workspace(id=1, name="Shop", created_at=WORKSPACE.created_at)
    found = plan(profile(a="string", o=profile(x="int")), workspace=workspace, primary_sources={})
    assert found.profiles == ProfileSchema(schema=profile(a="string", o=profile(x="int")))
    assert describe(found) == ["ADD a string", "ADD o object", "RESOLVE IDENTITIES"]


def test_names_that_are_used_elsewhere_change_along() -> None:
    schema = profile(
        mail="string", phone="string", person=profile(first="string", last="string"), tags="array", m="map"
    )
    found = plan(schema, re_paths={"mail": "email", "person": "name"}, primary_sources=None).workspace
    assert found.resolution.identifiers == (Identifier(path="mail", max_values=2), Identifier(path="person.last"))
    assert found.ui_preferences == UiPreferences(
        image="photo", first_name="person.first", last_name="person.last", extra="mail"
    )
    assert found.profile_schema is not None and found.profile_schema.primary_sources == {"mail": 7}


def test_preferences_forget_a_removed_property_and_primary_sources_do_too() -> None:
    workspace = Workspace(
        id=1,
        name="Shop",
        created_at=WORKSPACE.created_at,
        ui_preferences=UiPreferences(image="a.b", extra="c"),
        profile_schema=ProfileSchema(
            schema=profile(a=profile(b="string"), c="int"), primary_sources={"a.b": 7, "c": 8}
        ),
    )
    found = plan(profile(c="int"), workspace=workspace, primary_sources=None).workspace
    assert found.ui_preferences == UiPreferences(extra="c")
    assert found.profile_schema is not None and found.profile_schema.primary_sources == {"c": 8}


@pytest.mark.parametrize(
    ("schema", "re_paths", "field"),
    [
        (with_properties(email=None), {}, "schema.email"),
        (with_properties(name=None), {}, "schema.name.last"),
        (with_properties(name=profile(first="string")), {}, "schema.name.last"),
        (SCHEMA, {"email": None}, "schema.email"),
        (SCHEMA, {"name": None}, "schema.name.last"),
    ],
)
def test_an_identifier_stays(schema: Schema, re_paths: dict[str, object], field: str) -> None:
    assert failure(schema, re_paths=re_paths, primary_sources=None) == ("InvalidAlterSchema", field)


def test_pipelines_change_along_or_are_suspended() -> None:
    schema = profile(mail="string", name=profile(first="string", last="string"), tags="array", m="map", age="int")
    renamed = pipeline(3, email="string")
    function = FunctionDefinition(language="Python", source="…", out_paths=("email",))
    with_function = Definition(
        out_schema=serialise(profile(email="string")).decode(),
        transformation=TransformationDefinition(function=function),
    )
    found = plan(
        schema,
        renamed,
        pipeline(4, tags="array"),
        pipeline(5, phone="string", email="string"),
        UserPipeline(6, "Source", with_function),
        pipeline(7, reads=profile(email="string")),
        # It did not fit before, so this change does not suspend it.
        pipeline(8, email="int"),
        UserPipeline(9, "Source", Definition()),
        re_paths={"mail": "email"},
        primary_sources=None,
    )
    assert sorted(found.definitions) == [3, 7, 8]
    assert found.definitions[3].transformation == TransformationDefinition(mapping={"mail": "userId"})
    assert found.definitions[7].transformation == TransformationDefinition(mapping={"x": "mail"})
    assert found.suspended == (5, 6)
    assert found.removed == ["phone"]
    assert describe(found) == [
        "RENAME email TO mail",
        "DROP phone",
        "ADD age int(32)",
        "RENAME IDENTIFIER email TO mail",
        "UPDATE PIPELINE 3",
        "UPDATE PIPELINE 7",
        "UPDATE PIPELINE 8",
        "SUSPEND PIPELINE 5",
        "SUSPEND PIPELINE 6",
        "RESOLVE IDENTITIES",
    ]


def test_new_names_may_not_make_a_pipeline_too_large() -> None:
    definition = Definition(
        in_schema=serialise(profile(phone="string")).decode(),
        transformation=TransformationDefinition(mapping={f"p{number}": "phone" for number in range(1_000)}),
    )
    long = "p" * 2_000
    schema = with_properties(phone=None, **{long: "string"})
    assert failure(schema, UserPipeline(3, "Destination", definition), re_paths={long: "phone"}) == (
        "InvalidAlterSchema",
        "rePaths",
    )
