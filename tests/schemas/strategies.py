"""Types, schemas and values for hypothesis: every kind, every constraint, and records that conform.

`records(schema)` draws what `Codec(schema)` accepts; `same` compares such records, as NaN is not equal to itself.
"""

import ipaddress
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from headwater.schemas import (
    DateTime,
    Json,
    Time,
    to_float32,
)
from headwater.schemas import types as t
from headwater.schemas.values import canonical_ip
from tests.jsontexts import json_values

MIN_DATETIME = DateTime.parse("0001-01-01T00:00:00Z").nanoseconds
MAX_DATETIME = DateTime.parse("9999-12-31T23:59:59.999999999Z").nanoseconds
_EXACT = Context(prec=200)
PATTERN = "^[a-z]{1,3}[0-9]?$"

_unicode = st.characters(codec="utf-8")
_ascii = st.characters(codec="ascii")
texts = st.text(_unicode, max_size=8)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
_normal_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4).map(
    lambda text: unicodedata.normalize("NFC", text)
)


@st.composite
def _strings(draw: st.DrawFn) -> t.StringType:
    match draw(st.sampled_from(["plain", "limits", "pattern", "values"])):
        case "limits":
            limits = st.none() | st.integers(1, 12)
            return t.StringType(max_length=draw(limits), max_bytes=draw(limits))
        case "pattern":
            return t.StringType(max_length=draw(st.none() | st.integers(4, 8)), pattern=PATTERN)
        case "values":
            return t.StringType(values=tuple(draw(st.lists(_normal_texts, min_size=1, max_size=4))))
        case _:
            return t.StringType()


@st.composite
def _ints(draw: st.DrawFn) -> t.IntType:
    natural = t.IntType(draw(st.sampled_from([8, 16, 24, 32, 64])), draw(st.booleans()))
    low, high = sorted(draw(st.tuples(st.integers(*natural.range), st.integers(*natural.range))))
    return replace(natural, minimum=draw(st.sampled_from([None, low])), maximum=draw(st.sampled_from([None, high])))


@st.composite
def _floats(draw: st.DrawFn) -> t.FloatType:
    bit_size = draw(st.sampled_from([32, 64]))
    finite = st.floats(width=32 if bit_size == 32 else 64, allow_nan=False, allow_infinity=False)
    low, high = sorted(draw(st.tuples(finite, finite)))
    return t.FloatType(
        bit_size, draw(st.booleans()), draw(st.sampled_from([None, low])), draw(st.sampled_from([None, high]))
    )


@st.composite
def _decimals(draw: st.DrawFn) -> t.DecimalType:
    precision = draw(st.integers(1, 76))
    natural = t.DecimalType(precision, draw(st.integers(0, min(37, precision))))
    low, high = sorted(draw(st.tuples(_decimal_values(natural), _decimal_values(natural))))
    return replace(natural, minimum=draw(st.sampled_from([None, low])), maximum=draw(st.sampled_from([None, high])))


@lru_cache
def scalar_types() -> st.SearchStrategy[t.Type]:
    """Types of every kind that holds no other."""
    plain = [
        t.BooleanType(),
        t.DateTimeType(),
        t.DateType(),
        t.TimeType(),
        t.YearType(),
        t.UuidType(),
        t.JsonType(),
        t.IpType(),
    ]
    return st.one_of(st.sampled_from(plain), _strings(), _ints(), _floats(), _decimals())


def _arrays(elements: st.SearchStrategy[t.Type]) -> st.SearchStrategy[t.Type]:
    def array(element: t.Type, minimum: int, more: int | None, unique: bool) -> t.Type:
        # Only these kinds surely have enough different values for unique elements.
        unique = unique and element.kind in ("datetime", "date", "time", "uuid")
        return t.ArrayType(element, minimum, t.MAX_ELEMENTS if more is None else minimum + more, unique)

    return st.builds(array, elements, st.integers(0, 2), st.none() | st.integers(0, 3), st.booleans())


@lru_cache
def types(max_leaves: int = 5) -> st.SearchStrategy[t.Type]:
    """Types of every kind."""
    return st.recursive(
        scalar_types(),
        lambda inner: st.one_of(_arrays(inner), st.builds(t.MapType, inner), _objects(inner)),
        max_leaves=max_leaves,
    )


def properties(property_types: st.SearchStrategy[t.Type]) -> st.SearchStrategy[t.Property]:
    """Properties with any attributes."""
    flag = st.booleans()
    return st.builds(
        t.Property, names, property_types, prefilled=_normal_texts, create_required=flag, update_required=flag,
        read_optional=flag, nullable=flag, description=_normal_texts,
    )  # fmt: skip


