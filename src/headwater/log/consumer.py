"""Consumes a log under a lease: passes batches to a handler, and retries after outages and errors.

The next batch is fetched and decoded while a batch is written. Decision record 26 has the measurements: decoding in
slices on the event loop, only while the handler waits for I/O, costs nothing, because the process would be idle.
Decoding at any other time would delay the handler.

    handler   | decide      | write, wait for the disk   | decide      | write ...
    io_bound  |             | set                        |             | set
    prefetch  |             | fetch, decode slice, slice |             | fetch ...
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog
from msgspec import Struct

from headwater.base.errors import Unavailable
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.base.waiting import wait
from headwater.log.contract import EventLog, Lease, LeaseLost, LeaseTaken, StoredEntry

READ_WAIT: Final = timedelta(milliseconds=500)
"""Time limit of one read that waits for entries, and so of a stop of an idle consumer."""
LEASE_RETRY_SECONDS: Final = 0.2
"""Interval at which a taken lease is requested again."""
INITIAL_BACK_OFF_SECONDS: Final = 0.1
MAX_BACK_OFF_SECONDS: Final = 2.0
"""Maximum delay after an error. It doubles until a batch succeeds."""
STOP_SECONDS: Final = 2.0
"""Time limit of companions after a stop, before they are cancelled."""
ADVANCE_SECONDS: Final = 1.0
"""Interval at which the cursor in the log is moved, from which the backlog is measured."""

_log = structlog.get_logger(__name__)
Batch = TypeVar("Batch")
Batch_co = TypeVar("Batch_co", covariant=True)
Batch_contra = TypeVar("Batch_contra", contravariant=True)

Fetch = Callable[[], Coroutine[Any, Any, list[StoredEntry]]]

Companion = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Runs until the event is set, or until it is cancelled."""


class Decoder(Protocol[Batch_co]):
    """Decodes entries, one after another, into one batch."""

    size: int
    """Size of the decoded data, which can be far larger than the entries."""

    def add(self, stored: StoredEntry, /) -> None:
        """Decode one more entry. If it raises, the batch is not handled, and fetched again."""
        ...

    def batch(self) -> Batch_co:
        """Return all decoded entries as a batch."""
        ...


class Handler(Protocol[Batch_contra]):
    """Handles the batches of one consumer, and owns its position."""

    @property
    def io_bound(self) -> asyncio.Event:
        """Set while `handle` waits for I/O only: the next batch is decoded then."""
        ...

    async def position(self) -> int:
        """Return the position up to which everything is handled; initially 0.

        It is read again after each error, because an outage during a commit leaves its outcome open.
        """
        ...

    async def handle(self, batch: Batch_contra, *, after: int) -> int:
        """Handle the batch that follows position `after`; return the position up to which everything is handled.

        Raises Unavailable if a service is unavailable, or another process has handled the batch.
        """
        ...


class Limits(Struct, frozen=True):
    """Sizes of a consumer's batches."""

    batch_bytes: int = 3 * 1024 * 1024
    """Approximate size of the entries of one batch: large enough for throughput, small enough for low latency."""
    decoded_bytes: int = 6 * 1024 * 1024
    """Approximate maximum size of a decoded batch. The remaining entries are the next batch."""
    slice_bytes: int = 128 * 1024
    """Number of decoded bytes after which other tasks of the event loop run: about a millisecond."""
    gather_seconds: float = 0.1
    """Delay after a batch that contained all entries, in which others gather: even a small transaction takes
    milliseconds."""
    urgent_gather_seconds: float = 0.025
    """The same delay while the results are waited for."""


DEFAULT_LIMITS: Final = Limits()


