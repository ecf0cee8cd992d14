"""Parses types and schemas from their JSON form. Unknown members and kinds are errors.

Every text is brought into Unicode's normalization form C. `charLen`, which older documents use, is read as `maxLength`.
Responses of the API have empty lists in types of every kind, so these are no unknown members.
"""

import json
import unicodedata
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from headwater.schemas import types as t
from headwater.schemas.errors import InvalidType
from headwater.schemas.json_value import find_repeated


def parse_type(text: str | bytes) -> t.Type:
    """Parse a type. Raises InvalidType with the path of the invalid member."""
    return read_type(_load(text))


def parse_schema(text: str | bytes) -> t.Schema | None:
    """Parse a schema, None for `null`. Raises InvalidType, also for any kind but object."""
    return read_schema(_load(text))


def read_type(document: object) -> t.Type:
    """Return the type in a decoded JSON value: dicts, lists, strings, booleans, ints, floats or Decimals.

    Raises InvalidType.
    """
    return _read(document, t.MAX_DEPTH)


def read_schema(document: object) -> t.Schema | None:
    """Return the schema in a decoded JSON value, None for None. Raises InvalidType."""
    if document is None:
        return None
    type = read_type(document)
    if not isinstance(type, t.ObjectType):
        raise InvalidType("must be object", "kind")
    return type


# --- JSON ---------------------------------------------------------------------------------------------------------


class _Members(dict[str, object]):
    """An object that remembers a repeated member."""

    repeated: str | None = None


def _members(pairs: list[tuple[str, object]]) -> _Members:
    members = _Members(pairs)
    if len(members) != len(pairs):
        members.repeated = find_repeated(name for name, _ in pairs)
    return members


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # the exponent exceeds every limit; every key rejects a value that is not a number
        return Decimal("NaN")


def _whole_number(text: str) -> int | Decimal:
    return int(text) if len(text) <= 100 else _number(text)


def _constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=_number, parse_int=_whole_number, parse_constant=_constant
)


def _load(text: str | bytes) -> object:
    try:
        decoded: object = _decoder.decode(text.decode() if isinstance(text, bytes) else text)
    except RecursionError as error:
        raise InvalidType(f"is nested deeper than {t.MAX_DEPTH} levels") from error
    except ValueError as error:  # also raised for text that is not UTF-8
        raise InvalidType(f"must be JSON in UTF-8: {error}") from error
    return decoded


_LISTS: Final = frozenset({"values", "properties"})
"""The members of types that are lists."""


# --- Types --------------------------------------------------------------------------------------------------------


def _read(document: object, levels: int) -> t.Type:
    if levels == 0:
        raise InvalidType(f"is nested deeper than {t.MAX_DEPTH} levels")
    members = _object(document)
    if "kind" not in members:
        raise InvalidType("is missing", "kind")
    kind = members["kind"]
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise InvalidType(f"must be one of {', '.join(t.KINDS)}", "kind")
    keys, read = reader
    for key, value in members.items():
        if key != "kind" and key not in keys and not (key in _LISTS and value == []):
            raise InvalidType(_unknown(key, f"a type of kind {kind}", keys), _quoted(key))
    return read(members, levels - 1)


def _string(members: Mapping[str, object], levels: int) -> t.Type:
    if "charLen" in members and "maxLength" in members:
        raise InvalidType("means the same as maxLength: give only one", "charLen")
    length = "charLen" if "charLen" in members else "maxLength"
    values = members.get("values")
    if "values" in members and not isinstance(values, list):
        raise InvalidType("must be an array of strings", "values")
    return t.StringType(
        max_length=_int(members, length) if length in members else None,
        max_bytes=_int(members, "maxBytes") if "maxBytes" in members else None,
        pattern=_text(members["pattern"], "pattern") if "pattern" in members else None,
        values=tuple(_text(value, f"values[{index}]") for index, value in enumerate(values))
        if isinstance(values, list) and values
        else None,
    )


def _integer(members: Mapping[str, object], levels: int) -> t.Type:
    return t.IntType(
        _int(members, "bitSize"),
        _flag(members, "unsigned"),
        _int(members, "minimum") if "minimum" in members else None,
        _int(members, "maximum") if "maximum" in members else None,
    )


def _float(members: Mapping[str, object], levels: int) -> t.Type:
    minimum, maximum = _bound(members, "minimum"), _bound(members, "maximum")
    return t.FloatType(
        _int(members, "bitSize"),
        _flag(members, "real"),
        None if minimum is None else float(minimum),
        None if maximum is None else float(maximum),
    )


def _decimal(members: Mapping[str, object], levels: int) -> t.Type:
    return t.DecimalType(
        _int(members, "precision"),
        _int(members, "scale") if "scale" in members else 0,
        _bound(members, "minimum"),
        _bound(members, "maximum"),
    )


