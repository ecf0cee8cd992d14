"""Migrations on PostgreSQL and SQLite that take longer than any other statement may, or are killed."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from headwater.base import startup
from headwater.base.errors import UnusableDatabase
from headwater.state.operations.migrations import VERSION_TABLE
from headwater.storage import database, longmigrations, postgresql
from headwater.storage.database import open_database, open_engine, sqlite_url
from tests.postgresql import PostgresqlServer

PACKAGE = "headwater.state.operations.migrations"
LIMIT_SECONDS = 0.4
SLOW_SECONDS = 1.5


@pytest.fixture
def target(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Return the URL of a database without tables."""
    url = postgresql_server.create(empty=True)
    yield url
    postgresql_server.drop(url)


@pytest.fixture
def signs(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return the signs of progress. All limits are short but those of migrations."""
    for limit in ("COMMAND_TIMEOUT_SECONDS", "STATEMENT_TIMEOUT_SECONDS", "LOCK_TIMEOUT_SECONDS"):
        monkeypatch.setattr(postgresql, limit, LIMIT_SECONDS)
    defaults = {**(postgresql.open_postgresql.__kwdefaults__ or {}), "command_timeout_seconds": LIMIT_SECONDS}
    monkeypatch.setattr(postgresql.open_postgresql, "__kwdefaults__", defaults)
    monkeypatch.setattr(database, "LOCK_POLL_SECONDS", 0.05)
    monkeypatch.setattr(longmigrations, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(longmigrations, "LOG_SECONDS", 0.2)
    found: list[None] = []
    monkeypatch.setattr(startup, "_reporters", [lambda: found.append(None)])
    return found


async def sleep_in_database(connection: AsyncConnection) -> None:
    await connection.execute(text(f"SELECT pg_sleep({SLOW_SECONDS})"))


async def test_a_slow_migration_ends_and_another_process_waits_for_it(target: str, signs: list[None]) -> None:
    started = asyncio.Event()

    async def slow(connection: AsyncConnection) -> None:
        started.set()
        await sleep_in_database(connection)

    async def wait() -> float:
        await started.wait()
        began = asyncio.get_running_loop().time()
        async with open_database(target, PACKAGE):
            return asyncio.get_running_loop().time() - began

    with capture_logs() as logs:
        waiting = asyncio.create_task(wait())
        async with open_database(target, PACKAGE, prepare=slow) as engine, engine.connect() as connection:
            found = (await connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))).scalar_one()
        assert await waiting > 2 * LIMIT_SECONDS
    assert found
    assert len(signs) > 10
    lines = [line for line in logs if line["event"] == "a migration takes long"]
    assert {line["schema"] for line in lines} == {"operations"}
    assert {line["progress"] for line in lines} >= {"active", "waiting for the migration of another process"}


async def test_other_statements_keep_their_limit(target: str, signs: list[None]) -> None:
    async with open_database(target, PACKAGE) as engine, engine.connect() as connection:
        with pytest.raises((DBAPIError, TimeoutError)):
            await sleep_in_database(connection)


async def test_a_migration_whose_connection_is_lost_ends(
    target: str, signs: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost packets: the server has ended the connection, and the process hears nothing of it."""

    async def unknown(*_: object) -> None:
        return None

    monkeypatch.setattr(longmigrations, "_progress", unknown)
    with capture_logs() as logs, pytest.raises(UnusableDatabase):
        async with asyncio.timeout(30), open_database(target, PACKAGE, prepare=sleep_in_database):
            pass
    assert "the connection of a migration is lost" in [line["event"] for line in logs]
    monkeypatch.undo()
    async with open_database(target, PACKAGE):
        pass


async def test_a_process_waits_for_a_migration_of_a_file(tmp_path: Path, signs: list[None]) -> None:
    path = tmp_path / "operations.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")

    async def open_file() -> None:
        async with open_database(sqlite_url(path), PACKAGE):
            pass

    waiting = asyncio.create_task(open_file())
    async with asyncio.timeout(30):
        while len(signs) < 10:
            await asyncio.sleep(0.01)
    assert not waiting.done()
    other.execute("ROLLBACK")
    other.close()
    await waiting


KILLED = """
import asyncio, os, signal, sys
from headwater.storage import database
from headwater.storage.database import open_database
migrated = database._record_oldest_usable
def kill(*arguments):
    migrated(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
database._record_oldest_usable = kill
async def main():
    async with open_database(sys.argv[1], sys.argv[2]):
        pass
asyncio.run(main())
"""


@pytest.mark.process
@pytest.mark.parametrize("store", ["catalog", "state", "state.operations", "state.runs", "state.deliveries"])
@pytest.mark.parametrize("is_file", [True, False], ids=["sqlite", "postgresql"])
async def test_an_upgrade_that_is_killed_continues(target: str, tmp_path: Path, is_file: bool, store: str) -> None:
    """The process is killed after the last statement, before the commit."""
    package = f"headwater.{store}.migrations"
    url = sqlite_url(tmp_path / "store.db") if is_file else target
    command = [sys.executable, "-c", KILLED, url, package]
    killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    version = import_module(package)
    tables = text(f"SELECT version_num FROM {version.VERSION_TABLE}")
    engine = open_engine(url, schema=version.SCHEMA)
    try:
        with pytest.raises(DBAPIError):
            async with engine.connect() as connection:
                await connection.execute(tables)
    finally:
        await engine.dispose()
    async with asyncio.timeout(60), open_database(url, package) as engine, engine.connect() as connection:
        assert (await connection.execute(tables)).scalar_one() == version.HEAD
