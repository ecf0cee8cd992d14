"""The cost of the state store: identities and deduplication in one process, without a log."""

import asyncio
import os
import random
import sqlite3
import time
from pathlib import Path
from typing import Final
from uuid import UUID

from headwater.base.clock import SystemClock, microseconds
from headwater.state import IdentityObservation, Message, Step, deduplicate, open_state
from headwater.storage.database import sqlite_url

IDENTITIES: Final = int(os.environ.get("HEADWATER_BENCH_IDENTITIES", "1000000"))
MESSAGES: Final = int(os.environ.get("HEADWATER_BENCH_MESSAGES", "3000000"))
BATCH: Final = 3_000
BATCHES: Final = int(os.environ.get("HEADWATER_BENCH_BATCHES", "40"))
HOT: Final = 1_000
"""Number of users that half of the events are about."""
SOURCE: Final = 1_204_378_112
PIPELINES: Final = (1_318_440_219, 1_500_211_873)


def state(folder: Path, seconds: float) -> None:
    """µs of processor time and bytes written per event, with a million identities, and as messages grow."""
    folder.mkdir(parents=True)
    asyncio.run(_identities(folder / "identities"))
    asyncio.run(_messages(folder / "messages"))


async def _identities(folder: Path) -> None:
    folder.mkdir()  # noqa: ASYNC240 -- before anything is measured
    url = sqlite_url(folder / "state.db")
    async with open_state(url, writes=True, clock=SystemClock()):
        pass
    fill(folder / "state.db", SOURCE, PIPELINES[0], IDENTITIES)
    dice, now = random.Random(2), microseconds(SystemClock().now())
    for label, step in (("users return within a minute", 1_000_000), ("users return later", 120_000_000)):
        async with open_state(url, writes=True, clock=SystemClock()) as store:
            read, write, total = _Meter(), _Meter(), _Meter()
            for _ in range(BATCHES):
                now += step
                observations = [_observation(dice, now) for _ in range(BATCH)]
                with total:
                    async with store.transaction() as transaction:
                        with read:
                            changes = await transaction.merge_identities(observations)
                        with write:
                            await transaction.change_identities(changes)
            events = BATCHES * BATCH
            print(
                f"  {IDENTITIES:,} identities, {label}: merge {read.per(events)}, change {write.per(events)}, "
                f"with commit {total.per(events)}",
                flush=True,
            )
    async with open_state(url, writes=False, clock=SystemClock()) as store:
        for first in (0, IDENTITIES // 2):
            began = time.perf_counter()
            await store.identities(SOURCE, first=first, limit=100)
            print(f"  a page of identities after {first:,}: {1000 * (time.perf_counter() - began):.0f} ms", flush=True)
    print(f"  state.db: {(folder / 'state.db').stat().st_size / IDENTITIES:.0f} B per identity", flush=True)


def fill(path: Path, source: int, pipeline: int, identities: int) -> None:
    """Insert identities with SQL: inserting them through the store would take minutes."""
    rows = (
        (7, source, f"user-{number}", 0, pipeline, f'["{UUID(int=number)}"]', number, "{}")
        for number in range(identities)
    )
    file = sqlite3.connect(path)
    file.execute("PRAGMA synchronous=OFF")
    columns = "workspace, connection, identity_id, is_anonymous, pipeline, anonymous_ids, updated_at, attributes"
    file.executemany(f"INSERT INTO identities ({columns}) VALUES (?,?,?,?,?,?,?,?)", rows)
    file.commit()
    file.close()


def _observation(dice: random.Random, now: int) -> IdentityObservation:
    number = dice.randrange(HOT) if dice.random() < 0.5 else dice.randrange(IDENTITIES)
    pipelines = PIPELINES[:1]
    at = now + dice.randrange(1_000_000)
    return IdentityObservation(7, SOURCE, pipelines, f"user-{number}", str(UUID(int=number)), at, reaches=pipelines)


async def _messages(folder: Path) -> None:
    folder.mkdir()  # noqa: ASYNC240 -- before anything is measured
    dice, position = random.Random(3), 0
    steps = tuple(Step(pipeline, SOURCE, "Finalize", "Passed") for pipeline in PIPELINES)
    slices = sorted({min(MESSAGES, count) for count in (300_000, 1_000_000, 2_000_000, 3_000_000)})
    async with open_state(sqlite_url(folder / "state.db"), writes=True, clock=SystemClock()) as store:
        for count in slices:
            read, write, total, first = _Meter(), _Meter(), _Meter(), position
            while position < count:
                now = microseconds(SystemClock().now())
                messages = [
                    Message(position + each, (SOURCE, str(UUID(int=dice.getrandbits(128), version=4))), now)
                    for each in range(1, BATCH + 1)
                ]
                position += BATCH
                with total:
                    async with store.transaction() as transaction:
                        with read:
                            known = await transaction.lookup(messages)
                        _, states = deduplicate(messages, known, now=now + 50_000)
                        for each in states.values():
                            each.steps = steps
                        with write:
                            await transaction.save(states)
            events = position - first
            cost = f"lookup {read.per(events)}, save {write.per(events)}, with commit {total.per(events)}"
            print(f"  {position:,} messages: {cost}", flush=True)
    size = sum(path.stat().st_size for path in (folder / "ledger").iterdir())
    print(f"  on disk: {size / position:.0f} B per message", flush=True)


class _Meter:
    """Adds up the processor time and the bytes that this process writes within its blocks."""

    def __init__(self) -> None:
        self._cpu = 0.0
        self._written = 0
        self._began = (0.0, 0)

    def __enter__(self) -> None:
        self._began = _spent()

    def __exit__(self, *_: object) -> None:
        cpu, written = _spent()
        self._cpu += cpu - self._began[0]
        self._written += written - self._began[1]

    def per(self, events: int) -> str:
        return f"{1e6 * self._cpu / events:.2f} µs {self._written / events:,.0f} B"


def _spent() -> tuple[float, int]:
    with open("/proc/self/io", encoding="ascii") as file:
        written = next(int(line.split()[1]) for line in file if line.startswith("wchar"))
    return time.process_time(), written
