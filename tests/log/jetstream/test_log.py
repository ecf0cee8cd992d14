"""The log on JetStream, with a server that is killed, blocked, unavailable or full."""

import asyncio
import json
import os
import random
from collections import Counter
from datetime import timedelta

import nats
import pytest

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.log import EventLog, LogEntry, StoredEntry
from headwater.log.jetstream import JetStreamEventLog, connection, publisher
from headwater.log.jetstream.message import message_sequence
from tests.log.jetstream.conftest import OpenJetStream, read_rejection
from tests.nats import NatsServer

CRASH_ROUNDS = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
ROOMY = 256 * 1024 * 1024


async def stored_entries(log: EventLog) -> list[StoredEntry]:
    found: list[StoredEntry] = []
    while entries := await log.read(found[-1].last if found else 0, max_bytes=1 << 22, wait=timedelta(0)):
        found += entries
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything gives up soon."""
    monkeypatch.setattr(publisher, "APPEND_SECONDS", 1.0)
    monkeypatch.setattr(publisher, "ACK_SECONDS", 0.2)
    monkeypatch.setattr(connection, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(connection, "READY_SECONDS", 0.5)


async def test_killed_at_any_moment_everything_acknowledged_is_there_once(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEADWATER_CRASH_ROUNDS sets the number of kills. Unacknowledged entries are published again under the same id."""
    monkeypatch.setattr(publisher, "APPEND_SECONDS", 30.0)
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
    found = await stored_entries(log)
    assert {entry.position: entry.entry.body for entry in found} == acknowledged
    assert max(Counter(entry.entry.body for entry in found).values()) == 1


async def test_a_server_that_stands_still_under_a_call_stores_it_once(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "ACK_SECONDS", 0.2)
    log = open_jetstream(own_server)
    await log.append(LogEntry(1, b"", b"before"))
    own_server.freeze()
    appends = [asyncio.create_task(log.append(LogEntry(1, b"", b"%d" % number))) for number in range(20)]
    await asyncio.sleep(1)  # each of them is sent several times
    own_server.thaw()
    positions = await asyncio.gather(*appends)
    assert len(set(positions)) == 20
    assert sorted(entry.entry.body for entry in await stored_entries(log)) == sorted(
        [b"before", *(b"%d" % number for number in range(20))]
    )


