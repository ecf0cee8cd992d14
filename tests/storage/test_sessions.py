"""Sessions: work in one trip, undone unless it commits, on SQLite and PostgreSQL alike."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from headwater.storage import sessions as module
from headwater.storage.database import open_engine, sqlite_url
from headwater.storage.sessions import Sessions, sessions, snapshot, sort_on_disk
from headwater.storage.statements import fetch


@pytest.fixture
def url(empty_database_url: str | None, tmp_path: Path) -> str:
    return empty_database_url or sqlite_url(tmp_path / "test.db")


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Sessions]:
    engine = open_engine(url)
    async with sessions(engine) as opened:
        async with opened.open() as session:
            await session.run(_make_table)
        yield opened
    await engine.dispose()


def _make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY)"))
    connection.commit()


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO things VALUES (1)"))


def insert_and_commit(connection: Connection) -> None:
    insert(connection)
    connection.commit()


def count(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM things")).scalar_one())


async def counted(opened: Sessions) -> int:
    async with opened.open() as session:
        return await session.run(count)


async def test_work_goes_on_in_one_transaction_until_it_commits(opened: Sessions) -> None:
    async with opened.open() as session:
        await session.run(insert)
        assert await session.run(count) == 1
        assert await counted(opened) == 0
        await session.run(Connection.commit)
    assert await counted(opened) == 1


async def test_what_is_not_committed_is_undone(opened: Sessions) -> None:
    async with opened.open() as session:
        await session.run(insert)
    with pytest.raises(RuntimeError):
        async with opened.open() as session:
            await session.run(insert)
            raise RuntimeError
    assert await counted(opened) == 0


async def test_work_that_fails_is_undone_and_the_next_block_works(opened: Sessions) -> None:
    def twice(connection: Connection) -> None:
        insert(connection)
        insert(connection)

    with pytest.raises(IntegrityError):
        async with opened.open() as session:
            await session.run(twice)
    async with opened.open() as session:
        await session.run(insert_and_commit)
    assert await counted(opened) == 1


async def test_work_whose_commit_fails_is_undone(opened: Sessions) -> None:
    """A constraint that is checked at the commit makes it fail. The next block may get the same connection."""

    def insert_orphan(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        parent = "REFERENCES things (id) DEFERRABLE INITIALLY DEFERRED"
        connection.execute(text(f"CREATE TABLE parts (thing INTEGER {parent})"))
        connection.commit()
        insert(connection)
        connection.execute(text("INSERT INTO parts VALUES (2)"))

    with pytest.raises(IntegrityError):
        async with opened.open() as session:
            await session.run(insert_orphan)
            await session.run(Connection.commit)
    assert await counted(opened) == 0
    async with opened.open() as session:
        await session.run(insert_and_commit)
    assert await counted(opened) == 1


async def test_a_snapshot_sees_one_state(opened: Sessions) -> None:
    with ExitStack() as stack:

        def enter(connection: Connection) -> int:
            stack.enter_context(snapshot(connection))
            return count(connection)

        async with opened.open() as reader:
            assert await reader.run(enter) == 0
            async with opened.open() as writer:
                await writer.run(insert_and_commit)
            assert await reader.run(count) == 0
            await reader.run(lambda _: stack.close())
            assert await reader.run(count) == 1


async def test_a_caller_that_is_cancelled_leaves_nothing_behind(opened: Sessions) -> None:
    """While the work waits for a lock that another writer holds."""
    async with opened.open() as writer:
        await writer.run(insert)

        async def insert_too() -> None:
            async with opened.open() as session:
                await session.run(insert)
                raise AssertionError("the lock was free")

        waiting = asyncio.create_task(insert_too())
        await asyncio.sleep(0.1)
        waiting.cancel()
        await writer.run(Connection.commit)
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with opened.open() as session:
        assert await session.run(count) == 1
        await session.run(lambda connection: connection.execute(text("DELETE FROM things")))


async def test_the_loop_goes_on_while_a_work_waits(opened: Sessions) -> None:
    async with opened.open() as writer:
        await writer.run(insert)

        async def commit_soon() -> None:
            await asyncio.sleep(0.05)
            await writer.run(Connection.commit)

        async with opened.open() as other, asyncio.timeout(4):
            inserted, committed = await asyncio.gather(other.run(insert), commit_soon(), return_exceptions=True)
            assert isinstance(inserted, IntegrityError) and committed is None


async def test_there_is_a_bound_on_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SQLite; PostgreSQL's pool has its own."""
    monkeypatch.setattr(module, "SESSION_TIMEOUT_SECONDS", 0.01)
    engine = open_engine(sqlite_url(tmp_path / "test.db"))
    async with sessions(engine) as opened:
        async with AsyncExitStack() as stack:
            for _ in range(module.MAX_SESSIONS):
                await stack.enter_async_context(opened.open())
            with pytest.raises(TimeoutError):
                await stack.enter_async_context(opened.open())
        async with opened.open() as session:
            await session.run(_make_table)
    await engine.dispose()


async def test_the_end_waits_for_no_transaction(url: str) -> None:
    """Open transactions are rolled back."""
    engine = open_engine(url)
    async with sessions(engine) as first, first.open() as session:
        await session.run(_make_table)
        await session.run(insert)
    async with sessions(engine) as second:
        assert await counted(second) == 0
    await engine.dispose()


async def test_a_savepoint_of_many_pages_needs_no_file_and_a_sort_has_one(tmp_path: Path) -> None:
    engine = open_engine(sqlite_url(tmp_path / "a.db"))
    async with sessions(engine) as opened, opened.open() as session:
        found = await session.run(lambda connection: fetch(connection, "PRAGMA temp_store"))
        assert found == [(2,)], "memory"
        await session.run(Connection.rollback)
        await session.run(sort_on_disk)
        assert await session.run(lambda connection: fetch(connection, "PRAGMA temp_store")) == [(1,)], "file"
    await engine.dispose()
