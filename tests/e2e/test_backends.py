"""Several backend processes behind one Envoy: shared work, one order, one catalog, and any of them may die."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headwater.server.gateway import healthy_backends
from headwater.server.probe import request
from headwater.server.settings import Settings, read
from tests.e2e.source import Source, get, make_source, post
from tests.system import HTTP, RunningSystem, free_port, start, wait_until

BACKENDS = {"backend", "backend-2", "backend-3"}
SENDERS = 8
SEND_PAUSE_SECONDS = 0.1
"""Pause of a sender after each event: the test needs calls in progress, and not the whole processor."""


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[RunningSystem]:
    """Start a system with several backends."""
    folder = tmp_path_factory.mktemp("workers")
    variables = {"HEADWATER_METRICS_PORT": str(metrics_port), "HEADWATER_WATCHDOG_SECONDS": "0"}  # a test stops one
    running = start(folder / "data", None, HEADWATER_BACKENDS=str(len(BACKENDS)), **variables)
    yield running
    assert running.stop() == 0, running.errors
    assert "Traceback" not in running.errors


def test_a_first_start_of_several_processes_creates_one_key_and_one_workspace(several: RunningSystem) -> None:
    assert len(get(several, "/v1/keys")["keys"]) == 1
    assert set(several.children()) == {*BACKENDS, "envoy", "worker", "courier", "scheduler"}
    names = {path.name for path in several.data_dir.iterdir()}
    assert {name for name in names if "key" in name} == {"api-key", "secret-key"}


def _accepted(metrics_port: int) -> dict[str, float]:
    """Return the number of events that each backend has accepted."""
    page = HTTP.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    pattern = r'^headwater_events_accepted_total\{process="([^"]+)",protocol="track"\} (\S+)'
    return {process: float(count) for process, count in re.findall(pattern, page, re.MULTILINE)}


def test_sequential_calls_keep_their_order_in_all_processes(several: RunningSystem, metrics_port: int) -> None:
    source = make_source(several)
    with httpx.Client(base_url=several.base_url, auth=(source.write_key, "")) as client:
        for number in range(60):
            event = {"type": "track", "messageId": str(number), "userId": "ada", "event": "Step"}
            assert client.post("/v1/track", json=event).status_code == 200
    assert [event["messageId"] for event in source.wait_for(60)] == [str(number) for number in range(60)]
    accepted = _accepted(metrics_port)
    assert set(accepted) == BACKENDS
    assert min(accepted.values()) > 0


def test_changes_of_one_process_apply_immediately_in_all(several: RunningSystem) -> None:
    for _ in range(10):
        source = make_source(several)  # five calls, each of which needs the results of those before it
        assert source.send("track", {"userId": "ada", "event": "Seen"}, **{"X-Strict-Mode": "1"}).status_code == 200
        renamed = {"name": "Renamed"}
        response = HTTP.put(
            f"{several.base_url}/v1/connections/{source.id}", json=renamed, headers=several.authorization, timeout=15
        )
        assert response.status_code == 200, response.text
        assert {get(several, f"/v1/connections/{source.id}")["name"] for _ in range(2 * len(BACKENDS))} == {"Renamed"}


def test_a_deleted_key_is_soon_rejected_by_all(several: RunningSystem) -> None:
    source = make_source(several)
    post(several, f"/v1/connections/{source.id}/event-write-keys", {})
    assert [_strict(source) for _ in range(8)] == [200] * 8
    path = f"/v1/connections/{source.id}/event-write-keys/{source.write_key}"
    assert HTTP.delete(several.base_url + path, headers=several.authorization, timeout=15).status_code == 200
    wait_until(lambda: [_strict(source) for _ in range(8)] == [401] * 8, 60)


def _strict(source: Source) -> int:
    return source.send("track", {"userId": "ada", "event": "Seen"}, **{"X-Strict-Mode": "1"}).status_code


def test_a_hanging_process_gets_no_calls(several: RunningSystem) -> None:
    source = make_source(several)
    hung = several.children()["backend"]
    os.kill(hung, signal.SIGSTOP)
    try:
        wait_until(lambda: _returns_quickly(source), 60)
    finally:
        os.kill(hung, signal.SIGCONT)


def _returns_quickly(source: Source) -> bool:
    """Return whether several calls in a row return, none of them from the process that hangs."""
    url, auth = f"{source.system.base_url}/v1/track", (source.write_key, "")
    event = {"userId": "ada", "event": "Seen"}
    try:
        return all(HTTP.post(url, json=event, auth=auth, timeout=0.5).status_code == 200 for _ in range(8))
    except httpx.TimeoutException:
        return False


async def test_a_killed_process_fails_few_calls(several: RunningSystem) -> None:
    """A killed process fails only the calls that it was handling."""
    settings = read({"HEADWATER_DATA_DIR": str(several.data_dir)})
    source = make_source(several)
    acknowledged: set[str] = set()
    failures: list[int] = []
    stop = asyncio.Event()
    victims = ("backend", "backend-2")
    async with asyncio.TaskGroup() as senders:
        for number in range(SENDERS):
            senders.create_task(_send(source, number, acknowledged, failures, stop))
        for victim in victims:
            await _until_more(acknowledged)
            os.kill(several.children()[victim], signal.SIGKILL)
            await _until_more(acknowledged)
            await _until_serving(settings, victim)
        stop.set()
    assert len(failures) <= len(victims) * SENDERS, "a call failed that no killed process had"
    wait_until(lambda: len(source.events()) >= len(acknowledged), 30)
    stored = [event["messageId"] for event in source.events()]
    assert len(stored) == len(set(stored)), "an event is stored twice"
    assert acknowledged <= set(stored), "an acknowledged event is lost"


async def _send(source: Source, sender: int, acknowledged: set[str], failures: list[int], stop: asyncio.Event) -> None:
    """Send numbered events, each until it is acknowledged."""
    number = 0
    url = f"{source.system.base_url}/v1/track"
    async with httpx.AsyncClient(auth=(source.write_key, ""), timeout=30) as client:
        while not stop.is_set():
            message_id = f"{sender}-{number}"
            number += 1
            event = {"messageId": message_id, "userId": f"u{sender}", "event": "E"}
            while (status := (await client.post(url, json=event)).status_code) != 200:
                failures.append(status)
                assert status == 503
            acknowledged.add(message_id)
            await asyncio.sleep(SEND_PAUSE_SECONDS)


async def _until_serving(settings: Settings, backend: str) -> None:
    """Wait until the backend serves again, and Envoy has checked it since."""
    # Retry the connection once a second, without a longer back-off.
    options = [("grpc.max_reconnect_backoff_ms", 1000)]
    address = f"unix:{settings.backend_socket(backend)}"
    async with grpc.aio.insecure_channel(address, options) as channel, asyncio.timeout(60):
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        before = await _checks(settings)
        while await _checks(settings) < before + 4 or await healthy_backends(settings) < len(BACKENDS):
            await asyncio.sleep(0.02)


async def _checks(settings: Settings) -> int:
    """Return the number of successful health checks of backends so far, over gRPC and over HTTP."""
    _, text = await request("GET", "/stats?filter=^cluster.*.health_check.success$", settings.admin_socket)
    return min(map(int, re.findall(r"^cluster\.(?:backend|raw)\.health_check\.success: (\d+)", text, re.MULTILINE)))


async def _until_more(acknowledged: set[str]) -> None:
    count = len(acknowledged) + 100
    async with asyncio.timeout(60):
        while len(acknowledged) < count:
            await asyncio.sleep(0.01)
