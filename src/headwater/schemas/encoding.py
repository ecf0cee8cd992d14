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

from headwater.base.json_depth import is_deeper
from headwater.schemas import types as t
from headwater.schemas.constraints import Check, compile_check
from headwater.schemas.datetimes import DateTime, Time
from headwater.schemas.decimals import decimal_text
from headwater.schemas.decoding import key_component, name_component
from headwater.schemas.errors import InvalidValue
from headwater.schemas.floats import float_text, to_float32
from headwater.schemas.json_value import MAX_JSON_DEPTH, Json
from headwater.schemas.values import canonical_ip, canonical_uuid

Encoder = Callable[[Any], Any]
"""Turns one value into an object that msgspec encodes. Raises InvalidValue."""

_EXACT: Final = 2.0**53
"""Below this limit, a whole float and the int have the same digits."""


def compile_encoder(type: t.Type) -> Encoder:
    """Return an encoder for values of the type. It does not accept None; the encoder of the property does."""
    match type:
        case t.ObjectType():
            return _object_encoder(type)
        case t.ArrayType():
            return _array_encoder(type)
        case t.MapType():
            return _map_encoder(type)
        case t.StringType() if type.values is not None or type.pattern is not None:
            return _scalar(type)
        case _:
            return _shared_scalar(type)


def _scalar(type: t.Type) -> Encoder:
    expected_class, expected, convert = _conversion(type)
    return _scalar_encoder(expected_class, expected, convert, compile_check(type))


_shared_scalar: Final = lru_cache(maxsize=256)(_scalar)
"""Equal types share one encoder: a schema has thousands of properties and few distinct types."""


def _object_encoder(type: t.ObjectType) -> Encoder:
    known = type.by_name
    fields = [(property.name, compile_encoder(property.type), property.nullable, property.read_optional)
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


def _array_encoder(type: t.ArrayType) -> Encoder:
    write_element = compile_encoder(type.element_type)
    check = compile_check(type)

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


def _map_encoder(type: t.MapType) -> Encoder:
    write_element = compile_encoder(type.element_type)

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


def _scalar_encoder(expected_class: type, expected: str, convert: Encoder, check: Check) -> Encoder:
    def write(value: Any) -> Any:
        if value.__class__ is not expected_class:
            raise _unexpected(expected, value)
        check(value)
        return convert(value)

    return write


def _unexpected(rule: str, value: object) -> InvalidValue:
    return InvalidValue(f"{rule}, not null" if value is None else f"{rule}, not of class {value.__class__.__name__}")


def _conversion(type: t.Type) -> tuple[Any, str, Encoder]:
    """Return the class of the values, its name in messages, and the encoder of one value."""
    match type:
        case t.StringType():
            return str, "must be a str", _write_text
        case t.BooleanType():
            return bool, "must be a bool", _identity
        case t.IntType(bit_size=64):
            return int, "must be an int", str
        case t.IntType() | t.YearType():
            return int, "must be an int", _identity
        case t.FloatType():
            return float, "must be a float", write_float32 if type.bit_size == 32 else write_float
        case t.DecimalType():
            return Decimal, "must be a Decimal", lambda value: Raw(decimal_text(value).encode())
        case t.DateTimeType():
            return DateTime, "must be a DateTime", lambda value: value.json_text
        case t.DateType():
            return date, "must be a date", date.isoformat
        case t.TimeType():
            return Time, "must be a Time", lambda value: value.json_text
        case t.UuidType():
            return str, "must be a str", _canonical(canonical_uuid, "must be a UUID in its canonical form")
        case t.IpType():
            return str, "must be a str", _canonical(canonical_ip, "must be an IP address in its canonical form")
        case t.JsonType():
            return Json, "must be a Json", _write_json
        case _:
            raise AssertionError(type)


def _identity(value: Any) -> Any:
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


def write_float(value: float) -> Any:
    if 1e-4 <= abs(value) < _EXACT:
        return int(value) if value.is_integer() else value
    return Raw(float_text(value).encode()) if math.isfinite(value) else _write_not_finite(value)


def write_float32(value: float) -> Any:
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


def _canonical(canonical: Callable[[str], str], rule: str) -> Encoder:
    def write(value: str) -> str:
        try:
            if canonical(value) == value:
                return value
        except ValueError:
            pass
        raise InvalidValue(rule)

    return write
