"""The column types of ClickHouse as schema types, and their values.

The driver reads dates and times as whole numbers, so that no digit of their fractions is lost.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final

from headwater.connectors.contract import Column
from headwater.connectors.databases.writing import json_text
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    InvalidType,
    InvalidValue,
    IpType,
    Json,
    JsonType,
    MapType,
    StringType,
    Time,
    Type,
    UuidType,
    Value,
    canonical_ip,
)
from headwater.schemas.types import MAX_PRECISION, MAX_SCALE

READ_FORMATS: Final[Mapping[str, str]] = {
    "Date*": "int",
    "FixedString": "string",
    "IPv*": "string",
    "JSON": "string",
    "UUID": "string",
}
"""The forms in which the driver returns values."""

_CALL: Final = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_LABEL: Final = re.compile(r"'((?:[^'\\]|\\.)*)'\s*=\s*-?\d+", re.DOTALL)
_EPOCH: Final = date(1970, 1, 1)
_DATETIME_NANOSECONDS: Final = 1_000_000_000
_MAX_DATETIME_SECONDS: Final = 2**32 - 1
_SIMPLE: Final[Mapping[str, Type]] = {
    "Bool": BooleanType(),
    **{f"Int{size}": IntType(size) for size in (8, 16, 32, 64)},
    **{f"UInt{size}": IntType(size, unsigned=True) for size in (8, 16, 32, 64)},
    "Int128": DecimalType(39),
    "UInt128": DecimalType(39),
    "Float32": FloatType(32),
    "Float64": FloatType(64),
    "String": StringType(),
    "Date": DateType(),
    "Date32": DateType(),
    "DateTime": DateTimeType(),
    "UUID": UuidType(),
    "IPv4": IpType(),
    "IPv6": IpType(),
    "JSON": JsonType(),
    "Nothing": StringType(),
}


def make_column(name: str, type_name: str, *, writable: bool = True) -> Column:
    """Return the column of a type, as ClickHouse writes it."""
    type_, nullable = column_type(type_name)
    if isinstance(type_, str):
        return Column(name=name, type=None, nullable=nullable, writable=False, issue=type_)
    return Column(name=name, type=type_, nullable=nullable, writable=writable)


def column_type(name: str) -> tuple[Type | str, bool]:
    """Return the schema type, or the reason why there is none, and whether it has null."""
    inner, nullable = _unwrapped(name)
    return _type(inner), nullable


def _unwrapped(name: str) -> tuple[str, bool]:
    nullable = False
    while (match := _CALL.fullmatch(name)) is not None and match[1] in ("Nullable", "LowCardinality"):
        nullable = nullable or match[1] == "Nullable"
        name = match[2]
    return name, nullable


def _type(name: str) -> Type | str:
    if name in _SIMPLE:
        return _SIMPLE[name]
    match = _CALL.fullmatch(name)
    function, arguments = match.groups() if match is not None else (name, "")
    if function == "DateTime" or function == "DateTime64":
        return DateTimeType()
    if function == "Decimal":
        precision, scale = (int(part) for part in arguments.split(","))
        return _decimal(precision, scale)
    if function == "FixedString":
        return StringType(max_bytes=int(arguments))
    if function in ("Enum8", "Enum16"):
        return _enumeration(arguments)
    if function == "JSON":
        return JsonType()
    if function == "Array":
        element, _ = column_type(arguments)
        return element if isinstance(element, str) else ArrayType(element)
    if function == "Map":
        key, value = _split(arguments)
        element, _ = column_type(value)
        if _unwrapped(key)[0] == "String":
            return element if isinstance(element, str) else MapType(element)
    return f"the type {function} is not supported: use toString(column)"


def _split(arguments: str) -> tuple[str, str]:
    """Return the two arguments of a map. The first one has no comma, because keys are simple."""
    first, _, second = arguments.partition(",")
    return first.strip(), second.strip()


def _decimal(precision: int, scale: int) -> Type | str:
    if precision > MAX_PRECISION or scale > MAX_SCALE:
        return f"Decimal({precision}, {scale}) has more digits than decimal({MAX_PRECISION},{MAX_SCALE})"
    return DecimalType(precision, scale)


def _enumeration(arguments: str) -> Type:
    labels = tuple(re.sub(r"\\(.)", r"\1", label) for label in _LABEL.findall(arguments))
    try:
        return StringType(values=labels)
    except InvalidType:
        return StringType()


def reader(name: str) -> Callable[[Any], Value] | None:
    """Return the function that converts a value of the driver, which is not null; None for none."""
    inner, _ = _unwrapped(name)
    match = _CALL.fullmatch(inner)
    function, arguments = match.groups() if match is not None else (inner, "")
    if isinstance(_type(inner), str):
        return _nothing
    if function in ("Date", "Date32"):
        return _date
    if function == "DateTime":
        return lambda seconds: DateTime(seconds * _DATETIME_NANOSECONDS)
    if function == "DateTime64":
        factor = 10 ** (9 - int(arguments.partition(",")[0]))
        return lambda ticks: DateTime(ticks * factor)
    if function in ("Int128", "UInt128"):
        return Decimal
    if function in ("IPv4", "IPv6"):
        return canonical_ip
    if function == "JSON":
        return _json
    if function == "FixedString":
        return lambda text: text.rstrip("\0")
    if function == "Array":
        element = reader(arguments)
        return None if element is None else lambda values: [_converted(element, value) for value in values]
    if function == "Map":
        value = reader(_split(arguments)[1])
        return None if value is None else lambda values: {key: _converted(value, each) for key, each in values.items()}
    return None


def _converted(convert: Callable[[Any], Value], value: Any) -> Value:
    return None if value is None else convert(value)


def _nothing(_: Any) -> Value:
    return None


def _date(days: int) -> Value:
    return _EPOCH + timedelta(days=days)


def _json(text: str) -> Value:
    try:
        return Json.parse(text)
    except InvalidValue:
        return text


def read_format(name: str) -> str | None:
    """Return the form in which the driver returns a column of a type; None for its usual form."""
    inner = _unwrapped(name)[0].partition("(")[0]
    return next((form for pattern, form in READ_FORMATS.items() if fnmatchcase(inner, pattern)), None)


def check_value(value: Value, name: str) -> str:
    """Return the rule that a value breaks for a type of ClickHouse, or an empty string.

    ClickHouse stores the default of the type for a null, and another date for one that is out of range.
    """
    inner, nullable = _unwrapped(name)
    if value is None:
        return "" if nullable else "must not be null"
    if (isinstance(value, DateTime) and inner.startswith("DateTime(")) or inner == "DateTime":
        seconds = value.nanoseconds // _DATETIME_NANOSECONDS if isinstance(value, DateTime) else -1
        return "" if 0 <= seconds <= _MAX_DATETIME_SECONDS else "must be in the years 1970 to 2105"
    if isinstance(value, DateTime) and not 1900 <= value.date.year <= 2261:
        return "must be in the years 1900 to 2261"
    if isinstance(value, date) and not (_EPOCH.year if inner == "Date" else 1900) <= value.year <= 2148:
        return f"must be in the years {_EPOCH.year if inner == 'Date' else 1900} to 2148"
    return ""


def stored(value: Value, name: str) -> Any:
    """Return the value as the driver writes it to a column of a type of ClickHouse."""
    if isinstance(value, Decimal) and "Int" in name:
        return int(value)
    return _stored(value)


def _stored(value: Value) -> Any:
    if isinstance(value, DateTime):
        return value.to_datetime()
    if isinstance(value, Json):
        return json_text(value)
    if isinstance(value, Time):
        return str(value)
    if isinstance(value, list):
        return [_stored(each) for each in value]
    if isinstance(value, dict):
        return {key: _stored(each) for key, each in value.items()}
    return value
