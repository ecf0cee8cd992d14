"""The contract of the delivery queue: events that wait for destinations, dead letters, and past attempts.

The worker appends, the courier reads and commits its progress, and operations append again. A *delivery* is one event
for one Event pipeline of a destination. The events of a batch that some destination wants are one immutable body; each
destination gets small chunks that refer to it. No row exists for a delivery unless it becomes a dead letter.

Times are microseconds since the epoch, UTC. Every method raises Unavailable while the database is unavailable.
"""

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from headwater.base.errors import Unavailable
from headwater.state.deliveries.chunks import ChunkHead, NewDeliveries, QueuedChunk
from headwater.state.deliveries.records import (
    ChunkProgress,
    DeadCount,
    DeadCursor,
    DeadLetter,
    DeadPage,
    DeadRange,
    DeadSelection,
    DeliveryErasure,
    ErasedDeliveries,
    Expired,
    LaneHealth,
    LaneSummary,
    OperationProgress,
    Owners,
    TracedDelivery,
)

MAX_STEP_ITEMS: Final = 1_000
"""Maximum number of dead letters that one step of a re-send moves."""


class CourierReplaced(Unavailable):
    """Another courier is active: commits of this one fail."""


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

    async def owners(self) -> Owners:
        """Return the destinations with data and the pipelines with dead letters."""
        ...

    async def remove(self, deleted: Owners) -> int:
        """Delete some data of deleted destinations, and dead letters of deleted pipelines; return the number of rows.
        Call it until it returns 0.

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
