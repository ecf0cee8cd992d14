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
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    Json,
    JsonType,
    MapType,
    ObjectType,
    Property,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    YearType,
    to_float32,
)
from headwater.schemas.types import MAX_ELEMENTS
from headwater.schemas.values import canonical_ip
from tests.jsontexts import json_values

FIRST_MOMENT = DateTime.parse("0001-01-01T00:00:00Z").nanoseconds
LAST_MOMENT = DateTime.parse("9999-12-31T23:59:59.999999999Z").nanoseconds
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
def _strings(draw: st.DrawFn) -> StringType:
    match draw(st.sampled_from(["plain", "limits", "pattern", "values"])):
        case "limits":
            limits = st.none() | st.integers(1, 12)
            return StringType(max_length=draw(limits), max_bytes=draw(limits))
        case "pattern":
            return StringType(max_length=draw(st.none() | st.integers(4, 8)), pattern=PATTERN)
        case "values":
            return StringType(values=tuple(draw(st.lists(_normal_texts, min_size=1, max_size=4))))
        case _:
            return StringType()


@st.composite
def _ints(draw: st.DrawFn) -> IntType:
    natural = IntType(draw(st.sampled_from([8, 16, 24, 32, 64])), draw(st.booleans()))
    low, high = sorted(draw(st.tuples(st.integers(*natural.range), st.integers(*natural.range))))
    return replace(natural, minimum=draw(st.sampled_from([None, low])), maximum=draw(st.sampled_from([None, high])))


@st.composite
def _floats(draw: st.DrawFn) -> FloatType:
    bit_size = draw(st.sampled_from([32, 64]))
    finite = st.floats(width=32 if bit_size == 32 else 64, allow_nan=False, allow_infinity=False)
    low, high = sorted(draw(st.tuples(finite, finite)))
    return FloatType(
        bit_size, draw(st.booleans()), draw(st.sampled_from([None, low])), draw(st.sampled_from([None, high]))
    )


@st.composite
def _decimals(draw: st.DrawFn) -> DecimalType:
    precision = draw(st.integers(1, 76))
    natural = DecimalType(precision, draw(st.integers(0, min(37, precision))))
    low, high = sorted(draw(st.tuples(_decimal_values(natural), _decimal_values(natural))))
    return replace(natural, minimum=draw(st.sampled_from([None, low])), maximum=draw(st.sampled_from([None, high])))


@lru_cache
def scalar_types() -> st.SearchStrategy[Type]:
    """Types of every kind that holds no other."""
    plain = [BooleanType(), DateTimeType(), DateType(), TimeType(), YearType(), UuidType(), JsonType(), IpType()]
    return st.one_of(st.sampled_from(plain), _strings(), _ints(), _floats(), _decimals())


