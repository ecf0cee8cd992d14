"""`make bench`: runs the figures one after another and prints each beside its floor.

`python -m bench intake get` runs only those; `--seconds` sets how long each measurement lasts (default 4).
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench import delivery, management
from bench.filters import measure as measure_filters
from bench.floors import parse_and_insert
from bench.functions import functions
from bench.load import Plan, measure
from bench.mapping import mapping
from headwater.server import gateway, settings
from tests import postgresql
from tests.system import RunningSystem, free_port, start

ROUNDS = 3


def main() -> None:
    """Run the chosen figures."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="figure", help="default: all of them")
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start", flush=True)
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
        for name in arguments.figures or FIGURES:
            print(f"\n{name}: {(FIGURES[name].__doc__ or '').splitlines()[0]}", flush=True)
            FIGURES[name](Path(folder) / name, arguments.seconds)


def intake(folder: Path, seconds: float) -> None:
    """Accepted events/s in batches of 100 through Envoy, durable, against orjson + SQLite in one process."""
    with _system(folder) as (system, _connection, write_key):
        ratios = []
        for _ in range(ROUNDS):
            floor = parse_and_insert(seconds / 2, folder)
            result = measure(Plan(system.port, "batch", seconds, 16, f"Bearer {write_key}", "/v1/batch"))
            backlog = _catch_up(system)
            rate = 100 * result.requests / result.seconds
            ratios.append(rate / floor)
            print(
                f"  {rate:9,.0f} events/s   floor {floor:9,.0f}   ratio {rate / floor:.2f}   "
                f"p50 {1000 * result.p50:.0f} ms  p99 {1000 * result.p99:.0f} ms   "
                f"failed {result.failures}   all in the warehouse {backlog:.1f} s later"
            )
        print(f"  ratio {statistics.median(ratios):.2f} (median; goal 0.4)   {_memory(system)}")


def single(folder: Path, seconds: float) -> None:
    """Requests/s with one event each, 64 connections, durable."""
    with _system(folder) as (system, _connection, write_key):
        for _ in range(ROUNDS):
            result = measure(Plan(system.port, "single", seconds, 64, f"Bearer {write_key}", "/v1/track"))
            print(
                f"  {result.requests / result.seconds:9,.0f} events/s   p50 {1000 * result.p50:.0f} ms  "
                f"p99 {1000 * result.p99:.0f} ms   failed {result.failures}"
            )
            _catch_up(system)


def get(folder: Path, seconds: float) -> None:
    """GET /v1/connections/{id}, requests/s through Envoy, against a bare gRPC echo behind the same Envoy."""
    with _databases() as databases:
        for name, variables in databases.items():
            with (
                _system(folder / name, **variables) as (system, connection, _write_key),
                _echo(folder / f"echo-{name}") as echo_port,
            ):
                ratios = []
                for _ in range(ROUNDS):
                    path = f"/v1/connections/{connection}"
                    floor = measure(Plan(echo_port, "get", seconds, 32, f"Bearer {system.api_key}", path))
                    result = measure(Plan(system.port, "get", seconds, 32, f"Bearer {system.api_key}", path))
                    assert not floor.failures and not result.failures, (floor.failures, result.failures)
                    rate, floor_rate = result.requests / result.seconds, floor.requests / floor.seconds
                    ratios.append(rate / floor_rate)
                    print(f"  {name}: {rate:7,.0f} requests/s   floor {floor_rate:7,.0f}   ratio {ratios[-1]:.2f}")
                print(f"  {name}: ratio {statistics.median(ratios):.2f} (median; goal 0.6)")


def startup(folder: Path, seconds: float) -> None:
    """Seconds from the command to the first 200 of /healthz, against Python importing what it needs; idle memory."""
    for attempt in ("first", "second", "third", "fourth"):
        began = time.perf_counter()
        system = start(folder)
        ready = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import headwater.server.backend"], check=True)
        floor = time.perf_counter() - began
        print(f"  {attempt} start {ready:.2f} s   floor {floor:.2f}   ratio {ready / floor:.1f}")
        if attempt == "fourth":
            time.sleep(1)
            print(f"  at rest: {_memory(system)}   (goal: backend below 150 MB)")
        system.stop()


def filters(folder: Path, seconds: float) -> None:
    """Records/s through a compiled filter of 3 conditions, against a predicate written by hand."""
    for name, (rate, floor) in measure_filters(seconds / 2).items():
        print(f"  {rate:9,.0f} records/s   floor {floor:9,.0f}   ratio {rate / floor:.2f} (goal 0.5)   {name}")


