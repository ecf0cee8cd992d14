"""The contract of the delivery queue: events that wait for destinations, dead letters, and past attempts.

The worker appends, the courier reads and commits its progress, and operations append again. A *delivery* is one event
for one Event pipeline of a destination. The events of a batch that some destination wants are one immutable body; each
destination gets small chunks that refer to it. No row exists for a delivery unless it becomes a dead letter.

Times are microseconds since the epoch, UTC. Every method raises Unavailable while the database is unavailable.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct

from headwater.base.errors import Unavailable
from headwater.base.mentions import Mentions
from headwater.base.steps import ProcessingStep

MAX_CHUNK_EVENTS: Final = 1_000
"""Maximum number of events in one body, and so in one chunk."""
MAX_CHUNK_BYTES: Final = 1 << 20
"""Approximate maximum size of the documents of one body, uncompressed."""
MAX_RESPONSE_BYTES: Final = 4_096
"""Maximum size of the stored response of a destination."""
MAX_STEP_ITEMS: Final = 1_000
"""Maximum number of dead letters that one step of a re-send moves."""
ITEM_BITS: Final = 20
"""Number of bits of an item's number that are its index in the chunk; the others are the chunk's id."""

EXPIRED: Final = "Expired"
"""The reason of deliveries that were not finished within `HEADWATER_DELIVERY_HOURS`."""
NO_SPACE: Final = "NoSpace"
"""The reason of deliveries whose documents were deleted because the queue had reached its maximum size."""


class QueuedEvent(Struct, frozen=True, array_like=True):
    """One event in a body. It is stored as MessagePack: add fields at the end only, with a default."""

    position: int
    source: int
    """The source connection."""
    message_id: str
    received_at: int
    user_id: str | None
    anonymous_id: str | None
    document: bytes
    """The whole event as canonical JSON."""


class ChunkItem(Struct, frozen=True):
    """One delivery of a chunk."""

    number: int
    """The chunk's id << `ITEM_BITS` | its index in the chunk. Numbers of a destination ascend in the order of
    sending."""
    event: QueuedEvent
    pipeline: int


Wanted = Mapping[int, list[int] | None]
"""The events that each pipeline wants, as ascending indexes in the body; None stands for all of them."""


def wanted_pairs(wanted: Wanted, events: int) -> list[tuple[int, int]]:
    """Return the items of a chunk as pairs of event index and pipeline, in their order: by event, then by pipeline.

    `events` is the number of events in the body.
    """
    if len(wanted) == 1:
        ((pipeline, indexes),) = wanted.items()
        return [(index, pipeline) for index in (range(events) if indexes is None else indexes)]
    return sorted(
        (index, pipeline)
        for pipeline, indexes in wanted.items()
        for index in (range(events) if indexes is None else indexes)
    )


class QueuedChunk(Struct, frozen=True):
    """A chunk of one destination, with the events of its body. Chunks of several destinations share these objects."""

    id: int
    destination: int
    workspace: int
    first_position: int
    last_position: int
    item_count: int
    enqueued_at: int
    origin: str
    """The operation that appended it; empty if it was the worker."""
    events: list[QueuedEvent]
    wanted: Wanted
    done: bytes
    """A bit for each finished item, as `ChunkProgress.done`; empty if none is finished."""

    def unfinished(self) -> Iterator[ChunkItem]:
        """Yield the unfinished items in their order."""
        first = self.id << ITEM_BITS
        for index, (event, pipeline) in enumerate(wanted_pairs(self.wanted, len(self.events))):
            if not is_done(self.done, index):
                yield ChunkItem(first | index, self.events[event], pipeline)


def is_done(done: bytes, index: int) -> bool:
    """Return whether the bit of an item is set."""
    return index >> 3 < len(done) and bool(done[index >> 3] & 1 << (index & 7))


class ChunkHead(Struct, frozen=True):
    """A chunk without its events."""

    id: int
    destination: int
    workspace: int
    item_count: int
    bytes: int
    """Size of the compressed body, which other destinations may share."""
    enqueued_at: int


class NewChunk(Struct, frozen=True):
    """Deliveries to one destination: some of the events that are appended with it."""

    destination: int
    workspace: int
    wanted: Wanted
    """Indexes in the events of `NewDeliveries`. No list is empty."""


class NewDeliveries(Struct, frozen=True):
    """The events of one workspace that some destinations want, and the deliveries of each destination.

    The store cuts them into bodies of limited size, and gives a destination that wants less than half of a body a body
    of its own.
    """

    workspace: int
    events: Sequence[QueuedEvent]
    """In the order of their positions."""
    chunks: Sequence[NewChunk]


AttemptOutcome = Literal["Delivered", "Retried", "Dead"]


class AttemptRecord(Struct, frozen=True, array_like=True):
    """One request, and those items of a chunk that it contained; or the end of items without a request.

    It is stored as MessagePack: add fields at the end only, with a default.
    """

    at: int
    """Time at which the request was sent, or the items were given up."""
    outcome: AttemptOutcome
    first: int
    """Index in the chunk of the first item."""
    last: int
    """Index of the last item. `others` has the exact items if not all between them were in the request."""
    number: int = 1
    """Number of the attempt, from 1; 0 if the items were given up without a request."""
    milliseconds: int = 0
    status: int = 0
    """The HTTP status; 0 if there was none."""
    message: str = ""
    """The reason of a failure, then ": " and the details if there are any; empty otherwise."""
    others: list[int] | None = None
    """The exact indexes of the items, ascending; None if they are all from `first` to `last`."""
    step: ProcessingStep = "Finalize"
    """The step that the items reached."""


class ChunkProgress(Struct, frozen=True):
    """The state of one chunk after some of its items have been finished."""

    chunk: int
    destination: int
    done: bytes
    """A bit for each item that is finished (delivered, dead or of a deleted pipeline), including all earlier ones: item
    i is bit i % 8 of byte i // 8."""
    attempts: Sequence[AttemptRecord] = ()
    """All attempts since the chunk was read, for the trace. They are stored when the chunk is finished."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A delivery that was given up."""

    number: int
    """Number of the item. It identifies the dead letter."""
    workspace: int
    destination: int
    pipeline: int
    reason: str
    """A short code without values, such as "Rejected" or "Transformation"."""
    message: str = ""
    """The details, for people."""
    status: int = 0
    """The HTTP status of the last response; 0 if there was none."""
    attempts: int = 0
    step: ProcessingStep = "Finalize"
    """The step at which it failed."""
    enqueued_at: int
    died_at: int
    event: QueuedEvent


