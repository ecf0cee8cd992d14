"""`make bench`: runs the figures one after another and prints each with its baseline.

`python -m bench intake get` runs only those, and `python -m bench destinations klaviyo` those of a vendor; `--seconds`
sets how long each measurement lasts (default 4). `large`, `written` and `postgresql` take many minutes, and run only if
they are named.
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
from functools import partial
from pathlib import Path

from bench import delivery, management
from bench.accepting import backends, intake, single, stream
from bench.containment import containment
from bench.cpu import tree_seconds
from bench.destinations import deliveries
from bench.exports import exports
from bench.filters import measure as measure_filters
from bench.functions import functions
from bench.imports import imports
from bench.load import Plan, measure
from bench.mapping import mapping
from bench.outage import outage
from bench.preparing import preparing
from bench.profiles import profiles
from bench.running import echo, memory, running
from bench.state import fill, state
from bench.vendors import CODES, destinations
from bench.warehouse import warehouse
from bench.worker import worker
from tests import postgresql
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer
from tests.system import HEADWATER, start

ROUNDS = 3


def main() -> None:
    """Run the chosen figures."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="figure", help="default: all of them")
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    codes = [name for name in arguments.figures if name in CODES]
    names = [name for name in arguments.figures if name not in CODES]
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start", flush=True)
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
        for name in names or FIGURES:
            figure = (FIGURES | LONG_FIGURES)[name]
            print(f"\n{name}: {(figure.__doc__ or '').splitlines()[0]}", flush=True)
            if name == "destinations":
                destinations(Path(folder) / name, arguments.seconds, codes)
            else:
                figure(Path(folder) / name, arguments.seconds)


def get(folder: Path, seconds: float) -> None:
    """GET /v1/connections/{id}, requests/s through Envoy, against a bare gRPC echo behind the same Envoy."""
    with _databases() as databases:
        for name, variables in databases.items():
            with (
                running(folder / name, **variables) as (system, connection, _write_key),
                echo(folder / f"echo-{name}") as (echo_port, _),
            ):
                ratios = []
                for _ in range(ROUNDS):
                    path = f"/v1/connections/{connection}"
                    baseline = measure(Plan(echo_port, "get", seconds, 32, f"Bearer {system.api_key}", path))
                    result = measure(Plan(system.port, "get", seconds, 32, f"Bearer {system.api_key}", path))
                    assert not baseline.failures and not result.failures, (baseline.failures, result.failures)
                    rate, baseline_rate = result.requests / result.seconds, baseline.requests / baseline.seconds
                    ratios.append(rate / baseline_rate)
                    print(
                        f"  {name}: {rate:7,.0f} requests/s   baseline {baseline_rate:7,.0f}   ratio {ratios[-1]:.2f}"
                    )
                print(f"  {name}: ratio {statistics.median(ratios):.2f} (median; goal 0.6)")


def startup(folder: Path, seconds: float) -> None:
    """Seconds from the command to the first 200 of /healthz, against Python importing what it needs; idle memory."""
    for attempt in ("first", "second", "third", "fourth"):
        began = time.perf_counter()
        system = start(folder, headwater=HEADWATER)
        ready = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import headwater.server.backend"], check=True)
        baseline = time.perf_counter() - began
        print(f"  {attempt} start {ready:.2f} s   baseline {baseline:.2f}   ratio {ready / baseline:.1f}")
        if attempt == "fourth":
            time.sleep(1)
            print(f"  at rest: {memory(system)}   (goal: backend below 150 MB)")
        system.stop()


def idle(folder: Path, seconds: float) -> None:
    """Processor time of a whole system with nothing to do, in percent of one processor."""
    with running(folder) as (system, _connection, _write_key):
        time.sleep(10)  # readers become slower after some seconds
        before, began = tree_seconds(system.process.pid), time.monotonic()
        time.sleep(max(seconds, 30))
        percent = 100 / (time.monotonic() - began)
        spent = {pid: (name, each - before[pid][1]) for pid, (name, each) in tree_seconds(system.process.pid).items()}
        parts = ", ".join(f"{name} {each * percent:.2f}" for name, each in spent.values())
        print(f"  {sum(each for _, each in spent.values()) * percent:.2f} % (goal 2.00)   {parts}")


