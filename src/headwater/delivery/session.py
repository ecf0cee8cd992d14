"""Sends the deliveries of one destination with its present settings and pipelines.

Three kinds of tasks share one lane: the reader reads and prepares chunks, the pump takes batches from the lane, and
each request is a task. The dispatcher takes the progress and commits it together with that of other destinations.

After a crash the unfinished items are read again. Items whose results were not committed are sent twice, each with the
same idempotency key: those in flight, and at most `MAX_UNCOMMITTED_ITEMS`.
"""

import asyncio
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
from headwater.connectors.contract import (
    Attempt,
    EncodedEvent,
    EventSink,
    Failure,
    FailureScope,
    Outcome,
    SendResult,
    failed,
)
from headwater.delivery.chunks import (
    AttemptDetails,
    ChunkCache,
    OpenChunk,
    attempt_records,
    find_chunk,
    find_index,
    item_at,
    item_numbers,
    items_at,
    order_keys,
)
from headwater.delivery.items import Dead, Health, HealthState, LaneItem
from headwater.delivery.lane import Batch, Lane
from headwater.delivery.preparing import Preparer, Rejected
from headwater.delivery.queueditems import prepare_items, source_events
from headwater.events.record import COMPLETE, RecordReader
from headwater.state.deliveries import (
    ChunkItem,
    ChunkProgress,
    DeadLetter,
    DeliveryStore,
    LaneHealth,
    QueuedChunk,
    QueuedEvent,
)
from headwater.state.deliveries.contract import AttemptOutcome
from headwater.state.deliveries.contract import HealthState as StoredState

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
MAX_SEND_SECONDS: Final = 90.0
"""Time limit of one request, in addition to those of the HTTP client."""
MAX_MESSAGE_CHARACTERS: Final = 500
_DELETED: Final = "PipelineDeleted: the pipeline was deleted before the event was sent"
"""The reason in the trace of a delivery that goes with its pipeline."""

_log = structlog.get_logger(__name__)


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


class SentBatch(Struct, frozen=True):
    """The result of one request, for metrics and watchers."""

    batch: Batch
    result: SendResult
    seconds: float
    delivered: tuple[LaneItem, ...]
    dead: tuple[Dead, ...]
    event: Callable[[int], QueuedEvent | None]
    """Returns the event of an item by its number, if it is in memory."""


