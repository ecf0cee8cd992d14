"""A process that is killed between any two statements neither loses nor doubles deliveries."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.state.deliveries import DeadSelection, QueuedChunk
from headwater.state.deliveries.store import SqlDeliveryStore, open_delivery_store
from headwater.storage.database import sqlite_url
from tests.sqlite import migrated_url
from tests.state.deliveries.deliveries import WORKSPACE, deliveries, items, letter, progress

pytestmark = pytest.mark.process

STATEMENTS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)
EVENTS = 200
PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tests.state.deliveries.test_kill import STATEMENTS, work

def work_until_killed(path, left):
    def count(*_):
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(9)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)
    asyncio.run(work(path))
    os._exit(0)

path = Path(sys.argv[1])
for statements in (*STATEMENTS * 2, 1_000_000):
    if not (process := os.fork()):
        work_until_killed(path, statements)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 9):
        sys.exit(code)
"""


async def work(path: Path) -> None:
    """Append, kill every third item, deliver every other one, and send the dead ones again."""
    async with open_delivery_store(sqlite_url(path)) as store:
        epoch = await store.claim()
        for first in range(1, EVENTS + 1, 10):
            batch = deliveries(range(first, first + 10), {21: {31: None}, 22: {32: [0, 4]}})
            await store.append([batch], through=first + 9, now=first)
        for chunk in await _all(store, 21):
            if not chunk.origin:
                left = list(chunk.unfinished())
                dead = [letter(chunk, index) for index, item in enumerate(left) if item.event.position % 3 == 0]
                await store.commit(epoch, [progress(chunk)], dead=dead, now=500)
        while not (await store.resend("op", DeadSelection(workspace=WORKSPACE), now=600)).is_complete:
            pass


async def _all(store: SqlDeliveryStore, destination: int) -> list[QueuedChunk]:
    chunks = await store.read(destination, 0, max_bytes=1 << 30)
    while more := await store.read(destination, chunks[-1].id if chunks else 0, max_bytes=1 << 30):
        chunks += more
    return chunks


def test_a_kill_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    migrated_url(path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", PROGRAM, str(path)], env=environment, check=True, timeout=150)
    asyncio.run(_check(path))


async def _check(path: Path) -> None:
    async with open_delivery_store(sqlite_url(path)) as store:
        again = [position for position, _ in items(await _all(store, 21))]
        assert again == [position for position in range(1, EVENTS + 1) if position % 3 == 0]
        wanted = [position for first in range(1, EVENTS + 1, 10) for position in (first, first + 4)]
        assert [position for position, _ in items(await _all(store, 22))] == wanted
        assert (await store.operation_progress("op")).items == len(again)
        assert await store.dead_counts(WORKSPACE) == []
        sizes = {each.destination: (each.open_items, each.dead_items) for each in await store.summaries()}
        assert sizes == {21: (len(again), 0), 22: (len(wanted), 0)}
