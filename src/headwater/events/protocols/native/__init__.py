"""The native protocol: events in the shape in which they are stored.

Unlike the track API it is strict: every member has one JSON type, and each type of event its own members, so that a
mistake causes a rejected event instead of an odd one. A rejected event does not affect the other events of its call; a
body that is not JSON, or an invalid envelope, rejects the whole call.
"""

from typing import Final

from headwater.events.protocols.native.call import EVENTS, read_call
from headwater.events.protocols.native.rules import check, max_body, read

KEY_IN_BODY: Final = True

__all__ = ["EVENTS", "KEY_IN_BODY", "check", "max_body", "read", "read_call"]
