"""After scrubbing no byte of a deleted row is in any part of a file, and every other row is as it was."""

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater.storage import unused_bytes
from headwater.storage.scrubbing import SECURE_DELETE, Scrubber
from tests.sqlite import files_with

SECRET = "jane.doe-4711"
TABLES = """
CREATE TABLE events (position INTEGER PRIMARY KEY, user TEXT, document BLOB);
CREATE INDEX events_by_user ON events (user);
CREATE TABLE people (user TEXT, number INTEGER, document BLOB, PRIMARY KEY (user, number)) WITHOUT ROWID;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.db"


def connect(path: Path, page_bytes: int = 4_096) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA page_size={page_bytes}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(SECURE_DELETE)
    return connection


def change(connection: sqlite3.Connection, chance: random.Random, rounds: int) -> None:
    """Insert and delete rows of all sizes under random keys, so that SQLite moves rows between pages."""
    number = 0
    for _ in range(rounds):
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(200):
            number += 1
            name = SECRET if chance.random() < 0.2 else f"other-{number}"
            user = f"{chance.randrange(1 << 30):x}-{name}"
            document = f"{user} ".encode() * chance.choice([1, 2, 5, 20, 50, 100, 300, 1_500])
            row = (chance.getrandbits(40), user, document)
            connection.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", row)
            connection.execute("INSERT INTO people VALUES (?, ?, ?)", (user, number, document[:1_500]))
        for table in ("events", "people"):
            kept = connection.execute(f"SELECT user FROM {table} WHERE user NOT LIKE '%{SECRET}' ORDER BY user")
            for (user,) in kept.fetchall():
                if chance.random() < 0.2:
                    connection.execute(f"DELETE FROM {table} WHERE user = ?", (user,))
        connection.execute("COMMIT")


def fill(connection: sqlite3.Connection, seed: int = 1, rounds: int = 15) -> None:
    """Make the tables, and delete the rows of a person at last."""
    connection.executescript(TABLES)
    change(connection, random.Random(seed), rounds)
    erase(connection)


def erase(connection: sqlite3.Connection) -> None:
    for table in ("events", "people"):
        connection.execute(f"DELETE FROM {table} WHERE user LIKE '%{SECRET}'")


def rows(connection: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
    return [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in ("events", "people")]


def is_intact(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


def has_secret(path: Path) -> bool:
    return bool(files_with(path.parent, SECRET))


def kinds_with_secret(connection: sqlite3.Connection, path: Path) -> set[int]:
    """Return the first bytes of the pages with the secret."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = read(path)
    pages = (content[place : place + size] for place in range(0, len(content), size))
    return {page[0] for page in pages if SECRET.encode() in page}


def read(path: Path) -> bytes:
    """Return the content of a file, which another process reads: closing it here would release SQLite's locks."""
    return subprocess.run(["cat", str(path)], capture_output=True, check=True).stdout


async def scrub(path: Path) -> None:
    scrubber = Scrubber(path)
    while not await scrubber.step():
        pass


@pytest.mark.parametrize("page_bytes", [1_024, 4_096, 16_384, 65_536])
async def test_no_byte_of_a_deleted_row_is_left(path: Path, page_bytes: int) -> None:
    with closing(connect(path, page_bytes)) as connection:
        fill(connection)
        before = rows(connection)
        assert kinds_with_secret(connection, path), "SQLite has left copies"
        await scrub(path)
        assert not has_secret(path)
        assert rows(connection) == before and is_intact(connection)
    with closing(connect(path)) as connection:
        assert rows(connection) == before and is_intact(connection)


async def test_copies_are_left_in_each_kind_of_page_without_scrubbing(path: Path) -> None:
    """Otherwise the tests of this module prove nothing: free pages, tables, indexes, and ends of long values."""
    with closing(connect(path)) as connection:
        fill(connection, rounds=40)
        before = rows(connection)
        assert kinds_with_secret(connection, path) >= {0x00, 0x0A, 0x0D}
        await scrub(path)
        assert not has_secret(path) and rows(connection) == before and is_intact(connection)


