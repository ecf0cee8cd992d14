"""Reads the browser and the operating system from a user agent, by the rules of ua-parser.

Parsing one takes tens of microseconds, and loading the rules 30 ms and 8 MB once. So they are loaded at the first use,
and the results of the latest user agents are cached.
"""

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.context.names import BROWSER_FAMILIES, OTHER, SYSTEM_FAMILIES
from headwater.events.raw import ABSENT

if TYPE_CHECKING:
    from ua_parser.core import OS, Resolver, UserAgent

MAX_CACHED: Final = 4096
MAX_BYTES: Final = 1_000
"""Maximum size of a user agent, in bytes of its JSON. Usual ones have 200; this limits the cache."""
MAX_VERSION_LENGTH: Final = 25
"""Maximum length of a version. A longer one is ignored: user agents are free text, and some contain other text
there."""

UNKNOWN: Final = "Unknown"
"""The `other` name of a browser or system that the user agent does not name."""


class Agent(Struct, frozen=True):
    """The sections from a user agent, as JSON; ABSENT if it has none."""

    browser: Raw = ABSENT
    os: Raw = ABSENT


NO_AGENT: Final = Agent()


class _Section(Struct, omit_defaults=True):
    name: str
    other: str | None = None
    version: str | None = None


_decode = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def read_agent(user_agent: Raw) -> Agent:
    """Return the sections from a user agent, given as JSON; none if it is empty, too long or not a string."""
    return _agent(bytes(user_agent)) if len(user_agent) <= MAX_BYTES else NO_AGENT


@lru_cache(maxsize=MAX_CACHED)
def _agent(text: bytes) -> Agent:
    if len(text) <= 2 or not text.startswith(b'"'):
        return NO_AGENT
    from ua_parser.core import Domain

    found = _rules()(_decode(text), Domain.USER_AGENT | Domain.OS)
    return Agent(_section(found.user_agent, BROWSER_FAMILIES), _section(found.os, SYSTEM_FAMILIES))


@cache
def _rules() -> "Resolver":
    from ua_parser.loaders import load_lazy_builtins
    from ua_parser.re2 import Resolver

    browsers, systems, _ = load_lazy_builtins()
    return Resolver((browsers, systems, []))


def _section(found: "UserAgent | OS | None", families: dict[str, str]) -> Raw:
    if found is None:
        return Raw(_encode(_Section(OTHER, UNKNOWN)))
    name = families.get(found.family.lower(), OTHER)
    numbers: list[str] = []
    for part in (found.major, found.minor, found.patch):
        if not part:
            break
        numbers.append(part)
    version = ".".join(numbers)
    return Raw(
        _encode(
            _Section(
                name,
                found.family if name == OTHER else None,
                version if 0 < len(version) <= MAX_VERSION_LENGTH else None,
            )
        )
    )