HealthState = Literal["closed", "open", "half_open", "refusing"]


class LaneHealth(Struct, frozen=True, kw_only=True):
    """The health of one destination, as its circuit breaker sees it."""

    destination: int
    workspace: int
    state: HealthState = "closed"
    failing_since: int = 0
    """Time of the first failure since the last success; 0 if the last request succeeded."""
    paused_until: int = 0
    """Time of the next attempt; 0 if it is not paused."""
    failures: int = 0
    """Number of failed requests since the last success."""
    last_status: int = 0
    last_error: str = ""
    last_response: bytes = b""
    """The start of the last failed response, at most `MAX_RESPONSE_BYTES`. It is untrusted."""
    last_success_at: int = 0
    learned: bytes = b""
    """Values that the lane has learned, such as its concurrency, in the lane's own form."""


class LaneSummary(Struct, frozen=True, kw_only=True):
    """The queue of one destination."""

    destination: int
    open_items: int = 0
    """Number of unfinished deliveries. Those of a chunk that is partly finished count until the chunk is finished."""
    open_bytes: int = 0
    """Compressed size of the bodies of its unfinished chunks. Destinations that share bodies share their size."""
    dead_items: int = 0
    dead_bytes: int = 0
    oldest_at: int | None = None
    """Time at which its oldest unfinished chunk was appended; None if there is none."""
    newest_chunk: int = 0
    """The id of its newest unfinished chunk; 0 if there is none."""


class DeadSelection(Struct, frozen=True, kw_only=True):
    """The dead letters of a workspace with all of these properties."""

    workspace: int
    destination: int | None = None
    pipeline: int | None = None
    reason: str | None = None
    since: int | None = None
    """Died at this time or later."""
    until: int | None = None
    """Died before this time."""


class DeadCursor(Struct, frozen=True, array_like=True):
    """A place in the list of dead letters, which is in the order of `died_at` and number, the newest first."""

    died_at: int
    number: int


class DeadPage(Struct, frozen=True):
    """Some dead letters."""

    letters: list[DeadLetter]
    next: DeadCursor | None
    """The cursor of the following page; None if this is the last. A page may be empty and have a successor."""


class DeadCount(Struct, frozen=True):
    """Number of dead letters of a pipeline with the same reason."""

    destination: int
    pipeline: int
    reason: str
    count: int


class DeadRange(Struct, frozen=True):
    """Deliveries whose documents were deleted for space. They can only be sent again from the warehouse."""

    id: int
    workspace: int
    destination: int
    first_position: int
    last_position: int
    pipelines: Mapping[int, int]
    """Number of deliveries by pipeline."""
    enqueued_at: int
    """Time at which the last of them were appended."""
    died_at: int
    """Time at which the first of them were dropped."""


