"""Puts the normal context of an event together.

Most contexts need little or nothing. Only the members that change are written anew; all others stay the text that was
sent, and a context in which nothing changes is not touched.
"""

import msgspec
from msgspec import Raw

from headwater.events.context.addresses import address_of
from headwater.events.context.agents import NO_AGENT, agent_of
from headwater.events.context.locales import locale_of
from headwater.events.context.location import Locate
from headwater.events.context.platforms import browser, os
from headwater.events.context.screens import screen_of
from headwater.events.context.sections import Sections
from headwater.events.context.sessions import session_of
from headwater.events.envelope import Envelope
from headwater.events.raw import changed, is_absent

_encode = msgspec.json.Encoder().encode


def normalise(context: Raw, sections: Sections, device: Raw, envelope: Envelope, locate: Locate | None) -> Raw:
    """The context, which has the `sections`, as it is stored; absent when nothing is known.

    `device` is the event's, wherever it said so. `locate` finds the place of the event where it did not say one.
    """
    changes = _Changes()
    user_agent = sections.user_agent
    if envelope.is_client_side and envelope.user_agent and is_absent(user_agent):
        user_agent = Raw(_encode(envelope.user_agent))
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
    if sections.ip or envelope.is_client_side:
        address = address_of(sections.ip, envelope.ip, is_client_side=envelope.is_client_side)
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
