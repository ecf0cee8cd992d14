"""Conversions of JSON values to every type, and the way into them by keys.

Strict about what a JSON value is: no string becomes a number or a boolean, and no number becomes a date.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.schemas import (
    ArrayType,
    DecimalType,
    FloatType,
    IntType,
    InvalidValue,
    Json,
    JsonType,
    MapType,
    ObjectType,
    StringType,
    Type,
    YearType,
    check_of,
)
from headwater.transforms.mapping.conversions import moments, numbers
from headwater.transforms.mapping.conversions.containers import (
    Conversion,
    Member,
    array_conversion,
    map_conversion,
    object_conversion,
    when_null,
)
from headwater.transforms.mapping.conversions.texts import text_check

_INTEGER: Final = re.compile(r"(-?[0-9]+)(?:\.0)?")
_MAX_DIGITS: Final = 20
_string = msgspec.json.Decoder(str).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_elements = msgspec.json.Decoder(list[Raw]).decode
_BOOLEANS: Final = {"true": True, "false": False}
_OF_STRING: Final[dict[str, Callable[[str], Any]]] = {
    "datetime": moments.datetime_of_iso,
    "date": moments.date_of_iso,
    "time": moments.time_of_text,
    "uuid": moments.uuid_of_text,
    "ip": moments.ip_of_text,
}


def from_json(target: Type) -> Conversion | None:
    """The conversion to the target; None when it is json as well."""
    match target:
        case JsonType():
            return None
        case StringType():
            convert = _to_string(target)
        case IntType() | YearType():
            convert = _to_int(target)
        case FloatType():
            convert = _chain(_number, numbers.float_of_text, numbers.to_float(target))
        case DecimalType():
            convert = _chain(_number, numbers.decimal_of_text(target))
        case ArrayType():
            convert = _to_array(target)
        case MapType():
            of_map = map_conversion(from_json(target.element_type))
            convert = json_members if of_map is None else _chain(json_members, of_map)
        case ObjectType():
            members = [Member(each.name, from_json(each.type), when_null(each)) for each in target]
            convert = _chain(json_members, object_conversion(members))
        case _ if target.kind == "boolean":
            convert = _boolean
        case _:
            convert = _chain(json_string, _OF_STRING[target.kind])

    def convert_unless_null(value: Json) -> Any:
        return None if value.text == "null" else convert(value)

    return convert_unless_null


def _chain(first: Conversion, *others: Conversion) -> Conversion:
    if not others:
        return first
    second = _chain(*others)
    return lambda value: second(first(value))


def json_members(value: Json) -> dict[str, Json]:
    """The members of a JSON object. Raises InvalidValue when the value is not one."""
    if value.text[0] != "{":
        raise InvalidValue("must be a JSON object")
    return {key: Json(bytes(raw).decode()) for key, raw in _decode(_members, value).items()}


def json_member(value: Json, key: str) -> Json | None:
    """One member of a JSON object, None when it has no such. Raises InvalidValue when the value is not an object."""
    if value.text[0] != "{":
        raise InvalidValue("must be a JSON object")
    raw = _decode(_members, value).get(key)
    return None if raw is None else Json(bytes(raw).decode())


def json_elements(value: Json) -> list[Json]:
    """The elements of a JSON array. Raises InvalidValue when the value is not one."""
    if value.text[0] != "[":
        raise InvalidValue("must be a JSON array")
    return [Json(bytes(raw).decode()) for raw in _decode(_elements, value)]


def json_string(value: Json) -> str:
    """What a JSON string says. Raises InvalidValue when the value is not one."""
    if value.text[0] != '"':
        raise InvalidValue("must be a JSON string")
    text: str = _decode(_string, value)
    return text


def json_text(value: Json) -> str:
    """What a JSON string says, or the text of a number, boolean or null. Raises InvalidValue for arrays and objects."""
    first = value.text[0]
    if first == '"':
        return json_string(value)
    if first in "[{":
        raise InvalidValue("must be a JSON string, number or boolean")
    return value.text


def _decode(decode: Callable[[str], Any], value: Json) -> Any:
    try:
        return decode(value.text)
    except msgspec.DecodeError:  # an escape of half a surrogate pair, which is JSON but not Unicode
        raise InvalidValue("must not contain lone surrogates") from None


def _to_string(target: StringType) -> Conversion:
    finish = text_check(target)
    return json_text if finish is None else _chain(json_text, finish)


def _boolean(value: Json) -> bool:
    boolean = _BOOLEANS.get(value.text)
    if boolean is None:
        raise InvalidValue("must be true or false in JSON")
    return boolean


def _number(value: Json) -> str:
    if value.text[0] not in "-0123456789":
        raise InvalidValue("must be a JSON number")
    return value.text


def _to_int(target: IntType | YearType) -> Conversion:
    check = check_of(target)

    def convert(value: Json) -> int:
        match = _INTEGER.fullmatch(value.text)
        if match is None:
            raise InvalidValue("must be a JSON number without a fraction or exponent")
        number = int(match[1][: _MAX_DIGITS + 2])  # still out of every range if it was, however long
        check(number)
        return number

    return convert


def _to_array(target: ArrayType) -> Conversion:
    of_array = array_conversion(from_json(target.element_type), target)

    def convert(value: Json) -> Any:
        first = value.text[0]
        if first == "{":
            raise InvalidValue("must not be a JSON object")
        return of_array(json_elements(value) if first == "[" else [value])

    return convert
