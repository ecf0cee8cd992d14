"""The column types of MySQL and MariaDB as schema types, and their values.

Values come in the text protocol. A value that its schema type cannot represent, such as the date 0000-00-00 and a time
of more than a day, stays text: normalisation rejects it with its row.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from pymysql.constants import FIELD_TYPE, FLAG

from headwater.connectors.contract import Column
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
    IpType,
    Json,
    JsonType,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    Value,
    YearType,
)
from headwater.schemas.types import MAX_PRECISION, MAX_SCALE

_BINARY: Final = 63
"""The character set of bytes."""
_MAX_CHARACTER_BYTES: Final = 4
"""Bytes of a character in utf8mb4, the character set of the connection."""
_BYTES_ISSUE: Final = "bytes are not supported: use HEX(column)"

_INTEGERS: Final[Mapping[int, int]] = {
    FIELD_TYPE.TINY: 8,
    FIELD_TYPE.SHORT: 16,
    FIELD_TYPE.INT24: 24,
    FIELD_TYPE.LONG: 32,
    FIELD_TYPE.LONGLONG: 64,
}
_TEXTS: Final = frozenset(
    {
        FIELD_TYPE.VARCHAR,
        FIELD_TYPE.VAR_STRING,
        FIELD_TYPE.STRING,
        FIELD_TYPE.ENUM,
        FIELD_TYPE.SET,
        FIELD_TYPE.TINY_BLOB,
        FIELD_TYPE.BLOB,
        FIELD_TYPE.MEDIUM_BLOB,
        FIELD_TYPE.LONG_BLOB,
    }
)
_SIMPLE: Final[Mapping[int, Type]] = {
    FIELD_TYPE.FLOAT: FloatType(32),
    FIELD_TYPE.DOUBLE: FloatType(64),
    FIELD_TYPE.YEAR: YearType(),
    FIELD_TYPE.DATE: DateType(),
    FIELD_TYPE.NEWDATE: DateType(),
    FIELD_TYPE.TIME: TimeType(),
    FIELD_TYPE.DATETIME: DateTimeType(),
    FIELD_TYPE.TIMESTAMP: DateTimeType(),
    FIELD_TYPE.JSON: JsonType(),
    FIELD_TYPE.NULL: StringType(),
}


class ColumnDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a column of a result. `length` is in bytes."""

    name: str
    type: int
    flags: int
    charset: int
    length: int
    scale: int


def query_column(description: ColumnDescription) -> Column:
    """Return a column of a query."""
    type_ = _query_type(description)
    if isinstance(type_, str):
        return Column(name=description.name, type=None, issue=type_)
    return Column(name=description.name, type=type_)


