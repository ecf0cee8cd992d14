"""The contract of warehouses: the data for queries.

A warehouse loads events in the order of their positions and runs queries on them. A driver implements it for one kind
of database (`headwater.warehouse.drivers`); each passes the same contract suite.

Loads are idempotent. The warehouse stores the position through which it is loaded in the same transaction as the
events, and ignores events at or before it. The worker loads a batch before it commits the batch to the state store.
After a crash between the two the worker processes the batch again, and the second load adds nothing.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from headwater.filters import CheckedFilter

EventOrder = Literal["timestamp", "receivedAt"]
"""The time by which events are listed, and to which `since` and `until` apply."""
CountKey = Literal["event", "type", "connection"]
"""A property by which events are counted."""
Interval = Literal["hour", "day"]
"""A period of time, in UTC, by which events are counted."""


class StoredEvent(Struct, frozen=True):
    """An event to load. Times are microseconds since the epoch.

    `type`, `event`, `user_id` and `anonymous_id` are equal to the document's members of these names: drivers evaluate
    conditions on the members by them.
    """

    position: int
    workspace: int
    connection: int
    pipeline: int
    timestamp: int
    received_at: int
    type: str
    event: str | None
    """The name of a track event; None where the document has no such member."""
    user_id: str | None
    anonymous_id: str | None
    document: bytes
    """The event as JSON in UTF-8, as `GET /v1/events` returns it."""


class EventQuery(Struct, frozen=True, kw_only=True):
    """The events of a workspace that meet all conditions that are set."""

    workspace: int
    connections: tuple[int, ...] | None = None
    type: str | None = None
    event: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    since: int | None = None
    """The first moment included, in microseconds since the epoch."""
    until: int | None = None
    """The first moment excluded, in microseconds since the epoch."""
    filter: CheckedFilter | None = None
    """A condition on the event schema, as `check_filter` returns it."""
    order: EventOrder = "timestamp"


class EventCursor(Struct, frozen=True, array_like=True):
    """A place in a list of events: just after the event with this time and position, or after where it would be."""

    time: int
    position: int


class EventPage(Struct, frozen=True):
    """Some events of a list, and where the next page begins."""

    documents: tuple[bytes, ...]
    cursor: EventCursor | None
    """None on the last page. A page may have fewer events than its limit, even none, and have a cursor: then the query
    reached the limit of work of one page."""
    offset: int = 0
    """The part of the offset that the page did not skip within its limit of work: pass it with the cursor."""
    positions: tuple[int, ...] = ()
    """The position of each document."""


class Person(Struct, frozen=True, kw_only=True):
    """The events of a person: those with a user id, or those with an anonymous id and without user id.

    Exactly one of the two ids is set. An event with a user id belongs to that user, whatever its anonymous id is.
    """

    connection: int | None = None
    """The source connection; None for any, also deleted ones."""
    user_id: str | None = None
    anonymous_id: str | None = None


class ErasureCursor(Struct, frozen=True, array_like=True):
    """The place where an erasure continues. Its members are the driver's."""

    stage: int = 0
    place: int = 0


class ErasureStep(Struct, frozen=True):
    """The result of one step of an erasure."""

    removed: int
    """Number of removed events."""
    cursor: ErasureCursor | None
    """The place of the next step; None after the last one."""


class EventCount(Struct, frozen=True):
    """The number of events with these values; None for keys that were not requested."""

    count: int
    start: int | None = None
    """The start of the interval, in microseconds since the epoch."""
    event: str | None = None
    type: str | None = None
    connection: int | None = None


class Capabilities(Struct, frozen=True, kw_only=True):
    """The optional parts of the contract that a driver implements. The API returns 501 for the others."""

    filters: bool
    """Whether `events` and `counts` apply `EventQuery.filter`."""
    counts: bool
    """Whether `counts` is implemented."""


class Warehouse(Protocol):
    """A warehouse. One process writes it, any number read it.

    All methods raise Unavailable while the database is unavailable.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Return what the driver implements; constant."""
        ...

    async def loaded(self) -> int:
        """Return the position through which events are loaded; 0 at first."""
        ...

    async def load(self, events: Sequence[StoredEvent], *, through: int) -> None:
        """Load events, which are in the order of their positions, and mark everything up to `through` as loaded.

        Ignore events that were loaded before. Durable on return. After an exception nothing was loaded, unless the
        connection to the database broke during the commit.
        """
        ...

    async def check(self, events: Sequence[StoredEvent]) -> None:
        """Raise what `load` would raise for these events, and store nothing."""
        ...

    async def events(
        self, query: EventQuery, *, ascending: bool, after: EventCursor | None, offset: int, limit: int
    ) -> EventPage:
        """Return the events after `after`, without the first `offset` of them, at most `limit`.

        Events with equal times are ordered by position.
        """
        ...

    async def counts(
        self, query: EventQuery, *, by: Sequence[CountKey], interval: Interval | None, limit: int
    ) -> list[EventCount]:
        """Return the number of events for each combination of values: by interval from the latest, then the highest
        counts first, at most `limit` of them.

        Intervals are those of the query's `order`. Raises Unprocessable, with the code TooExpensive, when counting
        takes more work than the limit of one call.
        """
        ...

    async def find_events(
        self, workspace: int, persons: Sequence[Person], *, before: EventCursor | None, limit: int
    ) -> EventPage:
        """Return the events of persons by `timestamp`, the newest first: those after the cursor, at most `limit`.

        Pages are as those of `events`: one may have fewer events than its limit, and a cursor.
        """
        ...

    async def erase(
        self, workspace: int, persons: Sequence[Person], cursor: ErasureCursor | None = None
    ) -> ErasureStep:
        """Remove events of persons, a limited number of them; begin at the cursor of the step before.

        A step is one transaction of about 0.1 s. Steps can be repeated, and a repeated one removes what is left. Events
        that are loaded after the first step may remain.
        """
        ...

    async def remove_before(self, workspace: int, received_at: int) -> int:
        """Remove events of a workspace that arrived before a time, in microseconds since the epoch, a limited number.

        Return the number of removed events. Call it again until it returns 0. A whole day is removed at less cost than
        a part of it, so round the time.
        """
        ...

    async def overwrite_removed(self) -> bool:
        """Overwrite removed events that are left in unused parts of files, for about 2 s. Return whether all are.

        A database that reuses such space by itself has nothing to do.
        """
        ...

    async def maintain(self) -> None:
        """Do some of the maintenance that is due, such as compacting small loads. Called every few seconds by the
        process that writes; takes at most about a second."""
        ...

    async def close(self) -> None:
        """Close everything that is open."""
        ...
