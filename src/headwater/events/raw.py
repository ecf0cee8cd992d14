"""Reads, splits and joins JSON texts without changing their values."""

from typing import Final

import msgspec
from msgspec import Raw

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

_BRACE: Final = ord("{")
_BRACKET: Final = ord("[")
_QUOTE: Final = ord('"')
_NULL: Final = b"null"
_FINAL_BYTES: Final = frozenset((b'"', b"}", b"]"))
"""The possible bytes before the last brace of an object with members."""
_NUMBER: Final = frozenset(b"-0123456789")

ABSENT = Raw()
"""The text of a member that was not sent."""


def is_absent(text: Raw) -> bool:
    """Return whether a member was not sent, or sent as null, which the protocols treat alike."""
    return not text or (len(text) == len(_NULL) and bytes(text) == _NULL)


def is_object(text: Raw) -> bool:
    """Return whether the text, which is valid JSON, is an object."""
    return memoryview(text)[0] == _BRACE if text else False


def is_array(text: Raw) -> bool:
    """Return whether the text, which is valid JSON, is an array."""
    return memoryview(text)[0] == _BRACKET if text else False


def is_string(text: Raw) -> bool:
    """Return whether the text, which is valid JSON, is a string."""
    return memoryview(text)[0] == _QUOTE if text else False


def is_number(text: Raw) -> bool:
    """Return whether the text, which is valid JSON, is a number."""
    return memoryview(text)[0] in _NUMBER if text else False


def members(text: Raw) -> dict[str, Raw]:
    """Return the members of an object; the last of repeated ones. An absent text has none."""
    return {} if is_absent(text) else _members(text)


class _Name(str):
    """A member's name that equals only itself, so that a dict keeps repeated members."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_all_members = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=lambda name, text: name(text)).decode


def repeated_member(text: Raw, names: frozenset[str]) -> str | None:
    """Return the first of these names that an object has more than once: decoders silently use the last one."""
    all_names = [*map(str.__str__, _all_members(text))]
    if len(set(all_names)) == len(all_names):
        return None
    seen: set[str] = set()
    for name in all_names:
        if name in seen and name in names:
            return name
        seen.add(name)
    return None


def join(parts: dict[str, Raw]) -> Raw:
    """Return an object with these members."""
    return Raw(_encode(parts))


def merge(defaults: Raw, own: Raw) -> Raw:
    """Return `own` with the members that only `defaults` has: by section, and inside a section by member."""
    if is_absent(defaults):
        return own
    merged = members(defaults)
    for name, value in members(own).items():
        default = merged.get(name, ABSENT)
        if is_object(value) and is_object(default):
            value = join(members(default) | members(value))
        merged[name] = value
    return join(merged)


def change_members(text: Raw, replaced: dict[str, Raw], added: dict[str, Raw]) -> Raw:
    """Return the object with some members `replaced`, where ABSENT removes one, and others `added` at its end.

    The object, which may be absent, must not have the added members. Without replaced members its text is not decoded.
    """
    if replaced:
        parts = members(text)
        for name, value in replaced.items():
            if value:
                parts[name] = value
            else:
                del parts[name]
        text = join(parts)
    return append_members(text, b"," + bytes(join(added))[1:]) if added else text


def append_members(text: Raw, suffix: bytes) -> Raw:
    """Return the object, which may be absent, with more members at its end.

    `suffix` is empty, or the JSON of the members with a comma instead of the first brace.
    """
    if not suffix:
        return text
    own = bytes(text)
    if own[-2:-1] in _FINAL_BYTES:
        return Raw(own[:-1] + suffix)
    if is_absent(text):
        return Raw(b"{" + suffix[1:])
    body = own[:-1].rstrip()
    return Raw(body + (suffix[1:] if body.endswith(b"{") else suffix))
