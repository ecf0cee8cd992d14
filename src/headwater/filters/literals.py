"""Values of conditions: parses texts into values of the property's kind, and prints each in its normal form.

Parsing the normal form gives an equal value, and prints as the same text.
"""

import math
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final

from msgspec import Struct

from headwater.schemas import (
    TEXT_EXPONENT,
    ArrayType,
    DateTime,
    FloatType,
    IntType,
    StringType,
    Time,
    Type,
    canonical_ip,
    canonical_uuid,
    decimal_text,
    float_text,
    parse_decimal,
    to_float32,
)

MAX_VALUE_LENGTH: Final = 60
"""In code points. Strings with an enumeration may have longer values."""


class JsonLiteral(Struct, frozen=True):
    """The literal for JSON values: `text` for comparison with strings, `number` with numbers, if it is one."""

    text: str
    number: int | Decimal | None


Scalar = str | int | float | Decimal | DateTime | date | Time | JsonLiteral
"""The Python value of a condition's value."""

_SIGNED: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*)", re.ASCII)
_UNSIGNED: Final = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_FLOAT: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_YEAR: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_MOMENT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?",
    re.ASCII,
)


def read_value(type: Type, text: str) -> tuple[Scalar, str]:
    """Return the value for a property of this type, or for the elements of an array, and its normal form.

    A number may exceed the range of the type, because a comparison with it is still meaningful. Raises ValueError with
    the broken rule as its message.
    """
    if isinstance(type, ArrayType):
        type = type.element_type
    if isinstance(type, StringType) and type.values is not None:
        if text not in type.values:
            raise ValueError("must be one of the property's values")
        return text, text
    if not text:
        raise ValueError("must not be empty")
    if len(text) > MAX_VALUE_LENGTH:
        raise ValueError(f"must have at most {MAX_VALUE_LENGTH} characters")
    if "\0" in text:
        raise ValueError("must not contain NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain lone surrogates")
    return _READERS[type.kind](type, text)


def _text(type: Type, text: str) -> tuple[Scalar, str]:
    return text, text


def _int(type: Type, text: str) -> tuple[Scalar, str]:
    unsigned = isinstance(type, IntType) and type.unsigned
    if not (_UNSIGNED if unsigned else _SIGNED).fullmatch(text):
        raise ValueError("must be digits without leading zeros" if unsigned else "must be an integer")
    value = int(text)
    if not (0 <= value < 2**64 if unsigned else -(2**63) <= value < 2**63):
        raise ValueError("must fit 64 bits")
    return value, str(value)


def _float(type: Type, text: str) -> tuple[Scalar, str]:
    if not _FLOAT.fullmatch(text):
        raise ValueError("must be a number: digits, which a fraction and an exponent may follow")
    bits = type.bit_size if isinstance(type, FloatType) else 64
    value = to_float32(float(text)) if bits == 32 else float(text)
    if math.isinf(value):
        raise ValueError(f"must fit {bits} bits")
    value += 0.0  # no negative zero: it equals zero, and would be printed differently
    return value, float_text(value, bits, exponent_from=TEXT_EXPONENT)


def _decimal(type: Type, text: str) -> tuple[Scalar, str]:
    value = parse_decimal(text)
    return value, decimal_text(value)


def _datetime(type: Type, text: str) -> tuple[Scalar, str]:
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError("must be a date and time of ISO 8601")
    day, minutes, seconds, fraction, zone = match.groups()
    offset = "Z" if zone in (None, "Z") else f"{zone[:3]}:{zone[3:].lstrip(':') or '00'}"
    clock = f"{minutes or '00:00'}:{seconds or '00'}"
    try:
        value = DateTime.parse(f"{day}T{clock}{f'.{fraction}' if fraction else ''}{offset}")
    except ValueError as error:
        raise ValueError("must be a date and time that exists, in the years 1 to 9999") from error
    return value, str(value)[:-1]


def _date(type: Type, text: str) -> tuple[Scalar, str]:
    if not _DATE.fullmatch(text):
        raise ValueError("must be a date as YYYY-MM-DD")
    try:
        value = date.fromisoformat(text)
    except ValueError as error:
        raise ValueError("must be a date that exists, in the years 1 to 9999") from error
    return value, text


def _time(type: Type, text: str) -> tuple[Scalar, str]:
    value = Time.parse(text)
    return value, str(value)


def _year(type: Type, text: str) -> tuple[Scalar, str]:
    if not _YEAR.fullmatch(text) or not int(text):
        raise ValueError("must be a year in the range 1 to 9999")
    return int(text), str(int(text))


def _uuid(type: Type, text: str) -> tuple[Scalar, str]:
    value = canonical_uuid(text)
    return value, value


def _ip(type: Type, text: str) -> tuple[Scalar, str]:
    value = canonical_ip(text)
    return value, value


def _json(type: Type, text: str) -> tuple[Scalar, str]:
    return JsonLiteral(text, _number(text)), text


def _number(text: str) -> int | Decimal | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:  # no number of a document can have this exponent either
        return None
    # Comparing two ints is ten times faster than comparing an int with a Decimal.
    return int(number) if number.as_tuple().exponent == 0 else number


_READERS: Final[dict[str, Callable[[Type, str], tuple[Scalar, str]]]] = {
    "string": _text,
    "int": _int,
    "float": _float,
    "decimal": _decimal,
    "datetime": _datetime,
    "date": _date,
    "time": _time,
    "year": _year,
    "uuid": _uuid,
    "ip": _ip,
    "json": _json,
}
