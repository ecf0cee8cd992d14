"""The values of profiles as text, and as documents that msgspec encodes as JSON in files.

Files have whole numbers of 64 bits as numbers, and times of day end in Z; the JSON of APIs differs in both.
"""

import math
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from headwater.schemas import (
    MISSING,
    ArrayType,
    BooleanType,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    JsonType,
    MapType,
    Missing,
    ObjectType,
    StringType,
    TimeType,
    Type,
    UuidType,
    Value,
    YearType,
    decimal_text,
    float_text,
)

ToDocument = Callable[[Any], Any]
"""Turns a value other than null into an object that msgspec encodes."""
ToText = Callable[[Value | Missing], str]

_encode = msgspec.json.Encoder().encode


def document_writer(type: Type | None, special_floats: str | None = None) -> ToDocument:
    """Return a function for the values of a type.

    NaN and infinities are null. With a mark in `special_floats` they are the texts of the literals between two marks.
    """
    match type:
        case ObjectType():
            return _object_writer(type, special_floats)
        case ArrayType():
            write = document_writer(type.element_type, special_floats)
            return lambda elements: [None if element is None else write(element) for element in elements]
        case MapType():
            write_member = document_writer(type.element_type, special_floats)
            return lambda members: {
                key: None if members[key] is None else write_member(members[key]) for key in sorted(members)
            }
        case FloatType(bit_size=size):
            return lambda value: _float_document(value, size, special_floats)
        case DecimalType():
            return lambda value: Raw(decimal_text(value).encode())
        case JsonType():
            return lambda value: Raw(value.text.encode())
        case DateTimeType() | DateType():
            return str
        case TimeType():
            return _time_text
        case _:
            return _unchanged


def text_writer(type: Type | None) -> ToText:
    """Return a function that writes the values of a type as text; null and missing values are empty."""
    if isinstance(type, StringType | UuidType | IpType):
        return _text_or_empty
    write = _text(type)

    def write_value(value: Value | Missing) -> str:
        return "" if value is None or value is MISSING else write(value)

    return write_value


def _text(type: Type | None) -> Callable[[Any], str]:
    match type:
        case BooleanType():
            return lambda value: "true" if value else "false"
        case FloatType(bit_size=size):
            return lambda value: float_text(value, size) if math.isfinite(value) else special_name(value)
        case DecimalType():
            return decimal_text
        case JsonType():
            return lambda value: str(value.text)
        case TimeType():
            return _time_text
        case ObjectType() | ArrayType() | MapType():
            write = document_writer(type)
            return lambda value: _encode(write(value)).decode()
        case IntType() | YearType() | DateTimeType() | DateType():
            return str
        case _:
            return _unchanged


def special_name(value: float) -> str:
    """Return the name of a float that is not finite."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _float_document(value: float, size: int, mark: str | None) -> Raw | str | None:
    if math.isfinite(value):
        return Raw(float_text(value, size).encode())
    return None if mark is None else f"{mark}{special_name(value)}{mark}"


def _object_writer(type: ObjectType, special_floats: str | None) -> ToDocument:
    members = [(property.name, document_writer(property.type, special_floats)) for property in type.properties]

    def write(record: dict[str, Any]) -> dict[str, Any]:
        return {
            name: None if record[name] is None else write_value(record[name])
            for name, write_value in members
            if name in record
        }

    return write


def _time_text(value: Any) -> str:
    return f"{value}Z"


def _text_or_empty(value: Any) -> str:
    return value or ""


def _unchanged(value: Any) -> Any:
    return value
