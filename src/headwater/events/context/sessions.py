"""`context.session`: its id as the digits of a 64-bit integer, and what some SDKs say beside it."""

import re
from typing import Final

from msgspec import Raw

from headwater.events.raw import ABSENT, is_absent, is_object, join, members

_DIGITS: Final = re.compile(rb'("?)(0|-?[1-9][0-9]{0,18})\1')
_FLAGS: Final = (b"true", b"false")


def session_of(session: Raw, session_id: Raw, session_start: Raw) -> tuple[Raw, Raw, Raw]:
    """The members `session`, `sessionId` and `sessionStart` of a context: each as sent, changed, or ABSENT.

    The last two are how RudderStack's SDKs say `session.id` and `session.start`, and become them. They stay where they
    do not fit, and where the session says the same itself.
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
    """The integer as JSON writes those of 64 bits, a string of digits; ABSENT when it is none."""
    match = _DIGITS.fullmatch(bytes(text))
    if match is None or not -(2**63) <= int(match[2]) < 2**63:
        return ABSENT
    return Raw(b'"%s"' % match[2])
