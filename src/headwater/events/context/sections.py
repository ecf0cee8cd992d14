"""The members of a context that are looked at, each still text."""

import msgspec
from msgspec import Raw, Struct

from headwater.events.raw import ABSENT, is_absent


class Sections(Struct, rename="camel"):
    """One context, its members as sent: ABSENT where there is none, `null` where that was sent."""

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


NO_SECTIONS = Sections()

_decode = msgspec.json.Decoder(Sections).decode


def read_sections(context: Raw) -> Sections:
    """The sections of a context, which is an object, null or absent."""
    return NO_SECTIONS if is_absent(context) else _decode(context)
