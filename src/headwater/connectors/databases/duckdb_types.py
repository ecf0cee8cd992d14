"""The column types of DuckDB as schema types, and their values."""

from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from headwater.connectors.contract import Column
from headwater.connectors.databases.placeholders import datetime_text
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
    Json,
    JsonType,
    MapType,
    ObjectType,
    Property,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    Value,
)
from headwater.schemas.types import MAX_SCALE

_SIMPLE: Final[Mapping[str, Type]] = {
    "boolean": BooleanType(),
    "tinyint": IntType(8),
    "smallint": IntType(16),
    "integer": IntType(32),
    "bigint": IntType(64),
    "hugeint": DecimalType(39),
    "utinyint": IntType(8, unsigned=True),
    "usmallint": IntType(16, unsigned=True),
    "uinteger": IntType(32, unsigned=True),
    "ubigint": IntType(64, unsigned=True),
    "uhugeint": DecimalType(39),
    "float": FloatType(32),
    "double": FloatType(64),
    "varchar": StringType(),
    "date": DateType(),
    "time": TimeType(),
    "timestamp": DateTimeType(),
    "timestamp_s": DateTimeType(),
    "timestamp_ms": DateTimeType(),
    "timestamp_ns": DateTimeType(),
    "timestamp with time zone": DateTimeType(),
    "uuid": UuidType(),
    "sqlnull": StringType(),
    '"null"': StringType(),
}
_ISSUES: Final[Mapping[str, str]] = {
    "blob": "bytes are not supported: use base64(column)",
    "interval": "intervals are not supported: use epoch(column)",
}


def make_column(name: str, type_: Any, *, nullable: bool = True) -> Column:
    """Return the column of a type of the driver."""
    found = _type(type_)
    if isinstance(found, str):
        return Column(name=name, type=None, nullable=nullable, writable=False, issue=found)
    return Column(name=name, type=found, nullable=nullable)


def _type(type_: Any) -> Type | str:
    """Return the schema type, or the reason why there is none."""
    id_ = type_.id
    if str(type_) == "JSON":
        return JsonType()
    if id_ in _SIMPLE:
        return _SIMPLE[id_]
    if id_ == "decimal":
        children = dict(type_.children)
        if children["scale"] > MAX_SCALE:
            return f"{type_} has more digits after the point than {MAX_SCALE}"
        return DecimalType(children["precision"], children["scale"])
    if id_ == "enum":
        return _enumeration(dict(type_.children)["values"])
    if id_ in ("list", "array"):
        element = _type(dict(type_.children)["child"])
        return element if isinstance(element, str) else ArrayType(element)
    if id_ == "map":
        children = dict(type_.children)
        value = _type(children["value"])
        if children["key"].id == "varchar":
            return value if isinstance(value, str) else MapType(value)
    if id_ == "struct":
        return _object(type_)
    return _ISSUES.get(id_, f"the type {str(type_)[:100]} is not supported: use CAST(column AS VARCHAR)")


def _enumeration(labels: list[str]) -> Type:
    try:
        return StringType(values=tuple(labels))
    except InvalidType:
        return StringType()


def _object(type_: Any) -> Type | str:
    properties = []
    for name, child in type_.children:
        found = _type(child)
        if isinstance(found, str):
            return found
        try:
            properties.append(Property(name, found, nullable=True))
        except InvalidType:
            return f"the member {name[:100]} of the struct is not a name of a property"
    return ObjectType(tuple(properties))


def reader(type_: Any) -> Callable[[Any], Value] | None:
    """Return the function that converts a value of the driver, which is not null; None for none."""
    found = _type(type_)
    if isinstance(found, str):
        return _nothing
    if isinstance(found, ArrayType):
        element = reader(dict(type_.children)["child"])
        return None if element is None else lambda values: [_converted(element, each) for each in values]
    if isinstance(found, MapType):
        value = reader(dict(type_.children)["value"])
        return None if value is None else lambda values: {key: _converted(value, each) for key, each in values.items()}
    if isinstance(found, ObjectType):
        readers = {name: reader(child) for name, child in type_.children}
        return lambda values: {name: _converted(readers[name], each) for name, each in values.items()}
    return _READERS.get(type(found))


def _converted(convert: Callable[[Any], Value] | None, value: Any) -> Value:
    return value if value is None or convert is None else convert(value)


def _nothing(_: Any) -> Value:
    return None


def _datetime(value: Any) -> Value:
    return DateTime.of(value) if isinstance(value, datetime) else str(value)


def _date(value: Any) -> Value:
    return value if isinstance(value, date) else str(value)


def _time(value: Any) -> Value:
    if not isinstance(value, time):
        return str(value)
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return Time((seconds * 1_000_000 + value.microsecond) * 1_000)


def _json(text: str) -> Value:
    try:
        return Json.parse(text)
    except InvalidValue:
        return text


_READERS: Final[Mapping[type, Callable[[Any], Value]]] = {
    DateTimeType: _datetime,
    DateType: _date,
    DecimalType: Decimal,
    JsonType: _json,
    TimeType: _time,
    UuidType: str,
}


def stored(value: Value) -> Any:
    """Return the value as the driver writes it: texts, which the database converts to the type of the column."""
    if isinstance(value, DateTime):
        return datetime_text(value) + "+00"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Time):
        return str(Time(value.nanoseconds // 1_000 * 1_000))
    if isinstance(value, Json):
        return json_text(value)
    if isinstance(value, list):
        return [stored(each) for each in value]
    if isinstance(value, dict):
        return {key: stored(each) for key, each in value.items()}
    return value
