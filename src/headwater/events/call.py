"""A call with events, taken apart: the events still text, and what holds for all of them."""

from msgspec import Raw, Struct

from headwater.events.raw import ABSENT
from headwater.events.rejection import Rejection


class Call(Struct, frozen=True):
    """A decoded call."""

    type: str | None
    """The event type that the route names; None where each event says its own."""
    events: list[Raw]
    write_key: str | None = None
    sent_at: str | None = None
    context: Raw = ABSENT
    integrations: Raw = ABSENT
    connection_id: int | None = None
    """The source connection that the body names, for callers with an API key."""
    has_plain_texts: bool = False
    """Whether all of it is known to be ASCII without escapes of characters: what is wrong with a text is then its
    length at most."""
    rejected: dict[int, Rejection] = {}
    """The events that can be refused only with the body at hand, by their number."""
