"""The whole system with its event log in NATS JetStream, and the responses when a log is full or far behind."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headwater.base.outcomes import DeliveryOutcome
from headwater.observe.outcomes import open_outcomes
from tests.e2e.source import Source, get, make_source
from tests.e2e.test_watching import watch
from tests.nats import NatsServer
from tests.system import RunningSystem, start, wait_until

ROUNDS = 3
PAUSE_SECONDS = 0.05
"""Pause of a sender after an accepted call."""


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    server = NatsServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def nats_system(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    running = start(tmp_path_factory.mktemp("jetstream") / "data", HEADWATER_NATS_URL=server.url)
    yield running
    assert running.stop() == 0, running.errors


def event(message: str) -> dict[str, str]:
    return {"messageId": message, "userId": "ada", "event": "Ordered"}


def stored(source: Source) -> Counter[str]:
    return Counter(found["messageId"] for found in source.events())


def send_until_accepted(source: Source, message: str) -> int:
    """Send an event as an SDK does, again after 503; return the number of calls."""
    calls = 0

    def accepted() -> bool:
        nonlocal calls
        calls += 1
        status = source.send("track", event(message), **{"X-Strict-Mode": "1"}).status_code
        assert status in (200, 503)
        return status == 200

    wait_until(accepted, 40)
    return calls


def test_events_go_through_jetstream_and_survive_restarts_of_all(tmp_path: Path) -> None:
    """NATS is unavailable at the first start of the system."""
    server = NatsServer(started=False)
    try:
        system = start(tmp_path / "data", HEADWATER_NATS_URL=server.url)
        source = make_source(system)
        assert source.send("track", event("refused"), **{"X-Strict-Mode": "1"}).status_code == 503
        server.start()
        send_until_accepted(source, "a")
        source.wait_for(1)
        assert stored(source) == {"a": 1}
        assert system.stop() == 0, system.errors
        server.stop(signal.SIGTERM)
        server.start()
        system = start(tmp_path / "data", system.port, HEADWATER_NATS_URL=server.url)
        assert source.send("track", event("b")).status_code == 200
        assert source.send("track", event("a")).status_code == 200
        source.wait_for(2)
        assert stored(source) == {"a": 1, "b": 1}
        assert not (tmp_path / "data" / "log.db").exists()
        assert system.stop() == 0, system.errors
    finally:
        server.close()


async def test_events_and_outcomes_reach_watchers(
    nats_system: RunningSystem, server: NatsServer, tmp_path: Path
) -> None:
    source = make_source(nats_system)
    workspace = get(nats_system, "/v1/workspaces/current")["id"]
    delivered = DeliveryOutcome(workspace, 7, 8, source.id, "m", "Passed", 1_790_000_000_000_000)
    async with open_outcomes(tmp_path, server.url) as publisher, watch(nats_system, deliveries="true") as stream:
        source.send("track", event("over nats"))
        assert (await stream.next("event"))["messageId"] == "over nats"
        async with asyncio.timeout(30):
            while not publisher.is_watched(workspace):
                await asyncio.sleep(0.01)
        publisher.publish([delivered])
        assert (await stream.next("delivery"))["outcome"] == "Passed"


def test_a_retry_during_a_suspended_broker_is_stored_once(nats_system: RunningSystem, server: NatsServer) -> None:
    source = make_source(nats_system)
    assert source.send("track", event("before")).status_code == 200
    server.freeze()
    is_throttled = source.send("track", event("frozen"), **{"X-Strict-Mode": "1"})
    assert (is_throttled.status_code, is_throttled.headers.get("retry-after")) == (503, "1"), is_throttled.text
    server.thaw()
    send_until_accepted(source, "frozen")
    send_until_accepted(source, "after")
    wait_until(lambda: "after" in stored(source), 20)
    assert stored(source) == {"before": 1, "frozen": 1, "after": 1}


async def test_nats_killed_under_load_loses_and_duplicates_nothing(
    nats_system: RunningSystem, server: NatsServer
) -> None:
    source = make_source(nats_system)
    acknowledged: set[str] = set()
    stop = asyncio.Event()

    async def send(sender: int) -> None:
        number = 0
        async with httpx.AsyncClient(timeout=20) as client:
            while not stop.is_set():
                batch = {"batch": [{"type": "track", **event(f"{sender}-{number}-{index}")} for index in range(10)]}
                response = await client.post(
                    f"{nats_system.base_url}/v1/batch", json=batch, auth=(source.write_key, "")
                )
                if response.status_code == 200:
                    acknowledged.update(each["messageId"] for each in batch["batch"])
                    number += 1
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    assert response.status_code == 503, response.text

    async with asyncio.TaskGroup() as senders:
        for sender in range(6):
            senders.create_task(send(sender))
        for _ in range(ROUNDS):
            before = len(acknowledged)
            async with asyncio.timeout(30):
                while len(acknowledged) < before + 300:
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
        stop.set()
    await asyncio.to_thread(wait_until, lambda: acknowledged <= set(stored(source)), 30)
    assert max(stored(source).values()) == 1


def test_a_consumer_that_is_too_far_behind_makes_callers_wait(tmp_path: Path) -> None:
    """The worker stands still: callers get 429 with a time to wait, and accepted events are not lost."""
    system = start(tmp_path / "data", HEADWATER_LOG_MAX_LAG_BYTES="100KiB", HEADWATER_WATCHDOG_SECONDS="0")
    source = make_source(system)
    worker = system.children()["worker"]
    os.kill(worker, signal.SIGSTOP)
    accepted: list[str] = []

    def is_throttled() -> bool:
        message = str(len(accepted))
        response = source.send(
            "track", {**event(message), "properties": {"text": "x" * 10_000}}, **{"X-Strict-Mode": "1"}
        )
        if response.status_code == 200:
            accepted.append(message)
            return False
        assert response.status_code == 429, response.text
        assert 1 <= int(response.headers["retry-after"]) <= 60
        return True

    wait_until(is_throttled, 20)
    assert len(accepted) >= 10
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: not is_throttled(), 30)
    wait_until(lambda: set(stored(source)) >= set(accepted), 30)
    assert system.stop() == 0, system.errors