class GivenUp(Struct, frozen=True):
    """A delivery that became a dead letter, and the step at which it failed."""

    letter: DeadLetter
    step: ProcessingStep


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
        self._hooks = hooks
        self._epoch_offset = clock.now().timestamp() - time.monotonic()
        self._chunks: dict[int, OpenChunk] = {}
        self._cache = cache
        self._unoffered: deque[tuple[int, Sequence[int]]] = deque()
        """The items that were read and not offered to the lane yet: the ids of their chunks, and their indexes."""
        self._dirty: set[int] = set()
        self._forgotten: list[ChunkProgress] = []
        """The progress of chunks that have expired since."""
        self._dead: list[DeadLetter] = []
        self._dead_items: defaultdict[int, list[Dead]] = defaultdict(list)
        """Dead deliveries whose events have to be read from the queue, by chunk."""
        self._uncommitted = 0
        self._pending_items = 0
        """Finished items that `take` has not returned yet."""
        self._read_through = 0
        self._newest = 1
        """The id of the newest chunk, as far as known. There may be one at the start."""
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
        return self._uncommitted

    @property
    def is_idle(self) -> bool:
        """Return whether nothing waits to be sent, read or committed."""
        return not (self._chunks or self._requests or self._pending_items or self._dead or self._dead_items) and (
            self._read_through >= self._newest
        )

    def notify(self, newest: int) -> None:
        """Take the id of a new chunk of this destination."""
        if newest > self._newest:
            self._newest = newest
            self._wake_reader.set()

    def forget(self, chunk: int, items: int) -> None:
        """Forget a chunk that has expired: the store has given up its items, and takes those out that were finished."""
        if (expired := self._chunks.pop(chunk, None)) is not None:
            if chunk in self._dirty:
                self._dirty.remove(chunk)
                self._forgotten.append(expired.progress())
            self._lane.remove(item_numbers(chunk, range(items)))
            self._cache.drop(chunk)
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
        while True:
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
            self._forget_deleted(id_)
        else:
            await self._offer(chunk, items_at(chunk, indexes[:count]))
        self.last_active = time.monotonic()

    async def _read_chunks(self) -> None:
        newest = self._newest  # a chunk that is announced during the read may be missing in it
        chunks = await self._store.read(self.destination, self._read_through, max_bytes=READ_BYTES)
        if not chunks:
            self._read_through = newest
        for chunk in chunks:
            self._cache.put(chunk)
            self._read_through = chunk.id
            self._newest = max(self._newest, chunk.id)
            if not chunk.done and all(self._preparers.get(pipeline) is not None for pipeline in chunk.wanted):
                self._chunks[chunk.id] = OpenChunk(chunk, waiting=0)
                self._unoffered.append((chunk.id, range(chunk.item_count)))
                continue
            items = list(chunk.unfinished())
            ready = [find_index(item.number) for item in items if self._preparers.get(item.pipeline) is not None]
            deleted = [item for item in items if item.pipeline not in self._preparers]
            self._chunks[chunk.id] = OpenChunk(chunk, waiting=len(items) - len(ready) - len(deleted))
            self._add_attempts(
                AttemptDetails(self._microseconds(), 0, 0, 0), [(item.number, "Dead", _DELETED) for item in deleted]
            )
            self._finish_all(item.number for item in deleted)
            if ready:
                self._unoffered.append((chunk.id, ready))
            elif chunk.id not in self._dirty:  # the chunks of a disabled pipeline take no memory
                del self._chunks[chunk.id]

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
                self._forget_deleted(chunk_id)
        self._wake_pump.set()

    def _forget_deleted(self, id_: int) -> None:
        """Forget a chunk that is not in the store any more: the worker has made space."""
        if (deleted := self._chunks.get(id_)) is not None:
            self.forget(id_, deleted.item_count)

    async def _offer(self, chunk: QueuedChunk, items: Sequence[ChunkItem]) -> None:
        """Prepare items and offer them to the lane in their order. Those that cannot be prepared become dead."""
        sources = source_events(items, self._records)
        prepared = await prepare_items(items, sources, self._preparers, self.destination)
        if chunk.id not in self._chunks:  # it has expired in the meantime
            return
        enqueued_at = chunk.enqueued_at / 1e6
        is_ordered = self._sink.policy.order == "PerUser"
        offered: list[LaneItem] = []
        rejected: defaultdict[ProcessingStep, list[tuple[int, AttemptOutcome, str]]] = defaultdict(list)
        for item, source, result in zip(items, sources, prepared, strict=True):
            if isinstance(result, Rejected):
                self._lane.remove((item.number,))  # it may have been there before it became cold
                rejected[result.step].append((item.number, "Dead", _text(result.reason, result.message)))
                self._give_up(chunk, item, result.step, result.reason, result.message)
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
                    )
                )
        for step, outcomes in rejected.items():
            self._add_attempts(AttemptDetails(self._microseconds(), 0, 0, 0, step), outcomes)
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
            if expired := self._lane.expire(now):
                self._bury_later(expired)
                self._add_attempts(
                    AttemptDetails(self._microseconds(), 0, 0, 0),
                    [(each.number, "Dead", _text(each.reason, each.message)) for each in expired],
                )
            while self._uncommitted <= MAX_UNCOMMITTED_ITEMS and (batch := self._lane.next_batch(now)) is not None:
                request = asyncio.create_task(self._send(batch))
                self._requests.add(request)
                request.add_done_callback(self._end_request)
            self._note_health()
            self._wake_reader.set()
            await wait(self._wake_pump, self._idle_seconds())
            self._wake_pump.clear()

    def _idle_seconds(self) -> float:
        """Return the time until the pump has to look at the lane again, if nothing wakes it."""
        wake_at = self._lane.wake_at()
        if wake_at is None or self._uncommitted > MAX_UNCOMMITTED_ITEMS:  # `committed` wakes it
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
        events = [item.encoded for item in batch.items]
        at = self._clock.now()
        began = time.monotonic()
        result = await self._exchange(batch, events)
        seconds = time.monotonic() - began
        self.last_active = time.monotonic()
        completion = self._lane.complete(batch, result, self._now())
        if completion.delivered:
            self._last_success_at = self._microseconds()
        details = AttemptDetails(microseconds(at), batch.attempt, int(seconds * 1000), result.status or 0)
        self._record(batch, result, details, {each.number for each in completion.dead})
        self._finish_all(item.number for item in completion.delivered)
        self._bury_later(completion.dead)
        self._note_health()
        self._hooks.sent(
            SentBatch(batch, result, seconds, completion.delivered, completion.dead, self._event_in_memory)
        )
        self._wake_pump.set()
        self._wake_reader.set()

    def _event_in_memory(self, number: int) -> QueuedEvent | None:
        chunk = self._cache.get(find_chunk(number))
        return None if chunk is None else item_at(chunk, find_index(number)).event

    async def _exchange(self, batch: Batch, events: Sequence[EncodedEvent]) -> SendResult:
        """Send a batch. An exception of the connector belongs to the batch, and in the end to one event."""
        attempt = Attempt(key=batch.key, number=batch.attempt, at=self._clock.now())
        try:
            async with asyncio.timeout(MAX_SEND_SECONDS):
                result = await self._sink.send(self._sink.request(events, attempt), events)
        except Unavailable as error:
            return failed(
                len(events), Failure(scope=FailureScope.DESTINATION, reason="NotReady", message=error.message)
            )
        except TimeoutError:
            failure = Failure(scope=FailureScope.DESTINATION, reason="TimedOut", message="the request took too long")
            return failed(len(events), failure)
        except Exception as error:
            _log.exception("internal error of a connector", destination=self.destination)
            name = type(error).__name__
            failure = Failure(scope=FailureScope.BATCH, reason="InternalError", message=f"internal error ({name})")
            return failed(len(events), failure)
        if len(result.items) != len(events):
            _log.error("a connector returned a wrong number of results", destination=self.destination)
            failure = Failure(
                scope=FailureScope.BATCH, reason="InternalError", message="the connector returned too few results"
            )
            return failed(len(events), failure, result.status)
        return result

    def _record(self, batch: Batch, result: SendResult, details: AttemptDetails, dead: set[int]) -> None:
        """Add the attempt to the chunks of its items."""
        failure = "" if result.failure is None else _text(result.failure.reason, result.failure.message)
        outcomes: list[tuple[int, AttemptOutcome, str]] = [
            (
                item.number,
                "Delivered" if each.outcome is Outcome.DELIVERED else "Dead" if item.number in dead else "Retried",
                _text(each.reason, each.message) or failure,
            )
            for item, each in zip(batch.items, result.items, strict=True)
        ]
        self._add_attempts(details, outcomes)

    def _add_attempts(self, details: AttemptDetails, outcomes: Sequence[tuple[int, AttemptOutcome, str]]) -> None:
        """Add a request to the chunks of its items, or the end of items without a request."""
        for chunk, record in attempt_records(details, outcomes):
            if (open_chunk := self._chunks.get(chunk)) is not None:
                open_chunk.add_attempt(record)

    # Progress

    def take(self) -> Progress:
        """Return the progress since the last call. The caller commits it, and then calls `committed`."""
        chunks = [*self._forgotten, *(self._chunks[chunk].progress() for chunk in self._dirty)]
        self._forgotten.clear()
        self._dirty.clear()
        dead, self._dead = self._dead, []
        items, self._pending_items = self._pending_items, 0
        return Progress(chunks, dead, self._take_health(), items)

    def committed(self, progress: Progress) -> None:
        """Free what was needed until the progress was committed."""
        self._uncommitted -= progress.items
        for each in progress.chunks:
            chunk = self._chunks.get(each.chunk)
            if chunk is not None and chunk.is_settled and each.chunk not in self._dirty:
                del self._chunks[each.chunk]
                self._cache.drop(each.chunk)
        self._wake_pump.set()

    def _finish_all(self, numbers: Iterable[int]) -> int:
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
            self._hooks.progressed()
        return finished

    def _give_up(
        self,
        chunk: QueuedChunk,
        item: ChunkItem,
        step: ProcessingStep,
        reason: str,
        message: str,
        status: int | None = None,
        attempts: int = 0,
    ) -> None:
        if not self._finish_all((item.number,)):
            return
        letter = DeadLetter(
            number=item.number,
            workspace=self._workspace,
            destination=self.destination,
            pipeline=item.pipeline,
            reason=reason,
            message=message[:MAX_MESSAGE_CHARACTERS],
            status=status or 0,
            attempts=attempts,
            step=step,
            enqueued_at=chunk.enqueued_at,
            died_at=self._microseconds(),
            event=item.event,
        )
        self._dead.append(letter)
        self._hooks.given_up(GivenUp(letter, step))

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
                self._forget_deleted(id_)
            else:
                items = items_at(chunk, [find_index(each.number) for each in dead])
                for each, item in zip(dead, items, strict=True):
                    self._give_up(chunk, item, "Finalize", each.reason, each.message, each.status, each.attempts)
            await asyncio.sleep(0)  # other tasks run after each chunk

    def _note_health(self) -> None:
        if (self._lane.health, self._last_success_at) != self._stored:
            self._hooks.progressed()

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


