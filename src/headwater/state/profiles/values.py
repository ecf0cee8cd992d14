"""The scalar attributes of profiles as rows of `profile_values`, by which profiles are found and ordered.

The rows of one property are together, in the order of the profiles. So those of new profiles are appended, and one
property of a million profiles is read in a tenth of a second. A value is a text that sorts as the attribute does:

    B0, B1    false and true
    N...      a number: 16 hexadecimal digits that sort as the double that is nearest to it
    T...      a string, at most `MAX_TEXT` characters; a longer one, or one with NUL, is shortened and padded
    A...      an array of scalars as JSON, at most `MAX_ARRAY` characters, or `LONG_ARRAY`; arrays are not sorted
"""

import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from headwater.schemas.names import is_property_name

MAX_TEXT: Final = 64
"""Maximum number of characters of a string that is kept as a whole. No value of a filter is longer."""
PADDING: Final = "\x01"
MAX_ARRAY: Final = 200
LONG_ARRAY: Final = "A" + PADDING
"""The value of an array that is longer."""
_PACK: Final = struct.Struct(">d").pack
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1


ValueRow = tuple[int, int, str]
"""A row of `profile_values`."""


@lru_cache(maxsize=10_000)
def property_key(workspace: int, path: str) -> int:
    """Return the key of a property: 48 bits of a hash."""
    return int.from_bytes(blake2b(f"{workspace}:{path}".encode(), digest_size=6).digest())


def read_values(workspace: int, attributes: str) -> dict[int, str]:
    """Return the values of the attributes, a JSON object, by the keys of their properties.

    Objects and nulls have none. The schema is not needed: members of maps have values too. Attributes with a text that
    is not Unicode have none.
    """
    found: dict[int, str] = {}
    if attributes != "{}":
        with suppress(msgspec.DecodeError):
            _collect(workspace, "", _decode(attributes), found)
    return found


def new_rows(workspace: int, profiles: Sequence[tuple[int, str]]) -> list[ValueRow]:
    """Return the rows of new profiles, given by id and attributes, in the order of the ids. The rows are sorted."""
    by_property: dict[int, list[ValueRow]] = {}
    by_name: dict[str, tuple[int, list[ValueRow]]] = {}
    """The same lists by the names of top-level properties."""
    for id_, members in zip([id_ for id_, _ in profiles], _decode_all(profiles), strict=True):
        others: dict[str, Any] = {}
        for name, value in members.items():
            if value.__class__ is str and len(value) <= MAX_TEXT and name in by_name and "\0" not in value:
                property, rows = by_name[name]
                rows.append((property, id_, "T" + value))
            else:
                others[name] = value
        if not others:
            continue
        found: dict[int, str] = {}
        _collect(workspace, "", others, found)
        for property, value in found.items():
            by_property.setdefault(property, []).append((property, id_, value))
        for name in others:
            if (known := _property(workspace, name, name)) is not None and known in by_property:
                by_name[name] = known, by_property[known]
    return [row for property in sorted(by_property) for row in by_property[property]]


def text_value(text: str) -> str:
    """Return the value of a string."""
    if len(text) <= MAX_TEXT and "\0" not in text:
        return "T" + text
    return "T" + text[:MAX_TEXT].partition("\0")[0].ljust(MAX_TEXT + 1, PADDING)


def number_value(number: float) -> str:
    """Return the value of a number."""
    bits = int.from_bytes(_PACK(_double(number) + 0.0))
    return f"N{bits ^ (_ALL if bits & _SIGN else _SIGN):016x}"


def boolean_value(boolean: bool) -> str:
    """Return the value of a boolean."""
    return "B1" if boolean else "B0"


def array_value(elements: list[Any]) -> str:
    """Return the value of an array."""
    text = json_text(elements)
    return "A" + text if len(text) <= MAX_ARRAY else LONG_ARRAY


def json_text(value: Any) -> str:
    """Return an array or one of its elements as JSON."""
    return _encode(value).decode()


def _collect(workspace: int, prefix: str, members: dict[str, Any], found: dict[int, str]) -> None:
    for name, value in members.items():
        kind = value.__class__
        if kind is str:
            encoded = "T" + value if len(value) <= MAX_TEXT and "\0" not in value else text_value(value)
        elif kind is bool:
            encoded = boolean_value(value)
        elif kind is int or kind is float:
            encoded = number_value(value)
        elif kind is dict and _property(workspace, prefix + name, name) is not None:
            _collect(workspace, f"{prefix}{name}.", value, found)
            continue
        elif kind is list:
            encoded = array_value(value)
        else:
            continue
        if (property := _property(workspace, prefix + name, name)) is not None:
            found[property] = encoded


def _decode_all(profiles: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """Return the attributes of each profile; none for attributes with a text that is not Unicode."""
    with suppress(msgspec.DecodeError):
        return _decode_list(f"[{','.join([attributes for _, attributes in profiles])}]")
    decoded: list[dict[str, Any]] = []
    for _, attributes in profiles:
        members: dict[str, Any] = {}
        with suppress(msgspec.DecodeError):
            members = _decode(attributes)
        decoded.append(members)
    return decoded


@lru_cache(maxsize=10_000)
def _property(workspace: int, path: str, name: str) -> int | None:
    """Return the key of a property; None if its name cannot be that of one."""
    return property_key(workspace, path) if is_property_name(name) else None


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any], float_hook=float).decode
_decode_list: Final = msgspec.json.Decoder(list[dict[str, Any]], float_hook=float).decode
