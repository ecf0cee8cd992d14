"""Transactions of runs next to a busy worker: they look for the lock of SQLite often enough to get it."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from headwater.base.clock import SystemClock
from headwater.state import open_state, runprogress
from headwater.state.runcounts import record_run_counts
from headwater.state.runs import Run, RunProgress
from tests.sqlite import migrated_url

RUN = Run(
    id=1, workspace=1, pipeline=2, connection=3, trigger="Request", is_incremental=False, fence=1, created_at=1
)  # fmt: skip


def take(connection: Connection) -> None:
    runprogress.take(connection, 1, 2, 1)


def hold(connection: Connection) -> None:
    runprogress.hold(connection, 1, 1)


def count(connection: Connection) -> None:
    record_run_counts(connection, RUN, RunProgress(rows=1), [], now=1)


@pytest.mark.parametrize("work", [take, hold, count])
async def test_a_transaction_begins_as_soon_as_the_lock_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Connection], None]
) -> None:
    url = migrated_url(tmp_path / "state.db")
    async with open_state(url, writes=True, clock=SystemClock()) as state:
        async with state.transaction() as transaction:
            await transaction.run(take)
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None, check_same_thread=False)
        with closing(other):
            other.execute("BEGIN IMMEDIATE")
            looks = iter(range(3))

            def look_again(seconds: float) -> None:
                assert seconds < 0.01
                if next(looks, None) is None and other.in_transaction:
                    other.execute("COMMIT")

            monkeypatch.setattr("headwater.storage.statements.time.sleep", look_again)
            async with state.transaction() as transaction:
                await transaction.run(work)
