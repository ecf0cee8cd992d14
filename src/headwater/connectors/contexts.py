"""Reads members of the context of a stored event.

Contexts are stored as clients send them: any member may be missing, null, or of another type than its documented one.
"""

from typing import Any, Final

import msgspec


class _Event(msgspec.Struct, frozen=True):
    context: Any = None


_decode: Final = msgspec.json.Decoder(_Event).decode


def read_context(document: bytes) -> dict[str, Any]:
    """Return the context of a stored event; an empty one if it is no object."""
    context = _decode(document).context
    return context if isinstance(context, dict) else {}


def find_text(context: dict[str, Any], name: str, member: str = "") -> str:
    """Return the text of a member of the context, or of a member of it. Numbers are texts; anything else is empty."""
    value = context.get(name)
    if member:
        value = value.get(member) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
