"""A database that goes away and comes back: the worker waits and goes on, the intake never notices."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from headwater.base.errors import Unavailable
from headwater.catalog import Connection
from headwater.management.connections import CreateConnection, create_connection
from headwater.observe.trace import wait_for_outcomes
from headwater.storage import postgresql
from tests.harness import Harness, add_source, open_harness, track_call
from tests.postgresql import PostgresqlServer
from tests.processing.test_lanes import COPY, add_pipeline, identify, identities, new_source, steps

APPLICATION = """
SELECT application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'headwater %' LIMIT 1
"""


@pytest.fixture
async def harness(postgresql_server: PostgresqlServer, tmp_path: Path) -> AsyncIterator[Harness]:
    url = postgresql_server.create()
    async with open_harness(tmp_path, database_url=url) as harness:
        yield harness
    postgresql_server.drop(url)


@pytest.fixture
async def source(harness: Harness) -> Connection:
    return await add_source(harness.catalog, harness.workspace)


async def send(harness: Harness, source: Connection, *ids: str) -> None:
    events = [{"type": "track", "event": "e", "userId": "u", "messageId": id_} for id_ in ids]
    await harness.send(source, json.dumps({"batch": events}).encode())


async def stored(harness: Harness) -> list[str]:
    return [json.loads(document)["messageId"] for document in await harness.documents()]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
async def test_nothing_is_lost_and_nothing_happens_twice(
    harness: Harness, source: Connection, postgresql_server: PostgresqlServer, ending: signal.Signals
) -> None:
    stop = asyncio.Event()
    sent: list[str] = []

    async def keep_sending() -> None:
        while not stop.is_set():
            ids = [f"m{len(sent) + each}" for each in range(10)]
            await send(harness, source, *ids, "repeated")
            sent.extend(ids)
            await asyncio.sleep(0)

    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        tasks.create_task(harness.consumer.run(stop))
        sending = tasks.create_task(keep_sending())
        for _ in range(3):
            before = len(sent)
            while len(sent) < before + 200:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(postgresql_server.stop, ending)
            before = len(sent)
            while len(sent) < before + 200:  # the intake goes on
                await asyncio.sleep(0.005)
            await asyncio.to_thread(postgresql_server.start)
        sending.cancel()
        last = await harness.log.last_position()
        while await finished(harness) < last:
            await asyncio.sleep(0.02)
        stop.set()
    found = [
        json.loads(document)["messageId"]
        for first in range(0, last, 1000)
        for document in await harness.list_events(offset=first)
    ]
    assert len(found) == len(set(found)), "an event is stored twice"
    assert set(sent) <= set(found), "an acknowledged event is lost"


async def finished(harness: Harness) -> int:
    try:
        return await harness.state.position("warehouse")
    except Unavailable:
        return 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
async def test_what_waits_in_lanes_is_run_after_an_outage(
    harness: Harness, postgresql_server: PostgresqlServer, ending: signal.Signals
) -> None:
    """Worker and courier go on by themselves, and each record has one result."""
    source = await new_source(harness)
    pipeline = await add_pipeline(harness, source, COPY)
    stop, is_enough = asyncio.Event(), asyncio.Event()
    sent: list[str] = []

    async def keep_sending() -> None:
        while not is_enough.is_set():
            users = [f"u{len(sent) + each}" for each in range(10)]
            await harness.send(source, json.dumps({"batch": [identify(user, f"{user}@x") for user in users]}).encode())
            sent.extend(users)
            await asyncio.sleep(0.01)

    async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        tasks.create_task(harness.consumer.run(stop))
        tasks.create_task(harness.courier.run(stop))
        sending = tasks.create_task(keep_sending())
        for _ in range(3):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(postgresql_server.stop, ending)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(postgresql_server.start)
        is_enough.set()
        await sending
        last = await harness.log.last_position()
        while await finished(harness) < last or await harness.state.lanes():
            await asyncio.sleep(0.02)
        stop.set()
    found = {row[0]: row[4] for row in await identities(harness, pipeline)}
    assert found == {user: json.dumps({"email": f"{user}@x"}, separators=(",", ":")) for user in sent}
    for user in sent[::50]:
        assert [step.outcome for step in await steps(harness, source, user)] == ["Passed"]


async def test_while_it_is_away_calls_that_need_it_are_unavailable_and_the_others_are_not(
    harness: Harness, source: Connection, postgresql_server: PostgresqlServer
) -> None:
    await asyncio.to_thread(postgresql_server.stop)
    try:
        request = CreateConnection(name="Shop", role="Source", connector="http")
        with pytest.raises(Unavailable):
            await create_connection(harness.catalog, harness.workspace, request)
        with pytest.raises(Unavailable):
            await harness.catalog.refresh()
        with pytest.raises(Unavailable):
            await harness.documents()
        with pytest.raises(Unavailable):
            await harness.state.identities(source.id, first=0, limit=1)
        with pytest.raises(Unavailable):
            await harness.state.rejected(1, connection_id=None, protocol=None, first=0, limit=1)
        with pytest.raises(Unavailable):  # the key may have been made by another process a moment ago
            await harness.intake.accept(track_call(call="batch", body=b'{"batch":[]}', authorization="Bearer unknown"))
        assert harness.catalog.connections(harness.workspace) == [source]
        assert await wait_for_outcomes(source.id, 1, ["a", None], harness.state) == ["Pending", None]
        await send(harness, source, "a")
    finally:
        await asyncio.to_thread(postgresql_server.start)
    made = await create_connection(harness.catalog, harness.workspace, request)
    assert harness.catalog.connection(harness.workspace, made.id) == made
    await harness.process_log()
    assert await stored(harness) == ["a"]


@pytest.mark.parametrize("is_copying", [False, True], ids=["between statements", "within COPY"])
async def test_the_transaction_of_a_hung_worker_holds_up_no_other_one(
    postgresql_server: PostgresqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_copying: bool
) -> None:
    monkeypatch.setattr(postgresql, "LOCK_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(postgresql, "HUNG_SECONDS", 0.1)
    url = postgresql_server.create()
    async with open_harness(tmp_path, database_url=url) as harness:
        await send(harness, await add_source(harness.catalog, harness.workspace), "a")
        name = str(await asyncio.to_thread(postgresql_server.administer, APPLICATION, url.rpartition("/")[2]))
        hung = await asyncpg.connect(
            url.replace("+asyncpg", ""), server_settings={"application_name": name, "statement_timeout": "100"}
        )
        await hung.execute("BEGIN; UPDATE warehouse.event_loading SET position = position")
        copying = asyncio.create_task(_copy_without_end(hung)) if is_copying else None
        stop = asyncio.Event()
        running = asyncio.create_task(harness.consumer.run(stop))
        async with asyncio.timeout(30):
            while await stored(harness) != ["a"]:
                await asyncio.sleep(0.02)
        stop.set()
        await running
        if copying is not None:
            copying.cancel()
            await asyncio.wait([copying])
        assert hung.is_closed()
    postgresql_server.drop(url)


async def _copy_without_end(driver: "asyncpg.Connection[asyncpg.Record]") -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"PGCOPY\n\xff\r\n\0"
        await asyncio.Event().wait()

    await driver.copy_to_table("events", schema_name="warehouse", source=parts(), format="binary")


async def test_a_worker_that_waits_can_be_stopped(harness: Harness, postgresql_server: PostgresqlServer) -> None:
    await asyncio.to_thread(postgresql_server.stop)
    try:
        stop = asyncio.Event()
        with capture_logs() as logs:
            running = asyncio.create_task(harness.consumer.run(stop))
            async with asyncio.timeout(60):
                while len(pauses := [log["seconds"] for log in logs if log["event"] == "the consumer waits"]) < 3:
                    await asyncio.sleep(0.01)
                stop.set()
                await running
    finally:
        await asyncio.to_thread(postgresql_server.start)
    assert {log["log_level"] for log in logs} == {"warning"}
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert await harness.log.lease("warehouse"), "its name is free"
