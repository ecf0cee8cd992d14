import pytest
from hypothesis import given

from headwater.schemas import (
    ArrayType,
    InvalidType,
    IpType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    check_profile_schema,
    column_of,
)
from tests.schemas.strategies import profile_schemas

TEXT = StringType()


def optional(name: str, type: Type = TEXT) -> Property:
    return Property(name, type, read_optional=True)


def schema(*properties: Property) -> Schema:
    return ObjectType(properties)


@pytest.mark.parametrize(
    ("property", "rule"),
    [
        (optional("_kpid"), "must not begin with an underscore"),
        (Property("p", TEXT, prefilled="x", read_optional=True), "must not be prefilled"),
        (Property("p", TEXT, create_required=True, read_optional=True), "must not be required to create or update"),
        (Property("p", TEXT, update_required=True, read_optional=True), "must not be required to create or update"),
        (Property("p", TEXT), "must be readOptional"),
        (Property("p", TEXT, read_optional=True, nullable=True), "must not be nullable"),
        (optional("p", StringType(values=("a",))), "must be a string without values and pattern"),
        (optional("p", StringType(pattern="a")), "must be a string without values and pattern"),
        (optional("p", ArrayType(TEXT, 1)), "must be an array without minElements, maxElements and uniqueElements"),
        (optional("p", ArrayType(TEXT, 0, 1)), "must be an array without minElements, maxElements and uniqueElements"),
        (
            optional("p", ArrayType(TEXT, unique_elements=True)),
            "must be an array without minElements, maxElements and uniqueElements",
        ),
        (optional("p", ArrayType(ArrayType(TEXT))), "must not have elements of kind array"),
        (optional("p", ArrayType(MapType(TEXT))), "must not have elements of kind map"),
        (optional("p", MapType(schema(optional("x")))), "must not have elements of kind object"),
    ],
)
def test_restrictions_hold_at_every_depth(property: Property, rule: str) -> None:
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
def test_columns_are_not_shared(properties: tuple[Property, ...], path: str, other: str) -> None:
    with pytest.raises(InvalidType) as caught:
        check_profile_schema(schema(*properties))
    assert (caught.value.path, caught.value.rule) == (path, f"would share a column with {other}")


def test_columns() -> None:
    assert column_of("address.geo.lat") == "address_geo_lat"


def test_what_a_warehouse_holds() -> None:
    lists = optional("list", ArrayType(JsonType())), optional("map", MapType(IpType()))
    check_profile_schema(schema(optional("email", StringType(max_length=254)), optional("o", schema(*lists))))


@given(profile_schemas())
def test_the_strategy_keeps_the_restrictions(given: Schema) -> None:
    check_profile_schema(given)