def _arrays(elements: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    def array(element: Type, least: int, more: int | None, unique: bool) -> Type:
        # Uniqueness is drawn only for kinds with enough different values.
        unique = unique and element.kind in ("datetime", "date", "time", "uuid")
        return ArrayType(element, least, MAX_ELEMENTS if more is None else least + more, unique)

    return st.builds(array, elements, st.integers(0, 2), st.none() | st.integers(0, 3), st.booleans())


@lru_cache
def types(max_leaves: int = 5) -> st.SearchStrategy[Type]:
    """Types of every kind."""
    return st.recursive(
        scalar_types(),
        lambda inner: st.one_of(_arrays(inner), st.builds(MapType, inner), _objects(inner)),
        max_leaves=max_leaves,
    )


def properties(property_types: st.SearchStrategy[Type]) -> st.SearchStrategy[Property]:
    """Properties with any attributes."""
    flag = st.booleans()
    return st.builds(
        Property, names, property_types, prefilled=_normal_texts, create_required=flag, update_required=flag,
        read_optional=flag, nullable=flag, description=_normal_texts,
    )  # fmt: skip


def _objects(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[ObjectType]:
    several = st.lists(properties(inner), min_size=1, max_size=4, unique_by=lambda property: property.name)
    return several.map(lambda properties: ObjectType(tuple(properties)))


@lru_cache
def schemas(max_leaves: int = 5) -> st.SearchStrategy[ObjectType]:
    """Schemas with properties of every kind."""
    return _objects(types(max_leaves))


def _decimal_values(type: DecimalType) -> st.SearchStrategy[Decimal]:
    low, high = (int(bound.scaleb(type.scale, _EXACT)) for bound in type.range)
    return st.integers(low, high).map(lambda digits: Decimal(f"{digits}e-{type.scale}"))


def _string_values(type: StringType) -> st.SearchStrategy[str]:
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


def _float_values(type: FloatType) -> st.SearchStrategy[float]:
    unbounded = type.minimum is None and type.maximum is None
    return st.floats(
        type.minimum,
        type.maximum,
        width=32 if type.bit_size == 32 else 64,
        allow_nan=unbounded and not type.real,
        allow_infinity=None if not type.real else False,
    ).map(lambda value: to_float32(value) if type.bit_size == 32 else value)


@lru_cache(maxsize=10_000)
def values(type: Type) -> st.SearchStrategy[Any]:
    """Values that conform to the type."""
    match type:
        case StringType():
            return _string_values(type)
        case BooleanType():
            return st.booleans()
        case IntType():
            return st.integers(*type.range)
        case FloatType():
            return _float_values(type)
        case DecimalType():
            return _decimal_values(type)
        case DateTimeType():
            return st.integers(FIRST_MOMENT, LAST_MOMENT).map(DateTime)
        case DateType():
            return st.dates()
        case TimeType():
            return st.integers(0, 86_400 * 10**9 - 1).map(Time)
        case YearType():
            return st.integers(1, 9999)
        case UuidType():
            return st.uuids().map(str)
        case JsonType():
            return json_values.map(Json.of)
        case IpType():
            return (st.ip_addresses() | st.sampled_from([ipaddress.ip_address("::ffff:1.2.3.4")])).map(
                lambda address: canonical_ip(str(address))
            )
        case ArrayType():
            return st.lists(
                values(type.element_type),
                min_size=type.min_elements,
                max_size=min(type.max_elements, type.min_elements + 3),
                unique=type.unique_elements,
            )
        case MapType():
            return st.dictionaries(texts, values(type.element_type), max_size=3)
        case ObjectType():
            return records(type)


@st.composite
def records(draw: st.DrawFn, schema: ObjectType) -> dict[str, Any]:
    """Records that conform. A nullable property of kind json is never None: in JSON it looks like JSON's null."""
    record: dict[str, Any] = {}
    for property in schema.properties:
        if property.read_optional and draw(st.booleans()):
            continue
        null = property.nullable and property.type.kind != "json" and draw(st.booleans())
        record[property.name] = None if null else draw(values(property.type))
    return record


@st.composite
def schemas_and_records(draw: st.DrawFn) -> tuple[ObjectType, dict[str, Any]]:
    """A schema, and a record that conforms to it."""
    schema = draw(schemas())
    return schema, draw(records(schema))


@st.composite
def profile_schemas(draw: st.DrawFn) -> ObjectType:
    """Schemas that keep the restrictions of profiles, so a warehouse can hold their records."""
    leaf = scalar_types().map(lambda type: StringType() if isinstance(type, StringType) else type)
    some = st.one_of(leaf, st.builds(ArrayType, leaf), st.builds(MapType, leaf))
    own = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,4}", fullmatch=True), min_size=1, max_size=4, unique=True)

    def optional(name: str, type: Type) -> Property:
        return Property(name, type, read_optional=True)

    properties: list[Property] = []
    for name in draw(own):
        if draw(st.integers(0, 3)):
            properties.append(optional(name, draw(some)))
        else:
            inner = ObjectType(tuple(optional(below, draw(some)) for below in draw(own)))
            properties.append(optional(name, inner))
    return ObjectType(tuple(properties))


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
