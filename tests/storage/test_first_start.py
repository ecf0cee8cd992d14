"""Files that several processes create together: each waits for the others, even on a slow disk."""

import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from headwater.base.clock import SystemClock
from headwater.log import sqlite as log_file
from headwater.log.sqlite import SqliteEventLog
from headwater.storage import database
from headwater.storage.database import open_engine, sqlite_url
from headwater.warehouse import open_warehouse
from headwater.warehouse.drivers.sqlite import database as warehouse_database

BUSY_SECONDS = 0.05


async def open_database(path: Path) -> None:
    engine = open_engine(sqlite_url(path))
    async with engine.connect() as connection:
        assert (await connection.execute(text("PRAGMA busy_timeout"))).scalar_one() == BUSY_SECONDS * 1000
    await engine.dispose()


async def open_events(path: Path) -> None:
    async with open_warehouse(sqlite_url(path), writes=True, clock=SystemClock()) as warehouse:
        assert await warehouse.loaded() == 0


async def open_log(path: Path) -> None:
    log = SqliteEventLog(path, SystemClock())
    assert await log.last_position() == 0
    await log.close()


@pytest.mark.parametrize("opened", [open_database, open_events, open_log])
async def test_a_start_waits_while_another_process_creates_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[[Path], Awaitable[None]]
) -> None:
    for module in (database, warehouse_database, log_file):
        monkeypatch.setattr(module, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    path = tmp_path / "new.db"
    held = threading.Event()

    def create_slowly() -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            held.set()
            time.sleep(6 * BUSY_SECONDS)
            connection.rollback()

    creating = threading.Thread(target=create_slowly)
    creating.start()
    assert held.wait(10)
    await opened(path)
    creating.join()
