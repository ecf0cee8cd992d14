"""Every implementation of the log: the contract's suite runs over all of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.log import EventLog, SqliteEventLog
from headwater.log.jetstream import JetStreamEventLog
from tests.nats import NatsServer

Open = Callable[[], EventLog]
"""Opens the log; the same one when it is called again, as another process would."""

SMALL = 4 * 1024 * 1024
"""The bound of the logs of these tests, in bytes."""


async def nothing() -> int:
    """The position up to which nothing has been finished yet."""
    return 0


@pytest.fixture(params=["sqlite, commit on the loop", "sqlite, commit in a thread", "jetstream"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "jetstream":
        server: NatsServer = request.getfixturevalue("nats_server")
        stream = server.stream()
        return lambda: JetStreamEventLog(
            server.url, SystemClock(), Identifiers(), finished=nothing, max_bytes=SMALL, stream=stream
        )
    return lambda: SqliteEventLog(
        tmp_path / "log.db", SystemClock(), max_bytes=SMALL, commit_in_thread="thread" in request.param
    )


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
