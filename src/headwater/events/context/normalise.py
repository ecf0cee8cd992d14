"""Normalises the context of an event.

Most contexts need few changes. Only the members that change are encoded again; all others remain the text that was
sent, and a context without changes is not touched. The changes of browser, system, locale and screen depend on five
members only, and are cached by these: pages, sessions and traits differ from event to event, but devices repeat.
`addresses`, `agents` and `platforms` have the larger rules: `ip`, `userAgent`, `browser` and `os`.
"""

import re
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.context.addresses import choose_address
from headwater.events.context.agents import NO_AGENT, read_agent
from headwater.events.context.location import Locate
from headwater.events.context.platforms import normalise_browser, normalise_os
from headwater.events.devices import DEVICE_EVENTS
from headwater.events.event import EMPTY_OBJECT
from headwater.events.protocol import Envelope
from headwater.events.raw import ABSENT, append_members, change_members, is_absent, is_object, join, members, merge
from headwater.events.wire import parse_id, traits_in

MAX_CACHED_ENVIRONMENTS: Final = 2048
MAX_CACHED_BYTES: Final = 2048
"""Maximum total size of the five members whose changes are cached. The cache takes some megabytes at most."""

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

_encode = msgspec.json.Encoder().encode
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


class NormalContext(Struct, frozen=True):
    """The normalised context of an event."""

    text: Raw
    """The JSON that is stored; ABSENT if the context is empty."""
    channel: str | None
    """The channel of the context."""
    traits: Raw
    """The traits in the event's own context, not in the call's."""


class _Changes(Struct):
    """The members of a context that change."""

    replaced: dict[str, Raw]
    added: dict[str, Raw]
    suffix: bytes = b""
    """The JSON of `added`, with a comma instead of the first brace."""

    def note(self, name: str, sent: Raw, text: Raw) -> None:
        """Set the member `name` to `text`, which is the same object as `sent` if it does not change."""
        if text is not sent:
            (self.replaced if sent else self.added)[name] = text


def normal_context(
    own: Raw, defaults: Raw, described: Raw, envelope: Envelope, locate: Locate | None = None
) -> NormalContext:
    """Normalise the context of an event: its `own` merged over the call's `defaults`.

    `described` is the device that the event describes elsewhere, or ABSENT. `locate` looks up the location of an event
    that does not include one.
    """
    context = merge(defaults, own) if defaults else own
    sections = read_sections(context)
    traits = (read_sections(own) if defaults else sections).traits
    text = _normalise(context, sections, described, envelope, locate)
    return NormalContext(
        ABSENT if is_absent(text) else text,
        parse_id(sections.channel) if sections.channel else None,
        traits_in(traits) if traits else EMPTY_OBJECT,
    )


def _normalise(context: Raw, sections: Sections, described: Raw, envelope: Envelope, locate: Locate | None) -> Raw:
    """Return the stored form of the context, whose `sections` are given; absent if it is empty."""
    user_agent = sections.user_agent
    is_client_side = envelope.is_client_side
    fills_agent = is_client_side and envelope.user_agent and is_absent(user_agent)
    if fills_agent:
        user_agent = Raw(_encode(envelope.user_agent))
    key = b"\0".join((user_agent, sections.browser, sections.os, sections.locale, sections.screen))
    found = (_cached_environment if len(key) <= MAX_CACHED_BYTES else _environment)(key)
    has_session = sections.session or sections.session_id or sections.session_start
    has_device = described and is_absent(sections.device)
    if not (fills_agent or is_client_side or sections.ip or has_session or has_device or found.replaced):
        return append_members(context, found.suffix)
    changes = _Changes({}, {})
    if fills_agent:
        changes.note("userAgent", sections.user_agent, user_agent)
    changes.replaced |= found.replaced
    changes.added |= found.added
    if sections.ip or is_client_side:
        _note_address(changes, sections, envelope, locate)
    if has_session:
        session, session_id, session_start = normalise_session(
            sections.session, sections.session_id, sections.session_start
        )
        changes.note("session", sections.session, session)
        changes.note("sessionId", sections.session_id, session_id)
        changes.note("sessionStart", sections.session_start, session_start)
    if has_device:
        changes.note("device", sections.device, described)
    return change_members(context, changes.replaced, changes.added)


def _note_address(changes: _Changes, sections: Sections, envelope: Envelope, locate: Locate | None) -> None:
    address = choose_address(sections.ip, envelope.ip, is_client_side=envelope.is_client_side)
    changes.note("ip", sections.ip, address.text)
    if locate is not None and address.whole and is_absent(sections.location):
        place = locate(address.whole)
        if place is not None:
            changes.note("location", sections.location, place.section())


def _environment(key: bytes) -> _Changes:
    """Return the changes from five members, which `key` has between NUL characters, because JSON contains none."""
    user_agent, browser, os, locale, screen = map(Raw, key.split(b"\0"))
    changes = _Changes({}, {})
    agent = read_agent(user_agent) if user_agent else NO_AGENT
    if browser:
        changes.note("browser", browser, normalise_browser(browser, agent.browser))
    elif agent.browser:
        changes.added["browser"] = agent.browser
    if os:
        changes.note("os", os, normalise_os(os, agent.os))
    elif agent.os:
        changes.added["os"] = agent.os
    if locale:
        changes.note("locale", locale, normalise_locale(locale))
    if screen:
        changes.note("screen", screen, normalise_screen(screen))
    if changes.added:
        changes.suffix = b"," + bytes(join(changes.added))[1:]
    return changes


_cached_environment = lru_cache(maxsize=MAX_CACHED_ENVIRONMENTS)(_environment)


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
    """Return the members `session`, `sessionId` and `sessionStart` of a context: each as sent, changed, or ABSENT.

    The id becomes the digits of a 64-bit integer. RudderStack's SDKs send the other two as `session.id` and
    `session.start`; these are moved. They remain if they do not fit, or if the session has the same members itself.
    """
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