class Consumer(Generic[Batch]):
    """Reads a log from the position of its handler on. Several processes may run it, and one at a time holds the
    lease."""

    def __init__(
        self,
        log: EventLog,
        name: str,
        handler: Handler[Batch],
        *,
        decode: Callable[[], Decoder[Batch]],
        may_lag: bool = False,
        on_missed: Callable[[int], None] | None = None,
        companions: Sequence[Companion] = (),
        limits: Limits = DEFAULT_LIMITS,
        is_urgent: Callable[[], bool] = bool,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        """`decode` returns an empty decoder for each batch. `EventLog.lease` explains `may_lag`.

        `on_missed` is called with the approximate bytes of entries that were removed before a lagging consumer read
        them. `companions` run while this process holds the lease. `is_urgent` returns whether entries gather for the
        shorter time of the limits.
        """
        self._log = log
        self._name = name
        self._handler = handler
        self._decode = decode
        self._may_lag = may_lag
        self._on_missed = on_missed
        self._companions = companions
        self._limits = limits
        self._is_urgent = is_urgent
        self._metrics = metrics
        self._back_off_seconds = INITIAL_BACK_OFF_SECONDS
        self._reached = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, and complete the present batch."""
        while not stop.is_set():
            try:
                lease = await self._log.lease(self._name, may_lag=self._may_lag)
            except LeaseTaken:
                await wait(stop, LEASE_RETRY_SECONDS)
            except Exception as error:
                await self._back_off(error, stop)
            else:
                await self._run_leased(lease, stop)

    async def _run_leased(self, lease: Lease, stop: asyncio.Event) -> None:
        """Consume until `stop` is set or the lease is lost, then release it."""
        try:
            async with self._with_companions(stop):
                while not stop.is_set():
                    try:
                        position = await self._handler.position()
                        if position > self._reached:
                            self._reached, self._back_off_seconds = position, INITIAL_BACK_OFF_SECONDS
                        await self._follow(lease, position, stop)
                    except LeaseLost:
                        raise
                    except Exception as error:
                        await self._back_off(error, stop)
        except LeaseLost:
            _log.warning("the lease was lost: another process may consume", consumer=self._name)
        finally:
            await lease.release()

    @asynccontextmanager
    async def _with_companions(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Run the companions during the block. After `stop` they have a moment to complete their work."""
        tasks = [asyncio.create_task(_run_companion(companion, stop)) for companion in self._companions]
        try:
            yield
        finally:
            if stop.is_set() and tasks:
                await asyncio.wait(tasks, timeout=STOP_SECONDS)
            await _cancel(tasks)

    async def _back_off(self, error: Exception, stop: asyncio.Event) -> None:
        """Log an error, and wait before the next attempt."""
        seconds = self._back_off_seconds
        if isinstance(error, Unavailable):
            _log.warning("the consumer waits", consumer=self._name, reason=error.message, seconds=seconds)
        else:
            self._metrics.batch_failed(type(error).__name__)
            _log.error("a batch failed and will be retried", consumer=self._name, seconds=seconds, exc_info=error)
        await wait(stop, seconds)
        self._back_off_seconds = min(2 * seconds, MAX_BACK_OFF_SECONDS)

    async def _follow(self, lease: Lease, position: int, stop: asyncio.Event) -> None:
        """Consume entries after `position`. Raises LeaseLost, and any error of the log and the handler."""
        next_advance = 0.0
        prefetch = self._prefetch(position, READ_WAIT)
        try:
            while not stop.is_set():
                if not lease.held:
                    raise LeaseLost(self._name)
                batch = await prefetch.result()
                has_more = self._has_more(prefetch)
                if last := prefetch.last:
                    self._report_missed(prefetch)
                    prefetch = self._prefetch(last, timedelta())
                    async with self._running(prefetch) if has_more else nullcontext():
                        position = await self._handler.handle(batch, after=position)
                    if position != last:
                        await prefetch.close()
                        prefetch = self._prefetch(position, timedelta())
                if time.monotonic() >= next_advance:
                    await lease.advance(position)
                    next_advance = time.monotonic() + ADVANCE_SECONDS
                if not has_more:
                    limits = self._limits
                    await wait(stop, limits.urgent_gather_seconds if self._is_urgent() else limits.gather_seconds)
                    prefetch = self._prefetch(position, READ_WAIT)
        finally:
            await prefetch.close()
        await lease.advance(position)

    def _has_more(self, prefetch: "Prefetch[Batch]") -> bool:
        """Return whether the next batch is fetched while this one is handled: there are more entries, which do not
        arrive singly.

        Entries that arrive one by one gather instead.
        """
        entries = prefetch.entries
        if entries and prefetch.last < entries[-1].last:
            return True
        return sum(stored.entry.size for stored in entries) >= self._limits.batch_bytes

    def _prefetch(self, after: int, wait: timedelta) -> "Prefetch[Batch]":
        """Return the batch after a position, which is fetched later."""
        return Prefetch(
            partial(self._log.read, after, max_bytes=self._limits.batch_bytes, wait=wait),
            self._decode(),
            max_decoded_bytes=self._limits.decoded_bytes,
            slice_bytes=self._limits.slice_bytes,
        )

    @asynccontextmanager
    async def _running(self, prefetch: "Prefetch[Batch]") -> AsyncIterator[None]:
        """Fetch and decode during the block, while the handler waits for I/O. `result` raises the errors."""
        task = asyncio.create_task(prefetch.run(self._handler.io_bound))
        try:
            yield
        finally:
            await _cancel([task])

    def _report_missed(self, prefetch: "Prefetch[Batch]") -> None:
        missed = sum(stored.missed_bytes for stored in prefetch.entries if stored.last <= prefetch.last)
        if not missed:
            return
        _log.warning("entries were removed before they were read", consumer=self._name, bytes=missed)
        if self._on_missed is not None:
            self._on_missed(missed)


class Prefetch(Generic[Batch]):
    """One batch that is fetched and decoded: in slices while there is time, and to the end on `result`."""

    def __init__(self, fetch: Fetch, decoder: Decoder[Batch], *, max_decoded_bytes: int, slice_bytes: int) -> None:
        """The batch ends with the entry with which it has `max_decoded_bytes` or more; later entries are the next
        batch.

        Other tasks run after each `slice_bytes` of decoding.
        """
        self._fetch = fetch
        self._fetching: asyncio.Task[list[StoredEntry]] | None = None
        self._decoder = decoder
        self._max_decoded_bytes = max_decoded_bytes
        self._slice_bytes = slice_bytes
        self._left: Iterator[StoredEntry] = iter(())
        self._failure: Exception | None = None
        self.entries: list[StoredEntry] = []
        """The fetched entries."""
        self.last = 0
        """The position of the last decoded event; 0 if there is none."""

    async def run(self, io_bound: asyncio.Event) -> None:
        """Work whenever `io_bound` is set, until everything is decoded or this is cancelled."""
        await io_bound.wait()
        await self._fetched()
        await io_bound.wait()
        while self._decode_slice():
            await asyncio.sleep(0)
            await io_bound.wait()

    async def result(self) -> Batch:
        """Return the batch, once it is complete. Raises the errors of fetching and decoding, also those of `run`."""
        await self._fetched()
        if self._failure is not None:
            raise self._failure
        while self._decode_slice():
            await asyncio.sleep(0)
        return self._decoder.batch()

    async def close(self) -> None:
        """Wait for the fetch in progress, so that it does not overlap with the following one."""
        if self._fetching is not None:
            await asyncio.wait([self._fetching])
            if not self._fetching.cancelled():
                self._fetching.exception()  # mark as retrieved

    async def _fetched(self) -> None:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        if not self.entries:
            # A cancelled `run` does not stop the fetch: `result` needs the entries a moment later.
            self.entries = await asyncio.shield(self._fetching)
            self._left = iter(self.entries)

    def _decode_slice(self) -> bool:
        """Decode a slice; return whether there may be more."""
        end = self._decoder.size + self._slice_bytes
        while self._decoder.size < end:
            if self._decoder.size >= self._max_decoded_bytes or (stored := next(self._left, None)) is None:
                return False
            try:
                self._decoder.add(stored)
            except Exception as error:  # otherwise a batch without this entry would be handled
                self._failure = error
                raise
            self.last = stored.last
        return True


async def _run_companion(companion: Companion, stop: asyncio.Event) -> None:
    try:
        await companion(stop)
    except Exception:
        _log.exception("a companion of a consumer has ended")


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End tasks and wait for them. Their errors are ignored."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