async def test_pages_that_others_have_cached_do_not_bring_bytes_back(path: Path) -> None:
    with closing(connect(path)) as connection:
        fill(connection)
        rows(connection)
        await scrub(path)
        connection.execute("UPDATE events SET document = document || 'more'")
        connection.execute("UPDATE people SET document = document || 'more'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert not has_secret(path) and is_intact(connection)


async def test_others_write_and_read_meanwhile(path: Path) -> None:
    """Two connections write and one reads in this process, while another process scrubs again and again."""
    with closing(connect(path)) as connection:
        fill(connection, rounds=8)
        stop, failures = threading.Event(), list[str]()
        expected = dict[int, bytes]()

        def write(number: int) -> None:
            chance = random.Random(number)
            with closing(connect(path)) as own:
                mine = dict[int, bytes]()
                while not stop.is_set():
                    own.execute("BEGIN IMMEDIATE")
                    for _ in range(20):
                        key = -2 * chance.randrange(1, 500) - number
                        mine[key] = chance.randbytes(chance.choice([10, 300, 3_000, 20_000]))
                        own.execute("INSERT OR REPLACE INTO events VALUES (?, 'writer', ?)", (key, mine[key]))
                        removed = chance.choice([*mine])
                        if removed != key:
                            del mine[removed]
                            own.execute("DELETE FROM events WHERE position = ?", (removed,))
                    own.execute("COMMIT")
                    stop.wait(0.005)
            expected.update(mine)

        def check() -> None:
            with closing(connect(path)) as own:
                while not stop.is_set():
                    own.execute("BEGIN")
                    if own.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                        failures.append("malformed")
                    own.execute("COMMIT")
                    stop.wait(0.02)

        threads = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
        threads.append(threading.Thread(target=check))
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                await scrub(path)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures and is_intact(connection)
        found = dict(connection.execute("SELECT position, document FROM events WHERE user = 'writer'"))
        assert found == expected
        assert not has_secret(path)


async def test_a_reader_delays_the_end_and_nothing_else(path: Path) -> None:
    with closing(connect(path)) as connection, closing(connect(path)) as reader:
        connection.executescript(TABLES)
        change(connection, random.Random(1), 3)
        reader.execute("BEGIN")
        before = rows(reader)
        erase(connection)
        scrubber = Scrubber(path)
        assert not await scrubber.step()
        assert rows(reader) == before
        reader.execute("ROLLBACK")
        await scrub(path)
        assert not has_secret(path) and rows(reader) == rows(connection)


def test_a_kill_leaves_a_file_that_another_process_continues_with(path: Path) -> None:
    with closing(connect(path)) as connection:
        fill(connection)
        before = rows(connection)
        program = [sys.executable, "-I", "-S", unused_bytes.__file__, str(path), "1", "5"]
        for milliseconds in range(20, 140, 20):
            with subprocess.Popen(program, stdout=subprocess.DEVNULL) as process:
                threading.Event().wait(milliseconds / 1_000)
                process.kill()
            assert rows(connection) == before
        assert subprocess.run(program, capture_output=True, check=True).stdout == b"0\n"
        assert not has_secret(path) and rows(connection) == before and is_intact(connection)


def test_a_step_continues_at_its_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_bytes, "STEP_SECONDS", 0.0)
    with closing(connect(path)) as connection:
        fill(connection)
        before = rows(connection)
    with closing(unused_bytes.connect(str(path))) as connection:
        pages = list(_until_the_end(unused_bytes.steps(connection, str(path), 1)))
    assert len(pages) > 5 and pages == sorted(pages)
    with closing(connect(path)) as connection:
        assert not has_secret(path) and rows(connection) == before and is_intact(connection)


def _until_the_end(steps: Iterator[int | None]) -> Iterator[int]:
    for page in steps:
        if not page:
            return
        yield page


async def test_a_file_with_other_pages_is_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=FULL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE some (thing TEXT)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = read(path)
        assert await Scrubber(path).step()
        assert read(path) == before


async def test_the_table_of_an_earlier_release_is_removed(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE free_space (data BLOB)")
        connection.execute("INSERT INTO free_space VALUES (?)", (SECRET.encode() * 10_000,))
        await scrub(path)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
        assert not has_secret(path)
