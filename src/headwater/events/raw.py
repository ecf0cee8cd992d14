"""Works on JSON that stays text: looks at it, takes its members apart and puts them together, changing no value."""

import msgspec
from msgspec import Raw

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

ABSENT = Raw()
"""The text of a member that was not sent."""


def is_absent(text: Raw) -> bool:
    """Whether a member was not sent, or sent as null: the dialects make no difference between the two."""
    return not text or bytes(text) == b"null"


def is_object(text: Raw) -> bool:
    """Whether the text, which is valid JSON, is an object."""
    return bytes(memoryview(text)[:1]) == b"{"


def members(text: Raw) -> dict[str, Raw]:
    """The members of an object; of repeated ones the last. Absent gives none."""
    return {} if is_absent(text) else _members(text)


def join(parts: dict[str, Raw]) -> Raw:
    """An object of these members."""
    return Raw(_encode(parts))


def merge(defaults: Raw, own: Raw) -> Raw:
    """`own`, with what only `defaults` has: section by section, and inside a section member by member."""
    if is_absent(defaults):
        return own
    merged = members(defaults)
    for name, value in members(own).items():
        default = merged.get(name, ABSENT)
        if is_object(value) and is_object(default):
            value = join(members(default) | members(value))
        merged[name] = value
    return join(merged)
