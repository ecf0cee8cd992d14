"""Database engines: durable, patient, with one state for a reader; migrations are tested where the tables are."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from headwater.base.errors import Unavailable
from headwater.storage import database
from headwater.storage.database import as_unavailable, migrate, open_engine, sqlite_url


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(sqlite_url(tmp_path / "test.db"))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE parents (id INTEGER PRIMARY KEY)"))
        await connection.execute(text("CREATE TABLE children (parent INTEGER REFERENCES parents (id))"))
    yield engine
    await engine.dispose()


async def count(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM parents"))).scalar_one())


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)]
)
async def test_sqlite_is_durable_and_patient(engine: AsyncEngine, pragma: str, value: object) -> None:
    async with engine.connect() as connection:
        assert (await connection.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value


async def test_references_are_checked(engine: AsyncEngine) -> None:
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO children VALUES (5)"))


async def test_errors_do_not_tell_what_people_have_sent(engine: AsyncEngine) -> None:
    with pytest.raises(IntegrityError) as caught:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO children VALUES (:parent)"), {"parent": 424_242})
    assert "424242" not in str(caught.value)


async def test_a_block_that_fails_is_undone(engine: AsyncEngine) -> None:
    with pytest.raises(RuntimeError):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO parents VALUES (1)"))
            raise RuntimeError
    assert await count(engine) == 0


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "a?b=c.db", "#1.db", "ü 😀.db", "a:b@c.db"])
async def test_a_path_may_have_any_name(tmp_path: Path, name: str) -> None:
    engine = open_engine(sqlite_url(tmp_path / name))
    try:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE parents (id INTEGER)"))
    finally:
        await engine.dispose()
    assert (tmp_path / name).exists()


async def test_a_migration_waits_for_its_turn(tmp_path: Path) -> None:
    """Another process brings the tables up to date meanwhile; a start does not fail for it."""
    path = tmp_path / "state.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    engine = open_engine(sqlite_url(path))
    try:
        waiting = asyncio.create_task(migrate(engine, "headwater.state.migrations"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        other.execute("COMMIT")
        await asyncio.wait_for(waiting, 20)
        assert ("checkpoints",) in other.execute("SELECT name FROM sqlite_master").fetchall()
    finally:
        other.close()
        await engine.dispose()


async def test_the_patience_of_a_migration_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.05)
    path = tmp_path / "state.db"
    engine = open_engine(sqlite_url(path))
    await migrate(engine, "headwater.state.migrations")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(OperationalError, match="locked"):
            async with asyncio.timeout(20), engine.begin() as connection:
                await connection.execute(text("DELETE FROM calls"))
    finally:
        other.close()
        await engine.dispose()


async def test_an_outage_is_logged_once_with_the_databases_text(engine: AsyncEngine, tmp_path: Path) -> None:
    other = open_engine(sqlite_url(tmp_path / "none" / "test.db"))

    async def ask(asked: AsyncEngine) -> None:
        async with as_unavailable("the database"), asked.connect() as connection:
            await connection.execute(text("SELECT * FROM parents"))

    await ask(engine)
    threads = set(threading.enumerate())
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(Unavailable, match="the database does not respond"):
                await ask(other)
        assert [line["reason"] for line in lines] == ["unable to open database file"]
        await ask(engine)
        with pytest.raises(Unavailable):
            await ask(other)
        assert len(lines) == 2, "the next outage is logged again"
    await other.dispose()
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)  # the driver does not wait for threads that could not connect, and they use the event loop


async def test_a_wrong_statement_is_no_outage(engine: AsyncEngine) -> None:
    with pytest.raises(OperationalError, match="no such table"):
        async with as_unavailable("the database"), engine.connect() as connection:
            await connection.execute(text("SELECT * FROM absent"))
