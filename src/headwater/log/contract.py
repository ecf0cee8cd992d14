"""The contract of an event log, independent of where it is stored."""

from datetime import timedelta
from typing import Final, Protocol

from msgspec import Struct

MAX_ENTRY_EVENTS: Final = 1 << 15
"""The most events that one entry may hold."""
NEARLY_FULL: Final = 0.9
"""From this part of its bound on, finished entries leave a log early."""


class LogEntry(Struct, frozen=True):
    """One accepted call, before it is stored."""

    events: int
    """How many positions it occupies; 1 to `MAX_ENTRY_EVENTS`."""
    header: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.header) + len(self.body)


class StoredEntry(Struct, frozen=True):
    """One accepted call, as it is read from the log."""

    position: int
    """The position of its first event."""
    entry: LogEntry
    missed_bytes: int = 0
    """About how many bytes of entries directly before this one were removed before they were read. Only consumers that
    may lag, and tails, can miss entries."""

    @property
    def last(self) -> int:
        """The position of its last event."""
        return self.position + self.entry.events - 1


class Backlog(Struct, frozen=True):
    """How far one consumer is behind."""

    bytes: int
    """About how many bytes of entries that are in the log it has not finished."""
    may_lag: bool
    """Whether entries are removed although this consumer has not finished them."""


class LeaseTaken(Exception):
    """Another process consumes under this name."""


class LeaseLost(Exception):
    """Another process may hold the lease: ask for it again."""


class Lease(Protocol):
    """The right to consume under one name. At most one process holds it.

    Where machines share the log, the lease is lost when the log cannot be reached for some seconds. A holder that was
    suspended can act after losing it, so consumers must fence their writes with the position that they continue from.
    """

    consumer: str

    @property
    def held(self) -> bool:
        """Whether it is certain that no other process holds it. Once False, always False."""
        ...

    async def advance(self, position: int) -> None:
        """Finish everything up to `position`, the last of an entry: as far as this consumer is concerned, it may go.

        A consumer whose effects are transactional keeps its own position with them and reports here what is durable
        there. Then this cursor may lag, but never leads. Raises LeaseLost; and Unavailable, when it may have moved.
        """
        ...

    async def release(self) -> None:
        """Give the name back. Releasing twice is harmless."""
        ...


class EventLog(Protocol):
    """A durable, ordered log of entries with any number of writers, and one reader per consumer name.

    Every method raises Unavailable while the log cannot be reached.
    """

    async def append(self, entry: LogEntry) -> int:
        """Store the entry and return its position, once it is durable.

        Raises TooManyRequests when too much waits to be written, or to be consumed, and Unavailable when it cannot be
        written (a full disk, a log at its bound). Then nothing was stored, with one exception: a broker that did not
        respond in time may have stored it.
        """
        ...

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        """Return the entries after position `after`, oldest first: about `max_bytes` of them, and at least one.

        Waits up to `wait` for the first, and returns an empty list when there is none. Needs no lease. If entries
        after `after` were removed, the oldest that is left comes first and says how much was missed.
        """
        ...

    async def lease(self, consumer: str, *, may_lag: bool = False) -> Lease:
        """Take the right to consume as `consumer`. Its cursor exists from then on, until `forget`.

        The cursor holds back `trim` and counts for back-pressure, unless the consumer `may_lag`: then entries can be
        removed before it has read them. The latest lease of a name decides. Raises LeaseTaken while another process
        has it.
        """
        ...

    async def forget(self, consumer: str) -> None:
        """Remove the cursor of a consumer that is not needed any more; harmless when there is none.

        Raises LeaseTaken while a process consumes under this name.
        """
        ...

    async def cursors(self) -> dict[str, int]:
        """Return the position up to which each consumer has finished."""
        ...

    async def last_position(self) -> int:
        """Return the position of the newest event; 0 when there has never been one."""
        ...

    async def backlogs(self) -> dict[str, Backlog]:
        """Return how far each consumer is behind."""
        ...

    async def backlog_bytes(self) -> int:
        """Return about how many bytes the slowest consumer that may not lag has not finished; all without any."""
        ...

    async def trim(self, *, older_than: timedelta) -> int:
        """Remove old entries that every consumer which may not lag has finished; return how many, or how many messages
        where several entries are stored in one.

        When the log is near its bound, younger ones go too, the oldest first. Without any such consumer nothing is
        removed.
        """
        ...

    async def close(self) -> None:
        """Write what still waits, then let go. Appending afterwards raises Unavailable; closing twice is harmless."""
        ...
