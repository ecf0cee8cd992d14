import pytest
from hypothesis import given

from headwater.schemas import InvalidType, check_profile_schema, name_column
from headwater.schemas import types as t
from tests.schemas.strategies import profile_schemas

TEXT = t.StringType()


def optional(name: str, type: t.Type = TEXT) -> t.Property:
    return t.Property(name, type, read_optional=True)


def schema(*properties: t.Property) -> t.Schema:
    return t.ObjectType(properties)


@pytest.mark.parametrize(
    ("property", "rule"),
    [
        (optional("_kpid"), "must not begin with an underscore"),
        (t.Property("p", TEXT, prefilled="x", read_optional=True), "must not be prefilled"),
        (t.Property("p", TEXT, create_required=True, read_optional=True), "must not be required to create or update"),
        (t.Property("p", TEXT, update_required=True, read_optional=True), "must not be required to create or update"),
        (t.Property("p", TEXT), "must be readOptional"),
        (t.Property("p", TEXT, read_optional=True, nullable=True), "must not be nullable"),
        (optional("p", t.StringType(values=("a",))), "must be a string without values and pattern"),
        (optional("p", t.StringType(pattern="a")), "must be a string without values and pattern"),
        (optional("p", t.ArrayType(TEXT, 1)), "must be an array without minElements, maxElements and uniqueElements"),
        (
            optional("p", t.ArrayType(TEXT, 0, 1)),
            "must be an array without minElements, maxElements and uniqueElements",
        ),
        (
            optional("p", t.ArrayType(TEXT, unique_elements=True)),
            "must be an array without minElements, maxElements and uniqueElements",
        ),
        (optional("p", t.ArrayType(t.ArrayType(TEXT))), "must not have elements of kind array"),
        (optional("p", t.ArrayType(t.MapType(TEXT))), "must not have elements of kind map"),
        (optional("p", t.MapType(schema(optional("x")))), "must not have elements of kind object"),
    ],
)
def test_restrictions_hold_at_every_depth(property: t.Property, rule: str) -> None:
    for profile, path in [
        (schema(property), property.name),
        (schema(optional("o", schema(property))), f"o.{property.name}"),
    ]:
        with pytest.raises(InvalidType) as caught:
            check_profile_schema(profile)
        assert (caught.value.path, caught.value.rule) == (path, rule)


@pytest.mark.parametrize(
    ("properties", "path", "other"),
    [
        ((optional("a", schema(optional("b"))), optional("a_b")), "a_b", "a.b"),
        ((optional("a_b"), optional("a", schema(optional("b")))), "a.b", "a_b"),
        ((optional("email"), optional("Email")), "Email", "email"),
    ],
)
def test_columns_are_not_shared(properties: tuple[t.Property, ...], path: str, other: str) -> None:
    with pytest.raises(InvalidType) as caught:
        check_profile_schema(schema(*properties))
    assert (caught.value.path, caught.value.rule) == (path, f"would share a column with {other}")


def test_columns() -> None:
    assert name_column("address.geo.lat") == "address_geo_lat"


def test_schemas_that_a_warehouse_can_store() -> None:
    lists = optional("list", t.ArrayType(t.JsonType())), optional("map", t.MapType(t.IpType()))
    check_profile_schema(schema(optional("email", t.StringType(max_length=254)), optional("o", schema(*lists))))


@given(profile_schemas())
def test_the_strategy_keeps_the_restrictions(given: t.Schema) -> None:
    check_profile_schema(given)