def _array(members: Mapping[str, object], levels: int) -> t.Type:
    return t.ArrayType(
        _element(members, levels),
        _int(members, "minElements") if "minElements" in members else 0,
        _int(members, "maxElements") if "maxElements" in members else t.MAX_ELEMENTS,
        _flag(members, "uniqueElements"),
    )


def _map(members: Mapping[str, object], levels: int) -> t.Type:
    return t.MapType(_element(members, levels))


def _element(members: Mapping[str, object], levels: int) -> t.Type:
    if "elementType" not in members:
        raise InvalidType("is missing", "elementType")
    try:
        return _read(members["elementType"], levels)
    except InvalidType as error:
        raise error.under("elementType") from error


def _object_type(members: Mapping[str, object], levels: int) -> t.Type:
    documents = members.get("properties")
    if not isinstance(documents, list):
        raise InvalidType("must be an array" if "properties" in members else "is missing", "properties")
    properties: list[t.Property] = []
    for index, document in enumerate(documents):
        try:
            properties.append(_property(document, levels))
        except InvalidType as error:
            raise error.under(f"properties[{index}]") from error
    return t.ObjectType(tuple(properties))


_PROPERTY_KEYS: Final = (
    "name", "prefilled", "type", "createRequired", "updateRequired", "readOptional", "nullable", "description",
)  # fmt: skip


def _property(document: object, levels: int) -> t.Property:
    members = _object(document)
    for key in members:
        if key not in _PROPERTY_KEYS:
            raise InvalidType(_unknown(key, "a property", _PROPERTY_KEYS), _quoted(key))
    for key in ("name", "type"):
        if key not in members:
            raise InvalidType("is missing", key)
    try:
        type = _read(members["type"], levels)
    except InvalidType as error:
        raise error.under("type") from error
    return t.Property(
        _text(members["name"], "name"),
        type,
        prefilled=_text(members.get("prefilled", ""), "prefilled"),
        create_required=_flag(members, "createRequired"),
        update_required=_flag(members, "updateRequired"),
        read_optional=_flag(members, "readOptional"),
        nullable=_flag(members, "nullable"),
        description=_text(members.get("description", ""), "description"),
    )


_Reader = tuple[tuple[str, ...], Callable[[Mapping[str, object], int], t.Type]]


def _plain(type: t.Type) -> _Reader:
    return (), lambda members, levels: type


_READERS: Final[dict[str, _Reader]] = {
    "string": (("maxBytes", "maxLength", "charLen", "pattern", "values"), _string),
    "boolean": _plain(t.BooleanType()),
    "int": (("bitSize", "unsigned", "minimum", "maximum"), _integer),
    "float": (("bitSize", "real", "minimum", "maximum"), _float),
    "decimal": (("minimum", "maximum", "precision", "scale"), _decimal),
    "datetime": _plain(t.DateTimeType()),
    "date": _plain(t.DateType()),
    "time": _plain(t.TimeType()),
    "year": _plain(t.YearType()),
    "uuid": _plain(t.UuidType()),
    "json": _plain(t.JsonType()),
    "ip": _plain(t.IpType()),
    "array": (("minElements", "maxElements", "uniqueElements", "elementType"), _array),
    "object": (("properties",), _object_type),
    "map": (("elementType",), _map),
}


# --- Members ------------------------------------------------------------------------------------------------------


def _object(document: object) -> Mapping[str, object]:
    if not isinstance(document, dict):
        raise InvalidType("must be an object")
    repeated = getattr(document, "repeated", None)
    if repeated is not None:
        raise InvalidType("is given twice", _quoted(repeated))
    return document


def _int(members: Mapping[str, object], key: str) -> int:
    if key not in members:
        raise InvalidType("is missing", key)
    value = members[key]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, Decimal) and value.is_finite() and "." not in str(value) and "E" not in str(value):
        raise InvalidType("is out of range", key)
    raise InvalidType("must be an integer", key)


def _bound(members: Mapping[str, object], key: str) -> Decimal | None:
    if key not in members:
        return None
    value = members[key]
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(repr(value))
    raise InvalidType("must be a number", key)


def _flag(members: Mapping[str, object], key: str) -> bool:
    value = members.get(key, False)
    if not isinstance(value, bool):
        raise InvalidType("must be a boolean", key)
    return value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise InvalidType("must be a string", key)
    return value if value.isascii() else unicodedata.normalize("NFC", value)


def _quoted(key: str) -> str:
    """Return the key as a component of a path: unchanged if it resembles a key of the format, otherwise cut and in
    JSON."""
    return key if key.isidentifier() and key.isascii() and len(key) <= 40 else f"[{json.dumps(key[:40])}]"


def _unknown(key: str, where: str, keys: tuple[str, ...]) -> str:
    hint = "; did you mean elementType?" if "elementType" in keys and key in ("elements", "items", "element") else ""
    return f"is not a key of {where}{hint}"
