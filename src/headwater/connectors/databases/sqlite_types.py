"""The column types of SQLite as schema types, and their values.

Columns of SQLite accept values of any type. A value that does not fit the declared type of its column stays as it is:
normalisation rejects it with its row.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, Final

from headwater.connectors.contract import Column, Row
from headwater.connectors.databases.placeholders import datetime_text
from headwater.connectors.databases.writing import json_text
from headwater.schemas import (
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    InvalidType,
    InvalidValue,
    Json,
    JsonType,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    Value,
)
from headwater.schemas.types import MAX_PRECISION, MAX_SCALE

_Convert = Callable[[Any], Value]

decode_text: Final = partial(str, encoding="utf-8", errors="surrogateescape")
"""Decodes a text. Bytes that are not UTF-8 become lone surrogates, which no schema type accepts."""


def make_column(name: str, declared: str, *, nullable: bool = True, writable: bool = True) -> Column:
    """Return the column of a declared type."""
    type_ = _type(declared)
    if isinstance(type_, str):
        return Column(name=name, type=None, nullable=nullable, writable=False, issue=type_)
    return Column(name=name, type=type_, nullable=nullable, writable=writable)


def _type(declared: str) -> Type | str:
    """Return the schema type of a declared type, by SQLite's rules of affinity and the names that are in use; or the
    reason why there is none."""
    match = _DECLARED.fullmatch(declared.strip())
    name, arguments = (match[1].upper(), match[2]) if match else (declared.upper(), None)
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name in ("DECIMAL", "NUMERIC", "NUM"):
        return _decimal(arguments)
    if "INT" in name:
        return IntType(64)
    if not name or any(part in name for part in ("CHAR", "CLOB", "TEXT", "STRING")):
        return StringType()
    if any(part in name for part in ("REAL", "FLOA", "DOUB")):
        return FloatType(64)
    if "BLOB" in name:
        return "bytes are not supported: use hex(column)"
    return f"the type {declared[:100]} is not supported: use CAST(column AS TEXT)"


def _decimal(arguments: str | None) -> Type | str:
    precision, scale = MAX_PRECISION, MAX_SCALE
    if arguments is not None:
        first, _, second = arguments.partition(",")
        precision, scale = int(first), int(second or 0)
    try:
        return DecimalType(precision, scale)
    except InvalidType:
        return f"a decimal of {precision} digits, {scale} of them after the point, is not supported"


_DECLARED: Final = re.compile(r"([^()]*?)\s*(?:\(\s*(\d{1,9}\s*(?:,\s*\d{1,9}\s*)?)\))?")
_BY_NAME: Final[Mapping[str, Type]] = {
    "BOOL": BooleanType(),
    "BOOLEAN": BooleanType(),
    "DATE": DateType(),
    "DATETIME": DateTimeType(),
    "TIMESTAMP": DateTimeType(),
    "TIMESTAMPTZ": DateTimeType(),
    "TIMESTAMP WITH TIME ZONE": DateTimeType(),
    "TIMESTAMP WITHOUT TIME ZONE": DateTimeType(),
    "TIME": TimeType(),
    "JSON": JsonType(),
    "UUID": UuidType(),
}


def _as_nothing(value: Any) -> Value:
    return None


def _as_string(value: Any) -> Value:
    if isinstance(value, bytes):
        return decode_text(value)
    return str(value)


def _as_number(value: Any) -> Value:
    return decode_text(value) if isinstance(value, bytes) else value


def _as_float(value: Any) -> Value:
    return float(value) if isinstance(value, int) else _as_number(value)


def _as_boolean(value: Any) -> Value:
    return bool(value) if value in (0, 1) else _as_number(value)


def _as_decimal(value: Any) -> Value:
    text = str(_as_number(value))
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text


def _as_datetime(value: Any) -> Value:
    if not isinstance(value, str):
        return _as_number(value)
    try:
        return DateTime.of(datetime.fromisoformat(value))
    except ValueError:
        return value


def _as_date(value: Any) -> Value:
    if not isinstance(value, str):
        return _as_number(value)
    try:
        return date.fromisoformat(value)
    except ValueError:
        return value


def _as_time(value: Any) -> Value:
    if not isinstance(value, str):
        return _as_number(value)
    try:
        return Time.parse(value)
    except ValueError:
        return value


def _as_json(value: Any) -> Value:
    text = _as_string(value)
    assert isinstance(text, str)
    try:
        return Json.parse(text)
    except InvalidValue:
        return text


def _as_uuid(value: Any) -> Value:
    return value.lower() if isinstance(value, str) else _as_number(value)


_CONVERTERS: Final[Mapping[type, tuple[type[Any], _Convert]]] = {
    type(None): (type(None), _as_nothing),
    BooleanType: (bool, _as_boolean),
    DateTimeType: (DateTime, _as_datetime),
    DateType: (date, _as_date),
    DecimalType: (Decimal, _as_decimal),
    FloatType: (float, _as_float),
    IntType: (int, _as_number),
    JsonType: (Json, _as_json),
    StringType: (str, _as_string),
    TimeType: (Time, _as_time),
    UuidType: (type(None), _as_uuid),
}
"""By schema type: the class of values that need no conversion, and the function that converts others."""


def convert_rows(rows: Sequence[Row], types: Sequence[Type | None]) -> list[Row]:
    """Convert rows of the driver to those of the types of their columns.

    They are converted column by column, which is faster than row by row.
    """
    converters = [_CONVERTERS[type(each)] for each in types]
    columns: list[Sequence[Value]] = []
    values: tuple[Any, ...]
    for values, (usual, convert) in zip(zip(*rows, strict=True), converters, strict=True):
        columns.append([value if value is None or value.__class__ is usual else convert(value) for value in values])
    return list(zip(*columns, strict=True))


def stored(value: Value) -> str | int | float | None:
    """Return the value as SQLite stores it: decimals, dates and times as texts, booleans as 0 and 1."""
    if value is None or isinstance(value, str | int | float):
        return int(value) if isinstance(value, bool) else value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, DateTime):
        return datetime_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Time):
        return str(value)
    return json_text(value)
