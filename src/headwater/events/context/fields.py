"""The members of a context that are read, and the normal form of each small one.

`addresses`, `agents` and `platforms` have the larger rules: `ip`, `userAgent`, `browser` and `os`.
"""

import re
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.devices import DEVICE_EVENTS
from headwater.events.raw import ABSENT, is_absent, is_object, join, members

MAX_CACHED_LOCALES: Final = 1024
MAX_LOCALE_BYTES: Final = 32
"""Maximum size of a text that can be a locale of BCP 47 or POSIX."""


class Sections(Struct, rename="camel"):
    """One context, its members as sent: ABSENT if there is none, `null` if that was sent."""

    browser: Raw = ABSENT
    channel: Raw = ABSENT
    device: Raw = ABSENT
    ip: Raw = ABSENT
    locale: Raw = ABSENT
    location: Raw = ABSENT
    os: Raw = ABSENT
    screen: Raw = ABSENT
    session: Raw = ABSENT
    session_id: Raw = ABSENT
    session_start: Raw = ABSENT
    traits: Raw = ABSENT
    user_agent: Raw = ABSENT


class _Screen(Struct):
    density: Raw = ABSENT


NO_SECTIONS: Final = Sections()

_decode_sections = msgspec.json.Decoder(Sections).decode
_decode_screen = msgspec.json.Decoder(_Screen).decode

_LOCALE: Final = re.compile(
    r'"(?P<language>[a-z]{2,3})(?:[-_](?P<script>[a-z]{4}))?(?:[-_](?P<region>[a-z]{2}|[0-9]{3}))?(?:\.[a-z0-9-]+)?"',
    re.IGNORECASE | re.ASCII,
)
"""A language, optionally with its script and region, in the syntax of BCP 47 or POSIX, which may add an encoding."""

_FITTING_DENSITY: Final = re.compile(rb"[0-9](?:\.[0-9]{1,2})?")
_NUMBER: Final = re.compile(rb"[0-9][0-9.eE+-]{0,40}")
_HUNDREDTH: Final = Decimal("0.01")
_MIN_DENSITY, _DENSITY_LIMIT = Decimal("0.005"), Decimal("9.995")

_DIGITS: Final = re.compile(rb'("?)(0|-?[1-9][0-9]{0,18})\1')
_FLAGS: Final = (b"true", b"false")


def read_sections(context: Raw) -> Sections:
    """Return the sections of a context, which is an object, null or absent."""
    return NO_SECTIONS if len(context) <= len("null") and is_absent(context) else _decode_sections(context)


def find_described_device(event: str | None, properties: Raw) -> Raw:
    """Return `properties.device` of an event about a device; otherwise ABSENT.

    Some SDKs describe the device there instead of in the context.
    """
    if event not in DEVICE_EVENTS:
        return ABSENT
    described = members(properties).get("device", ABSENT)
    return described if is_object(described) else ABSENT


def normalise_locale(sent: Raw) -> Raw:
    """Return the locale in BCP 47's spelling, "en-US" for "en_us"; any other text as it was sent.

    A language without a region gets none, because the client has not sent one.
    """
    if len(sent) > MAX_LOCALE_BYTES:
        return sent
    own = bytes(sent)
    normal = _normalise_locale(own)
    return sent if normal == own else Raw(normal)


@lru_cache(maxsize=MAX_CACHED_LOCALES)
def _normalise_locale(sent: bytes) -> bytes:
    match = _LOCALE.fullmatch(sent.decode())
    if match is None:
        return sent
    parts = (match["language"].lower(), (match["script"] or "").title(), (match["region"] or "").upper())
    return f'"{"-".join(part for part in parts if part)}"'.encode()


def normalise_screen(sent: Raw) -> Raw:
    """Return the section with its density rounded to two decimals; the section itself if it fits already.

    Android computes seven digits, and the schema has two.
    """
    if not is_object(sent):
        return sent
    density = bytes(_decode_screen(sent).density)
    if _FITTING_DENSITY.fullmatch(density) or not _NUMBER.fullmatch(density):
        return sent
    value = Decimal(density.decode())
    if not _MIN_DENSITY <= value < _DENSITY_LIMIT:
        return sent
    rounded = value.quantize(_HUNDREDTH, ROUND_HALF_UP)
    return join(members(sent) | {"density": Raw(str(rounded).encode())})


def normalise_session(session: Raw, session_id: Raw, session_start: Raw) -> tuple[Raw, Raw, Raw]:
    """Return the members `session`, `sessionId` and `sessionStart` of a context: each as sent, changed, or ABSENT."""
    if not is_absent(session) and not is_object(session):
        return session, session_id, session_start
    own = members(session)
    parts = dict(own)
    if not is_absent(own.get("id", ABSENT)):
        parts["id"] = _digits(own["id"]) or own["id"]
    elif taken := _digits(session_id):
        parts["id"], session_id = taken, ABSENT
    if is_absent(own.get("start", ABSENT)) and bytes(session_start) in _FLAGS:
        parts["start"], session_start = session_start, ABSENT
    return session if parts == own else join(parts), session_id, session_start


def _digits(text: Raw) -> Raw:
    """Return a 64-bit integer in its JSON form, a string of digits; ABSENT if it is not one."""
    match = _DIGITS.fullmatch(bytes(text))
    if match is None or not -(2**63) <= int(match[2]) < 2**63:
        return ABSENT
    return Raw(b'"%s"' % match[2])
