"""Starts the measured system, and the minimal server that is its baseline."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from headwater.server import gateway, settings
from tests.system import HEADWATER, RunningSystem, free_port, start


@contextmanager
def running(folder: Path, **variables: str) -> Iterator[tuple[RunningSystem, int, str]]:
    """Start a system with one `http` connection that stores events and identities; yield it, the id and the write
    key."""
    system = start(folder, None, headwater=HEADWATER, **variables)
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
def echo(folder: Path) -> Iterator[tuple[int, int]]:
    """Start the minimal server behind an Envoy with Headwater's configuration; yield the port and the parent of both
    processes."""
    run_dir = folder / "run"
    run_dir.mkdir(parents=True)
    port = free_port()
    configuration = settings.read(
        {"HEADWATER_PORT": str(port), "HEADWATER_DATA_DIR": str(folder), "HEADWATER_RUN_DIR": str(run_dir)}
    )
    envoy = gateway.program(configuration)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.echo"]
            + [
                str(socket)
                for socket in (configuration.backend_socket("backend"), configuration.ingest_socket("backend"))
            ]
        ),
        subprocess.Popen(envoy.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
    ]
    try:
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200)
        yield port, os.getpid()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def catch_up(system: RunningSystem) -> float:
    """Wait until the worker has processed all accepted events; return the seconds that it took."""
    from headwater.base.clock import SystemClock
    from headwater.log import SqliteEventLog
    from headwater.state import open_state
    from headwater.storage.database import sqlite_url

    async def wait() -> None:
        log = SqliteEventLog(system.data_dir / "log.db", SystemClock())
        try:
            async with open_state(sqlite_url(system.data_dir / "state.db"), writes=False, clock=SystemClock()) as state:
                last = await log.last_position()
                async with asyncio.timeout(300):
                    while await state.position("warehouse") < last:
                        await asyncio.sleep(0.05)
        finally:
            await log.close()

    began = time.perf_counter()
    asyncio.run(wait())
    return time.perf_counter() - began


KINDS: Final = ("forkserver", "envoy", "backend", "worker", "courier", "scheduler")


def memory(system: RunningSystem) -> str:
    """Return the resident megabytes of the system's processes as text."""
    supervisor = system.process.pid
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    parts = []
    for pid in [str(supervisor), *children]:
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        name = next(
            (name for name in ("forkserver", "envoy", "backend", "worker", "courier") if name in command), "supervisor"
        )
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        parts.append(f"{name} {resident / 1e6:.0f} MB")
    return ", ".join(parts)


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            if ready():
                return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
