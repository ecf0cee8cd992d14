"""Conversions of JSON values to every type, and lookups inside them by keys.

JSON types are strict: strings do not convert to numbers or booleans, nor numbers to dates.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.schemas import InvalidValue, Json, compile_check
from headwater.schemas import types as t
from headwater.transforms.mapping.conversions import datetimes, numbers
from headwater.transforms.mapping.conversions.containers import (
    Conversion,
    Member,
    array_conversion,
    map_conversion,
    object_conversion,
    when_null,
)
from headwater.transforms.mapping.conversions.texts import compile_text_check

_INTEGER: Final = re.compile(rb"(-?[0-9]+)(?:\.0)?")
_MAX_DIGITS: Final = 22
_SURROGATES: Final = "must not contain lone surrogates"
"""The rule for JSON with an escape of half a surrogate pair. It is valid JSON but not Unicode, so it cannot be
decoded."""
_QUOTE, _BRACE, _BRACKET = b'"{['
_OPENING: Final = b"{["
_NUMERIC: Final = b"-0123456789"
_string = msgspec.json.Decoder(str).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_elements = msgspec.json.Decoder(list[Raw]).decode
_BOOLEANS: Final = {b"true": True, b"false": False}
_FROM_STRING: Final[dict[str, Callable[[str], Any]]] = {
    "datetime": datetimes.iso_to_datetime,
    "date": datetimes.iso_to_date,
    "time": datetimes.text_to_time,
    "uuid": datetimes.text_to_uuid,
    "ip": datetimes.text_to_ip,
}


Text = bytes | Raw
Reader = Callable[[Text], Any]
"""Reads a value from its JSON text, without spaces between its tokens. Returns None for null. Raises InvalidValue."""


def from_json(target: t.Type) -> Conversion | None:
    """Return the conversion to the target; None if it is json as well."""
    if isinstance(target, t.JsonType):
        return None
    read = compile_reader(target)
    return lambda value: read(value.text.encode())


def compile_reader(target: t.Type) -> Reader:
    """Return `from_json` for the text of a JSON value."""
    match target:
        case t.JsonType():
            return lambda raw: Json(bytes(raw).decode())
        case t.StringType():
            return _string_reader(target)
        case t.IntType() | t.YearType():
            read = _int_reader(target)
        case t.FloatType():
            read = _chain(_number, numbers.text_to_float, numbers.to_float(target))
        case t.DecimalType():
            read = _chain(_number, numbers.text_to_decimal(target))
        case t.ArrayType():
            read = _array_reader(target)
        case t.MapType():
            read = _chain(_decode_members, map_conversion(compile_reader(target.element_type)))
        case t.ObjectType():
            members = [Member(each.name, compile_reader(each.type), when_null(each)) for each in target]
            read = _chain(_decode_members, object_conversion(members))
        case _ if target.kind == "boolean":
            read = _boolean
        case _:
            read = _chain(_decode_string, _FROM_STRING[target.kind])
    return lambda raw: None if (text := bytes(raw)) == b"null" else read(text)


def json_to_text(raw: Text) -> str:
    """Return the decoded JSON string, or the text of a number, boolean or null. Raises InvalidValue for arrays and
    objects."""
    try:
        string: str = _string(raw)  # first, because nearly all are strings, and checking costs as much as decoding
    except msgspec.DecodeError:
        pass
    else:
        return string
    text = bytes(raw)
    if text[0] == _QUOTE:
        raise InvalidValue(_SURROGATES)
    if text[0] in _OPENING:
        raise InvalidValue("must be a JSON string, number or boolean")
    return text.decode()


def measure_json(text: bytes) -> int:
    """Return the number of members, elements or code points; 0 for null."""
    match text[:1]:
        case b"{":
            return len(_decode_members(text))
        case b"[":
            return len(_decode_elements(text))
        case b"n":
            return 0
        case _:
            return len(json_to_text(text))


def _chain(first: Callable[[Any], Any], *others: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    if not others:
        return first
    second = _chain(*others)
    return lambda text: second(first(text))


def _decode_members(text: bytes) -> dict[str, Raw]:
    if text[0] != _BRACE:
        raise InvalidValue("must be a JSON object")
    members: dict[str, Raw] = _decode(_members, text)
    return members


def _decode_elements(text: bytes) -> list[Raw]:
    elements: list[Raw] = _decode(_elements, text)
    return elements


def _decode_string(text: bytes) -> str:
    if text[0] != _QUOTE:
        raise InvalidValue("must be a JSON string")
    try:
        string: str = _string(text)
    except msgspec.DecodeError:
        raise InvalidValue(_SURROGATES) from None
    return string


def _decode(decode: Callable[[bytes], Any], text: bytes) -> Any:
    try:
        return decode(text)
    except msgspec.DecodeError:
        raise InvalidValue(_SURROGATES) from None


def _string_reader(target: t.StringType) -> Reader:
    finish = compile_text_check(target)

    def read(raw: Text) -> str | None:
        try:
            string: str = _string(raw)
        except msgspec.DecodeError:
            if bytes(raw) == b"null":
                return None
            string = json_to_text(raw)
        return string if finish is None else finish(string)

    return read


def _boolean(text: bytes) -> bool:
    boolean = _BOOLEANS.get(text)
    if boolean is None:
        raise InvalidValue("must be true or false in JSON")
    return boolean


def _number(text: bytes) -> str:
    if text[0] not in _NUMERIC:
        raise InvalidValue("must be a JSON number")
    return text.decode()


def _int_reader(target: t.IntType | t.YearType) -> Callable[[bytes], Any]:
    check = compile_check(target)

    def read(text: bytes) -> int:
        digits = text
        if not text.isdigit():
            match = _INTEGER.fullmatch(text)
            if match is None:
                raise InvalidValue("must be a JSON number without a fraction or exponent")
            digits = match[1]
        number = int(digits[:_MAX_DIGITS])  # the first digits of a longer number are already out of every range
        check(number)
        return number

    return read


def _array_reader(target: t.ArrayType) -> Callable[[bytes], Any]:
    of_array = array_conversion(compile_reader(target.element_type), target)

    def read(text: bytes) -> Any:
        if text[0] == _BRACE:
            raise InvalidValue("must not be a JSON object")
        return of_array(_decode_elements(text) if text[0] == _BRACKET else [text])

    return read
