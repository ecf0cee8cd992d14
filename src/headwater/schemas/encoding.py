"""Compiles a schema into a function that turns its values into objects that msgspec encodes as JSON.

Encoding is as strict as decoding: a value of another class, or one that breaks a constraint, is an error and is never
written. So every written text can be decoded, and gives an equal value.
"""

import math
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from msgspec import Raw

from headwater.base.nesting import is_deeper
from headwater.schemas.constraints import Check, check_of
from headwater.schemas.decimals import decimal_text
from headwater.schemas.decoding import key_component, name_component
from headwater.schemas.errors import InvalidValue
from headwater.schemas.floats import float_text, to_float32
from headwater.schemas.jsontext import MAX_JSON_DEPTH, Json
from headwater.schemas.moments import DateTime, Time
from headwater.schemas.types import (
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
    ObjectType,
    StringType,
    TimeType,
    Type,
    UuidType,
    YearType,
)
from headwater.schemas.values import canonical_ip, canonical_uuid

Writer = Callable[[Any], Any]
"""Turns one value into an object that msgspec encodes. Raises InvalidValue."""

_EXACT: Final = 2.0**53
"""Below this limit, a whole float and the int have the same digits."""


def writer_of(type: Type) -> Writer:
    """Return an encoder for values of the type. It does not accept None; the encoder of the property does."""
    match type:
        case ObjectType():
            return _object_writer(type)
        case ArrayType():
            return _array_writer(type)
        case MapType():
            return _map_writer(type)
        case StringType() if type.values is not None or type.pattern is not None:
            return _scalar(type)
        case _:
            return _shared_scalar(type)


def _scalar(type: Type) -> Writer:
    expected_class, expected, convert = _conversion(type)
    return _scalar_writer(expected_class, expected, convert, check_of(type))


_shared_scalar: Final = lru_cache(maxsize=256)(_scalar)
"""Equal types share one encoder: a schema has thousands of properties and few distinct types."""


def _object_writer(type: ObjectType) -> Writer:
    known = type.by_name
    fields = [(property.name, writer_of(property.type), property.nullable, property.read_optional)
              for property in type.properties]  # fmt: skip

    def write(record: Any) -> dict[str, Any]:
        if not isinstance(record, dict):
            raise _unexpected("must be a dict", record)
        document: dict[str, Any] = {}
        for name, write_value, nullable, optional in fields:
            if name not in record:
                if not optional:
                    raise InvalidValue("is missing", name)
                continue
            value = record[name]
            if value is None and nullable:
                document[name] = None
                continue
            try:
                document[name] = write_value(value)
            except InvalidValue as error:
                raise error.under(name) from None
        if len(document) != len(record):
            unknown = next(name for name in record if name not in known)
            raise InvalidValue("does not exist in the schema", name_component(str(unknown)))
        return document

    return write


def _array_writer(type: ArrayType) -> Writer:
    write_element = writer_of(type.element_type)
    check = check_of(type)

    def write(elements: Any) -> list[Any]:
        if not isinstance(elements, list):
            raise _unexpected("must be a list", elements)
        documents: list[Any] = []
        try:
            for element in elements:
                documents.append(write_element(element))
        except InvalidValue as error:
            raise error.under(f"[{len(documents)}]") from None
        check(elements)
        return documents

    return write


def _map_writer(type: MapType) -> Writer:
    write_element = writer_of(type.element_type)

    def write(elements: Any) -> dict[str, Any]:
        if not isinstance(elements, dict):
            raise _unexpected("must be a dict", elements)
        documents: dict[str, Any] = {}
        for key in elements:
            if not isinstance(key, str):
                raise _unexpected("must have keys of text", key)
            try:
                _check_text(key)
                documents[key] = write_element(elements[key])
            except InvalidValue as error:
                raise error.under(key_component(key)) from None
        return dict(sorted(documents.items()))

    return write


def _scalar_writer(expected_class: type, expected: str, convert: Writer, check: Check) -> Writer:
    def write(value: Any) -> Any:
        if value.__class__ is not expected_class:
            raise _unexpected(expected, value)
        check(value)
        return convert(value)

    return write


def _unexpected(rule: str, value: object) -> InvalidValue:
    return InvalidValue(f"{rule}, not null" if value is None else f"{rule}, not of class {value.__class__.__name__}")


def _conversion(type: Type) -> tuple[Any, str, Writer]:
    """Return the class of the values, its name in messages, and the encoder of one value."""
    match type:
        case StringType():
            return str, "must be a str", _write_text
        case BooleanType():
            return bool, "must be a bool", _as_it_is
        case IntType(bit_size=64):
            return int, "must be an int", str
        case IntType() | YearType():
            return int, "must be an int", _as_it_is
        case FloatType():
            return float, "must be a float", _write_float32 if type.bit_size == 32 else _write_float
        case DecimalType():
            return Decimal, "must be a Decimal", lambda value: Raw(decimal_text(value).encode())
        case DateTimeType():
            return DateTime, "must be a DateTime", lambda value: value.json_text
        case DateType():
            return date, "must be a date", date.isoformat
        case TimeType():
            return Time, "must be a Time", lambda value: value.json_text
        case UuidType():
            return str, "must be a str", _canonical(canonical_uuid, "must be a UUID in its canonical form")
        case IpType():
            return str, "must be a str", _canonical(canonical_ip, "must be an IP address in its canonical form")
        case JsonType():
            return Json, "must be a Json", _write_json
        case _:
            raise AssertionError(type)


def _as_it_is(value: Any) -> Any:
    return value


def _write_text(value: str) -> str:
    _check_text(value)
    return value


def _check_text(value: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidValue("must not contain lone surrogates") from None


def _write_float(value: float) -> Any:
    if 1e-4 <= abs(value) < _EXACT:
        return int(value) if value.is_integer() else value
    return Raw(float_text(value).encode()) if math.isfinite(value) else _write_not_finite(value)


def _write_float32(value: float) -> Any:
    if not math.isfinite(value):
        return _write_not_finite(value)
    if to_float32(value) != value:
        raise InvalidValue("must be a float(32)")
    return Raw(float_text(value, 32).encode())


def _write_not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _write_json(value: Json) -> Raw:
    if is_deeper(value.text, MAX_JSON_DEPTH):
        raise InvalidValue(f"is nested deeper than {MAX_JSON_DEPTH} levels")
    return Raw(value.text.encode())


def _canonical(canonical: Callable[[str], str], rule: str) -> Writer:
    def write(value: str) -> str:
        try:
            if canonical(value) == value:
                return value
        except ValueError:
            pass
        raise InvalidValue(rule)

    return write
