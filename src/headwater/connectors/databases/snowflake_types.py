"""The column types of Snowflake as schema types, and their values."""

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from snowflake.connector.constants import FIELD_ID_TO_NAME

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
    InvalidType,
    InvalidValue,
    Json,
    JsonType,
    StringType,
    Time,
    TimeType,
    Type,
    Value,
)

_MAX_TEXT: Final = 16 * 1024 * 1024
"""Length of a text column that is declared without one."""
_SIMPLE: Final[Mapping[str, Type]] = {
    "REAL": FloatType(64),
    "DATE": DateType(),
    "TIMESTAMP": DateTimeType(),
    "TIMESTAMP_LTZ": DateTimeType(),
    "TIMESTAMP_TZ": DateTimeType(),
    "TIMESTAMP_NTZ": DateTimeType(),
    "VARIANT": JsonType(),
    "OBJECT": JsonType(),
    "ARRAY": JsonType(),
    "TIME": TimeType(),
    "BOOLEAN": BooleanType(),
}


def make_column(described: Any, *, nullable: bool = True) -> Column:
    """Return the column that the driver describes."""
    found = _type(described)
    if isinstance(found, str):
        return Column(name=described.name, type=None, nullable=nullable, writable=False, issue=found)
    return Column(name=described.name, type=found, nullable=nullable)


def _type(described: Any) -> Type | str:
    name = FIELD_ID_TO_NAME[described.type_code]
    if name == "FIXED":
        try:
            return DecimalType(described.precision or 38, described.scale or 0)
        except InvalidType:
            return f"NUMBER({described.precision},{described.scale}) has more digits after the point than 37"
    if name == "TEXT":
        size = described.internal_size
        return StringType(max_length=size) if size and size < _MAX_TEXT else StringType()
    if name == "BINARY":
        return "bytes are not supported: use BASE64_ENCODE(column)"
    return _SIMPLE.get(name, f"the type {name} is not supported: use TO_VARCHAR(column)")


def reader(described: Any) -> Callable[[Any], Value] | None:
    """Return the function that converts a value of the driver, which is not null; None for none."""
    found = _type(described)
    return _nothing if isinstance(found, str) else _READERS.get(type(found))


def _nothing(_: Any) -> Value:
    return None


def _datetime(value: datetime) -> Value:
    try:
        return DateTime.of(value)
    except ValueError:
        return str(value)


def _time(value: time) -> Value:
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return Time((seconds * 1_000_000 + value.microsecond) * 1_000)


def _json(text: str) -> Value:
    try:
        return Json.parse(text)
    except InvalidValue:
        return text


_READERS: Final[Mapping[type, Callable[[Any], Value]]] = {
    DateTimeType: _datetime,
    DecimalType: Decimal,
    JsonType: _json,
    TimeType: _time,
}


def source_expression(name: str, type_: str) -> str:
    """Return the expression that converts the text of a batch's column to the type of the table's column."""
    if type_ in ("VARIANT", "OBJECT", "ARRAY"):
        return f"PARSE_JSON({name})" + ("" if type_ == "VARIANT" else f"::{type_}")
    return name if type_ == "TEXT" else f"{name}::{type_}"


def stored(value: Value) -> str | None:
    """Return the text that Snowflake converts to this value; None for null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, DateTime):
        return datetime_text(value) + " +0000"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | dict | Json):
        return json_text(value)
    return str(value)