def sustained(folder: Path, seconds: float) -> None:
    """25,000 events/s in batches through Envoy until they are queryable, with rows already there."""
    with _system(folder) as (system, connection, write_key):
        api_key, rows = system.api_key, delivery.ROWS
        system.stop()
        asyncio.run(delivery.preload(folder, asyncio.run(delivery.workspace_of(folder)), connection, rows))
        system = start(folder)
        try:
            assert system.api_key == api_key
            delivery.sustained(system, write_key, max(seconds, 10), rows)
            print(f"  {_memory(system)}   (goal: each below 300 MB)")
        finally:
            system.stop()


def burst(folder: Path, seconds: float) -> None:
    """15 s at full speed, and how much later all of it is visible."""
    with _system(folder) as (system, _connection, write_key):
        delivery.burst(system, write_key, max(seconds, 15))
        print(f"  {_memory(system)}   (goal: each below 300 MB)")


def visible(folder: Path, seconds: float) -> None:
    """Milliseconds from the acknowledgement of an event until GET /v1/events shows it, at 1,000 events/s."""
    with _system(folder) as (system, _connection, write_key):
        delivery.visible(system, write_key, max(seconds, 10))


FIGURES: dict[str, Callable[[Path, float], None]] = {
    "intake": intake,
    "single": single,
    "sustained": sustained,
    "burst": burst,
    "visible": visible,
    "get": get,
    "startup": startup,
    "listing": management.listing,
    "creating": management.creating,
    "filters": filters,
    "mapping": mapping,
    "functions": functions,
}


@contextmanager
def _databases() -> Iterator[dict[str, dict[str, str]]]:
    """The settings that choose each database: SQLite, and a PostgreSQL of our own where there is a wheel for it."""
    if postgresql.missing():
        yield {"SQLite": {}}
        return
    server = postgresql.PostgresqlServer()
    try:
        yield {"SQLite": {}, "PostgreSQL": {"HEADWATER_DATABASE_URL": server.create(empty=True)}}
    finally:
        server.close()


@contextmanager
def _system(folder: Path, **variables: str) -> Iterator[tuple[RunningSystem, int, str]]:
    """A running system with one `http` connection that stores events and identities: it, its id, its write key."""
    system = start(folder, **variables)
    try:
        with httpx.Client(base_url=system.base_url, headers=system.authorization) as client:
            body = {"name": "Bench", "role": "Source", "connector": "http"}
            connection = client.post("/v1/connections", json=body).raise_for_status().json()["id"]
            for target in ("Event", "User"):
                pipeline = {"connection": connection, "target": target, "name": target, "enabled": True}
                client.post("/v1/pipelines", json=pipeline).raise_for_status()
            keys = client.get(f"/v1/connections/{connection}/event-write-keys").raise_for_status().json()["keys"]
        yield system, connection, keys[0]
    finally:
        system.stop()


@contextmanager
def _echo(folder: Path) -> Iterator[int]:
    """The bare gRPC server behind an Envoy with our configuration; its port."""
    run_dir = folder / "run"
    run_dir.mkdir(parents=True)
    port = free_port()
    configuration = settings.read(
        {"HEADWATER_PORT": str(port), "HEADWATER_DATA_DIR": str(folder), "HEADWATER_RUN_DIR": str(run_dir)}
    )
    envoy = gateway.program(configuration)
    processes = [
        subprocess.Popen([sys.executable, "-m", "bench.echo", str(configuration.backend_socket("backend"))]),
        subprocess.Popen(envoy.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
    ]
    try:
        _wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200)
        yield port
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _catch_up(system: RunningSystem) -> float:
    """Seconds until the worker has carried all that was accepted."""
    from headwater.base.clock import SystemClock
    from headwater.base.database import sqlite_url
    from headwater.eventlog import SqliteEventLog
    from headwater.warehouse import open_warehouse

    async def wait() -> None:
        log = SqliteEventLog(system.data_dir / "log.db", SystemClock())
        try:
            async with open_warehouse(sqlite_url(system.data_dir / "warehouse.db"), writes=False) as warehouse:
                last = await log.last_position()
                async with asyncio.timeout(300):
                    while await warehouse.finished("warehouse") < last:
                        await asyncio.sleep(0.05)
        finally:
            await log.close()

    began = time.perf_counter()
    asyncio.run(wait())
    return time.perf_counter() - began


def _memory(system: RunningSystem) -> str:
    """Resident megabytes of the system's processes."""
    supervisor = system.process.pid
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    parts = []
    for pid in [str(supervisor), *children]:
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        name = next((name for name in ("envoy", "backend", "worker") if name in command), "supervisor")
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        parts.append(f"{name} {resident / 1e6:.0f} MB")
    return ", ".join(parts)


def _wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            if ready():
                return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


if __name__ == "__main__":
    main()
