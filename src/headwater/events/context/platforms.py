"""The sections `browser` and `os`: the client's own with the names of the schema, or those of its user agent."""

from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw

from headwater.events.context.names import BROWSERS, OTHER, SYSTEMS
from headwater.events.raw import ABSENT, is_absent, is_object, is_string, join, members

MAX_CACHED: Final = 4096
MAX_BYTES: Final = 200
"""Maximum size of a section whose result is cached."""

_EMPTY: Final = b'""'
_AGENT_MEMBERS: Final = frozenset(("name", "version", "other"))
"""The members that a user agent provides. All others remain as sent, including empty and null ones."""
_decode = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def normalise_browser(sent: Raw, from_agent: Raw) -> Raw:
    """Normalise `context.browser`, which was sent, perhaps as null; `from_agent` is the user agent's, or ABSENT."""
    return _section(sent, from_agent, is_system=False)


def normalise_os(sent: Raw, from_agent: Raw) -> Raw:
    """Normalise `context.os`, which was sent, perhaps as null; `from_agent` is the user agent's, or ABSENT."""
    return _section(sent, from_agent, is_system=True)


def _section(sent: Raw, from_agent: Raw, *, is_system: bool) -> Raw:
    """Return the normalised section, or `sent` itself if nothing changes."""
    if is_absent(sent):
        return from_agent or sent
    if not is_object(sent):
        return sent
    own = bytes(sent)
    normal = (_remembered if len(own) <= MAX_BYTES else _normal)(own, bytes(from_agent), is_system)
    return Raw(normal) if normal != own else sent


def _normal(sent: bytes, from_agent: bytes, is_system: bool) -> bytes:
    own = members(Raw(sent))
    name = own.get("name", ABSENT)
    if is_absent(name) or bytes(name) == _EMPTY:
        known = {
            member: text
            for member, text in own.items()
            if member not in _AGENT_MEMBERS or not (is_absent(text) or bytes(text) == _EMPTY)
        }
        return bytes(join(members(Raw(from_agent)) | known)) if from_agent else sent
    if not is_string(name):
        return sent
    text = _decode(name)
    listed = (SYSTEMS if is_system else BROWSERS).get(text.lower())
    if listed == text:
        return sent
    if listed is None:
        return bytes(join(own | {"name": Raw(_encode(OTHER)), "other": name}))
    return bytes(join(own | {"name": Raw(_encode(listed))}))


_remembered = lru_cache(maxsize=MAX_CACHED)(_normal)
