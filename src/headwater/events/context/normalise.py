"""Puts the normal context of an event together.

Most contexts need little or nothing. Only the members that change are written anew; all others stay the text that was
sent, and a context in which nothing changes is not touched. An SDK sends the same context with event after event: what
became of the latest is remembered.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast

import msgspec
from msgspec import Raw, Struct

from headwater.events.context.addresses import address_of
from headwater.events.context.agents import NO_AGENT, agent_of
from headwater.events.context.locales import locale_of
from headwater.events.context.location import Locate
from headwater.events.context.platforms import browser, os
from headwater.events.context.screens import screen_of
from headwater.events.context.sections import Sections, read_sections
from headwater.events.context.sessions import session_of
from headwater.events.envelope import Envelope
from headwater.events.raw import changed, is_absent, merge
from headwater.events.wire import text_of, traits_in

REMEMBERED: Final = 1024
MAX_BYTES: Final = 4096
"""The longest context that is remembered. Together they take some megabytes at most."""

_encode = msgspec.json.Encoder().encode


class Caller(Struct, frozen=True):
    """Who sent a call, as far as a context may say it."""

    ip: str
    user_agent: str
    is_client_side: bool
    """Whether that is the person whom the events are about."""


class NormalContext(Struct, frozen=True):
    """What the context of an event comes to."""

    text: Raw | None
    """As it is stored; None when nothing is known."""
    channel: str | None
    """The channel that it says."""
    traits: Raw
    """The traits that the event's own context says, not the call's."""


def normal_context(
    own: Raw, defaults: Raw, described: Raw, envelope: Envelope, locate: Locate | None = None
) -> NormalContext:
    """The context of an event that says its `own`, in a call that says `defaults` for those that do not.

    `described` is the device that the event describes elsewhere, or ABSENT. `locate` finds the place of an event that
    does not say one.
    """
    caller = Caller(envelope.ip, envelope.user_agent, envelope.is_client_side)
    is_remembered = len(own) + len(defaults) + len(described) <= MAX_BYTES
    read: _Read = _remembered if is_remembered else _normal_context
    return read(bytes(own), bytes(defaults), bytes(described), caller, locate)


def _normal_context(
    own: bytes, defaults: bytes, described: bytes, caller: Caller, locate: Locate | None
) -> NormalContext:
    context = merge(Raw(defaults), Raw(own))
    sections = read_sections(context)
    device = Raw(described) if described and is_absent(sections.device) else sections.device
    text = _normalise(context, sections, device, caller, locate)
    return NormalContext(
        None if is_absent(text) else text,
        text_of(sections.channel),
        traits_in((read_sections(Raw(own)) if defaults else sections).traits),
    )


_Read = Callable[[bytes, bytes, bytes, Caller, Locate | None], NormalContext]
_remembered = cast(_Read, lru_cache(maxsize=REMEMBERED)(_normal_context))


def _normalise(context: Raw, sections: Sections, device: Raw, caller: Caller, locate: Locate | None) -> Raw:
    """The context, which has the `sections`, as it is stored; absent when nothing is known.

    `device` is the event's, wherever it said so.
    """
    changes = _Changes()
    user_agent = sections.user_agent
    if caller.is_client_side and caller.user_agent and is_absent(user_agent):
        user_agent = Raw(_encode(caller.user_agent))
        changes.note("userAgent", sections.user_agent, user_agent)
    agent = agent_of(user_agent) if user_agent else NO_AGENT
    if sections.browser:
        changes.note("browser", sections.browser, browser(sections.browser, agent.browser))
    elif agent.browser:
        changes.added["browser"] = agent.browser
    if sections.os:
        changes.note("os", sections.os, os(sections.os, agent.os))
    elif agent.os:
        changes.added["os"] = agent.os
    if sections.ip or caller.is_client_side:
        address = address_of(sections.ip, caller.ip, is_client_side=caller.is_client_side)
        changes.note("ip", sections.ip, address.text)
        if locate is not None and address.whole and is_absent(sections.location):
            place = locate(address.whole)
            if place is not None:
                changes.note("location", sections.location, place.section())
    if sections.locale:
        changes.note("locale", sections.locale, locale_of(sections.locale))
    if sections.screen:
        changes.note("screen", sections.screen, screen_of(sections.screen))
    if sections.session or sections.session_id or sections.session_start:
        session, session_id, session_start = session_of(sections.session, sections.session_id, sections.session_start)
        changes.note("session", sections.session, session)
        changes.note("sessionId", sections.session_id, session_id)
        changes.note("sessionStart", sections.session_start, session_start)
    if device is not sections.device:
        changes.note("device", sections.device, device)
    return changed(context, changes.replaced, changes.added)


class _Changes:
    """The members that do not stay as they were sent."""

    __slots__ = ("added", "replaced")

    def __init__(self) -> None:
        self.replaced: dict[str, Raw] = {}
        self.added: dict[str, Raw] = {}

    def note(self, name: str, sent: Raw, text: Raw) -> None:
        """The member `name` is to be `text`: the very `sent` one when it stays."""
        if text is not sent:
            (self.replaced if sent else self.added)[name] = text
