"""Compiles a schema into a function that reads its values from JSON.

Decoding is strict: it converts only the documented forms and rejects unknown members. Each level decodes its members as
raw text and passes them on. So a number keeps its digits, and an error has the path and the text of the value.
"""

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.schemas import types as t
from headwater.schemas.constraints import Check, compile_check
from headwater.schemas.datetimes import DateTime, Time
from headwater.schemas.decimals import parse_decimal
from headwater.schemas.errors import InvalidValue
from headwater.schemas.floats import to_float32
from headwater.schemas.json_value import Json, excerpt
from headwater.schemas.names import is_property_name
from headwater.schemas.values import canonical_ip, canonical_uuid

Decoder = Callable[[Raw], Any]
"""Reads one value from its JSON text. Raises InvalidValue."""

_bool = msgspec.json.Decoder(bool).decode
_int = msgspec.json.Decoder(int).decode
_str = msgspec.json.Decoder(str).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode

_INT64: Final = re.compile(r"0|-?[1-9][0-9]{0,19}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NOT_REAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_QUOTE: Final = ord('"')
_NUMBER: Final = frozenset(b"-0123456789")


def compile_decoder(type: t.Type) -> Decoder:
    """Return a reader for values of the type. It does not accept null; the reader of the property does."""
    match type:
        case t.ObjectType():
            return _object_decoder(type)
        case t.ArrayType():
            return _array_decoder(type)
        case t.MapType():
            return _map_decoder(type)
        case t.JsonType():
            return _read_json
        case _:
            convert, expected = _conversion(type)
            return _scalar_decoder(convert, expected, compile_check(type))


# --- Objects, maps, arrays ----------------------------------------------------------------------------------------


def _object_decoder(type: t.ObjectType) -> Decoder:
    known = type.by_name
    fields = [(property.name, _property_decoder(property.type, property.nullable), property.read_optional)
              for property in type.properties]  # fmt: skip

    def read(raw: Raw) -> dict[str, Any]:
        try:
            members = _members(raw)
        except msgspec.DecodeError:
            raise _unexpected("must be an object", raw) from None
        record: dict[str, Any] = {}
        text_by_name = members.get
        for name, read_value, optional in fields:
            text = text_by_name(name)
            if text is None:
                if not optional:
                    raise InvalidValue("is missing", name)
                continue
            try:
                record[name] = read_value(text)
            except InvalidValue as error:
                raise error.under(name) from None
        if len(record) != len(members):
            unknown = next(name for name in members if name not in known)
            raise InvalidValue("does not exist in the schema", name_component(unknown))
        return record

    return read


def _property_decoder(type: t.Type, nullable: bool) -> Decoder:
    read_value = compile_decoder(type)
    if not nullable or isinstance(type, t.JsonType):  # accepts null itself
        return read_value

    def read(raw: Raw) -> Any:
        return None if len(raw) == 4 and bytes(raw) == b"null" else read_value(raw)

    return read


def _array_decoder(type: t.ArrayType) -> Decoder:
    read_element = compile_decoder(type.element_type)
    check = compile_check(type)

    def read(raw: Raw) -> list[Any]:
        try:
            texts = _list(raw)
        except msgspec.DecodeError:
            raise _unexpected("must be an array", raw) from None
        elements: list[Any] = []
        try:
            for text in texts:
                elements.append(read_element(text))
        except InvalidValue as error:
            raise error.under(f"[{len(elements)}]") from None
        check(elements)
        return elements

    return read


def _map_decoder(type: t.MapType) -> Decoder:
    read_element = compile_decoder(type.element_type)

    def read(raw: Raw) -> dict[str, Any]:
        try:
            members = _members(raw)
        except msgspec.DecodeError:
            raise _unexpected("must be an object", raw) from None
        elements: dict[str, Any] = {}
        for key, text in members.items():
            try:
                elements[key] = read_element(text)
            except InvalidValue as error:
                raise error.under(key_component(key)) from None
        return elements

    return read


def name_component(name: str) -> str:
    """Return a possible property name as a component of a path."""
    return name if is_property_name(name) and len(name) <= 60 else key_component(name)


def key_component(key: str) -> str:
    """Return a map key as a component of a path."""
    return f"[{msgspec.json.encode(excerpt(key).encode(errors='replace').decode()).decode()}]"


# --- Scalars ------------------------------------------------------------------------------------------------------


def _scalar_decoder(convert: Decoder, expected: str, check: Check) -> Decoder:
    def read(raw: Raw) -> Any:
        try:
            value = convert(raw)
        except (msgspec.DecodeError, ValueError):
            raise _unexpected(expected, raw) from None
        try:
            check(value)
        except InvalidValue as error:
            raise _unexpected(error.rule, raw) from None
        return value

    return read


def _unexpected(rule: str, raw: Raw) -> InvalidValue:
    return InvalidValue(f"{rule}, not {excerpt(raw)}")


def _read_json(raw: Raw) -> Json:
    return Json.parse(bytes(raw))


def _conversion(type: t.Type) -> tuple[Decoder, str]:
    """Return the function that converts the text, and the rule that is broken if it raises ValueError or
    DecodeError."""
    match type:
        case t.StringType():
            return _str, "must be a string"
        case t.BooleanType():
            return _bool, "must be a boolean"
        case t.IntType(bit_size=64):
            return _read_int64, "must be a string of the digits of an integer"
        case t.IntType() | t.YearType():
            return _int, "must be an integer"
        case t.FloatType():
            return (_read_float32 if type.bit_size == 32 else _read_float), f"must be a {type}"
        case t.DecimalType():
            precision, scale = type.precision, type.scale
            return lambda raw: parse_decimal(bytes(raw).decode(), precision, scale), f"must be a {type}"
        case t.DateTimeType():
            return lambda raw: DateTime.parse(_str(raw)), "must be a date and time of RFC 3339, in the years 1 to 9999"
        case t.DateType():
            return _read_date, "must be a date as YYYY-MM-DD"
        case t.TimeType():
            return lambda raw: Time.parse(_str(raw)), "must be a time of day as hh:mm:ss[.fraction]"
        case t.UuidType():
            return lambda raw: canonical_uuid(_str(raw)), "must be a UUID"
        case t.IpType():
            return lambda raw: canonical_ip(_str(raw)), "must be an IP address"
        case _:
            raise AssertionError(type)


def _read_int64(raw: Raw) -> int:
    text = _str(raw)
    if not _INT64.fullmatch(text):
        raise ValueError
    return int(text)


def _read_float(raw: Raw) -> float:
    first = memoryview(raw)[0]
    if first == _QUOTE:
        named = _NOT_REAL.get(_str(raw))
        if named is None:
            raise ValueError
        return named
    if first not in _NUMBER:
        raise ValueError
    value = float(bytes(raw))  # msgspec's decoder loses the sign of -0
    if math.isinf(value):
        raise ValueError
    return value


def _read_float32(raw: Raw) -> float:
    value = _read_float(raw)
    rounded = to_float32(value)
    if math.isinf(rounded) and not math.isinf(value):
        raise ValueError
    return rounded


def _read_date(raw: Raw) -> date:
    text = _str(raw)
    if not _DATE.fullmatch(text):
        raise ValueError
    return date.fromisoformat(text)