class OperationProgress(Struct, frozen=True):
    """The progress of a re-send or a replay."""

    items: int = 0
    """Number of deliveries that it has appended."""
    cursor: bytes = b""
    """The place from which it continues, in the form of whoever advances it."""
    is_complete: bool = False


DeliveryState = Literal["Queued", "Delivered", "Dead", "Ended", "Dropped"]
"""Ended: delivered or dead, and its attempts are not stored. Dropped: the event is in a range whose documents were
deleted for space, and may have been wanted."""


class TracedDelivery(Struct, frozen=True, kw_only=True):
    """The state of one event in one pipeline of a destination."""

    destination: int
    pipeline: int
    state: DeliveryState
    origin: str = ""
    """The operation that sent it again; empty if it is the first delivery."""
    enqueued_at: int = 0
    ended_at: int = 0
    """Time of the last attempt, or at which it was given up; 0 if that is not known."""
    step: ProcessingStep = "Finalize"
    reason: str = ""
    """The reason of a dead letter."""
    message: str = ""
    attempt_count: int = 0
    """Number of attempts; 0 if that is not known."""
    attempts: tuple[AttemptRecord, ...] = ()
    """The attempts in the order of time. They are stored when the whole chunk is finished."""


class CourierReplaced(Unavailable):
    """Another courier is active: commits of this one fail."""


class Expired(Struct, frozen=True):
    """Chunks that were given up: the lane must forget their items."""

    chunks: list[ChunkHead]
    items: Mapping[tuple[int, int], int]
    """Number of their unfinished items, by destination and pipeline."""


IsPerson = Callable[[int, str | None, str | None], bool]
"""Whether an event of a connection with this user id and anonymous id belongs to the person."""


class DeliveryErasure(Struct, frozen=True):
    """A person to remove from the queue."""

    workspace: int
    destinations: frozenset[int]
    """The destinations of the workspace."""
    is_person: IsPerson
    mentions: Mentions


class ErasedDeliveries(Struct, frozen=True):
    """The result of one step."""

    deliveries: int = 0
    """Number of removed unfinished deliveries."""
    dead_letters: int = 0
    """Number of removed dead letters."""
    texts: int = 0
    """Number of chunks and destinations whose messages or responses were removed."""
    messages: tuple[tuple[int, str], ...] = ()
    """The messages of removed events, by source connection."""
    cursor: tuple[int, int] | None = None
    """The place of the next step; None after the last one."""


