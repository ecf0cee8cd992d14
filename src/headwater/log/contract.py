"""The contract of an event log, independent of where it is stored."""

from datetime import timedelta
from typing import Final, Protocol

from msgspec import Struct

MAX_ENTRY_EVENTS: Final = 1 << 15
"""Maximum number of events in one entry."""


class LogEntry(Struct, frozen=True):
    """One accepted call, before it is stored."""

    events: int
    """Number of positions of the entry, 1 to `MAX_ENTRY_EVENTS`."""
    header: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Size of the entry in bytes."""
        return len(self.header) + len(self.body)


class StoredEntry(Struct, frozen=True):
    """One accepted call, as it is read from the log."""

    position: int
    """The position of its first event."""
    entry: LogEntry
    missed_bytes: int = 0
    """Approximate bytes of entries directly before this one that were removed before they were read.

    Only consumers that may lag, and tails, can miss entries.
    """

    @property
    def last(self) -> int:
        """The position of its last event."""
        return self.position + self.entry.events - 1


class Backlog(Struct, frozen=True):
    """The backlog of one consumer."""

    bytes: int
    """Approximate bytes of entries in the log that it has not processed."""
    may_lag: bool
    """True if entries are removed before this consumer has processed them."""


class LeaseTaken(Exception):
    """Another process consumes under this name."""


class LeaseLost(Exception):
    """Another process may hold the lease. Request it again."""


class Lease(Protocol):
    """The exclusive right to consume under one name.

    If machines share the log, the lease is lost when the log cannot be reached for some seconds. A suspended holder can
    act after losing it, so consumers must fence their writes with the position that they continue from.
    """

    consumer: str

    @property
    def held(self) -> bool:
        """True if certainly no other process holds it. Once false, it remains false."""
        ...

    async def advance(self, position: int) -> None:
        """Move the consumer's cursor to `position`, the last of an entry. The consumer does not need the entries up to
        it.

        A consumer with transactional effects stores its own position with them, and reports here what is durable. The
        cursor may then lag, but never leads. Raises LeaseLost; and Unavailable, in which case the cursor may have
        moved.
        """
        ...

    async def release(self) -> None:
        """Release the lease. Releasing it twice is harmless."""
        ...


class EventLog(Protocol):
    """A durable, ordered log of entries with any number of writers, and one reader per consumer name.

    Every method raises Unavailable while the log cannot be reached.
    """

    async def append(self, entry: LogEntry) -> int:
        """Store the entry and return its position, once it is durable.

        Raises TooManyRequests if too much waits to be written or consumed, and Unavailable if it cannot be written (a
        full disk, a log at its limit). The entry is not stored then, with one exception: a broker that did not respond
        in time may have stored it.
        """
        ...

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        """Return the entries after position `after`, oldest first: about `max_bytes` of them, and at least one.

        Waits up to `wait` for the first, and returns an empty list if none arrives. Needs no lease. If entries after
        `after` were removed, the oldest remaining entry comes first, with the number of missed bytes.
        """
        ...

    async def lease(self, consumer: str, *, may_lag: bool = False) -> Lease:
        """Acquire the right to consume as `consumer`. Its cursor exists from then on, until `forget`.

        The cursor holds back `trim` and counts for back-pressure, unless the consumer `may_lag`: then entries can be
        removed before it has read them. The latest lease of a name decides. Raises LeaseTaken while another process
        holds it.
        """
        ...

    async def forget(self, consumer: str) -> None:
        """Delete the cursor of an unused consumer. It is harmless if there is none.

        Raises LeaseTaken while a process consumes under this name.
        """
        ...

    async def cursors(self) -> dict[str, int]:
        """Return the position up to which each consumer has processed the log."""
        ...

    async def last_position(self) -> int:
        """Return the position of the newest event; 0 if there has never been one."""
        ...

    async def backlogs(self) -> dict[str, Backlog]:
        """Return the backlog of each consumer."""
        ...

    async def backlog_bytes(self) -> int:
        """Return the approximate backlog in bytes of the slowest consumer that may not lag; the whole log without
        any."""
        ...

    async def trim(self, *, older_than: timedelta) -> int:
        """Remove old entries that every consumer which may not lag has processed.

        Returns their number, or the number of messages if several entries share one. If the log is near its limit,
        younger processed entries are removed too, the oldest first. Without any such consumer nothing is removed.
        """
        ...

    async def close(self) -> None:
        """Write the waiting entries, then close. Later appends raise Unavailable; closing twice is harmless."""
        ...
