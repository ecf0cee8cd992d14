"""Processes that stand still and continue later: a broker under calls with retries, and a worker that lost its lease.
All events are stored once, and only stored events are acknowledged."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.crash.arrangement import Arrangement
from tests.e2e.crash.load import RECOVERY_SECONDS, loaded
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    server = NatsServer()
    yield server
    server.close()


async def test_a_suspended_broker_acknowledges_nothing(tmp_path: Path, nats: NatsServer) -> None:
    async with loaded(Arrangement(tmp_path, processes=2, nats=nats)) as load:
        await load.until_more(100)
        nats.freeze()
        await load.until_all_retry()  # its earlier acknowledgements have reached its clients
        before = load.acknowledged
        await load.until_all_retry()
        assert load.acknowledged == before
        print(f"frozen after {before} acknowledged events")
        nats.thaw()
        await load.until_more(100)
        nats.freeze()
        await load.until_all_retry()
        nats.stop()
        nats.start()


async def test_a_worker_with_an_expired_lease_stores_nothing(
    tmp_path: Path, nats: NatsServer, postgresql_server: PostgresqlServer
) -> None:
    shared = Arrangement(tmp_path, machines=2, database=postgresql_server, nats=nats)
    async with loaded(shared) as load:
        await load.until_more(100)
        workers = [system.children()["worker"] for system in shared.systems.values()]
        for worker in workers:  # each is active in its turn, the second one in place of the first
            os.kill(worker, signal.SIGSTOP)
            before = len(await shared.stored())
            async with asyncio.timeout(RECOVERY_SECONDS):
                while len(await shared.stored()) <= before + 100:
                    await asyncio.sleep(0.5)
            os.kill(worker, signal.SIGCONT)