def _objects(inner: st.SearchStrategy[t.Type]) -> st.SearchStrategy[t.ObjectType]:
    several = st.lists(properties(inner), min_size=1, max_size=4, unique_by=lambda property: property.name)
    return several.map(lambda properties: t.ObjectType(tuple(properties)))


@lru_cache
def schemas(max_leaves: int = 5) -> st.SearchStrategy[t.ObjectType]:
    """Schemas with properties of every kind."""
    return _objects(types(max_leaves))


def _decimal_values(type: t.DecimalType) -> st.SearchStrategy[Decimal]:
    low, high = (int(bound.scaleb(type.scale, _EXACT)) for bound in type.range)
    return st.integers(low, high).map(lambda digits: Decimal(f"{digits}e-{type.scale}"))


def _string_values(type: t.StringType) -> st.SearchStrategy[str]:
    if type.values is not None:
        return st.sampled_from(type.values)
    if type.pattern is not None:
        return st.from_regex(type.pattern.strip("^$"), fullmatch=True)
    bytes_each = 1 if type.max_bytes is None else type.max_bytes
    longest = 8 if type.max_length is None else type.max_length
    if type.max_bytes is not None:
        longest = min(longest, bytes_each)
        return st.text(_ascii, max_size=longest)
    return st.text(_unicode, max_size=longest)


def _float_values(type: t.FloatType) -> st.SearchStrategy[float]:
    unbounded = type.minimum is None and type.maximum is None
    return st.floats(
        type.minimum,
        type.maximum,
        width=32 if type.bit_size == 32 else 64,
        allow_nan=unbounded and not type.real,
        allow_infinity=None if not type.real else False,
    ).map(lambda value: to_float32(value) if type.bit_size == 32 else value)


@lru_cache(maxsize=10_000)
def values(type: t.Type) -> st.SearchStrategy[Any]:
    """Values that conform to the type."""
    match type:
        case t.StringType():
            return _string_values(type)
        case t.BooleanType():
            return st.booleans()
        case t.IntType():
            return st.integers(*type.range)
        case t.FloatType():
            return _float_values(type)
        case t.DecimalType():
            return _decimal_values(type)
        case t.DateTimeType():
            return st.integers(MIN_DATETIME, MAX_DATETIME).map(DateTime)
        case t.DateType():
            return st.dates()
        case t.TimeType():
            return st.integers(0, 86_400 * 10**9 - 1).map(Time)
        case t.YearType():
            return st.integers(1, 9999)
        case t.UuidType():
            return st.uuids().map(str)
        case t.JsonType():
            return json_values.map(Json.of)
        case t.IpType():
            return (st.ip_addresses() | st.sampled_from([ipaddress.ip_address("::ffff:1.2.3.4")])).map(
                lambda address: canonical_ip(str(address))
            )
        case t.ArrayType():
            return st.lists(
                values(type.element_type),
                min_size=type.min_elements,
                max_size=min(type.max_elements, type.min_elements + 3),
                unique=type.unique_elements,
            )
        case t.MapType():
            return st.dictionaries(texts, values(type.element_type), max_size=3)
        case t.ObjectType():
            return records(type)


@st.composite
def records(draw: st.DrawFn, schema: t.ObjectType) -> dict[str, Any]:
    """Records that conform. A nullable property of kind json is never None: in JSON it looks like JSON's null."""
    record: dict[str, Any] = {}
    for property in schema.properties:
        if property.read_optional and draw(st.booleans()):
            continue
        null = property.nullable and property.type.kind != "json" and draw(st.booleans())
        record[property.name] = None if null else draw(values(property.type))
    return record


@st.composite
def schemas_and_records(draw: st.DrawFn) -> tuple[t.ObjectType, dict[str, Any]]:
    """A schema, and a record that conforms to it."""
    schema = draw(schemas())
    return schema, draw(records(schema))


@st.composite
def profile_schemas(draw: st.DrawFn) -> t.ObjectType:
    """Schemas that keep the restrictions of profiles, so a warehouse can hold their records."""
    leaf = scalar_types().map(lambda type: t.StringType() if isinstance(type, t.StringType) else type)
    some = st.one_of(leaf, st.builds(t.ArrayType, leaf), st.builds(t.MapType, leaf))
    own = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,4}", fullmatch=True), min_size=1, max_size=4, unique=True)

    def optional(name: str, type: t.Type) -> t.Property:
        return t.Property(name, type, read_optional=True)

    properties: list[t.Property] = []
    for name in draw(own):
        if draw(st.integers(0, 3)):
            properties.append(optional(name, draw(some)))
        else:
            inner = t.ObjectType(tuple(optional(below, draw(some)) for below in draw(own)))
            properties.append(optional(name, inner))
    return t.ObjectType(tuple(properties))


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, of the same class at every level, NaN included."""
    if a.__class__ is not b.__class__:
        return False
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)
