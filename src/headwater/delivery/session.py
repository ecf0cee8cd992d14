"""Sends the deliveries of one destination with its present settings and pipelines.

Three kinds of tasks share one lane: the reader reads and prepares chunks, the pump takes batches from the lane, and
each request is a task. The dispatcher takes the progress and commits it together with that of other destinations.

After a crash the unfinished items are read again. Items whose results were not committed are sent twice, each with the
same idempotency key: those in flight, and at most `MAX_UNCOMMITTED_ITEMS`.
"""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.steps import ProcessingStep
from headwater.base.waiting import wait
from headwater.connectors.contract import EventSink, SendResult
from headwater.delivery.chunks import (
    AttemptDetails,
    ChunkCache,
    OpenChunk,
    find_chunk,
    find_index,
    item_at,
    item_numbers,
    items_at,
    order_keys,
)
from headwater.delivery.health import stored_health
from headwater.delivery.items import Dead, Health, LaneItem, failure_text
from headwater.delivery.lane import Batch, Lane
from headwater.delivery.preparing import Preparer, Rejected
from headwater.delivery.progress import GivenUp, OpenChunks, Progress
from headwater.delivery.queueditems import prepare_items, source_events
from headwater.delivery.requests import batch_outcomes, send_batch
from headwater.events.record import COMPLETE, RecordReader
from headwater.state.deliveries import (
    ChunkItem,
    DeliveryStore,
    LaneHealth,
    QueuedChunk,
    QueuedEvent,
)
from headwater.state.deliveries.records import AttemptOutcome

READ_BYTES: Final = 1 << 20
"""Approximate size of the documents of one read."""
MIN_OFFERED_ITEMS: Final = 50
"""Items that are prepared together although the lane wants fewer. It can exceed its limits by them."""
MAX_OFFERED_ITEMS: Final = 500
MAX_UNCOMMITTED_ITEMS: Final = 500
"""Number of finished items whose results are not committed, above which no request begins."""
HEALTH_SECONDS: Final = 1.0
"""Minimum interval between two writes of the health of a destination."""
MAX_IDLE_SECONDS: Final = 1.0
"""Maximum time between two looks at the lane."""
DRAIN_SECONDS: Final = 10.0
"""Time that requests in flight have to complete when a session ends. Later they are cancelled, and sent again."""
_DELETED: Final = "PipelineDeleted: the pipeline was deleted before the event was sent"
"""The reason in the trace of a delivery that goes with its pipeline."""

_log = structlog.get_logger(__name__)


class SentBatch(Struct, frozen=True):
    """The result of one request, for metrics and watchers."""

    batch: Batch
    result: SendResult
    seconds: float
    delivered: tuple[LaneItem, ...]
    dead: tuple[Dead, ...]
    event: Callable[[int], QueuedEvent | None]
    """Returns the event of an item by its number, if it is in memory."""


class SessionHooks(Struct, frozen=True):
    """The functions that a session calls, of the process that runs it."""

    progressed: Callable[[], None]
    """There is progress to commit."""
    sent: Callable[[SentBatch], None]
    """A request has ended, with a response or without."""
    given_up: Callable[[GivenUp], None]
    """A delivery became a dead letter."""