def stored_health(health: Health, destination: int, workspace: int, last_success_at: int) -> LaneHealth:
    """Return the health of a lane in the form in which it is stored."""
    return LaneHealth(
        destination=destination,
        workspace=workspace,
        state=_STORED_STATES[health.state],
        failing_since=_stored_time(health.failing_since),
        paused_until=_stored_time(health.paused_until),
        failures=health.failures,
        last_status=health.status or 0,
        last_error=_text(health.reason, health.message),
        last_response=b"" if health.status is None else health.message.encode(errors="replace"),
        last_success_at=last_success_at,
    )


def restored_health(stored: LaneHealth) -> Health:
    """Return the health with which a lane begins after a restart. A state of another release counts as closed."""
    reason, _, message = stored.last_error.partition(": ")
    return Health(
        state=_LANE_STATES.get(stored.state, HealthState.CLOSED),
        failures=stored.failures,
        failing_since=_lane_time(stored.failing_since),
        paused_until=_lane_time(stored.paused_until),
        reason=reason,
        message=message,
        status=stored.last_status or None,
    )


_STORED_STATES: Final[Mapping[HealthState, StoredState]] = {
    HealthState.CLOSED: "closed",
    HealthState.OPEN: "open",
    HealthState.HALF_OPEN: "half_open",
    HealthState.REFUSING: "refusing",
}
_LANE_STATES: Final[Mapping[StoredState, HealthState]] = {stored: state for state, stored in _STORED_STATES.items()}


def _stored_time(seconds: float | None) -> int:
    return 0 if seconds is None else int(seconds * 1e6)


def _lane_time(at: int) -> float | None:
    return at / 1e6 if at else None


def _text(reason: str, message: str) -> str:
    """Return a reason and its message as one text, of limited length."""
    return (f"{reason}: {message}" if message else reason)[:MAX_MESSAGE_CHARACTERS]
