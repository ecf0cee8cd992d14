"""Compiles the scalar types of a schema into functions that normalise their values.

A value that already has the class of its kind is only checked. Messages never contain the value.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

from headwater.schemas import types as t
from headwater.schemas.constraints import compile_check
from headwater.schemas.datetimes import DateTime, Time
from headwater.schemas.decimals import from_float, parse_decimal, plain
from headwater.schemas.errors import InvalidValue
from headwater.schemas.floats import to_float32
from headwater.schemas.json_value import Json
from headwater.schemas.values import canonical_ip, canonical_uuid

Normalise = Callable[[Any], Any]
"""Returns the value of the schema, None for null. Raises InvalidValue with a path."""

NOT_NULL: Final = "cannot be null"

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MAX_NUMBER_CHARACTERS: Final = 400
_NAMED: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_EXACT: Final = {32: 2**24, 64: 2**53}
"""The largest integer up to which floats of a size have every integer."""


def compile_scalar(type: t.Type) -> Normalise:
    """Return a function that normalises values of a scalar type other than string that are not None."""
    convert = _SCALARS[type.kind](type)
    check = compile_check(type)

    def normalise(value: Any) -> Any:
        converted = convert(value)
        check(converted)
        return converted

    return normalise


# --- Texts --------------------------------------------------------------------------------------------------------


def compile_string(type: t.StringType, nullable: bool) -> Normalise:
    """Return a function that normalises texts, None included."""
    is_plain = type == t.StringType()
    check = compile_check(type)
    empty_is_null = type.values is not None and "" not in type.values and nullable

    def normalise(value: Any) -> str | None:
        if value.__class__ is not str:
            if value is None:
                if nullable:
                    return None
                raise InvalidValue(NOT_NULL)
            value = _text(value)
        if not value.isascii():
            check_unicode(value)
        if "\0" in value:
            raise InvalidValue("contains the NUL character")
        if not is_plain:
            if empty_is_null and not value:
                return None
            check(value)
        return cast(str, value)

    return normalise


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise InvalidValue("is not text in UTF-8") from None
    raise unexpected("a string", value)


def check_unicode(value: str) -> None:
    """Raise InvalidValue for a text with a lone surrogate, which UTF-8 does not have."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue("is not text in UTF-8") from None


def unexpected(expected: str, value: Any) -> InvalidValue:
    """Return the error for a value of a class that cannot be converted. It has the class, not the value."""
    return InvalidValue(f"is not {expected}, but {_CLASSES.get(value.__class__, 'a value of another kind')}")


_CLASSES: Final[Mapping[type, str]] = {
    str: "a text",
    bytes: "bytes",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    Decimal: "a decimal",
    datetime: "a date and time",
    DateTime: "a date and time",
    date: "a date",
    time: "a time",
    Time: "a time",
    list: "a list",
    dict: "an object",
    Json: "JSON",
}


# --- Numbers ------------------------------------------------------------------------------------------------------


def _boolean(_type: t.Type) -> Normalise:
    def normalise(value: Any) -> bool:
        if value.__class__ is bool:
            return bool(value)
        if value in ("true", b"true"):
            return True
        if value in ("false", b"false"):
            return False
        raise InvalidValue("is not a boolean: true or false")

    return normalise


def _int(_type: t.Type) -> Normalise:
    return _integer


def _integer(value: Any) -> int:
    if value.__class__ is int:
        return int(value)
    if isinstance(value, str | bytes):
        text = value if isinstance(value, str) else _text(value)
        if not _INTEGER.fullmatch(text):
            raise InvalidValue("is not the text of an integer")
        return int(text)
    if isinstance(value, float | Decimal):
        if not math.isfinite(value) or value != value.__trunc__():
            raise InvalidValue("is not an integer")
        return value.__trunc__()
    raise unexpected("an integer", value)


def _float(type: t.Type) -> Normalise:
    assert isinstance(type, t.FloatType)
    largest, bit_size = _EXACT[type.bit_size], type.bit_size

    def normalise(value: Any) -> float:
        if value.__class__ is float:
            number = value
        elif value.__class__ is int:
            if not -largest <= value <= largest:
                raise InvalidValue(f"is an integer that a {type} does not have exactly")
            number = float(value)
        elif isinstance(value, Decimal):
            number = float(value)
            if value.is_finite() and Decimal(number) != value:
                raise InvalidValue(f"is a decimal that a {type} does not have exactly")
        elif isinstance(value, str | bytes):
            return _parsed_float(_text(value), bit_size)
        else:
            raise unexpected("a number", value)
        if bit_size == 32 and math.isfinite(number) and to_float32(number) != number:
            raise InvalidValue(f"is a number that a {type} does not have exactly")
        return float(number)

    return normalise


