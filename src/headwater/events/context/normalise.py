"""Normalises the context of an event.

Most contexts need few changes. Only the members that change are encoded again; all others remain the text that was
sent, and a context without changes is not touched. The changes of browser, system, locale and screen depend on five
members only, and are cached by these: pages, sessions and traits differ from event to event, but devices repeat.
"""

from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.context.addresses import choose_address
from headwater.events.context.agents import NO_AGENT, read_agent
from headwater.events.context.fields import (
    Sections,
    normalise_locale,
    normalise_screen,
    normalise_session,
    read_sections,
)
from headwater.events.context.location import Locate
from headwater.events.context.platforms import normalise_browser, normalise_os
from headwater.events.envelope import Envelope
from headwater.events.event import EMPTY_OBJECT
from headwater.events.raw import ABSENT, append_members, change_members, is_absent, join, merge
from headwater.events.wire import parse_id, traits_in

MAX_CACHED_ENVIRONMENTS: Final = 2048
MAX_CACHED_BYTES: Final = 2048
"""Maximum total size of the five members whose changes are cached. The cache takes some megabytes at most."""

_encode = msgspec.json.Encoder().encode


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
