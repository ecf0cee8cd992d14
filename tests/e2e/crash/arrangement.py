"""A running installation: its machines and servers, any of which can be killed, and its stored events."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.storage.database import sqlite_url
from headwater.warehouse import EventQuery, open_warehouse
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start, wait_until

Kill = Callable[[float], Coroutine[None, None, None]]
"""Kills a process or machine. It stays down for this many seconds unless it is restarted by another process, and runs
again after that."""

STARTS = 5


@dataclass
class Arrangement:
    """Machines, each with a complete `headwater serve`, and their shared servers."""

    folder: Path
    machines: int = 1
    processes: int = 1
    """Number of backend processes of each machine."""
    database: PostgresqlServer | None = None
    nats: NatsServer | None = None
    systems: dict[str, RunningSystem] = field(default_factory=dict)
    """The living machines by name."""
    _variables: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start it. Call `close` at the end, also when this fails."""
        self._variables = {
            "HEADWATER_BACKENDS": str(self.processes),
            "HEADWATER_API_KEY": "api_for-the-tests-of-crashes-0123456789abc",
            "HEADWATER_SECRET_KEY": "a secret that all machines share",
            "HEADWATER_WATCHDOG_SECONDS": "0",  # tests stop a worker for longer
        }
        if self.database is not None:
            self._variables["HEADWATER_DATABASE_URL"] = self.database.create()
        if self.nats is not None:
            self._variables["HEADWATER_NATS_URL"] = self.nats.url
        for number in range(self.machines):
            name = f"machine-{number + 1}"
            self.systems[name] = start(self.folder / name, None, **self._variables)

    @property
    def ports(self) -> list[int]:
        """Ports that accept events."""
        return [system.port for system in self.systems.values()]

    def victims(self) -> dict[str, Kill]:
        """Return the processes and machines that can be killed, by name."""
        found: dict[str, Kill] = {}
        for machine, system in self.systems.items():
            for child in (
                "worker",
                "courier",
                "scheduler",
                "envoy",
                "backend",
                *(f"backend-{n}" for n in range(2, self.processes + 1)),
            ):
                found[f"{machine} {child}"] = partial(self._kill_child, system, child)
            found[f"{machine} everything"] = partial(self._kill_and_start, machine)
        if self.database is not None:
            found["postgresql"] = self._kill_database
        if self.nats is not None:
            found["nats"] = self._kill_nats
        return found

    async def kill_for_good(self, machine: str) -> None:
        """Kill a machine as a whole without starting it again."""
        system = self.systems.pop(machine)
        system.process.kill()
        await asyncio.to_thread(system.process.wait)

    async def _kill_child(self, system: RunningSystem, child: str, _: float) -> None:
        def is_killed() -> bool:
            pid = system.children().get(child)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            return pid is not None

        with suppress(FileNotFoundError, ProcessLookupError):  # the whole machine may be killed at the same time
            await asyncio.to_thread(wait_until, is_killed, 30)

    async def _kill_and_start(self, machine: str, away_seconds: float) -> None:
        system = self.systems[machine]
        system.process.kill()
        await asyncio.to_thread(system.process.wait)
        await asyncio.sleep(away_seconds)
        self.systems[machine] = await asyncio.to_thread(self._start_again, system)

    def _start_again(self, system: RunningSystem) -> RunningSystem:
        """Start it like a service manager, several times: it does not start while the database is unavailable."""
        for _ in range(STARTS):
            with suppress(AssertionError):
                return start(system.data_dir, system.port, **self._variables)
        return start(system.data_dir, system.port, **self._variables)

    async def _kill_database(self, away_seconds: float) -> None:
        assert self.database is not None
        await asyncio.to_thread(self.database.crash)
        await asyncio.sleep(away_seconds)
        await asyncio.to_thread(self.database.start)

    async def _kill_nats(self, away_seconds: float) -> None:
        assert self.nats is not None
        await asyncio.to_thread(self.nats.stop)
        await asyncio.sleep(away_seconds)
        await asyncio.to_thread(self.nats.start)

    async def stored(self) -> list[str]:
        """Return the names of all stored events, in the order of their arrival."""
        query = "SELECT document FROM warehouse.events ORDER BY position"
        if self.database is None:
            (system,) = self.systems.values()
            documents = await _documents(system.data_dir)
        else:
            connection = await asyncpg.connect(self._variables["HEADWATER_DATABASE_URL"].replace("+asyncpg", ""))
            try:
                documents = [document for (document,) in await connection.fetch(query)]
            finally:
                await connection.close()
        return [json.loads(document)["event"] for document in documents]

    def memory(self) -> dict[str, int]:
        """Return the peak memory of each living process, in MiB."""
        return {
            f"{machine} {name}": peak_mib(pid)
            for machine, system in self.systems.items()
            for name, pid in {**system.children(), "supervisor": system.process.pid}.items()
        }

    def close(self) -> None:
        """Stop all processes. A bug that one of them logged fails the test."""
        errors = []
        for system in self.systems.values():
            status = system.stop()
            if status != 0 or "Traceback" in system.errors:
                errors.append(system.errors)
        self.systems.clear()
        if self.database is not None and "HEADWATER_DATABASE_URL" in self._variables:
            self.database.drop(self._variables["HEADWATER_DATABASE_URL"])
        assert not errors, "\n".join(errors)


def peak_mib(pid: int) -> int:
    """Return the peak memory of a living process, in MiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024 if "VmHWM:" in status else 0


async def _documents(data_dir: Path) -> list[bytes]:
    """Return the stored events of the only workspace, in the order of their arrival."""
    clock = SystemClock()
    async with open_catalog(sqlite_url(data_dir / "catalog.db"), clock=clock, identifiers=Identifiers()) as catalog:
        query = EventQuery(workspace=catalog.workspaces()[0].id, order="receivedAt")
    documents: list[bytes] = []
    async with open_warehouse(sqlite_url(data_dir / "warehouse.db"), writes=False, clock=clock) as warehouse:
        page = await warehouse.events(query, ascending=True, after=None, offset=0, limit=1000)
        documents += page.documents
        while page.cursor is not None:
            page = await warehouse.events(query, ascending=True, after=page.cursor, offset=0, limit=1000)
            documents += page.documents
    return documents