def _parsed_float(text: str, bit_size: int) -> float:
    named = _NAMED.get(text)
    if named is not None:
        return named
    if len(text) > _MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
        raise InvalidValue("is not the text of a number")
    number = float(text)
    rounded = to_float32(number) if bit_size == 32 else number
    if math.isinf(rounded):
        raise InvalidValue(f"is larger than every float({bit_size})")
    return rounded


def _decimal(type: t.Type) -> Normalise:
    assert isinstance(type, t.DecimalType)
    precision, scale = type.precision, type.scale

    def normalise(value: Any) -> Decimal:
        if value.__class__ is bool:
            raise unexpected("a decimal", value)
        if isinstance(value, Decimal):
            if not value.is_finite():
                raise InvalidValue("is not a finite number")
            return plain(value)
        if isinstance(value, int):
            return plain(Decimal(value))
        try:
            if isinstance(value, float):
                return from_float(value, precision, scale)
            if isinstance(value, str | bytes):
                return parse_decimal(_text(value), precision, scale)
        except ValueError:
            raise InvalidValue(f"is not a {type}") from None
        raise unexpected("a decimal", value)

    return normalise


# --- Times --------------------------------------------------------------------------------------------------------


def _datetime(_type: t.Type) -> Normalise:
    def normalise(value: Any) -> DateTime:
        if value.__class__ is DateTime:
            return value
        try:
            if isinstance(value, datetime):
                return DateTime.of(value)
            if isinstance(value, date):
                return DateTime.at(value)
            if isinstance(value, str | bytes):
                return _parse_datetime(_text(value))
        except (ValueError, OverflowError):
            raise InvalidValue("is not a date and time of ISO 8601 in the years 1 to 9999") from None
        raise unexpected("a date and time", value)

    return normalise


def _parse_datetime(text: str) -> DateTime:
    try:
        return DateTime.parse(text)
    except ValueError:
        return DateTime.of(datetime.fromisoformat(text))


def _date(_type: t.Type) -> Normalise:
    def normalise(value: Any) -> date:
        if value.__class__ is date:
            return value
        try:
            if isinstance(value, datetime):
                return (value if value.tzinfo is None else value.astimezone(UTC)).date()
            if isinstance(value, DateTime):
                return value.date
            if isinstance(value, str | bytes):
                text = _text(value)
                return date.fromisoformat(text) if len(text) == 10 else _parse_datetime(text).date
        except (ValueError, OverflowError):
            raise InvalidValue("is not a date of ISO 8601 in the years 1 to 9999") from None
        raise unexpected("a date", value)

    return normalise


def _time(_type: t.Type) -> Normalise:
    def normalise(value: Any) -> Time:
        if value.__class__ is Time:
            return value
        if isinstance(value, DateTime):
            return value.time
        if isinstance(value, datetime | time):
            seconds = value.hour * 3_600 + value.minute * 60 + value.second
            return Time(seconds * 1_000_000_000 + value.microsecond * 1_000)
        if isinstance(value, str | bytes):
            try:
                return Time.parse(_text(value).removesuffix("Z"))
            except ValueError:
                raise InvalidValue("is not a time of day as hh:mm:ss") from None
        raise unexpected("a time", value)

    return normalise


# --- Identifiers and JSON -----------------------------------------------------------------------------------------


def _uuid(_type: t.Type) -> Normalise:
    def normalise(value: Any) -> str:
        if isinstance(value, UUID):
            return str(value)
        if isinstance(value, bytes) and len(value) == 16:
            return str(UUID(bytes=value))
        try:
            return canonical_uuid(_text(value))
        except ValueError:
            raise InvalidValue("is not a UUID") from None

    return normalise


def _ip(_type: t.Type) -> Normalise:
    def normalise(value: Any) -> str:
        if isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
            value = value.ip
        if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            value = str(value)
        try:
            return canonical_ip(_text(value).partition("/")[0].partition("%")[0])
        except ValueError:
            raise InvalidValue("is not an IP address") from None

    return normalise


def _json(_type: t.Type) -> Normalise:
    def normalise(value: Any) -> Json:
        if value.__class__ is Json:
            return value
        try:
            if isinstance(value, str | bytes):
                return Json.parse(value)
            return Json.parse(Json.of(value).text)
        except InvalidValue as error:
            raise InvalidValue(error.rule if error.rule.startswith("is ") else "is not valid JSON") from None
        except (TypeError, ValueError, RecursionError, OverflowError):
            raise InvalidValue("is not a value of JSON") from None

    return normalise


_SCALARS: Final[Mapping[t.Kind, Callable[[t.Type], Normalise]]] = {
    "boolean": _boolean,
    "int": _int,
    "year": _int,
    "float": _float,
    "decimal": _decimal,
    "datetime": _datetime,
    "date": _date,
    "time": _time,
    "uuid": _uuid,
    "ip": _ip,
    "json": _json,
}
