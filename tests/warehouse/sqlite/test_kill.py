"""A process that is killed between any two statements neither loses nor duplicates events."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.warehouse.drivers.sqlite import loading
from headwater.warehouse.drivers.sqlite.block import MAX_BLOCK_EVENTS, MIN_BLOCK_EVENTS
from headwater.warehouse.drivers.sqlite.database import connect
from headwater.warehouse.drivers.sqlite.maintenance import step
from tests.warehouse.oracle import HOUR, START, event, read_all
from tests.warehouse.sqlite.test_old_files import QUERIES, make_old_file, opened

pytestmark = pytest.mark.process

STATEMENTS = (1, 2, 3, 4, 5, 7, 10, 20, 60, 1_000, 4_100)
OLD = [event(position, workspace=1 + position % 2) for position in range(1, 3_001)]
LOADS = (400,) * 5 + (600,) * 8 + (900,)
EVENTS = [event(position, timestamp=START + position * 60_000_000) for position in range(3_001, 3_001 + sum(LOADS))]
PROGRAM = """
import os, shutil, sys
from pathlib import Path
from headwater.warehouse.drivers.sqlite.database import connect
from tests.warehouse.sqlite.test_kill import STATEMENTS, work

def work_until_killed(path, left):
    def count(_statement):
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(9)

    connection = connect(path, writes=True)
    connection.set_trace_callback(count)
    work(connection)
    os._exit(0)

path = Path(sys.argv[1])
for number, statements in enumerate(STATEMENTS * 3):
    if not (process := os.fork()):
        work_until_killed(path, statements)
    _, status = os.waitpid(process, 0)
    (path.parent / str(number)).mkdir()
    for file in path.parent.glob(path.name + "*"):
        shutil.copy(file, path.parent / str(number))
    if os.waitstatus_to_exitcode(status) != 9:
        sys.exit(os.waitstatus_to_exitcode(status))
"""


def load_all(connection: sqlite3.Connection) -> None:
    first = 0
    for size in LOADS:
        some = EVENTS[first : first + size]
        loading.load(connection, some, through=some[-1].position, now=START)
        first += size


def work(connection: sqlite3.Connection) -> None:
    """Load and maintain. A load that was done before has no effect."""
    load_all(connection)
    while step(connection, START + 2 * HOUR):
        pass


@pytest.fixture
def killed(tmp_path: Path) -> list[Path]:
    """Return copies of a warehouse: one after each killed process, and one after the last, which completes."""
    path = tmp_path / "w.db"
    make_old_file(path, OLD, progress=3_000)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", PROGRAM, str(path)], env=environment, check=True, timeout=150)
    return sorted(tmp_path.glob("*/w.db"), key=lambda copy: int(copy.parent.name))


async def test_a_kill_loses_nothing_and_repeats_nothing(killed: list[Path]) -> None:
    assert len(killed) > len(STATEMENTS)
    for path in killed:
        async with opened(path, writes=False) as warehouse:
            loaded = await warehouse.loaded()
            everything = [each for each in (*OLD, *EVENTS) if each.position <= loaded and each.workspace == 1]
            everything.sort(key=lambda each: (each.timestamp, each.position))
            assert await read_all(warehouse, QUERIES[0], ascending=True) == [each.document for each in everything]
    connection = connect(killed[-1], writes=False)
    (rows,) = connection.execute("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM event_rows)").fetchone()
    assert rows < MIN_BLOCK_EVENTS
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    query = f"SELECT 1 FROM event_documents WHERE id / {MAX_BLOCK_EVENTS} NOT IN (SELECT id FROM event_blocks)"
    assert not connection.execute(query).fetchall()
    connection.close()
