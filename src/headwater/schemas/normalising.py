"""Compiles a schema into functions that check the values of connectors, and turn them into values of the schema.

Connectors return what their systems have: texts for numbers, floats for integers, datetimes of Python, JSON text for
objects. The table of accepted values is in docs/imports.md. A value that already has the class of its kind is only
checked. Messages never contain the value, so that equal problems are one error of a run.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

import msgspec
from msgspec import Raw

from headwater.schemas import types as t
from headwater.schemas.constraints import compile_check
from headwater.schemas.datetimes import DateTime, Time
from headwater.schemas.decimals import from_float, parse_decimal, plain
from headwater.schemas.decoding import key_component
from headwater.schemas.errors import InvalidValue
from headwater.schemas.floats import to_float32
from headwater.schemas.json_value import JSON_NULL, Json
from headwater.schemas.values import MISSING, Record, canonical_ip, canonical_uuid

Normalise = Callable[[Any], Any]
"""Returns the value of the schema, None for null. Raises InvalidValue with a path."""
RowNormaliser = Callable[[Sequence[Any]], Record]
RowsNormaliser = Callable[[Sequence[Sequence[Any]]], list[Record] | None]

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MAX_NUMBER_CHARACTERS: Final = 400
_NAMED: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_EXACT: Final = {32: 2**24, 64: 2**53}
"""The largest integer up to which floats of a size have every integer."""
_KEY: Final = re.compile(r'\["(?:[^"\\]|\\.)*"\]|\[[0-9]+\]')
"""An index or a key in a path; a key is a part of the value."""
_EMPTY_IS_NULL: Final = (t.DecimalType, t.DateTimeType, t.DateType, t.JsonType)
_NOT_NULL: Final = "cannot be null"

_decode_list: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def describe_problem(error: InvalidValue) -> str:
    """Return the message of a run for a value that cannot be normalised: it has the path and the problem, not the
    value."""
    path = _KEY.sub("[]", error.path)
    return f"property '{path}' {error.rule}" if path else f"the record {error.rule}"


def compile_normaliser(schema: t.Schema) -> Callable[[Mapping[str, Any]], Record]:
    """Return a function that normalises records of a connector. Attributes that the schema does not have are left
    out."""
    normalise: Callable[[Mapping[str, Any]], Record] = _object(schema)
    return normalise


def compile_row_normaliser(schema: t.Schema, columns: Sequence[str]) -> RowNormaliser:
    """Return a function that normalises rows with these columns. Columns that the schema does not have are left out.

    Each property of the schema is a column. A value can be MISSING.
    """
    positions = {name: index for index, name in enumerate(columns)}
    fields = [
        (property.name, positions[property.name], compile_property(property), property.read_optional)
        for property in schema
    ]

    def normalise(row: Sequence[Any]) -> Record:
        record: Record = {}
        for name, index, normalise_value, optional in fields:
            value = row[index]
            if value is MISSING:
                if optional:
                    continue
                raise InvalidValue("is missing", name)
            try:
                record[name] = normalise_value(value)
            except InvalidValue as error:
                raise error.under(name) from None
        return record

    return normalise


def compile_rows_normaliser(schema: t.Schema, columns: Sequence[str]) -> RowsNormaliser:
    """Return a function that normalises many rows together, column by column, which is several times as fast.

    It returns None if one of the rows cannot be normalised, or lacks a value: normalise them one by one then.
    """
    positions = {name: index for index, name in enumerate(columns)}
    names = tuple(schema.by_name)
    fields = [(positions[property.name], _column(property)) for property in schema]

    def normalise(rows: Sequence[Sequence[Any]]) -> list[Record] | None:
        if not rows:
            return []
        values = tuple(zip(*rows, strict=True))
        try:
            normalised = [normalise_column(values[index]) for index, normalise_column in fields]
        except (InvalidValue, TypeError):
            return None
        return [dict(zip(names, row, strict=False)) for row in zip(*normalised, strict=True)]

    return normalise


def _column(property: t.Property) -> Callable[[tuple[Any, ...]], Sequence[Any]]:
    """Return the normalisation of the values of a column. Raises InvalidValue or TypeError for any that is wrong."""
    normalise, nullable = compile_property(property), property.nullable

    def normalise_each(values: tuple[Any, ...]) -> Sequence[Any]:
        if MISSING in values:
            raise TypeError("a value is missing")
        return list(map(normalise, values))

    def check_texts(values: tuple[Any, ...]) -> Sequence[Any]:
        has_null = nullable and None in values
        joined = "".join([value for value in values if value is not None] if has_null else values)
        if "\0" in joined or not joined.isascii():
            return list(map(normalise, values))
        return values

    return check_texts if property.type == t.StringType() else normalise_each


def compile_property(property: t.Property) -> Normalise:
    """Return a function that normalises values of a property, None included."""
    type, nullable = property.type, property.nullable
    if isinstance(type, t.StringType):
        return _string(type, nullable)
    normalise = compile_value(type)
    empty_is_null = nullable and isinstance(type, _EMPTY_IS_NULL)

    def normalise_property(value: Any) -> Any:
        if value is None or (empty_is_null and (value == "" or value == b"")):
            if nullable:
                return None
            raise InvalidValue(_NOT_NULL)
        return normalise(value)

    return normalise_property


def compile_value(type: t.Type) -> Normalise:
    """Return a function that normalises values of a type that are not None."""
    match type:
        case t.ObjectType():
            return _parsed(_object(type), _decode_any)
        case t.ArrayType():
            return _array(type)
        case t.MapType():
            return _map(type)
        case t.StringType():
            return _string(type, nullable=False)
        case _:
            convert = _SCALARS[type.kind](type)
            check = compile_check(type)

            def normalise(value: Any) -> Any:
                converted = convert(value)
                check(converted)
                return converted

            return normalise


# --- Texts --------------------------------------------------------------------------------------------------------


def _string(type: t.StringType, nullable: bool) -> Normalise:
    is_plain = type == t.StringType()
    check = compile_check(type)
    empty_is_null = type.values is not None and "" not in type.values and nullable

    def normalise(value: Any) -> str | None:
        if value.__class__ is not str:
            if value is None:
                if nullable:
                    return None
                raise InvalidValue(_NOT_NULL)
            value = _text(value)
        if not value.isascii():
            _check_unicode(value)
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
    raise _unexpected("a string", value)


def _check_unicode(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue("is not text in UTF-8") from None


def _unexpected(expected: str, value: Any) -> InvalidValue:
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
    raise _unexpected("an integer", value)


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
            raise _unexpected("a number", value)
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
            raise _unexpected("a decimal", value)
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
        raise _unexpected("a decimal", value)

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
        raise _unexpected("a date and time", value)

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
        raise _unexpected("a date", value)

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
        raise _unexpected("a time", value)

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


# --- Containers ---------------------------------------------------------------------------------------------------


def _object(type: t.ObjectType) -> Normalise:
    fields = [(property.name, compile_property(property), property.read_optional) for property in type]

    def normalise(value: Any) -> Record:
        if not isinstance(value, Mapping):
            raise _unexpected("an object", value)
        record: Record = {}
        for name, normalise_value, optional in fields:
            if name not in value:
                if optional:
                    continue
                raise InvalidValue("is missing", name)
            try:
                record[name] = normalise_value(value[name])
            except InvalidValue as error:
                raise error.under(name) from None
        return record

    return normalise


def _array(type: t.ArrayType) -> Normalise:
    normalise_element = _element(type.element_type)
    check = compile_check(type)

    def normalise(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise _unexpected("a list", value)
        elements: list[Any] = []
        try:
            for element in value:
                elements.append(normalise_element(element))
        except InvalidValue as error:
            raise error.under(f"[{len(elements)}]") from None
        check(elements)
        return elements

    if isinstance(type.element_type, t.JsonType):
        return _parsed(normalise, lambda text: [Json(bytes(each).decode()) for each in _decode_list(text)])
    return _parsed(normalise, _decode_any)


def _map(type: t.MapType) -> Normalise:
    normalise_element = _element(type.element_type)

    def normalise(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _unexpected("a map", value)
        elements: dict[str, Any] = {}
        for key, element in value.items():
            if not isinstance(key, str):
                raise InvalidValue("has a key that is not text")
            try:
                _check_unicode(key)
                if "\0" in key:
                    raise InvalidValue("has the NUL character in its key")
                elements[key] = normalise_element(element)
            except InvalidValue as error:
                raise error.under(key_component(key)) from None
        return elements

    if isinstance(type.element_type, t.JsonType):
        return _parsed(normalise, _decode_members_of_json)
    return _parsed(normalise, _decode_any)


def _element(type: t.Type) -> Normalise:
    """Return the normalisation of elements, which cannot be null. In JSON, null is a value."""
    normalise = compile_property(t.Property("element", type))
    if not isinstance(type, t.JsonType):
        return normalise
    return lambda value: JSON_NULL if value is None else normalise(value)


def _parsed(normalise: Normalise, decode: Callable[[str], Any]) -> Normalise:
    """Return a normalisation that accepts JSON text, too, as databases without nested types have it."""

    def parse_and_normalise(value: Any) -> Any:
        if isinstance(value, Json):
            value = value.text
        if isinstance(value, str | bytes):
            text = Json.parse(value).text if value else ""
            try:
                value = decode(text)
            except (msgspec.DecodeError, RecursionError):
                raise InvalidValue("is not JSON of the right form") from None
        return normalise(value)

    return parse_and_normalise


def _decode_members_of_json(text: str) -> Any:
    return {key: Json(bytes(raw).decode()) for key, raw in _decode_members(text).items()}
