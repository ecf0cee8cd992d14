"""Snapshots of several SQLite files are those of one moment, while other processes write."""

import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

import pytest

from headwater.base.errors import UnusableDatabase
from headwater.storage import snapshots
from headwater.storage.snapshots import copy_snapshot, open_snapshots

SNAPSHOTS: Final = 8
_spawn: Final = multiprocessing.get_context("spawn")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Return two files with a number each."""
    found = [tmp_path / "a.db", tmp_path / "b.db"]
    for path in found:
        with closing(_connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE numbers (n INTEGER, filling BLOB)")
            connection.execute("INSERT INTO numbers VALUES (0, zeroblob(500000))")
    return found


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=30)


def write_batches(paths: list[Path], stop: Event, written: Event) -> None:
    """Write both files again and again as the worker does: the second file within the transaction of the first."""
    with closing(_connect(paths[0])) as first, closing(_connect(paths[1])) as second:
        while not stop.is_set():
            first.execute("BEGIN IMMEDIATE")
            first.execute("UPDATE numbers SET n = n + 1")
            second.execute("UPDATE numbers SET n = n + 1")
            first.execute("COMMIT")
            written.set()


@contextmanager
def batches(paths: list[Path]) -> Iterator[Event]:
    stop, written = _spawn.Event(), _spawn.Event()
    process = _spawn.Process(target=write_batches, args=(paths, stop, written))
    process.start()
    try:
        assert written.wait(30)
        yield written
    finally:
        stop.set()
        process.join(30)
    assert process.exitcode == 0


def read(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("SELECT n FROM numbers").fetchone()
    return int(number)


def test_snapshots_are_of_one_moment_and_stay(paths: list[Path], tmp_path: Path) -> None:
    seen = set()
    with batches(paths) as written:
        for number in range(SNAPSHOTS):
            with open_snapshots(paths) as found:
                numbers = [read(each) for each in found]
                for _ in range(2):  # the first may be of a batch before the snapshot
                    written.clear()
                    assert written.wait(30)  # others write meanwhile
                copies = [tmp_path / f"{number}-{path.name}" for path in paths]
                copied: list[int] = []
                for snapshot, copy in zip(found, copies, strict=True):
                    copy_snapshot(snapshot, copy, copied.append)
            assert numbers[0] == numbers[1]
            for copy in copies:
                with closing(_connect(copy)) as connection:
                    assert read(connection) == numbers[0]
                    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert sum(copied) == sum(copy.stat().st_size for copy in copies)
            seen.add(numbers[0])
    assert len(seen) == SNAPSHOTS


def test_nothing_is_written_while_they_begin(paths: list[Path]) -> None:
    with batches(paths) as written, closing(_connect(paths[0])) as connection:

        def wait() -> None:
            before = read(connection)
            time.sleep(0.05)
            assert read(connection) == before

        with open_snapshots(paths, wait):
            written.clear()
            assert written.wait(30)


def test_a_process_that_holds_a_file_and_waits_for_another_ends_first(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has the second file and waits for the first. The snapshots let it have the first one."""
    monkeypatch.setattr(snapshots, "_TURN_SECONDS", 0.02)
    with closing(_connect(paths[1])) as second, closing(_connect(paths[0])) as first:
        second.execute("BEGIN IMMEDIATE")
        attempts = 0
        begin = snapshots._begin

        def begin_counted(writer: sqlite3.Connection, until: float) -> bool:
            nonlocal attempts
            attempts += 1
            if attempts == 3:  # the locks of the first attempt are released
                first.execute("BEGIN IMMEDIATE")
                first.execute("ROLLBACK")
                second.execute("ROLLBACK")
            return begin(writer, until)

        monkeypatch.setattr(snapshots, "_begin", begin_counted)
        with open_snapshots(paths) as found:
            assert [read(each) for each in found] == [0, 0]
    assert attempts == 4


def test_a_file_that_is_written_all_the_time_is_named(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "LOCK_SECONDS", 0.05)
    with closing(_connect(paths[0])) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnusableDatabase, match=r"a\.db is written all the time"), open_snapshots(paths):
            pass


def test_files_that_are_no_database_are_named(paths: list[Path]) -> None:
    paths[1].write_bytes(b"no database, but a text of more than a hundred bytes" * 9)
    with pytest.raises(UnusableDatabase, match="cannot be read"), open_snapshots(paths):
        pass


def test_a_copy_never_replaces_a_file(paths: list[Path]) -> None:
    with open_snapshots(paths) as found, pytest.raises(FileExistsError):
        copy_snapshot(found[0], paths[1], lambda _: None)
