"""Appends a second to each event log, one event a call: `python -m bench.appending [CALLERS] [SECONDS] [BYTES]`.

The baseline is NATS publishing and syncing one message for each call, with as many in flight. NATS syncs before it
acknowledges (`sync_interval: always`), as docs/operating.md asks for.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import uvloop

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.log import EventLog, LogEntry, SqliteEventLog
from headwater.log.jetstream import JetStreamEventLog
from tests.nats import NatsServer

MAX_BYTES = 4 * 1024**3


async def run(callers: int, seconds: float, body_bytes: int) -> None:
    """Print the figures."""
    entry = LogEntry(1, b"h" * 100, b"b" * body_bytes)
    server = NatsServer()
    try:
        with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
            await _measure_baseline(server, callers, seconds, entry.size)
            jetstream = JetStreamEventLog(
                server.url, SystemClock(), Identifiers(), finished=_nothing, max_bytes=MAX_BYTES, stream="BENCH"
            )
            await _measure_log("JetStream log", jetstream, callers, seconds, entry)
            sqlite = SqliteEventLog(Path(folder) / "log.db", SystemClock(), max_bytes=MAX_BYTES)
            await _measure_log("SQLite log", sqlite, callers, seconds, entry)
    finally:
        server.close()


async def _measure_log(name: str, log: EventLog, callers: int, seconds: float, entry: LogEntry) -> None:
    async def append() -> None:
        await log.append(entry)

    try:
        await append()
        await _measure(name, append, callers, seconds)
    finally:
        await log.close()


async def _measure_baseline(server: NatsServer, callers: int, seconds: float, size: int) -> None:
    client = await nats.connect(server.url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="BASELINE", subjects=["baseline"])

    async def publish() -> None:
        await jetstream.publish("baseline", bytes(size), headers={"Nats-Msg-Id": str(time.perf_counter_ns())})

    try:
        await _measure("one message a call", publish, callers, seconds)
    finally:
        await jetstream.delete_stream("BASELINE")
        await client.close()


async def _measure(name: str, append: Callable[[], Awaitable[None]], callers: int, seconds: float) -> None:
    latencies: list[float] = []
    began = time.perf_counter()

    async def call() -> None:
        while (start := time.perf_counter()) < began + seconds:
            await append()
            latencies.append(time.perf_counter() - start)

    cpu = time.process_time()
    await asyncio.gather(*(call() for _ in range(callers)))
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
    print(
        f"{name:>20}: {len(latencies) / elapsed:8,.0f} appends/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
        f"{cpu / len(latencies) * 1e6:.0f} µs of this process each",
        flush=True,
    )


async def _nothing() -> int:
    return 0


if __name__ == "__main__":
    defaults = ["64", "4", "600"]
    given = [*sys.argv[1:], *defaults[len(sys.argv) - 1 :]]
    uvloop.run(run(int(given[0]), float(given[1]), int(given[2])))
