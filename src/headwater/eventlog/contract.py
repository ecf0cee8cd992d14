"""What a log is, whatever it is kept in."""

from datetime import timedelta
from typing import Protocol

from msgspec import Struct


class Frame(Struct, frozen=True):
    """One accepted call, as the log takes it."""

    events: int
    """How many positions it occupies; at least 1."""
    header: bytes
    body: bytes


class StoredFrame(Struct, frozen=True):
    """One accepted call, as the log gives it back."""

    position: int
    """The position of its first event."""
    frame: Frame

    @property
    def last(self) -> int:
        """The position of its last event."""
        return self.position + self.frame.events - 1


class LeaseTaken(Exception):
    """Another process consumes under this name."""


class Lease(Protocol):
    """The right to consume under one name. One process at most holds it; it ends at the latest with that process."""

    consumer: str

    async def advance(self, position: int) -> None:
        """Everything up to `position` is finished and may be removed, as far as this consumer is concerned.

        A consumer whose effects are transactional keeps its own position beside them and reports here what is durable
        there: then this cursor may lag, but never leads.
        """
        ...

    async def release(self) -> None:
        """Give the name back. Releasing twice is harmless."""
        ...


class EventLog(Protocol):
    """A durable, ordered log of frames with any number of writers, and one reader per consumer name."""

    async def append(self, frame: Frame) -> int:
        """Store the frame and return its position, once it is durable.

        Raises TooManyRequests when too much already waits to be written, and Unavailable when it cannot be written (a
        full disk): in both cases nothing was stored.
        """
        ...

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredFrame]:
        """The frames after position `after`, oldest first: about `max_bytes` of them, but at least one.

        Waits up to `wait` for the first, and returns an empty list when none came.
        """
        ...

    async def lease(self, consumer: str) -> Lease:
        """Take the right to consume as `consumer`; its cursor exists from then on, and holds back `trim`.

        Raises LeaseTaken while another process has it.
        """
        ...

    async def cursors(self) -> dict[str, int]:
        """The position up to which each consumer has finished."""
        ...

    async def last_position(self) -> int:
        """The position of the newest event; 0 when there has never been one."""
        ...

    async def trim(self, *, older_than: timedelta) -> int:
        """Remove frames that every consumer has finished and that are older; return how many.

        Without any consumer nothing is removed.
        """
        ...

    async def close(self) -> None:
        """Write what still waits, then let go. Appending afterwards raises Unavailable; closing twice is harmless."""
        ...
