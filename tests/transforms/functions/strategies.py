"""Strategies for schemas and their records, within the ranges that both languages support."""

from typing import Any

from hypothesis import strategies as st

from headwater.schemas import ArrayType, DateTime, Json, JsonType, MapType, ObjectType, Property, Time, Type
from tests.transforms.functions.make import KINDS

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_MOMENTS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)  # microseconds, the precision of Python
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=5,
)  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": _TEXT,
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "decimal": st.decimals(-9999, 9999, places=3),
    "datetime": _MOMENTS.map(lambda microseconds: DateTime(microseconds * 1000)),
    "date": st.dates(),
    "time": st.integers(0, 86_399_999_999).map(lambda microseconds: Time(microseconds * 1000)),
    "year": st.integers(1, 9999),
    "uuid": st.uuids().map(str),
    "ip": st.ip_addresses(v=4).map(str),
    "json": _JSON.map(Json.of),
}
_NAMES = st.sampled_from(
    ["a", "class", "__proto__", "constructor", "toString", "length", "then", "toJSON_", "_", "value"]
)


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> tuple[Type, st.SearchStrategy[Any]]:
    """A type and a strategy for its values."""
    shape = draw(st.sampled_from(["scalar", "scalar", "array", "map", "object"])) if depth else "scalar"
    if shape == "scalar":
        kind = draw(st.sampled_from(list(KINDS)))
        return KINDS[kind], VALUES[kind]
    if shape == "object":
        return draw(schemas(depth - 1))
    element, values = draw(typed(depth - 1))
    if shape == "array":
        return ArrayType(element), st.lists(values, max_size=3)
    return MapType(element), st.dictionaries(_TEXT | st.just("__proto__"), values, max_size=3)


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2) -> tuple[ObjectType, st.SearchStrategy[Any]]:
    """A schema and a strategy for its records, with missing and null properties if allowed."""
    properties, members = [], {}
    for name in draw(st.lists(_NAMES, min_size=1, max_size=4, unique=True)):
        type, values = draw(typed(depth))
        nullable = draw(st.booleans())
        properties.append(Property(name, type, nullable=nullable, read_optional=True))
        if nullable and isinstance(type, JsonType):
            values = values.filter(lambda value: not value.is_null)  # it returns as null
        members[name] = st.none() | values if nullable else values
    return ObjectType(tuple(properties)), st.fixed_dictionaries({}, optional=members)
