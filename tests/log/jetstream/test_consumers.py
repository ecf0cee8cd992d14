"""Leases between machines: at most one holds a name, and a name is never lost for good."""

import asyncio
import time

import nats.errors
import pytest
from nats.js.kv import KeyValue

from headwater.base.errors import Unavailable
from headwater.log import EventLog, Lease, LeaseLost, LeaseTaken
from headwater.log.jetstream import consumers
from tests.log.jetstream.conftest import OpenJetStream
from tests.nats import NatsServer


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "LEASE_SECONDS", 2.0)  # longer than a busy machine takes to renew one
    monkeypatch.setattr(consumers, "RENEW_SECONDS", 0.1)


async def lease_when_free(log: EventLog) -> Lease:
    async with asyncio.timeout(60):
        while True:
            try:
                return await log.lease("warehouse")
            except (LeaseTaken, Unavailable):
                await asyncio.sleep(0.05)


async def test_a_lease_is_kept_for_as_long_as_its_holder_lives(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    name = nats_server.stream()
    log, other = (open_jetstream(nats_server, stream=name) for _ in range(2))
    lease = await log.lease("warehouse")
    until = time.monotonic() + 2 * consumers.LEASE_SECONDS
    while time.monotonic() < until:
        with pytest.raises(LeaseTaken):
            await other.lease("warehouse")
        await asyncio.sleep(0.05)
    await lease.advance(7)
    await lease.release()
    assert not lease.held
    await (await other.lease("warehouse")).release()


@pytest.mark.parametrize("response", ["late", "lost"])
async def test_a_lease_that_is_released_while_it_is_renewed_is_free(
    nats_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch, response: str
) -> None:
    name = nats_server.stream()
    log, other = (open_jetstream(nats_server, stream=name) for _ in range(2))
    lease = await log.lease("warehouse")
    written, responding = asyncio.Event(), asyncio.Event()
    update = KeyValue.update

    async def slow(self: KeyValue, key: str, value: bytes, last: int | None = None) -> int:
        revision = await update(self, key, value, last=last)
        written.set()
        await responding.wait()
        return revision

    monkeypatch.setattr(KeyValue, "update", slow)
    await written.wait()
    monkeypatch.setattr(KeyValue, "update", update)
    if response == "lost":
        monkeypatch.setattr(consumers, "REQUEST_SECONDS", 0.05)
    releasing = asyncio.create_task(lease.release())
    await asyncio.sleep(0)  # it has asked the renewal to end
    if response == "late":
        responding.set()
    await releasing
    await (await other.lease("warehouse")).release()


async def test_a_renewal_whose_response_is_lost_is_written_again(
    nats_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others count the seconds from the write that arrived, so the holder may not count from a later read."""
    lease = await open_jetstream(nats_server, stream=nats_server.stream()).lease("warehouse")
    written: list[int] = []
    update = KeyValue.update

    async def lossy(self: KeyValue, key: str, value: bytes, last: int | None = None) -> int:
        written.append(await update(self, key, value, last=last))
        if len(written) == 1:
            raise nats.errors.TimeoutError
        return written[-1]

    monkeypatch.setattr(KeyValue, "update", lossy)
    async with asyncio.timeout(30):
        while len(written) < 2:
            await asyncio.sleep(0.01)
    assert lease.held
    await lease.release()
    assert lease.revision == written[-1] > written[0]  # type: ignore[attr-defined]


async def test_releasing_a_lost_lease_leaves_the_next_one_of_the_same_process(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    log = open_jetstream(nats_server, stream=nats_server.stream())
    lost = await log.lease("warehouse")
    lost._renewing.cancel()  # type: ignore[attr-defined]  # as if NATS did not respond for that long
    taken = await lease_when_free(log)
    await lost.release()
    async with asyncio.timeout(30):
        revision = taken.revision  # type: ignore[attr-defined]
        while taken.revision == revision:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
    assert taken.held


async def test_a_holder_that_dies_loses_it_to_another(nats_server: NatsServer, open_jetstream: OpenJetStream) -> None:
    name = nats_server.stream()
    log, other = (open_jetstream(nats_server, stream=name) for _ in range(2))
    lease = await log.lease("warehouse")
    await lease.advance(7)
    lease._renewing.cancel()  # type: ignore[attr-defined]  # as if the process had gone
    taken = await lease_when_free(other)
    assert not lease.held, "the old holder has stopped by then"
    with pytest.raises(LeaseLost):
        await lease.advance(9)
    assert await other.cursors() == {"warehouse": 7}
    await lease.release()
    assert taken.held, "which the old holder does not give away"
    with pytest.raises(LeaseTaken):
        await log.lease("warehouse")


async def test_a_holder_that_stood_still_learns_that_it_has_lost(
    nats_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    name = nats_server.stream()
    log, other = (open_jetstream(nats_server, stream=name) for _ in range(2))
    lease = await log.lease("warehouse")
    taking = asyncio.create_task(lease_when_free(other))
    await asyncio.sleep(0.2)
    time.sleep(2 * consumers.LEASE_SECONDS)  # noqa: ASYNC251 -- the whole process stands still
    assert not lease.held
    assert (await taking).held


async def test_a_lease_does_not_survive_an_outage_of_nats_but_its_name_does(
    own_server: NatsServer, open_jetstream: OpenJetStream
) -> None:
    log = open_jetstream(own_server)
    lease = await log.lease("warehouse")
    await asyncio.to_thread(own_server.stop)
    async with asyncio.timeout(30):
        while lease.held:
            await asyncio.sleep(0.05)
    await asyncio.to_thread(own_server.start)
    again = await lease_when_free(log)
    await again.advance(3)
    assert await log.cursors() == {"warehouse": 3}


async def test_a_short_outage_leaves_the_lease_where_it_is(
    own_server: NatsServer, open_jetstream: OpenJetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "LEASE_SECONDS", 30.0)
    log = open_jetstream(own_server)
    lease = await log.lease("warehouse")
    await asyncio.to_thread(own_server.stop)
    await asyncio.to_thread(own_server.start)
    await lease.advance(5)
    assert lease.held
    assert await log.cursors() == {"warehouse": 5}
