"""Removed events are gone from the bytes of the file, also of files of an older release, and whenever it is killed."""

import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.storage.database import sqlite_url
from headwater.storage.scrubbing import Scrubber
from headwater.warehouse import Person, PersonSet, open_warehouse
from headwater.warehouse.drivers.sqlite import loading, removing
from headwater.warehouse.drivers.sqlite.block import MAX_BLOCK_EVENTS, Block
from headwater.warehouse.drivers.sqlite.database import connect
from headwater.warehouse.drivers.sqlite.maintenance import step
from tests.sqlite import files_with
from tests.warehouse.oracle import DAY, HOUR, START, event
from tests.warehouse.sqlite.test_old_files import make_old_file
from tests.warehouse.test_removing import erase_all, list_person_events

SECRET = "jane.doe-4711@example.com"
PERSONS = PersonSet([Person(user_id=SECRET)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.db"


def fill(connection: sqlite3.Connection, first: int = 1, sizes: tuple[int, ...] = (400, 700, 450, 2_500, 40)) -> int:
    """Load events of which one in ten is the person's; return the number of the person's."""
    number = 0
    for size in sizes:
        events = [
            event(position, user_id=SECRET if position % 10 == 0 else f"u{position}")
            for position in range(first, first + size)
        ]
        loading.load(connection, events, through=events[-1].position, now=START)
        first += size
        number += sum(each.user_id == SECRET for each in events)
    return number


def erase(connection: sqlite3.Connection) -> int:
    removed, cursor = 0, None
    while True:
        result = removing.erase(connection, 1, PERSONS, cursor)
        removed, cursor = removed + result.removed, result.cursor
        if cursor is None:
            return removed


async def scrub(path: Path) -> None:
    scrubber = Scrubber(path)
    while not await scrubber.step():
        pass


def has_secret(path: Path) -> bool:
    """Return whether the person's id is in any file of the database, as it is or inside of a block."""
    return bool(files_with(path.parent, SECRET))


@pytest.mark.parametrize("is_old", [False, True], ids=["blocks and rows", "an older release"])
@pytest.mark.parametrize("is_maintained", [False, True], ids=["as loaded", "maintained"])
async def test_the_bytes_of_a_person_are_gone(path: Path, is_old: bool, is_maintained: bool) -> None:
    expected = 0
    if is_old:
        events = [event(position, user_id=SECRET if position % 10 == 0 else None) for position in range(1, 6_001)]
        make_old_file(path, events, progress=6_000)
        expected = 600
    connection = connect(path, writes=True)
    expected += fill(connection, 10_001)
    assert has_secret(path)
    if is_maintained:
        while step(connection, START + 2 * HOUR):
            pass
    assert erase(connection) == expected
    await scrub(path)
    assert not has_secret(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_removed_blocks_leave_no_documents(path: Path) -> None:
    connection = connect(path, writes=True)
    fill(connection, sizes=(9_000, 700))
    erase(connection)
    removing.remove_before(connection, 1, START + 1)
    while removing.remove_before(connection, 1, START + DAY):
        pass
    assert connection.execute("SELECT count(*) FROM event_documents").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM event_blocks").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM event_rows").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM row_counts").fetchone() == (0,)
    connection.close()


async def test_a_reader_delays_the_end_and_nothing_else(path: Path) -> None:
    connection, reader = connect(path, writes=True), connect(path, writes=False)
    fill(connection)
    reader.execute("BEGIN")
    before = reader.execute("SELECT count(*) FROM event_blocks").fetchone()
    erase(connection)
    scrubber = Scrubber(path)
    assert not await scrubber.step()
    assert reader.execute("SELECT count(*) FROM event_blocks").fetchone() == before
    reader.execute("ROLLBACK")
    while not await scrubber.step():
        pass
    assert not has_secret(path)
    reader.close()
    connection.close()


def interrupt_after(connection: sqlite3.Connection, statements: int) -> None:
    """Interrupt the last of this number of statements."""
    counter = count(1)
    connection.set_trace_callback(lambda _: connection.interrupt() if next(counter) == statements else None)


@pytest.mark.parametrize("work", ["erase", "expire"])
def test_an_interruption_after_any_statement_loses_no_other_event(path: Path, work: str) -> None:
    """The connection is closed after each number of statements, and another one continues."""
    connection = connect(path, writes=True)
    fill(connection, sizes=(300, 600, 600))
    connection.close()
    steps: dict[str, Callable[[sqlite3.Connection], object]] = {
        "erase": erase,
        "expire": lambda connection: removing.remove_before(connection, 1, START + 1_000_000),
    }
    for statements in range(1, 40):
        connection = connect(path, writes=True)
        interrupt_after(connection, statements)
        try:
            steps[work](connection)
        except sqlite3.OperationalError as error:
            assert "interrupted" in str(error)
        connection.close()
    connection = connect(path, writes=True)
    steps[work](connection)
    while work == "expire" and steps[work](connection):
        pass
    kept = [row[0] for row in _positions(connection)]
    gone = range(1, 1_000) if work == "expire" else range(10, 1_501, 10)
    assert kept == [position for position in range(1, 1_501) if position not in gone]
    query = f"SELECT 1 FROM event_documents WHERE id / {MAX_BLOCK_EVENTS} NOT IN (SELECT id FROM event_blocks)"
    assert not connection.execute(query).fetchall()
    connection.close()


def _positions(connection: sqlite3.Connection) -> list[tuple[int]]:
    found = connection.execute("SELECT position FROM event_rows").fetchall()
    for id, columns in connection.execute("SELECT id, columns FROM event_blocks"):
        found += [(position,) for position in Block(id, columns).positions]
    return sorted(found)


async def test_a_backend_that_caches_blocks_shows_no_erased_event(path: Path) -> None:
    connection = connect(path, writes=True)
    fill(connection, sizes=(3_000,))
    persons = [Person(user_id=SECRET)]
    async with (
        open_warehouse(sqlite_url(path), writes=False, clock=SystemClock()) as backend,
        open_warehouse(sqlite_url(path), writes=True, clock=SystemClock()) as worker,
    ):
        assert len(await list_person_events(backend, persons)) == 300
        assert await erase_all(worker, persons) == 300
        assert await list_person_events(backend, persons) == []
    connection.close()
