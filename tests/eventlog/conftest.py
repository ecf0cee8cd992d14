"""Every implementation of the log, in a folder of the test: the contract's suite runs over all of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.eventlog import EventLog, SqliteEventLog

Open = Callable[[], EventLog]
"""Opens the log; the same one when it is called again, as another process would."""


@pytest.fixture(params=["sqlite, commit on the loop", "sqlite, commit in a thread"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    return lambda: SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread="thread" in request.param)


@pytest.fixture
async def log(open_log: Open) -> AsyncIterator[EventLog]:
    log = open_log()
    yield log
    await log.close()


@pytest.fixture
async def other(log: EventLog, open_log: Open) -> AsyncIterator[EventLog]:
    """The same log, as another process has it."""
    other = open_log()
    yield other
    await other.close()
