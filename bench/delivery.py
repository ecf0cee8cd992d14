"""From acknowledged to queryable: the sustained rate, the backlog, and the delay until an event is visible."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import asyncpg
import httpx

from bench.cpu import seconds_by_process
from bench.load import Plan, Result, measure
from bench.payload import Batch
from headwater.base.clock import SystemClock, microseconds
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.events import Envelope
from headwater.events.protocol import encode_envelope
from headwater.log import LogEntry, StoredEntry
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.processing.processor import BatchProcessor
from headwater.state import open_state
from headwater.storage.database import sqlite_url
from headwater.warehouse import open_warehouse
from tests.system import RunningSystem, children

OFFERED = 25_000
"""Events/s that `sustained` offers: the goal."""


async def preload(data_dir: Path, workspace: int, connection: int, rows: int) -> None:
    """Store this number of events in the warehouse of a stopped system, as its worker would."""
    clock = SystemClock()
    async with (
        open_catalog(sqlite_url(data_dir / "catalog.db"), clock=clock, identifiers=Identifiers()) as catalog,
        open_state(sqlite_url(data_dir / "state.db"), writes=True, clock=clock) as state,
        open_warehouse(sqlite_url(data_dir / "warehouse.db"), writes=True, clock=clock) as warehouse,
    ):
        processor = BatchProcessor(CONSUMER, catalog, state, warehouse, clock)
        batches = [Batch() for _ in range(30)]
        after = await state.position(CONSUMER)
        while rows > 0:
            entries, position = [], after + 1
            for batch in batches:
                received = microseconds(clock.now())
                header = encode_envelope(
                    Envelope("track", "batch", workspace, connection, received, os.urandom(16), rejected={})
                )
                entries.append(StoredEntry(position, LogEntry(batch.events, header, batch.refresh())))
                position += batch.events
            after = await processor.handle(read_batch(entries), after=after)
            rows -= position - entries[0].position


Count = Callable[[], Awaitable[int]]
"""Returns the number of events that are stored."""


@asynccontextmanager
async def counted_by_position(data_dir: Path) -> AsyncIterator[Count]:
    """Yield the count of a system with SQLite, whose positions have no gaps."""
    async with open_state(sqlite_url(data_dir / "state.db"), writes=False, clock=SystemClock()) as state:
        yield partial(state.position, CONSUMER)


@asynccontextmanager
async def counted_in_postgresql(url: str) -> AsyncIterator[Count]:
    """Yield the count of a system with PostgreSQL."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield partial(connection.fetchval, "SELECT coalesce(sum(count), 0)::bigint FROM warehouse.event_counts")
    finally:
        await connection.close()


class Progress:
    """The number of events that a running system has stored, sampled 20 times a second."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[Count]]) -> None:
        self._opened = opened
        self.seen: list[tuple[float, int]] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample while the block runs."""
        stop = Event()
        thread = Thread(target=lambda: asyncio.run(self._watch(stop)))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    async def finished(self) -> int:
        async with self._opened() as count:
            return await count()

    async def wait_for(self, events: int) -> None:
        """Wait until this number of events is stored."""
        async with asyncio.timeout(900), self._opened() as count:
            while await count() < events:
                await asyncio.sleep(0.05)

    async def _watch(self, stop: Event) -> None:
        async with self._opened() as count:
            while not stop.is_set():
                self.seen.append((time.perf_counter(), await count()))
                await asyncio.sleep(0.05)


def send_batches(system: RunningSystem, write_key: str, progress: Progress, events: int) -> None:
    """Store about this number of events through the API, as fast as the system does it."""
    target = asyncio.run(progress.finished()) + events
    while (missing := target - asyncio.run(progress.finished())) > 0:
        seconds = min(10.0, max(1.0, missing / 2 / OFFERED))
        plan = Plan(system.port, "batch", seconds, 16, f"Bearer {write_key}", "/v1/batch", rate=OFFERED / 100)
        stored = asyncio.run(progress.finished())
        result = measure(plan)
        asyncio.run(progress.wait_for(stored + 100 * (result.requests - result.failures)))