class DeliveryStore(Protocol):
    """The delivery queue."""

    # Appending

    async def append(self, deliveries: Sequence[NewDeliveries], *, through: int, now: int) -> None:
        """Append the deliveries of a batch of the log. Only the worker calls it, even for batches without deliveries
        if it likes.

        `through` is the position of the batch's last event. It is idempotent: events at or below the position that a
        former call reached are skipped. Calls of all processes run one after another, so the ids of chunks ascend in
        the order of commits.
        """
        ...

    async def appended(self) -> int:
        """Return the position through which the worker has appended."""
        ...

    async def append_again(
        self,
        operation: str,
        deliveries: Sequence[NewDeliveries],
        *,
        expected: bytes,
        cursor: bytes,
        now: int,
        is_complete: bool = False,
    ) -> OperationProgress:
        """Append deliveries of a replay behind all others, and move the cursor of the operation, in one transaction.

        If the operation's cursor is not `expected`, nothing is appended: the step was done before. Returns the
        progress that is stored after the call.
        """
        ...  # fmt: skip

    async def resend(self, operation: str, selection: DeadSelection, *, now: int) -> OperationProgress:
        """Do one step of a re-send: move at most `MAX_STEP_ITEMS` selected dead letters behind all other deliveries.

        Each step is one transaction together with the progress, so that a step that is repeated after a crash loses
        and doubles nothing. Dead letters that die after the first step are not selected. Call it until the progress is
        complete; a caller cancels by calling it no more.
        """
        ...

    async def operation_progress(self, operation: str) -> OperationProgress:
        """Return the progress of a re-send or a replay."""
        ...

    async def forget_operation(self, operation: str) -> None:
        """Delete the progress of an operation that has ended."""
        ...

    # Reading

    async def newest_chunk(self) -> int:
        """Return the id of the newest chunk of all destinations; initially 0. Cheap: call it to learn of new chunks."""
        ...

    async def wait_for_chunk(self, after: int, *, timeout_seconds: float) -> int:
        """Wait until there is a chunk with an id above `after`, or for a time; return the id of the newest chunk."""
        ...

    async def heads(self, after: int, *, limit: int = 1_000) -> list[ChunkHead]:
        """Return the unfinished chunks of all destinations with ids above `after`, in the order of their ids."""
        ...

    async def summaries(self) -> list[LaneSummary]:
        """Return the queues of all destinations that have unfinished deliveries or dead letters.

        It takes some milliseconds: call it at the start and for pages, not for each chunk.
        """
        ...

    async def read(self, destination: int, after: int, *, max_bytes: int) -> list[QueuedChunk]:
        """Return the unfinished chunks of a destination with ids above `after`, in the order of their ids.

        Their documents have about `max_bytes` at most, uncompressed, and there are at most 64; there is at least one
        chunk if any exists.
        """
        ...

    async def health(self) -> dict[int, LaneHealth]:
        """Return the health of all destinations by id."""
        ...

    # The courier's progress

    async def claim(self) -> int:
        """Become the active courier; return its epoch. The commits of every earlier courier fail from then on."""
        ...

    async def check(self, epoch: int) -> None:
        """Raise CourierReplaced if the epoch is not that of the active courier: its items may be erased, too."""
        ...

    async def commit(
        self,
        epoch: int,
        progress: Sequence[ChunkProgress],
        *,
        dead: Sequence[DeadLetter] = (),
        health: Sequence[LaneHealth] = (),
        now: int,
    ) -> None:
        """Store the progress of any number of destinations in one transaction.

        A chunk whose items are all done is deleted, with its body if no other chunk needs it, and its attempts go to
        the log of attempts. Repeating a commit changes nothing. Progress of a chunk that has expired meanwhile is
        stored for its dead letters. Write `health` only when it changes, at most once a second for a destination.
        Raises CourierReplaced if the epoch is not that of the active courier.
        """
        ...

    async def expire(self, epoch: int, *, before: int, now: int, limit: int = 100) -> Expired:
        """Give up at most `limit` chunks that were appended before a time, the oldest first: their unfinished items
        become dead letters with the reason `EXPIRED`."""
        ...

    async def make_space(self, *, now: int) -> Expired:
        """Delete the oldest data of the largest destinations until the queue is within its maximum size.

        Dead letters go before deliveries. Deliveries become a `DeadRange`. A destination with less than its share, the
        maximum divided by twice the number of destinations, loses nothing. `append` does this as well.
        """
        ...

    async def trim(self, *, dead_before: int, attempts_before: int) -> int:
        """Delete some dead letters and attempts that are older; return their number. Call it until it returns 0."""
        ...

    async def remove_except(self, destinations: Collection[int], pipelines: Collection[int]) -> int:
        """Delete some data of destinations, and dead letters of pipelines, that are not in these sets; return the
        number of rows. Call it until it returns 0.

        Items of a deleted pipeline in the chunks of a present destination stay: the courier finishes them.
        """
        ...

    async def erase(
        self, erasure: DeliveryErasure, cursor: tuple[int, int] = (0, 0), *, dry: bool = False
    ) -> ErasedDeliveries:
        """Remove a person, a limited part of the queue; begin at the cursor of the step before. With `dry`, count.

        The person's events are emptied in their bodies, and their deliveries finished. A delivery that is being sent
        cannot be called back.
        """
        ...

    async def overwrite_removed(self) -> bool:
        """Overwrite what was deleted from files. Return whether everything was done."""
        ...

    # Dead letters and traces

    async def dead_letters(self, selection: DeadSelection, *, limit: int, after: DeadCursor | None = None) -> DeadPage:
        """Return dead letters, the newest first."""
        ...

    async def dead_counts(self, workspace: int, *, destination: int | None = None) -> list[DeadCount]:
        """Return the numbers of dead letters by destination, pipeline and reason, the most frequent first."""
        ...

    async def count_dead(self, selection: DeadSelection) -> int:
        """Return the number of selected dead letters that can be sent again, for a dry run."""
        ...

    async def dead_ranges(self, selection: DeadSelection, *, limit: int, after: int = 0) -> list[DeadRange]:
        """Return the ranges with ids above `after` in the order of their ids."""
        ...

    async def remove_dead_range(self, id_: int) -> None:
        """Delete a range, because its deliveries were sent again from the warehouse."""
        ...

    async def trace(self, destinations: Collection[int], position: int) -> list[TracedDelivery]:
        """Return the states of the event at this position in some destinations, with their attempts."""
        ...
