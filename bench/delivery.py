"""From acknowledged to queryable: the sustained rate, the backlog, and the delay until an event is visible.

HEADWATER_BENCH_ROWS sets the number of events in the warehouse and the deduplication store before `sustained` begins
(default 200,000). The goal is for 5,000,000, which take some minutes to write.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx

from bench.cpu import seconds_by_process
from bench.load import Plan, measure
from bench.payload import Batch
from headwater.base.clock import SystemClock, microseconds
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.events import Envelope
from headwater.events.envelope import encode_envelope
from headwater.log import LogEntry, StoredEntry
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.processing.processor import BatchProcessor
from headwater.state import open_state
from headwater.storage.database import sqlite_url
from headwater.warehouse import open_warehouse
from tests.system import RunningSystem

ROWS = int(os.environ.get("HEADWATER_BENCH_ROWS", "200000"))
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


class Progress:
    """The positions that the worker of a running system has reached, sampled 20 times a second."""

    def __init__(self, data_dir: Path) -> None:
        self._url = sqlite_url(data_dir / "state.db")
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
        async with open_state(self._url, writes=False, clock=SystemClock()) as state:
            return await state.position(CONSUMER)

    async def wait_for(self, position: int) -> None:
        """Wait until the worker has reached `position`."""
        async with asyncio.timeout(300), open_state(self._url, writes=False, clock=SystemClock()) as state:
            while await state.position(CONSUMER) < position:
                await asyncio.sleep(0.05)

    async def _watch(self, stop: Event) -> None:
        async with open_state(self._url, writes=False, clock=SystemClock()) as state:
            while not stop.is_set():
                self.seen.append((time.perf_counter(), await state.position(CONSUMER)))
                await asyncio.sleep(0.05)


def sustained(system: RunningSystem, write_key: str, seconds: float, rows: int) -> None:
    """Offer `OFFERED` events/s; print the stored rate and the backlog at the end."""
    progress = Progress(system.data_dir)
    before, spent = asyncio.run(progress.finished()), seconds_by_process(system.process.pid)
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


def burst(system: RunningSystem, write_key: str, seconds: float) -> None:
    """Send at full speed for this time; print the time until the last event is stored."""
    progress = Progress(system.data_dir)
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


async def find_workspace(data_dir: Path) -> int:
    """Return the id of the only workspace of a system."""
    async with open_catalog(
        sqlite_url(data_dir / "catalog.db"), clock=SystemClock(), identifiers=Identifiers()
    ) as catalog:
        return catalog.workspaces()[0].id
