"""Kill -9 under load: every acknowledged event is stored, exactly once, on both databases.

HEADWATER_CRASH_ROUNDS sets how many kills; each round prints what it did.
"""

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.e2e.source import Source, all_events, make_source
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, free_port, is_healthy, start, wait_until

ROUNDS = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "5"))
SENDERS = 8
EVENTS_PER_CALL = 10
VICTIMS = ("backend", "worker", "envoy", "supervisor")
POSTGRESQL_VICTIMS = ("database", "worker", "backend")


async def test_what_was_acknowledged_is_stored_exactly_once_sqlite(tmp_path: Path) -> None:
    await _kill_under_load(tmp_path, VICTIMS, ROUNDS)


async def test_what_was_acknowledged_is_stored_exactly_once_postgresql(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    url = postgresql_server.create()
    rounds = min(ROUNDS, 3) if "HEADWATER_CRASH_ROUNDS" not in os.environ else ROUNDS
    await _kill_under_load(tmp_path, POSTGRESQL_VICTIMS, rounds, postgresql_server, HEADWATER_DATABASE_URL=url)
    postgresql_server.drop(url)


async def _kill_under_load(
    tmp_path: Path, victims: Sequence[str], rounds: int, database: PostgresqlServer | None = None, **variables: str
) -> None:
    system = start(tmp_path / "data", free_port(), **variables)
    try:
        source = make_source(system)
        acknowledged: set[str] = set()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as senders:
            for number in range(SENDERS):
                senders.create_task(_send(source, number, acknowledged, stop))
            for number in range(rounds):
                before = len(acknowledged)
                await _until_acknowledged(acknowledged, before + 300)
                victim = victims[number] if number < len(victims) else random.choice(victims)
                if victim == "database":
                    assert database is not None
                    await asyncio.to_thread(database.stop, signal.SIGQUIT)
                    await _until_acknowledged(acknowledged, len(acknowledged) + 300)  # the intake goes on
                    await asyncio.to_thread(database.start)
                else:
                    system = await _kill(system, victim)
                print(f"round {number + 1}: killed {victim} after {len(acknowledged)} acknowledged events")
            await _until_acknowledged(acknowledged, len(acknowledged) + 300)
            stop.set()
        wait_until(lambda: acknowledged <= set(_stored(system)), 30)
        stored = _stored(system)
        print(f"{rounds} kills, {len(acknowledged)} acknowledged, {len(stored)} stored")
        assert len(stored) == len(set(stored)), "an event is stored twice"
        assert acknowledged <= set(stored), "an acknowledged event is lost"
    finally:
        system.stop()


async def _send(source: Source, sender: int, acknowledged: set[str], stop: asyncio.Event) -> None:
    """Send numbered events in batches; like an SDK, send a batch again until it is acknowledged."""
    number = 0
    while not stop.is_set():
        ids = [f"{sender}-{number}-{index}" for index in range(EVENTS_PER_CALL)]
        number += 1
        batch = [{"type": "track", "messageId": id_, "userId": f"u{sender}", "event": "E"} for id_ in ids]
        async with httpx.AsyncClient(timeout=5) as client:
            while True:
                try:
                    response = await client.post(
                        f"{source.system.base_url}/v1/batch", json={"batch": batch}, auth=(source.write_key, "")
                    )
                    if response.status_code == 200:
                        break
                    assert response.status_code == 503, response.text
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.02)  # an SDK's pause before it tries again
        acknowledged.update(ids)


async def _until_acknowledged(acknowledged: set[str], count: int) -> None:
    async with asyncio.timeout(30):
        while len(acknowledged) < count:
            await asyncio.sleep(0.01)


async def _kill(system: RunningSystem, victim: str) -> RunningSystem:
    """Kill a process of the system. The supervisor restarts the others; without it we start all again, in its place."""
    if victim != "supervisor":
        os.kill(_child(system, victim), signal.SIGKILL)
        return system
    system.process.kill()
    await asyncio.to_thread(system.process.wait)
    return await asyncio.to_thread(start, system.data_dir, system.port)


def _child(system: RunningSystem, name: str) -> int:
    """The process id of a child, waiting for one that is being restarted."""
    wait_until(lambda: name in system.children(), 10)
    return system.children()[name]


def _stored(system: RunningSystem) -> list[str]:
    if not is_healthy(system.base_url):
        return []
    return [event["messageId"] for event in all_events(system)]