async def test_entries_that_arrive_together_share_messages(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    log = open_jetstream(nats_server, stream=nats_server.stream())
    first = await log.append(LogEntry(1, b"", b"first"))
    positions = await asyncio.gather(*(log.append(LogEntry(2, b"", b"%d" % number)) for number in range(500)))
    messages = {message_sequence(position) for position in positions}
    assert len(messages) < 20
    assert min(messages) > message_sequence(first), "one that comes alone waits for no other"
    assert {stored.position: stored.entry.body for stored in await stored_entries(log)} == {
        first: b"first",
        **{position: b"%d" % number for number, position in enumerate(positions)},
    }


async def test_a_process_that_only_reads_knows_the_backlog_in_bytes(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    """Messages of a busy hour have many entries: the mean of a quiet day would be wrong by far."""
    name = nats_server.stream()
    writer = open_jetstream(nats_server, stream=name, max_bytes=ROOMY)
    await writer.append(LogEntry(1, b"", bytes(100)))
    worker = open_jetstream(nats_server, stream=name, max_bytes=ROOMY)
    assert await worker.backlog_bytes() > 0
    for _ in range(300):
        await writer.append(LogEntry(1, b"", bytes(20_000)))
    for stored in await worker.read(0, max_bytes=1 << 30, wait=timedelta(0)):
        assert stored.entry.size
    assert await worker.backlog_bytes() == pytest.approx(300 * 20_000, rel=0.1)


async def test_a_message_stays_until_all_of_its_entries_are_finished(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    name = nats_server.stream()
    log = open_jetstream(nats_server, stream=name)
    await asyncio.gather(*(log.append(LogEntry(1, b"", b"%d" % number)) for number in range(100)))
    await log.append(LogEntry(1, b"", b"the newest stays"))
    entries = await stored_entries(log)
    lease = await log.lease("warehouse")
    unfinished = [stored.position for stored in entries]
    for stored in entries:
        await lease.advance(stored.last)
        unfinished.remove(stored.position)
        await log.trim(older_than=timedelta(0))
        assert {each.position for each in await stored_entries(log)} >= set(unfinished)
    assert [each.entry.body for each in await stored_entries(log)] == [b"the newest stays"]


async def test_a_stream_of_an_earlier_version_is_continued(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    """In a stream of an earlier version, messages have one entry each, and the bucket has no key for lagging
    consumers."""
    name = nats_server.stream()
    log = open_jetstream(nats_server, stream=name)
    before = await log.append(LogEntry(3, b"h", b"before"))
    client = await nats.connect(nats_server.url)
    jetstream = client.jetstream()
    await jetstream.publish(f"{name}.frames", b"\0" + b"\0\2" + b"\0\0\0\1" + b"h" + b"old")
    bucket = await jetstream.key_value(f"{name}-consumers")
    await bucket.put("cursors", b'{"warehouse":%d}' % (before + 2))
    (old,) = await log.read(before + 2, max_bytes=1 << 20, wait=timedelta(0))
    assert old.entry == LogEntry(2, b"h", b"old")
    assert await log.cursors() == {"warehouse": before + 2}
    assert not (await log.backlogs())["warehouse"].may_lag
    await (await log.lease("lane", may_lag=True)).release()
    assert await log.trim(older_than=timedelta(0)) == 1
    value = (await bucket.get("cursors")).value or b""
    assert json.loads(value) == {"warehouse": before + 2, "lane": 0}, "which an earlier version reads, too"
    await client.close()


async def test_what_waits_longer_than_its_caller_is_not_written(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "MAX_IN_FLIGHT", 1)
    log = open_jetstream(own_server)
    await log.append(LogEntry(1, b"", b"before"))
    own_server.freeze()
    sent = asyncio.create_task(log.append(LogEntry(1, b"", b"sent")))
    while not log._publisher._in_flight or log._publisher._waiting:
        await asyncio.sleep(0)
    gone = asyncio.create_task(log.append(LogEntry(1, b"", b"its caller has gone")))
    kept = asyncio.create_task(log.append(LogEntry(1, b"", b"kept")))
    await asyncio.sleep(0)
    gone.cancel()
    own_server.thaw()
    await asyncio.gather(sent, kept)
    assert [each.entry.body for each in await stored_entries(log)] == [b"before", b"sent", b"kept"]


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
    found = [entry.entry.body for entry in await stored_entries(log)]
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
    assert [entry.position for entry in await stored_entries(log)] == [first]
    await asyncio.to_thread(own_server.stop)
    await asyncio.to_thread(own_server.start)
    second = await log.append(LogEntry(1, b"", b"second"))
    entries = await log.read(first, max_bytes=1 << 20, wait=timedelta(seconds=60))
    assert [entry.position for entry in entries] == [second]


@pytest.mark.usefixtures("impatient")
async def test_what_waits_for_a_silent_server_is_bounded(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "MAX_PENDING_BYTES", 10_000)
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
        assert "insufficient storage" in await read_rejection(lambda: log.lease("warehouse"))
    finally:
        server.close()


async def test_an_entry_larger_than_a_message(nats_server: NatsServer, open_jetstream: OpenJetStream) -> None:
    log = open_jetstream(nats_server, stream=nats_server.stream())
    large = LogEntry(1, b"header", b'{"type":"track","event":"Order Completed"}' * 50_000)
    await log.append(large)
    with pytest.raises(Unavailable, match="max_payload"):
        await log.append(LogEntry(1, b"", random.Random(1).randbytes(2 << 20)))
    assert [entry.entry for entry in await stored_entries(log)] == [large]


async def _when_it_is_there(log: JetStreamEventLog, entry: LogEntry) -> int:
    """Append, however long the server and the connection to it take: an impatient log does not wait for them."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await log.append(entry)
            except Unavailable:
                await asyncio.sleep(0.05)