def _query_type(description: ColumnDescription) -> Type | str:
    code, is_unsigned = description.type, bool(description.flags & FLAG.UNSIGNED)
    if code == FIELD_TYPE.TINY and description.length == 1 and not is_unsigned:
        return BooleanType()
    if code in _INTEGERS:
        return IntType(_INTEGERS[code], unsigned=is_unsigned)
    if code in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        scale = description.scale
        return _decimal(description.length - bool(scale) - (not is_unsigned), scale)
    if code in _TEXTS:
        if description.charset == _BINARY:
            return _BYTES_ISSUE
        is_long = code not in (FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING)
        return StringType() if is_long else _string(description.length // _MAX_CHARACTER_BYTES)
    if code == FIELD_TYPE.BIT and description.length == 1:
        return BooleanType()
    return _SIMPLE.get(code, "the type of the column is not supported: use CAST(column AS CHAR)")


def _string(length: int) -> Type:
    return StringType(max_length=length) if length else StringType()


def _decimal(precision: int, scale: int) -> Type | str:
    try:
        return DecimalType(max(precision, scale, 1), scale)
    except InvalidType:
        return f"decimal({precision},{scale}) has more digits than decimal({MAX_PRECISION},{MAX_SCALE})"


_DECLARED: Final = re.compile(r"(\w+)(?:\((.*)\))?((?: \w+)*)", re.DOTALL)
_LABEL: Final = re.compile(r"'((?:[^']|'')*)'")
_INTEGER_NAMES: Final[Mapping[str, int]] = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_NAMES: Final[Mapping[str, Type]] = {
    "float": FloatType(32),
    "double": FloatType(64),
    "date": DateType(),
    "datetime": DateTimeType(),
    "timestamp": DateTimeType(),
    "time": TimeType(),
    "year": YearType(),
    "json": JsonType(),
    "uuid": UuidType(),
    "inet4": IpType(),
    "inet6": IpType(),
    "set": StringType(),
    "tinytext": StringType(max_bytes=2**8 - 1),
    "text": StringType(max_bytes=2**16 - 1),
    "mediumtext": StringType(max_bytes=2**24 - 1),
    "longtext": StringType(),
}


def table_column(name: str, declared: str, *, nullable: bool, writable: bool) -> Column:
    """Return a column of a table; `declared` is its `column_type` in information_schema."""
    type_ = _table_type(declared)
    if isinstance(type_, str):
        return Column(name=name, type=None, nullable=nullable, writable=False, issue=type_)
    return Column(name=name, type=type_, nullable=nullable, writable=writable)


def _table_type(declared: str) -> Type | str:
    match = _DECLARED.match(declared)
    name, arguments, attributes = (match[1], match[2] or "", match[3]) if match is not None else (declared, "", "")
    is_unsigned = "unsigned" in attributes
    if declared == "tinyint(1)" or declared == "bit(1)":
        return BooleanType()
    if name in _INTEGER_NAMES:
        return IntType(_INTEGER_NAMES[name], unsigned=is_unsigned)
    if name == "decimal":
        precision, _, scale = arguments.partition(",")
        return _decimal(int(precision), int(scale or 0))
    if name in ("char", "varchar"):
        return _string(int(arguments))
    if name == "enum":
        labels = tuple(label.replace("''", "'") for label in _LABEL.findall(arguments))
        try:
            return StringType(values=labels)
        except InvalidType:
            return StringType()
    if name.endswith(("blob", "binary")):
        return _BYTES_ISSUE
    return _NAMES.get(name, f"the type {name} is not supported")


def converter(description: ColumnDescription) -> tuple[str | None, Callable[[Any], Value] | None]:
    """Return the encoding in which the driver decodes the bytes of a column, or None for bytes, and the function that
    converts them, or None for none."""
    type_ = _query_type(description)
    if isinstance(type_, str):
        return None, _nothing
    if isinstance(type_, BooleanType):
        return None, _bit if description.type == FIELD_TYPE.BIT else _boolean
    if isinstance(type_, StringType):
        return "utf-8", None
    return _CONVERTERS[type(type_)]


def _nothing(data: bytes) -> Value:
    return None


def _boolean(data: bytes) -> Value:
    number = int(data)
    return bool(number) if number in (0, 1) else number


def _bit(data: bytes) -> Value:
    return data != b"\0"


def _number(text: str) -> Value:
    return Decimal(text)


def _date(text: str) -> Value:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text


def _datetime(text: str) -> Value:
    try:
        return DateTime.of(datetime.fromisoformat(text))
    except ValueError:
        return text


def _time(text: str) -> Value:
    try:
        return Time.parse(text)
    except ValueError:
        return text


def _json(text: str) -> Value:
    try:
        return Json.parse(text)
    except InvalidValue:
        return text


_CONVERTERS: Final[Mapping[type, tuple[str | None, Callable[[Any], Value] | None]]] = {
    DateTimeType: ("ascii", _datetime),
    DateType: ("ascii", _date),
    DecimalType: ("ascii", _number),
    FloatType: (None, float),
    IntType: (None, int),
    JsonType: ("utf-8", _json),
    TimeType: ("ascii", _time),
    YearType: (None, int),
}


def stored(value: Value) -> str | int | float | None:
    """Return the value as the driver writes it."""
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)  # the database rejects the text
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, DateTime):
        return datetime_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Time):
        return str(Time(value.nanoseconds // 1_000 * 1_000))
    return json_text(value)
