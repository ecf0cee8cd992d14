"""Reads are repeated after a change of the database, by any connection, and not before."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater.storage.changes import MAX_RESULTS, Changes, DataVersion
from headwater.storage.database import open_engine, sqlite_url
from tests.postgresql import PostgresqlServer


class Reader:
    """Counts its reads, and returns their number."""

    def __init__(self) -> None:
        self.reads = 0

    async def __call__(self) -> int:
        self.reads += 1
        return self.reads


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.db"
    with closing(sqlite3.connect(found)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE numbers (n INTEGER)")
    return found


@pytest.fixture
async def changes(path: Path) -> AsyncIterator[Changes]:
    engine = open_engine(sqlite_url(path))
    yield Changes(engine)
    await engine.dispose()


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


async def test_a_read_is_repeated_after_a_commit_only(changes: Changes, path: Path) -> None:
    read = Reader()
    assert changes.are_known
    assert [await changes.once("a", read) for _ in range(3)] == [1, 1, 1]
    assert await changes.once(("b", 1), read) == 2, "each key has its own result"
    _execute(path, "INSERT INTO numbers VALUES (1)")
    assert [await changes.once("a", read), await changes.once(("b", 1), read)] == [3, 4]
    _execute(path, "UPDATE numbers SET n = 2 WHERE n = 7")
    assert await changes.once("a", read) == 3, "a statement without effect is no change"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO numbers VALUES (2)")
        assert await changes.once("a", read) == 3, "nothing is committed"
        connection.execute("COMMIT")
        assert await changes.once("a", read) == 5


async def test_results_from_before_a_failed_look_are_not_returned(
    changes: Changes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a new connection says nothing about that of the former one, and may be equal."""
    read = Reader()
    assert await changes.once("a", read) == 1
    with monkeypatch.context() as patch:
        patch.setattr(DataVersion, "read", lambda _: None)
        assert await changes.once("b", read) == 2
    assert await changes.once("a", read) == 3


async def test_a_read_during_which_something_is_committed_is_repeated(changes: Changes, path: Path) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        started.set()
        await go.wait()
        return "before"

    async def fast() -> str:
        return "after"

    running = asyncio.create_task(changes.once("a", slow))
    await started.wait()
    _execute(path, "INSERT INTO numbers VALUES (1)")
    assert await changes.once("a", fast) == "after"
    go.set()
    assert await running == "before"
    assert await changes.once("a", slow) == "after"


async def test_a_failed_read_is_repeated(changes: Changes) -> None:
    async def fail() -> int:
        raise OSError

    with pytest.raises(OSError):
        await changes.once("a", fail)
    assert await changes.once("a", Reader()) == 1


async def test_results_are_bounded(changes: Changes) -> None:
    read = Reader()
    for number in range(MAX_RESULTS + 1):
        await changes.once(number, read)
    assert await changes.once(0, read) == 1
    assert await changes.once(MAX_RESULTS, read) == MAX_RESULTS + 2


async def test_postgresql_reads_always(postgresql_server: PostgresqlServer) -> None:
    engine = open_engine(postgresql_server.create(empty=True))
    changes, read = Changes(engine), Reader()
    assert not changes.are_known
    assert [await changes.once("a", read) for _ in range(2)] == [1, 2]
    await engine.dispose()


def test_a_look_waits_for_no_lock(path: Path) -> None:
    version = DataVersion(path)
    with closing(version), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert version.read() == version.read() is not None


def test_a_file_that_cannot_be_opened_has_no_version(tmp_path: Path) -> None:
    version = DataVersion(tmp_path / "absent" / "a.db")
    assert version.read() is None
    version.close()
