"""What a log is, whatever it is kept in."""

from datetime import timedelta
from typing import Final, Protocol

from msgspec import Struct

MAX_ENTRY_EVENTS: Final = 1 << 15
"""The most events that one frame may hold."""


class LogEntry(Struct, frozen=True):
    """One accepted call, as the log takes it."""

    events: int
    """How many positions it occupies; 1 to `MAX_FRAME_EVENTS`."""
    header: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.header) + len(self.body)


class StoredEntry(Struct, frozen=True):
    """One accepted call, as the log gives it back."""

    position: int
    """The position of its first event."""
    entry: LogEntry

    @property
    def last(self) -> int:
        """The position of its last event."""
        return self.position + self.entry.events - 1


class LeaseTaken(Exception):
    """Another process consumes under this name."""


class LeaseLost(Exception):
    """Another process may consume under this name now: it is to be asked for anew."""


class Lease(Protocol):
    """The right to consume under one name. At most one process holds it.

    Where the log is shared by machines, it is lost when the log is not reached for some seconds. A holder that was
    standing still may learn of it too late: so what a consumer stores must depend on the position that it continues.
    """

    consumer: str

    @property
    def held(self) -> bool:
        """Whether it is certain that nobody else holds it. Once False, always False."""
        ...

    async def advance(self, position: int) -> None:
        """Everything up to `position`, the last of a frame, is finished and may be removed, as far as this consumer
        is concerned.

        A consumer whose effects are transactional keeps its own position beside them and reports here what is durable
        there: then this cursor may lag, but never leads. Raises LeaseLost; and Unavailable, when it may have moved.
        """
        ...

    async def release(self) -> None:
        """Give the name back. Releasing twice is harmless."""
        ...


class EventLog(Protocol):
    """A durable, ordered log of frames with any number of writers, and one reader per consumer name.

    All of it raises Unavailable while the log cannot be reached.
    """

    async def append(self, entry: LogEntry) -> int:
        """Store the frame and return its position, once it is durable.

        Raises TooManyRequests when too much waits to be written, or to be consumed, and Unavailable when it cannot be
        written (a full disk, a log at its bound). Then nothing was stored, with one exception: a broker that did not
        answer in time may have stored it.
        """
        ...

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        """The frames after position `after`, oldest first: about `max_bytes` of headers and bodies, and at least one.

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

    async def backlog_bytes(self) -> int:
        """About how many bytes of frames the slowest consumer has not finished; all of them without any consumer."""
        ...

    async def trim(self, *, older_than: timedelta) -> int:
        """Remove frames that every consumer has finished and that are older; return how many.

        When the log is near its bound, younger ones go too, the oldest first. Without any consumer nothing is removed.
        """
        ...

    async def close(self) -> None:
        """Write what still waits, then let go. Appending afterwards raises Unavailable; closing twice is harmless."""
        ...