class Session:
    """Sends to one destination until it is stopped."""

    def __init__(
        self,
        *,
        destination: int,
        workspace: int,
        sink: EventSink,
        preparers: Mapping[int, Preparer | None],
        lane: Lane,
        store: DeliveryStore,
        clock: Clock,
        hooks: SessionHooks,
        cache: ChunkCache,
        records: RecordReader = COMPLETE,
        stored_health: Health | None = None,
        last_success_at: int = 0,
    ) -> None:
        """`preparers` are those of the destination's pipelines; None for a disabled one, whose items wait. `cache` can
        be shared with other sessions. `records` reads the properties that the pipelines need.

        `stored_health` is the stored health, if the lane begins with another one, and `last_success_at` the stored time
        of the last success.
        """
        self.destination: Final = destination
        self._workspace = workspace
        self._sink = sink
        self._preparers = preparers
        self._records = records
        self._lane = lane
        self._store = store
        self._clock = clock
        self._sent = hooks.sent
        self._progressed = hooks.progressed
        self._epoch_offset = clock.now().timestamp() - time.monotonic()
        self._chunks = OpenChunks(
            destination=destination,
            workspace=workspace,
            clock=clock,
            cache=cache,
            progressed=hooks.progressed,
            given_up=hooks.given_up,
        )
        self._cache = cache
        self._unoffered: deque[tuple[int, Sequence[int]]] = deque()
        """The items that were read and not offered to the lane yet: the ids of their chunks, and their indexes."""
        self._dead_items: defaultdict[int, list[Dead]] = defaultdict(list)
        """Dead deliveries whose events have to be read from the queue, by chunk."""
        self._read_through = 0
        self._newest = 1
        """The id of the newest chunk that may be read: those after it may be for pipelines that this session does not
        have. There may be one at the start."""
        self._stored = lane.health if stored_health is None else stored_health, last_success_at
        """The health and the time of the last success that `take` returned last."""
        self._health_written_at = 0.0
        self._wake_reader = asyncio.Event()
        self._wake_pump = asyncio.Event()
        self._stopping = False
        self._has_ended = False
        """Requests that are still in flight are cancelled."""
        self._requests: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        """The exception of a request: a bug, or a cancellation from inside. Its items are in flight forever."""
        self._last_success_at = last_success_at
        self.last_active: float = time.monotonic()
        """Time of the last work, on the monotonic clock."""

    @property
    def lane(self) -> Lane:
        return self._lane

    @property
    def stored_health(self) -> Health:
        """Return the health that `take` returned last."""
        return self._stored[0]

    @property
    def last_success_at(self) -> int:
        """Return the time of the last success, in microseconds since the epoch; 0 if there was none."""
        return self._last_success_at

    @property
    def uncommitted(self) -> int:
        """Return the number of finished items whose results are not committed."""
        return self._chunks.uncommitted

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits to be sent, read or committed."""
        return (
            self._chunks.is_empty and not self._requests and not self._dead_items and self._read_through >= self._newest
        )

    def notify(self, newest: int) -> None:
        """Take the id of a new chunk of this destination.

        The caller has ended the session before, if the destination changed before the chunk was appended.
        """
        if newest > self._newest:
            self._newest = newest
            self._wake_reader.set()

    def forget(self, chunk: int) -> None:
        """Forget a chunk that has expired or was deleted from the store.

        If it has expired, the store has given up its items, and takes those out that were finished.
        """
        if items := self._chunks.forget(chunk):
            self._lane.remove(item_numbers(chunk, range(items)))
            self._wake_pump.set()

    def resume(self) -> None:
        """End a pause, because what may have caused it has changed."""
        self._lane.resume(self._now())

    def stop(self) -> None:
        """End the session. Requests in flight have `DRAIN_SECONDS` to complete."""
        self._stopping = True
        self._wake_pump.set()

    async def run(self) -> None:
        """Send until `stop` is called. Raises Unavailable, or the exception of a bug."""
        reader = asyncio.create_task(self._read())
        pump = asyncio.create_task(self._pump())
        try:
            await asyncio.wait((reader, pump), return_when=asyncio.FIRST_COMPLETED)
            for task in (reader, pump):
                if task.done():
                    task.result()
        finally:
            for task in (reader, pump):
                task.cancel()
            await asyncio.gather(reader, pump, return_exceptions=True)
            if self._requests and self._stopping:
                await asyncio.wait(self._requests, timeout=DRAIN_SECONDS)
            self._has_ended = True
            for request in self._requests:
                request.cancel()
            await asyncio.gather(*self._requests, return_exceptions=True)
            try:
                await self._bury()
            except Unavailable as error:  # an exception here would end a cancellation
                _log.warning("dead deliveries are sent again", destination=self.destination, reason=error.message)

    # Reading and preparing

    async def _read(self) -> None:
        while not self._stopping:
            if self._dead_items:
                await self._bury()
            if numbers := self._lane.reload():
                await self._reload(numbers)
            elif (self._unoffered or self._read_through < self._newest) and self._lane.wanted() > 0:
                await self._read_next()
            else:
                await wait(self._wake_reader, MAX_IDLE_SECONDS)
                self._wake_reader.clear()

    async def _read_next(self) -> None:
        """Offer the next items, about as many as the lane wants: what it has no space for would become cold."""
        if not self._unoffered:
            await self._read_chunks()
        if not self._unoffered:
            return
        id_, indexes = self._unoffered[0]
        count = min(max(self._lane.wanted(), MIN_OFFERED_ITEMS), MAX_OFFERED_ITEMS)
        if count < len(indexes):
            self._unoffered[0] = id_, indexes[count:]
        else:
            self._unoffered.popleft()
        if id_ not in self._chunks:  # it has expired
            return
        chunk = await self._chunk(id_)
        if chunk is None:
            self.forget(id_)
        else:
            await self._offer(chunk, items_at(chunk, indexes[:count]))
        self.last_active = time.monotonic()

    async def _read_chunks(self) -> None:
        newest = self._newest  # a chunk that is announced during the read may be missing in it
        found = await self._store.read(self.destination, self._read_through, max_bytes=READ_BYTES)
        if self._stopping:  # the pipelines may have changed before the chunks were appended
            return
        chunks = [chunk for chunk in found if chunk.id <= newest]
        if not chunks:
            self._read_through = newest
        for chunk in chunks:
            self._cache.put(chunk)
            self._read_through = chunk.id
            if not chunk.done and all(self._preparers.get(pipeline) is not None for pipeline in chunk.wanted):
                self._chunks.add(OpenChunk(chunk, waiting=0))
                self._unoffered.append((chunk.id, range(chunk.item_count)))
                continue
            items = list(chunk.unfinished())
            ready = [find_index(item.number) for item in items if self._preparers.get(item.pipeline) is not None]
            deleted = [item for item in items if item.pipeline not in self._preparers]
            self._chunks.add(OpenChunk(chunk, waiting=len(items) - len(ready) - len(deleted)))
            self._chunks.add_attempts(
                AttemptDetails(self._microseconds(), 0, 0, 0), [(item.number, "Dead", _DELETED) for item in deleted]
            )
            self._chunks.finish(item.number for item in deleted)
            if ready:
                self._unoffered.append((chunk.id, ready))
            else:  # the chunks of a disabled pipeline take no memory
                self._chunks.drop_unchanged(chunk.id)

    async def _reload(self, numbers: Sequence[int]) -> None:
        """Read and prepare items again whose documents the lane has dropped."""
        by_chunk: dict[int, list[int]] = {}
        for number in numbers:
            by_chunk.setdefault(find_chunk(number), []).append(find_index(number))
        for chunk_id, indexes in by_chunk.items():
            chunk = await self._chunk(chunk_id)
            if chunk is not None:
                await self._offer(chunk, items_at(chunk, sorted(indexes)))
            else:
                self._lane.remove(item_numbers(chunk_id, indexes))
                self.forget(chunk_id)
        self._wake_pump.set()

    async def _offer(self, chunk: QueuedChunk, items: Sequence[ChunkItem]) -> None:
        """Prepare items and offer them to the lane in their order. Those that cannot be prepared become dead."""
        sources = source_events(items, self._records)
        prepared = await prepare_items(items, sources, self._preparers, self.destination)
        if chunk.id not in self._chunks:  # it has expired in the meantime
            return
        enqueued_at = chunk.enqueued_at / 1e6
        is_ordered = self._sink.policy.order == "PerUser"
        max_age = self._sink.policy.max_age_seconds
        offered: list[LaneItem] = []
        rejected: defaultdict[ProcessingStep, list[tuple[int, AttemptOutcome, str]]] = defaultdict(list)
        for item, source, result in zip(items, sources, prepared, strict=True):
            if isinstance(result, Rejected):
                self._lane.remove((item.number,))  # it may have been there before it became cold
                rejected[result.step].append((item.number, "Dead", failure_text(result.reason, result.message)))
                self._chunks.give_up(chunk, item, result.step, result.reason, result.message)
            else:
                preparer = self._preparers[item.pipeline]
                assert preparer is not None, "items of disabled pipelines are not prepared"
                offered.append(
                    LaneItem(
                        number=item.number,
                        pipeline=item.pipeline,
                        key=preparer.key(source),
                        order_keys=order_keys(source.event) if is_ordered else (),
                        enqueued_at=enqueued_at,
                        encoded=result,
                        accepted_until=math.inf if max_age is None else source.event.timestamp.timestamp() + max_age,
                    )
                )
        for step, outcomes in rejected.items():
            self._chunks.add_attempts(AttemptDetails(self._microseconds(), 0, 0, 0, step), outcomes)
        self._lane.offer(offered, self._now())
        self._wake_pump.set()

    async def _chunk(self, id_: int) -> QueuedChunk | None:
        """Return a chunk from memory or from the store; None if it is not there."""
        chunk = self._cache.get(id_)
        if chunk is None:
            found = await self._store.read(self.destination, id_ - 1, max_bytes=1)
            chunk = found[0] if found and found[0].id == id_ else None
            if chunk is not None:
                self._cache.put(chunk)
        return chunk

    # Sending

    async def _pump(self) -> None:
        while not self._stopping:
            if self._error is not None:
                raise self._error
            now = self._now()
            self._give_up(self._lane.expire(now))
            while (
                self._chunks.uncommitted <= MAX_UNCOMMITTED_ITEMS and (batch := self._lane.next_batch(now)) is not None
            ):
                request = asyncio.create_task(self._send(batch))
                self._requests.add(request)
                request.add_done_callback(self._end_request)
            self._give_up(self._lane.take_outdated())
            self._note_health()
            self._wake_reader.set()
            await wait(self._wake_pump, self._idle_seconds())
            self._wake_pump.clear()

    def _give_up(self, dead: Sequence[Dead]) -> None:
        """Bury items that are given up without a request."""
        if dead:
            self._bury_later(dead)
            self._chunks.add_attempts(
                AttemptDetails(self._microseconds(), 0, 0, 0),
                [(each.number, "Dead", failure_text(each.reason, each.message)) for each in dead],
            )

    def _idle_seconds(self) -> float:
        """Return the time until the pump has to look at the lane again, if nothing wakes it."""
        wake_at = self._lane.wake_at()
        if wake_at is None or self._chunks.uncommitted > MAX_UNCOMMITTED_ITEMS:  # `committed` wakes it
            return MAX_IDLE_SECONDS
        return min(max(wake_at - self._now(), 0.001), MAX_IDLE_SECONDS)

    def _end_request(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        error = RuntimeError("a request was cancelled") if request.cancelled() else request.exception()
        if error is not None and not self._has_ended:
            _log.error("a request failed", destination=self.destination, exc_info=error)
            self._error = error
            self._wake_pump.set()

    async def _send(self, batch: Batch) -> None:
        at = self._clock.now()
        began = time.monotonic()
        result = await send_batch(self._sink, batch, self._clock, self.destination)
        seconds = time.monotonic() - began
        self.last_active = time.monotonic()
        completion = self._lane.complete(batch, result, self._now())
        if completion.delivered:
            self._last_success_at = self._microseconds()
        details = AttemptDetails(microseconds(at), batch.attempt, int(seconds * 1000), result.status or 0)
        self._chunks.add_attempts(details, batch_outcomes(batch, result, {each.number for each in completion.dead}))
        self._chunks.finish(item.number for item in completion.delivered)
        self._bury_later(completion.dead)
        self._note_health()
        self._sent(SentBatch(batch, result, seconds, completion.delivered, completion.dead, self._event_in_memory))
        self._wake_pump.set()
        self._wake_reader.set()

    def _event_in_memory(self, number: int) -> QueuedEvent | None:
        chunk = self._cache.get(find_chunk(number))
        return None if chunk is None else item_at(chunk, find_index(number)).event

    # Progress

    def take(self) -> Progress:
        """Return the progress since the last call. The caller commits it, and then calls `committed`."""
        return self._chunks.take(self._take_health())

    def committed(self, progress: Progress) -> None:
        """Free what was needed until the progress was committed."""
        self._chunks.committed(progress)
        self._wake_pump.set()

    def _bury_later(self, dead: Iterable[Dead]) -> None:
        for each in dead:
            self._dead_items[find_chunk(each.number)].append(each)

    async def _bury(self) -> None:
        """Turn the dead deliveries of the lane into dead letters, with their events."""
        while self._dead_items:
            id_ = next(iter(self._dead_items))
            chunk = await self._chunk(id_)
            dead = self._dead_items.pop(id_)
            if chunk is None:
                self.forget(id_)
            else:
                items = items_at(chunk, [find_index(each.number) for each in dead])
                for each, item in zip(dead, items, strict=True):
                    self._chunks.give_up(chunk, item, "Finalize", each.reason, each.message, each.status, each.attempts)
            await asyncio.sleep(0)  # other tasks run after each chunk

    def _note_health(self) -> None:
        if (self._lane.health, self._last_success_at) != self._stored:
            self._progressed()

    def _take_health(self) -> LaneHealth | None:
        """Return the health if it has changed, at most once in `HEALTH_SECONDS` until the session ends."""
        present, now = (self._lane.health, self._last_success_at), time.monotonic()
        is_due = self._stopping or now >= self._health_written_at + HEALTH_SECONDS
        if present == self._stored or not is_due:
            return None
        self._stored, self._health_written_at = present, now
        return stored_health(self._lane.health, self.destination, self._workspace, self._last_success_at)

    def _now(self) -> float:
        return self._epoch_offset + time.monotonic()

    def _microseconds(self) -> int:
        return microseconds(self._clock.now())
