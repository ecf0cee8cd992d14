"""What the worker hands to the warehouse, and what reading gives back."""

from datetime import datetime

from msgspec import Struct


class LatestCall(Struct, frozen=True):
    """The latest call that came with a key of a source connection."""

    connection: int
    workspace: int
    received_at: datetime
    protocol: str


class StoredEvent(Struct, frozen=True):
    """An event of an Event pipeline."""

    position: int
    workspace: int
    connection: int
    pipeline: int
    timestamp: int
    """Microseconds since the epoch."""
    received_at: int
    """Microseconds since the epoch."""
    document: bytes
    """The event as JSON in UTF-8."""


class RejectedEvent(Struct, frozen=True):
    """An event, or a whole call, that was refused."""

    position: int
    workspace: int
    """0 when the key was unknown."""
    connection: int
    """0 when the key was unknown."""
    protocol: str
    received_at: datetime
    code: str
    path: str
    message: str
    body: bytes
    """The bytes that were sent, cut at `MAX_REJECTED_BYTES`."""
    message_id: str | None = None
    """None when it has none that can be read."""


class RejectionCount(Struct, frozen=True):
    """How often a source was sent what breaks one rule."""

    workspace: int
    connection: int
    protocol: str
    code: str
    path: str
    count: int
    first_at: datetime
    last_at: datetime


MAX_REJECTED = 100_000
"""How many refused events of a workspace are kept, or a few more; the oldest go first, and stay counted."""
MAX_UNKNOWN_REJECTED = 1_000
"""How many refused calls with an unknown key are kept in an installation; the oldest go first."""
