"""The column types of PostgreSQL as schema types, and their values.

Values come in PostgreSQL's text format. A value that its schema type cannot represent, such as the timestamp
`infinity`, a year before 1 and the numeric `NaN`, stays text: normalisation rejects it with its row.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types import TypeInfo

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
    IpType,
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

_HEADER: Final = 4
"""Bytes that a type modifier counts in addition to the length or the precision."""


class TypeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A row of pg_type: `kind` is typtype, `labels` are those of an enumeration, `element` is that of an array."""

    name: str
    kind: str
    labels: tuple[str, ...] = ()
    element: int = 0
    is_builtin: bool = True


_SIMPLE: Final[Mapping[str, Type]] = {
    "bool": BooleanType(),
    "int2": IntType(16),
    "int4": IntType(32),
    "int8": IntType(64),
    "oid": IntType(32, unsigned=True),
    "float4": FloatType(32),
    "float8": FloatType(64),
    "text": StringType(),
    "citext": StringType(),
    "name": StringType(max_bytes=63),
    "char": StringType(max_bytes=4),
    "xml": StringType(),
    "cidr": StringType(),
    "macaddr": StringType(),
    "macaddr8": StringType(),
    "date": DateType(),
    "time": TimeType(),
    "timestamp": DateTimeType(),
    "timestamptz": DateTimeType(),
    "uuid": UuidType(),
    "json": JsonType(),
    "jsonb": JsonType(),
    "inet": IpType(),
}
_UNSUPPORTED: Final[Mapping[str, str]] = {
    "bytea": "bytes are not supported: use encode(column, 'base64')",
    "money": "money depends on the locale of the server: use column::numeric",
    "timetz": "a time of day with a zone is not supported: use column::time",
    "interval": "intervals are not supported: use extract(epoch FROM column)",
}


def column_type(type_: TypeDescription, modifier: int) -> Type | str:
    """Return the schema type, or the reason why there is none. `modifier` is -1 without one."""
    name = type_.name
    if type_.kind == "e":
        return _enumeration(type_.labels)
    if not type_.is_builtin and name != "citext":
        return f"the type {name} is not supported: use column::text"
    if name in ("varchar", "bpchar"):
        return StringType(max_length=modifier - _HEADER if modifier > _HEADER else None)
    if name == "numeric":
        return _decimal(modifier)
    if name in _SIMPLE:
        return _SIMPLE[name]
    return _UNSUPPORTED.get(name, f"the type {name} is not supported: use column::text")


def make_column(
    name: str,
    types: Mapping[int, TypeDescription],
    oid: int,
    modifier: int,
    *,
    nullable: bool = True,
    writable: bool = True,
) -> Column:
    """Return the column of a type's number."""
    description = types[oid]
    found: Type | str
    if description.element:
        element = column_type(types[description.element], modifier)
        found = element if isinstance(element, str) else ArrayType(element)
    else:
        found = column_type(description, modifier)
    if isinstance(found, str):
        return Column(name=name, type=None, nullable=nullable, writable=False, issue=found)
    return Column(name=name, type=found, nullable=nullable, writable=writable)


def _enumeration(labels: tuple[str, ...]) -> Type:
    try:
        return StringType(values=labels)
    except InvalidType:  # no labels, or labels that are not in Unicode's normalization form C
        return StringType()


def _decimal(modifier: int) -> Type | str:
    if modifier < _HEADER:
        return DecimalType(MAX_PRECISION, MAX_SCALE)
    precision = (modifier - _HEADER) >> 16 & 0xFFFF
    scale = ((modifier - _HEADER & 0x7FF) ^ 0x400) - 0x400
    if scale < 0:  # numeric(3, -2) rounds to hundreds
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    if precision > MAX_PRECISION or scale > MAX_SCALE:
        return f"numeric({precision},{scale}) has more digits than the maximum of decimal({MAX_PRECISION},{MAX_SCALE})"
    return DecimalType(precision, scale)


class _TextLoader(Loader):
    def load(self, data: Buffer) -> Value:
        return str(data, "utf-8")


class _DateTimeLoader(Loader):
    def load(self, data: Buffer) -> Value:
        text = str(data, "ascii")
        try:
            return DateTime.of(datetime.fromisoformat(text))
        except ValueError:
            return text


class _DateLoader(Loader):
    def load(self, data: Buffer) -> Value:
        text = str(data, "ascii")
        try:
            return date.fromisoformat(text)
        except ValueError:
            return text


class _TimeLoader(Loader):
    def load(self, data: Buffer) -> Value:
        text = str(data, "ascii")
        try:
            return Time.parse(text)
        except ValueError:
            return text


class _DecimalLoader(Loader):
    def load(self, data: Buffer) -> Value:
        value = Decimal(str(data, "ascii"))
        return value if value.is_finite() else str(value)


class _JsonLoader(Loader):
    def load(self, data: Buffer) -> Value:
        text = str(data, "utf-8")
        try:
            return Json.parse(text)
        except InvalidValue:
            return text


class _IpLoader(Loader):
    def load(self, data: Buffer) -> Value:
        text = str(data, "ascii").partition("/")[0]
        return text if "." in text and ":" not in text else str(ipaddress.ip_address(text))


class _NullLoader(Loader):
    """Loads nothing, for columns whose type is not supported."""

    def load(self, data: Buffer) -> Value:
        return None


_LOADERS: Final[Mapping[str, type[Loader]]] = {
    "cidr": _TextLoader,
    "date": _DateLoader,
    "inet": _IpLoader,
    "json": _JsonLoader,
    "jsonb": _JsonLoader,
    "numeric": _DecimalLoader,
    "time": _TimeLoader,
    "timestamp": _DateTimeLoader,
    "timestamptz": _DateTimeLoader,
    "uuid": _TextLoader,
}
"""The loaders of types whose values psycopg loads as other objects. Arrays load their elements with them."""


def register_loaders(connection: Connection[Any]) -> None:
    """Let a connection load the builtin types as schema values."""
    for name, loader in _LOADERS.items():
        connection.adapters.register_loader(name, loader)


def register_types(connection: Connection[Any], types: Mapping[int, TypeDescription], used: Iterable[int]) -> None:
    """Let a connection load enumerations, extension types and their arrays, and skip what is not supported."""
    for oid in used:
        description = types[oid]
        element = types.get(description.element)
        if isinstance(column_type(element or description, -1), str):
            connection.adapters.register_loader(oid, _NullLoader)
        elif element is not None and (not element.is_builtin or element.kind == "e"):
            connection.adapters.register_loader(description.element, _TextLoader)
            TypeInfo(element.name, description.element, oid).register(connection)


def copy_text(value: Value) -> str | None:
    """Return the text that PostgreSQL's input functions read as this value; None for null."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, DateTime):
        return datetime_text(value) + "+00"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Time):
        return _microseconds(value)
    if isinstance(value, list):
        return "{" + ",".join(_element(each) for each in value) + "}"
    if isinstance(value, dict | Json):
        return json_text(value)
    return str(value)


def _microseconds(value: Time) -> str:
    return str(Time(value.nanoseconds // 1_000 * 1_000))


def _element(value: Value) -> str:
    text = copy_text(value)
    if text is None:
        return "NULL"
    if isinstance(value, list):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