def filters(folder: Path, seconds: float) -> None:
    """Records/s through a compiled filter of 3 conditions, against a predicate written by hand."""
    for name, (rate, baseline) in measure_filters(seconds / 2).items():
        print(f"  {rate:9,.0f} records/s   baseline {baseline:9,.0f}   ratio {rate / baseline:.2f} (goal 0.5)   {name}")


def sustained(folder: Path, seconds: float) -> None:
    """25,000 events/s in batches through Envoy until they are queryable, with 200,000 rows already there."""
    _sustained(folder, max(seconds, 10), rows=200_000)


def large(folder: Path, seconds: float) -> None:
    """The same with 5,000,000 rows and 1,000,000 identities already there."""
    _sustained(folder, max(seconds, 30), rows=5_000_000, identities=1_000_000)


def written(folder: Path, seconds: float) -> None:
    """The same with 3,000,000 rows already there, for the bytes written an event."""
    _sustained(folder, max(seconds, 30), rows=3_000_000)


def _sustained(folder: Path, seconds: float, *, rows: int, identities: int = 0) -> None:
    with running(folder) as (system, connection, write_key):
        system.stop()
        workspace, pipeline = asyncio.run(delivery.find_source(folder, connection))
        asyncio.run(delivery.preload(folder, workspace, connection, rows))
        if identities:
            fill(folder / "state.db", connection, pipeline, identities)
        system = start(folder, headwater=HEADWATER)
        try:
            progress = delivery.Progress(partial(delivery.counted_by_position, folder))
            delivery.sustained(system, write_key, seconds, rows, progress)
            print(f"  {memory(system)}   (goal: each below 300 MB)")
        finally:
            system.stop()


def on_postgresql(folder: Path, seconds: float) -> None:
    """25,000 events/s with PostgreSQL (fsync) and NATS (sync_interval: always), 1,000,000 rows there; then singles."""
    database, nats = PostgresqlServer(is_durable=True), NatsServer()
    try:
        url = database.create(empty=True)
        variables = {"HEADWATER_DATABASE_URL": url, "HEADWATER_NATS_URL": nats.url}
        with running(folder, **variables) as (system, _connection, write_key):
            progress = delivery.Progress(partial(delivery.counted_in_postgresql, url))
            for rows in (300_000, 1_000_000):
                delivery.send_batches(system, write_key, progress, rows - asyncio.run(progress.finished()))
                delivery.sustained(system, write_key, max(seconds, 10), rows, progress)
            delivery.singles(system, write_key, max(seconds, 10), progress)
            print(f"  {memory(system)}   (goal: each below 300 MB)")
    finally:
        nats.close()
        database.close()


def burst(folder: Path, seconds: float) -> None:
    """15 s at full speed, and the time after it until all events are visible."""
    with running(folder) as (system, _connection, write_key):
        delivery.burst(system, write_key, max(seconds, 15))
        print(f"  {memory(system)}   (goal: each below 300 MB)")


def visible(folder: Path, seconds: float) -> None:
    """Milliseconds from the acknowledgement of an event until GET /v1/events shows it, at 1,000 events/s."""
    with running(folder) as (system, _connection, write_key):
        delivery.visible(system, write_key, max(seconds, 10))


FIGURES: dict[str, Callable[[Path, float], None]] = {
    "intake": intake,
    "single": single,
    "stream": stream,
    "backends": backends,
    "worker": worker,
    "sustained": sustained,
    "burst": burst,
    "visible": visible,
    "get": get,
    "startup": startup,
    "idle": idle,
    "listing": management.listing,
    "creating": management.creating,
    "filters": filters,
    "mapping": mapping,
    "functions": functions,
    "preparing": preparing,
    "deliveries": deliveries,
    "destinations": destinations,
    "outage": outage,
    "containment": containment,
    "state": state,
    "profiles": profiles,
    "exports": exports,
    "imports": imports,
    "warehouse": warehouse,
}
LONG_FIGURES: dict[str, Callable[[Path, float], None]] = {
    "large": large,
    "written": written,
    "postgresql": on_postgresql,
}


@contextmanager
def _databases() -> Iterator[dict[str, dict[str, str]]]:
    """Yield the settings that choose each database: SQLite, and a PostgreSQL server if there is a wheel for it."""
    if postgresql.missing():
        yield {"SQLite": {}}
        return
    server = postgresql.PostgresqlServer()
    try:
        yield {"SQLite": {}, "PostgreSQL": {"HEADWATER_DATABASE_URL": server.create(empty=True)}}
    finally:
        server.close()


if __name__ == "__main__":
    main()
