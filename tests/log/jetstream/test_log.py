"""The log on JetStream: what must hold when the server is killed, stands still, is away, or has no room."""

import asyncio
import os
import random
from collections import Counter
from datetime import timedelta

import pytest

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.log import EventLog, LogEntry, StoredEntry
from headwater.log.jetstream import JetStreamEventLog, connection
from headwater.log.jetstream import log as module
from tests.log.jetstream.conftest import OpenJetStream, refusal_of
from tests.nats import NatsServer

CRASH_ROUNDS = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
ROOMY = 256 * 1024 * 1024


async def stored(log: EventLog) -> list[StoredEntry]:
    found: list[StoredEntry] = []
    while entries := await log.read(found[-1].last if found else 0, max_bytes=1 << 22, wait=timedelta(0)):
        found += entries
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything gives up soon."""
    monkeypatch.setattr(module, "APPEND_SECONDS", 1.0)
    monkeypatch.setattr(module, "ACK_SECONDS", 0.2)
    monkeypatch.setattr(connection, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(connection, "READY_SECONDS", 0.5)


async def test_killed_at_any_moment_everything_acknowledged_is_there_once(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEADWATER_CRASH_ROUNDS sets how many kills. What is under way is published again, under its own id."""
    monkeypatch.setattr(module, "APPEND_SECONDS", 30.0)
    log = open_jetstream(own_server, max_bytes=ROOMY)
    acknowledged: dict[int, bytes] = {}
    done = asyncio.Event()

    async def call(caller: int) -> None:
        number = 0
        while not done.is_set():
            body = b"%d %d" % (caller, number)
            acknowledged[await log.append(LogEntry(1 + number % 3, b"", body))] = body
            number += 1

    async with asyncio.TaskGroup() as group:
        for caller in range(8):
            group.create_task(call(caller))
        for _ in range(CRASH_ROUNDS):
            before = len(acknowledged)
            await asyncio.sleep(random.uniform(0.05, 0.4))
            await asyncio.to_thread(own_server.stop)
            await asyncio.to_thread(own_server.start)
            async with asyncio.timeout(60):
                while len(acknowledged) < before + 100:
                    await asyncio.sleep(0.01)
        done.set()
    found = await stored(log)
    assert {entry.position: entry.entry.body for entry in found} == acknowledged
    assert max(Counter(entry.entry.body for entry in found).values()) == 1


async def test_a_server_that_stands_still_under_a_call_stores_it_once(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACK_SECONDS", 0.2)
    log = open_jetstream(own_server)
    await log.append(LogEntry(1, b"", b"before"))
    own_server.freeze()
    appends = [asyncio.create_task(log.append(LogEntry(1, b"", b"%d" % number))) for number in range(20)]
    await asyncio.sleep(1)  # each of them is sent several times
    own_server.thaw()
    positions = await asyncio.gather(*appends)
    assert len(set(positions)) == 20
    assert sorted(entry.entry.body for entry in await stored(log)) == sorted(
        [b"before", *(b"%d" % number for number in range(20))]
    )


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_stands_still_is_unavailable_and_comes_back(
    own_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    log = open_jetstream(own_server)
    position = await _when_it_is_there(log, LogEntry(1, b"", b"before"))
    own_server.freeze()
    with pytest.raises(Unavailable):
        await log.append(LogEntry(1, b"", b"refused"))
    own_server.thaw()
    after = await _when_it_is_there(log, LogEntry(1, b"", b"after"))
    found = [entry.entry.body for entry in await stored(log)]
    assert found[0] == b"before" and found[-1] == b"after", "what was refused may be there, and is sent again"
    assert after > position


@pytest.mark.process
@pytest.mark.usefixtures("impatient")
async def test_nats_may_be_away_at_the_start(open_jetstream: OpenJetStream) -> None:
    server = NatsServer(started=False)
    try:
        log = open_jetstream(server)
        with pytest.raises(Unavailable):
            await log.append(LogEntry(1, b"", b"x"))
        with pytest.raises(Unavailable, match="NATS cannot be reached"):
            await asyncio.wait_for(log.lease("warehouse"), 30)
        await asyncio.to_thread(server.start)
        await _when_it_is_there(log, LogEntry(1, b"", b"x"))
    finally:
        server.close()


async def test_what_is_read_goes_on_after_an_outage(own_server: NatsServer, open_jetstream: OpenJetStream) -> None:
    log = open_jetstream(own_server)
    first = await log.append(LogEntry(1, b"", b"first"))
    assert [entry.position for entry in await stored(log)] == [first]
    await asyncio.to_thread(own_server.stop)
    await asyncio.to_thread(own_server.start)
    second = await log.append(LogEntry(1, b"", b"second"))
    entries = await log.read(first, max_bytes=1 << 20, wait=timedelta(seconds=60))
    assert [entry.position for entry in entries] == [second]


@pytest.mark.usefixtures("impatient")
async def test_what_waits_for_a_silent_server_is_bounded(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 10_000)
    log = open_jetstream(own_server)
    await _when_it_is_there(log, LogEntry(1, b"", b"x"))
    own_server.freeze()
    appends = [log.append(LogEntry(1, b"", bytes(1000))) for _ in range(100)]
    outcomes = Counter(type(each) for each in await asyncio.gather(*appends, return_exceptions=True))
    own_server.thaw()
    assert outcomes == {Unavailable: 10, TooManyRequests: 90}


@pytest.mark.process
@pytest.mark.usefixtures("impatient")
async def test_a_server_without_room_for_the_stream_is_unavailable(open_jetstream: OpenJetStream) -> None:
    server = NatsServer(max_file_store=1 << 20)
    try:
        log = open_jetstream(server)
        assert "insufficient storage" in await refusal_of(lambda: log.lease("warehouse"))
    finally:
        server.close()


async def test_a_frame_larger_than_a_message(nats_server: NatsServer, open_jetstream: OpenJetStream) -> None:
    log = open_jetstream(nats_server, stream=nats_server.stream())
    large = LogEntry(1, b"header", b'{"type":"track","event":"Order Completed"}' * 50_000)
    await log.append(large)
    with pytest.raises(Unavailable, match="max_payload"):
        await log.append(LogEntry(1, b"", random.Random(1).randbytes(2 << 20)))
    assert [entry.entry for entry in await stored(log)] == [large]


async def _when_it_is_there(log: JetStreamEventLog, entry: LogEntry) -> int:
    """Append, however long the server and the connection to it take: an impatient log does not wait for them."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await log.append(entry)
            except Unavailable:
                await asyncio.sleep(0.05)
