"""The cost of an event in the worker: a real worker process reads an existing log, and no other process runs.

HEADWATER_BENCH_EVENTS sets the number of events in the log (default 200,000). The first fifth is not measured: it
includes the start of the process and the first lookup of each source.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.baselines import parse_and_insert
from bench.delivery import Progress, counted_by_position, peak_megabytes, written_bytes
from bench.payload import PAYLOADS, Batch, Single
from headwater.base.clock import SystemClock, microseconds
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.events import Envelope
from headwater.events.protocol import encode_envelope
from headwater.log import LogEntry, SqliteEventLog
from headwater.server.settings import read
from headwater.storage.database import sqlite_url
from tests.harness import add_source, add_workspace

EVENTS = int(os.environ.get("HEADWATER_BENCH_EVENTS", "200000"))
_TICKS: int = os.sysconf("SC_CLK_TCK")
_APPENDED_TOGETHER = 200


@dataclass(frozen=True)
class Cost:
    """The cost of an event for the worker."""

    cpu_microseconds: float
    written_bytes: float
    wall_microseconds: float
    peak_megabytes: float


def worker(folder: Path, seconds: float) -> None:
    """µs of processor time and bytes written an event in the worker (goals 30 and 2,500), against orjson + SQLite."""
    for payload in PAYLOADS:
        folder.mkdir(parents=True, exist_ok=True)
        baseline = parse_and_insert(seconds / 4, folder, payload).cpu_microseconds
        for name, is_single in (("100 events a call", False), ("one event a call", True)):
            events = EVENTS // 2 if is_single else EVENTS
            cost = measure(folder / f"{payload}-{is_single}", payload, events, is_single=is_single)
            print(
                f"  {payload}, {name}: {cost.cpu_microseconds:5.1f} µs   "
                f"baseline {baseline:.1f}   ratio {cost.cpu_microseconds / baseline:.1f}   "
                f"{cost.written_bytes:6,.0f} bytes   "
                f"wall {cost.wall_microseconds:5.1f} µs   peak {cost.peak_megabytes:.0f} MB",
                flush=True,
            )


def measure(folder: Path, payload: str, events: int, *, is_single: bool = False) -> Cost:
    """Fill a log with this number of events, and let a worker process all of them."""
    folder.mkdir(parents=True)
    environment = {"HEADWATER_DATA_DIR": str(folder), "HEADWATER_RUN_DIR": str(folder)}
    asyncio.run(_fill(folder, read(environment).log_path, payload, events, is_single=is_single))
    progress = Progress(partial(counted_by_position, folder))
    with _running(environment) as pid:
        asyncio.run(progress.wait_for(events // 5))
        began, before, skipped = time.perf_counter(), _usage(pid), asyncio.run(progress.finished())
        asyncio.run(progress.wait_for(events))
        wall, after, count = time.perf_counter() - began, _usage(pid), events - skipped
        peak = peak_megabytes(pid)
    return Cost(
        cpu_microseconds=1e6 * (after[0] - before[0]) / count,
        written_bytes=(after[1] - before[1]) / count,
        wall_microseconds=1e6 * wall / count,
        peak_megabytes=peak,
    )


async def _fill(folder: Path, log_path: Path, payload: str, events: int, *, is_single: bool) -> None:
    clock = SystemClock()
    url = sqlite_url(folder / "catalog.db")
    async with open_catalog(url, clock=clock, identifiers=Identifiers()) as catalog:
        workspace = (await add_workspace(catalog)).id
        source = (await add_source(catalog, workspace)).id
    bodies = Single(payload) if is_single else Batch(payload=payload)
    size, call = (1, "track") if is_single else (100, "batch")
    log = SqliteEventLog(log_path, clock)
    try:
        for start in range(0, events, size * _APPENDED_TOGETHER):
            entries = []
            for _ in range(min(_APPENDED_TOGETHER, (events - start) // size)):
                received = microseconds(clock.now())
                envelope = Envelope("track", call, workspace, source, received, os.urandom(16), rejected={})
                entries.append(LogEntry(size, encode_envelope(envelope), bodies.refresh()))
            await asyncio.gather(*map(log.append, entries))
    finally:
        await log.close()


@contextmanager
def _running(environment: dict[str, str]) -> Iterator[int]:
    """Run a worker process, and wait until it has created the databases."""
    folder = Path(environment["HEADWATER_DATA_DIR"])
    with (folder / "worker.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "headwater.server.worker"],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
        try:
            deadline = time.monotonic() + 30
            while not (folder / "state.db").exists():
                assert process.poll() is None and time.monotonic() < deadline, output.name
                time.sleep(0.05)
            time.sleep(0.5)  # its tables are made in one transaction
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def _usage(pid: int) -> tuple[float, int]:
    """Return the seconds of processor time of a process, over all its threads, and the bytes that it has written."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS, written_bytes(pid)
