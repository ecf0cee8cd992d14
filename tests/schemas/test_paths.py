import pytest
from hypothesis import given

from headwater.schemas import (
    ArrayType,
    InvalidPath,
    JsonType,
    MapType,
    ObjectType,
    Property,
    PropertyNotFound,
    Schema,
    StringType,
    contains_path,
    is_path,
    parse_path,
    property_at,
    resolve,
    unwrap_elements,
    walk,
    walk_objects,
)
from tests.schemas.strategies import schemas

SKU = ObjectType((Property("sku", StringType()),))
GEO = ObjectType((Property("lat", StringType()),))
SCHEMA = ObjectType(
    (
        Property("email", StringType()),
        Property("address", ObjectType((Property("zip", StringType()), Property("geo", GEO)))),
        Property("orders", ArrayType(MapType(SKU))),
        Property("doc", JsonType()),
    )
)


@pytest.mark.parametrize("text", ["a", "_", "a.b", "address.geo.lat", "A1._b"])
def test_paths(text: str) -> None:
    assert is_path(text)
    assert ".".join(parse_path(text)) == text


@pytest.mark.parametrize("text", ["", ".", ".a", "a.", "a..b", "a b", "a-b", "1a", "é", "a.b\n", "a[0]", "a\0"])
def test_invalid_paths(text: str) -> None:
    assert not is_path(text)
    with pytest.raises(InvalidPath, match="the path must be property names joined with points"):
        parse_path(text)


def test_a_property_is_found_through_objects() -> None:
    assert property_at(SCHEMA, "address.geo.lat") is GEO.properties[0]
    assert property_at(SCHEMA, ("email",)).name == "email"


@pytest.mark.parametrize(
    ("path", "missing", "last", "message"),
    [
        ("x", "x", None, "x does not exist"),
        ("x.y.z", "x", None, "x does not exist"),
        ("address.y.z", "address.y", "address", "address.y does not exist"),
        ("address.geo.z", "address.geo.z", "geo", "address.geo.z does not exist"),
        ("email.a.b", "email.a", "email", "email.a does not exist: its parent is of kind string, not object"),
        ("orders.sku", "orders.sku", "orders", "orders.sku does not exist: its parent is of kind array, not object"),
        ("doc.a", "doc.a", "doc", "doc.a does not exist: its parent is of kind json, not object"),
    ],
)
def test_the_error_ends_at_the_first_missing_component(path: str, missing: str, last: str | None, message: str) -> None:
    with pytest.raises(PropertyNotFound) as caught:
        property_at(SCHEMA, path)
    assert caught.value.path == missing
    assert str(caught.value) == message
    found, rest = resolve(SCHEMA, path)
    assert (found and found.name, rest) == (last, missing)


@pytest.mark.parametrize(
    ("path", "contained"),
    [
        ("email", True),
        ("orders.sku", True),
        ("address.geo.lat", True),
        ("orders.x", False),
        ("email.x", False),
        ("x", False),
    ],
)
def test_contains_sees_through_arrays_and_maps(path: str, contained: bool) -> None:
    assert contains_path(SCHEMA, path) is contained


def test_walks() -> None:
    through_objects = ["email", "address", "address.zip", "address.geo", "address.geo.lat", "orders", "doc"]
    assert [path for path, _ in walk_objects(SCHEMA)] == through_objects
    assert [path for path, _ in walk(SCHEMA)] == [*through_objects[:6], "orders.sku", "doc"]


def test_elements() -> None:
    assert unwrap_elements(ArrayType(MapType(SKU))) is SKU
    assert unwrap_elements(SKU) is SKU


@given(schemas())
def test_every_walked_path_is_found(schema: Schema) -> None:
    for path, property in walk_objects(schema):
        assert property_at(schema, path) is property
    for path, _ in walk(schema):
        assert contains_path(schema, path)
