"""The records that the delivery queue stores and returns: attempts, dead letters, health, progress and traces.

Times are microseconds since the epoch, UTC.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from headwater.base.mentions import Mentions
from headwater.base.steps import ProcessingStep
from headwater.state.deliveries.chunks import ChunkHead, QueuedEvent

MAX_RESPONSE_BYTES: Final = 4_096
"""Maximum size of the stored response of a destination."""

EXPIRED: Final = "Expired"
"""The reason of deliveries that were not finished within `HEADWATER_DELIVERY_HOURS`."""
NO_SPACE: Final = "NoSpace"
"""The reason of deliveries whose documents were deleted because the queue had reached its maximum size."""


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


class Owners(Struct, frozen=True):
    """Objects of the catalog that own data of the queue."""

    destinations: frozenset[int]
    pipelines: frozenset[int]


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
