"""The consumer: every entry once and in order, after any failure, in one process at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from headwater.base.errors import Unavailable
from headwater.base.metrics import Metrics
from headwater.base.waiting import wait
from headwater.log import Consumer, EventLog, Lease, LeaseLost, LeaseTaken, Limits, LogEntry, StoredEntry, consumer
from headwater.log.consumer import Companion
from tests.log.decoding import ListDecoder

NAME = "warehouse"
SMALL = Limits(batch_bytes=200, decoded_bytes=300, slice_bytes=1, gather_seconds=0.001)


class ListHandler:
    """Stores the handled entries with the position, as a database would."""

    def __init__(self) -> None:
        self.io_bound = asyncio.Event()
        self.bodies: list[bytes] = []
        self.done = 0
        self.positions: list[int] = []
        """The position after each batch."""
        self.failures: list[Exception] = []
        """Raised one after another, before a batch is handled."""
        self.failures_after: list[Exception] = []
        """Raised one after another, after a batch was handled."""
        self.tries = 0
        self.moved = asyncio.Event()

    async def position(self) -> int:
        return self.done

    async def handle(self, batch: list[StoredEntry], *, after: int) -> int:
        self.tries += 1
        if after != self.done:
            raise Unavailable("another process has handled the batch")
        self.io_bound.set()
        await asyncio.sleep(0)
        self.io_bound.clear()
        if self.failures:
            raise self.failures.pop(0)
        self.bodies += [stored.entry.body for stored in batch]
        self.done = batch[-1].last
        self.positions.append(self.done)
        self.moved.set()
        if self.failures_after:
            raise self.failures_after.pop(0)
        return self.done

    async def reach(self, position: int) -> None:
        """Wait until everything up to a position is handled."""
        async with asyncio.timeout(30):
            while self.done < position:
                self.moved.clear()
                await self.moved.wait()


class Counting(Metrics):
    def __init__(self) -> None:
        self.failed: list[str] = []

    def batch_failed(self, error: str) -> None:
        self.failed.append(error)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "INITIAL_BACK_OFF_SECONDS", 0.01)
    monkeypatch.setattr(consumer, "MAX_BACK_OFF_SECONDS", 0.02)
    monkeypatch.setattr(consumer, "LEASE_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(consumer, "ADVANCE_SECONDS", 0.0)


@asynccontextmanager
async def running(
    log: EventLog,
    handler: ListHandler,
    *companions: Companion,
    may_lag: bool = False,
    missed: list[int] | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[None]:
    """A consumer that runs during the block and has stopped after it."""
    stop = asyncio.Event()
    consumes = Consumer(
        log,
        NAME,
        handler,
        decode=ListDecoder,
        may_lag=may_lag,
        on_missed=None if missed is None else missed.append,
        companions=companions,
        limits=SMALL,
        metrics=metrics or Metrics(),
    )
    task = asyncio.create_task(consumes.run(stop))
    try:
        async with asyncio.timeout(30):
            yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


async def append(log: EventLog, count: int, *, first: int = 0, size: int = 30) -> tuple[list[bytes], int]:
    """Append entries one after another; return their bodies, and the position of the last event."""
    bodies = [(b"%d " % number).ljust(size, b".") for number in range(first, first + count)]
    last = 0
    for number, body in enumerate(bodies):
        events = 1 + number % 3
        last = await log.append(LogEntry(events, b"", body)) + events - 1
    return bodies, last


async def test_it_handles_everything_once_and_in_order(log: EventLog) -> None:
    handler = ListHandler()
    before, _ = await append(log, 50)
    async with running(log, handler):
        bodies, last = await append(log, 50, first=50)
        await handler.reach(last)
    assert handler.bodies == before + bodies
    assert len(handler.positions) > 5, "in batches of a bounded size"
    assert await log.cursors() == {NAME: last}


async def test_it_continues_where_the_handler_is(log: EventLog) -> None:
    handler = ListHandler()
    _, middle = await append(log, 10)
    handler.done = middle
    bodies, last = await append(log, 10, first=10)
    async with running(log, handler):
        await handler.reach(last)
    assert handler.bodies == bodies


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("a bug"), TimeoutError()], ids=repr)
async def test_a_batch_that_fails_is_tried_again(log: EventLog, error: Exception) -> None:
    """Also when it fails after its commit, as far as the handler can tell."""
    handler, counted = ListHandler(), Counting()
    handler.failures = [error] * 5
    handler.failures_after = [error] * 3
    bodies, last = await append(log, 40)
    async with running(log, handler, metrics=counted):
        await handler.reach(last)
        while handler.failures_after:
            await asyncio.sleep(0.001)
    assert handler.bodies == bodies
    outage = isinstance(error, Unavailable)
    assert counted.failed == ([] if outage else [type(error).__name__] * 8)


async def test_a_handler_may_stop_within_a_batch(log: EventLog) -> None:
    class OneByOne(ListHandler):
        async def handle(self, batch: list[StoredEntry], *, after: int) -> int:
            return await super().handle(batch[:1], after=after)

    handler = OneByOne()
    bodies, last = await append(log, 20)
    async with running(log, handler):
        await handler.reach(last)
    assert handler.bodies == bodies


async def test_a_second_consumer_waits_for_the_first(
    log: EventLog, other: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: asyncio.Queue[LeaseTaken] = asyncio.Queue()
    lease = log.lease

    async def noted(consumer: str, *, may_lag: bool = False) -> Lease:
        try:
            return await lease(consumer, may_lag=may_lag)
        except LeaseTaken as error:
            attempts.put_nowait(error)
            raise

    first = await other.lease(NAME)
    monkeypatch.setattr(log, "lease", noted)
    handler = ListHandler()
    bodies, last = await append(log, 3)
    async with running(log, handler):
        for _ in range(3):
            await attempts.get()
        assert handler.tries == 0
        await first.release()
        await handler.reach(last)
    assert handler.bodies == bodies


async def test_it_stops_while_it_waits_for_its_turn(log: EventLog, other: EventLog) -> None:
    lease = await other.lease(NAME)
    async with running(log, ListHandler()):
        pass
    await lease.release()


async def test_it_waits_for_a_log_that_cannot_give_the_lease(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, is_away = 0, True
    lease = log.lease

    async def away(consumer: str, *, may_lag: bool = False) -> Lease:
        nonlocal attempts
        attempts += 1
        if is_away:
            raise Unavailable("the log is away")
        return await lease(consumer, may_lag=may_lag)

    monkeypatch.setattr(log, "lease", away)
    handler = ListHandler()
    _, last = await append(log, 3)
    async with running(log, handler):
        while attempts < 3:
            await asyncio.sleep(0.001)
        assert handler.tries == 0
        is_away = False
        await handler.reach(last)


async def test_one_that_lost_its_lease_asks_for_it_again(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    leases: asyncio.Queue[Lease] = asyncio.Queue()
    lease = log.lease

    async def noted(consumer: str, *, may_lag: bool = False) -> Lease:
        leases.put_nowait(taken := await lease(consumer, may_lag=may_lag))
        return taken

    monkeypatch.setattr(log, "lease", noted)
    handler = ListHandler()
    async with running(log, handler):
        await (await leases.get()).release()
        second = await leases.get()
        bodies, last = await append(log, 3)
        await handler.reach(last)
        assert second.held
    with pytest.raises(LeaseLost):
        await second.advance(last)
    assert handler.bodies == bodies


async def test_companions_run_while_the_lease_is_held_and_never_without(
    log: EventLog, other: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases: list[Lease] = []
    events: asyncio.Queue[str] = asyncio.Queue()
    lease = log.lease

    async def noted(consumer: str, *, may_lag: bool = False) -> Lease:
        leases.append(await lease(consumer, may_lag=may_lag))
        return leases[-1]

    async def companion(stop: asyncio.Event) -> None:
        assert leases[-1].held
        events.put_nowait("begins")
        try:
            await wait(stop, 60)
        finally:
            events.put_nowait("ends")

    async def failing(stop: asyncio.Event) -> None:
        raise ValueError("a bug, which does not end the consumer")

    first = await other.lease(NAME)
    monkeypatch.setattr(log, "lease", noted)
    handler = ListHandler()
    handler.failures = [Unavailable("away")]
    async with running(log, handler, companion, failing):
        assert events.empty()
        await first.release()
        assert await events.get() == "begins"
        _, last = await append(log, 1)
        await handler.reach(last)
        assert events.empty(), "an outage of the handler does not end them"
        await leases[-1].release()
        assert await events.get() == "ends"
        assert await events.get() == "begins"
    assert await events.get() == "ends"


async def test_companions_finish_their_work_when_the_consumer_stops(log: EventLog) -> None:
    began, outcomes = asyncio.Event(), list[str]()

    async def patient(stop: asyncio.Event) -> None:
        began.set()
        await stop.wait()
        for _ in range(10):
            await asyncio.sleep(0.001)
        outcomes.append("finished")

    async with running(log, ListHandler(), patient):
        await began.wait()
    assert outcomes == ["finished"]


async def test_one_that_may_lag_continues_at_the_oldest_entry_and_learns_what_it_missed(
    log: EventLog, other: EventLog
) -> None:
    handler, missed = ListHandler(), list[int]()
    bodies, first = await append(log, 1, size=1000)
    async with running(log, handler, may_lag=True, missed=missed):
        await handler.reach(first)
    more, last = await append(log, 9, first=1, size=1000)
    lease = await log.lease("required")
    await lease.advance(last)
    await lease.release()
    assert await log.trim(older_than=timedelta(0)) > 0
    rest, last = await append(log, 2, first=10, size=1000)
    async with running(other, handler, may_lag=True, missed=missed):
        await handler.reach(last)
    assert handler.bodies == [*bodies, more[-1], *rest]
    assert missed == [pytest.approx(8000, rel=0.3)]
    assert (await log.backlogs())[NAME].may_lag
