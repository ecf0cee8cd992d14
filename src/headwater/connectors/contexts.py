"""Reads members of the context of a stored event.

Contexts are stored as clients send them: any member may be missing, null, or of another type than its documented one.
"""

from typing import Any, Final

import msgspec
from msgspec import Raw


class _Event(msgspec.Struct, frozen=True):
    context: Raw = Raw()


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode: Final = msgspec.json.Decoder().decode
_decode_parts: Final = msgspec.json.Decoder(dict[str, Raw]).decode


def find_context(document: bytes) -> dict[str, Any]:
    """Return the context of a stored event."""
    return read_object(_decode_event(document).context)


def read_object(text: Raw) -> dict[str, Any]:
    """Return the members of a JSON object in a stored event; none if it is missing, or another value.

    Members that have no value in Python, such as a number that is too large, are left out.
    """
    if not text:
        return {}
    try:
        value = _decode(text)
    except msgspec.DecodeError:
        value = _read_members(text)
    return value if isinstance(value, dict) else {}


def _read_members(text: Raw) -> dict[str, Any]:
    members: dict[str, Any] = {}
    try:
        parts = _decode_parts(text)
    except msgspec.DecodeError:
        return members
    for name, part in parts.items():
        try:
            members[name] = _decode(part)
        except msgspec.DecodeError:
            continue
    return members


def find_text(context: dict[str, Any], name: str, member: str = "") -> str:
    """Return the text of a member of the context, or of a member of it. Numbers are texts; anything else is empty."""
    value = context.get(name)
    if member:
        value = value.get(member) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
