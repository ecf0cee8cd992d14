"""The chunks of a session that have unfinished items, and the progress that is to be committed."""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.steps import ProcessingStep
from headwater.delivery.chunks import AttemptDetails, ChunkCache, OpenChunk, attempt_records, find_chunk, find_index
from headwater.delivery.items import MAX_MESSAGE_CHARACTERS
from headwater.state.deliveries import ChunkItem, ChunkProgress, DeadLetter, LaneHealth, QueuedChunk
from headwater.state.deliveries.records import AttemptOutcome


class Progress(Struct):
    """The progress of one destination, to be committed."""

    chunks: list[ChunkProgress]
    dead: list[DeadLetter]
    health: LaneHealth | None
    items: int
    """Number of items that it finishes."""

    @property
    def is_empty(self) -> bool:
        return not self.chunks and not self.dead and self.health is None and not self.items


class GivenUp(Struct, frozen=True):
    """A delivery that became a dead letter, and the step at which it failed."""

    letter: DeadLetter
    step: ProcessingStep


class OpenChunks:
    """The chunks with unfinished items, and what became of the others until that is committed."""

    def __init__(
        self,
        *,
        destination: int,
        workspace: int,
        clock: Clock,
        cache: ChunkCache,
        progressed: Callable[[], None],
        given_up: Callable[[GivenUp], None],
    ) -> None:
        """`cache` has the documents of the chunks. `progressed` is called if there is progress to commit, and
        `given_up` for each dead letter."""
        self._destination = destination
        self._workspace = workspace
        self._clock = clock
        self._cache = cache
        self._progressed = progressed
        self._given_up = given_up
        self._chunks: dict[int, OpenChunk] = {}
        self._dirty: set[int] = set()
        self._forgotten: list[ChunkProgress] = []
        """The progress of chunks that have expired since."""
        self._dead: list[DeadLetter] = []
        self._uncommitted = 0
        self._pending_items = 0
        """Finished items that `take` has not returned yet."""

    @property
    def uncommitted(self) -> int:
        """Return the number of finished items whose results are not committed."""
        return self._uncommitted

    @property
    def is_empty(self) -> bool:
        """Return whether no chunk has unfinished items, and nothing waits to be taken."""
        return not (self._chunks or self._pending_items or self._dead)

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._chunks

    def add(self, chunk: OpenChunk) -> None:
        """Add a chunk that was read."""
        self._chunks[chunk.id] = chunk

    def drop_unchanged(self, chunk: int) -> None:
        """Drop a chunk that has no progress to commit."""
        if chunk not in self._dirty:
            del self._chunks[chunk]

    def forget(self, chunk: int) -> int:
        """Drop a chunk that has expired or was deleted. Its progress is committed.

        Return its number of items; 0 if it is not here.
        """
        expired = self._chunks.pop(chunk, None)
        if expired is None:
            return 0
        if chunk in self._dirty:
            self._dirty.remove(chunk)
            self._forgotten.append(expired.progress())
        self._cache.drop(chunk)
        return expired.item_count

    def add_attempts(self, details: AttemptDetails, outcomes: Sequence[tuple[int, AttemptOutcome, str]]) -> None:
        """Add a request to the chunks of its items, or the end of items without a request."""
        for chunk, record in attempt_records(details, outcomes):
            if (open_chunk := self._chunks.get(chunk)) is not None:
                open_chunk.add_attempt(record)

    def finish(self, numbers: Iterable[int]) -> int:
        """Mark items as finished: delivered, dead, or of a deleted pipeline.

        Return the number of those that were not finished before, and whose chunks have not expired.
        """
        finished = 0
        for number in numbers:
            chunk = self._chunks.get(find_chunk(number))
            if chunk is not None and chunk.finish(find_index(number)):
                self._dirty.add(chunk.id)
                finished += 1
        if finished:
            self._uncommitted += finished
            self._pending_items += finished
            self._progressed()
        return finished

    def give_up(
        self,
        chunk: QueuedChunk,
        item: ChunkItem,
        step: ProcessingStep,
        reason: str,
        message: str,
        status: int | None = None,
        attempts: int = 0,
    ) -> None:
        """Finish an item with a dead letter, unless it was finished before."""
        if not self.finish((item.number,)):
            return
        letter = DeadLetter(
            number=item.number,
            workspace=self._workspace,
            destination=self._destination,
            pipeline=item.pipeline,
            reason=reason,
            message=message[:MAX_MESSAGE_CHARACTERS],
            status=status or 0,
            attempts=attempts,
            step=step,
            enqueued_at=chunk.enqueued_at,
            died_at=microseconds(self._clock.now()),
            event=item.event,
        )
        self._dead.append(letter)
        self._given_up(GivenUp(letter, step))

    def take(self, health: LaneHealth | None) -> Progress:
        """Return the progress since the last call. The caller commits it, and then calls `committed`."""
        chunks = [*self._forgotten, *(self._chunks[chunk].progress() for chunk in self._dirty)]
        self._forgotten.clear()
        self._dirty.clear()
        dead, self._dead = self._dead, []
        items, self._pending_items = self._pending_items, 0
        return Progress(chunks, dead, health, items)

    def committed(self, progress: Progress) -> None:
        """Free what was needed until the progress was committed."""
        self._uncommitted -= progress.items
        for each in progress.chunks:
            chunk = self._chunks.get(each.chunk)
            if chunk is not None and chunk.is_settled and each.chunk not in self._dirty:
                del self._chunks[each.chunk]
                self._cache.drop(each.chunk)