def sustained(system: RunningSystem, write_key: str, seconds: float, rows: int, progress: Progress) -> None:
    """Offer `OFFERED` events/s; print the stored rate, the backlog at the end, and what the worker took."""
    before, spent = asyncio.run(progress.finished()), seconds_by_process(system.process.pid)
    worker = children(system.process.pid)["worker"]
    written = written_bytes(worker)
    plan = Plan(system.port, "batch", seconds, 16, f"Bearer {write_key}", "/v1/batch", rate=OFFERED / 100)
    with progress.watched():
        result = measure(plan)
        ended = time.perf_counter()
    stored = max(position for at, position in progress.seen if at <= ended) - before
    accepted = 100 * (result.requests - result.failures)
    began = time.perf_counter()
    asyncio.run(progress.wait_for(before + accepted))
    cost = {
        name: 1e6 * (total - spent.get(name, 0)) / accepted
        for name, total in seconds_by_process(system.process.pid).items()
    }
    print(
        f"  {rows:,} rows there: offered {OFFERED:,}/s   accepted {accepted / result.seconds:,.0f}/s   "
        f"in the warehouse meanwhile {stored / result.seconds:,.0f}/s   left over {accepted - stored:,}, "
        f"stored {time.perf_counter() - began:.1f} s later   failed {result.failures}   p99 {1000 * result.p99:.0f} ms"
    )
    print("  processor time an event: " + ", ".join(f"{name} {cost:.1f} µs" for name, cost in sorted(cost.items())))
    print(
        f"  the worker wrote {(written_bytes(worker) - written) / accepted:,.0f} bytes an event (goal 2,500), "
        f"and had {peak_megabytes(worker):.0f} MB at most (goal 250)",
        flush=True,
    )


def singles(system: RunningSystem, write_key: str, seconds: float, progress: Progress) -> None:
    """Send one event a request on 64 connections; print the rate and the time until all are stored."""
    before = asyncio.run(progress.finished())
    result: Result = measure(Plan(system.port, "single", seconds, 64, f"Bearer {write_key}", "/v1/track"))
    accepted, began = result.requests - result.failures, time.perf_counter()
    asyncio.run(progress.wait_for(before + accepted))
    print(
        f"  one event a request: {accepted / result.seconds:,.0f}/s (goal 5,000)   p50 {1000 * result.p50:.0f} ms   "
        f"p99 {1000 * result.p99:.0f} ms   failed {result.failures}   "
        f"all stored {time.perf_counter() - began:.1f} s later",
        flush=True,
    )


def written_bytes(pid: int) -> int:
    """Return the bytes that a process has made the system write to the disk."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counters["write_bytes"])


def peak_megabytes(pid: int) -> float:
    """Return the most memory that a process has had."""
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1000


def burst(system: RunningSystem, write_key: str, seconds: float) -> None:
    """Send at full speed for this time; print the time until the last event is stored."""
    progress = Progress(partial(counted_by_position, system.data_dir))
    before = asyncio.run(progress.finished())
    result = measure(Plan(system.port, "batch", seconds, 16, f"Bearer {write_key}", "/v1/batch"))
    accepted = 100 * (result.requests - result.failures)
    began = time.perf_counter()
    asyncio.run(progress.wait_for(before + accepted))
    print(
        f"  {seconds:.0f} s at {accepted / result.seconds:,.0f} events/s   failed {result.failures}   "
        f"all visible {time.perf_counter() - began:.1f} s later (goal 15 s after 15 s)"
    )


def visible(system: RunningSystem, write_key: str, seconds: float) -> None:
    """Send 1,000 events/s, and single events during that; print the delay until GET /v1/events shows each of these."""
    plan = Plan(system.port, "batch", seconds, 4, f"Bearer {write_key}", "/v1/batch", rate=10)
    loading = Thread(target=lambda: measure(plan))
    loading.start()
    delays: list[float] = []
    with httpx.Client(base_url=system.base_url, headers=system.authorization) as client:
        while loading.is_alive():
            name = uuid.uuid4().hex
            latest = f"{2100 + len(delays)}-01-01T00:00:00Z"
            event = {"userId": "visible", "event": name, "timestamp": latest}
            client.post("/v1/track", json=event, headers={"authorization": f"Bearer {write_key}"}).raise_for_status()
            began = time.perf_counter()
            while name not in client.get("/v1/events", params={"limit": 1}).text:
                if time.perf_counter() - began > 10:
                    break
            delays.append(time.perf_counter() - began)
    delays.sort()
    print(
        f"  {len(delays)} events: p50 {1000 * delays[len(delays) // 2]:.0f} ms   "
        f"p99 {1000 * delays[len(delays) * 99 // 100]:.0f} ms (goals 200 and 1000)"
    )


async def find_source(data_dir: Path, connection: int) -> tuple[int, int]:
    """Return the ids of the workspace and of the User pipeline of a connection of a system with SQLite."""
    async with open_catalog(
        sqlite_url(data_dir / "catalog.db"), clock=SystemClock(), identifiers=Identifiers()
    ) as catalog:
        workspace = catalog.workspaces()[0].id
        source = catalog.connection(workspace, connection)
        assert source is not None
        return workspace, next(pipeline.id for pipeline in source.pipelines if pipeline.target == "User")
