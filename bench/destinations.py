"""Figures of deliveries: how late events arrive, how many a destination gets, and what a dead one costs the others."""

import asyncio
import base64
import statistics
import time
from pathlib import Path
from typing import Any

import httpx

from bench.cpu import seconds_by_process
from bench.load import Plan, measure
from bench.receiver import Receiver, receiver
from bench.running import memory, running
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import HttpRequest
from headwater.connectors.environment import ConnectorEnvironment
from tests.system import RunningSystem, free_port

LIVE_RATE = 1_000
"""Events/s of the figure for lateness, and for each of ten destinations."""
BATCH_EVENTS = 100
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
MAPPING = (
    "map('event', event, 'user', userId, 'page', context.page.url, 'agent', context.userAgent, "
    "'locale', context.locale, 'at', timestamp)"
)


def deliveries(folder: Path, seconds: float) -> None:
    """Events to webhooks: lateness, sustained in batches with a mapping, catching up, ten of which one is dead."""
    _lateness(folder / "live", max(seconds, 10))
    _batches(folder / "batches", max(seconds, 15))
    _ten(folder / "ten", max(seconds, 10))


def _lateness(folder: Path, seconds: float) -> None:
    with receiver() as hook, _running(folder) as (system, source, write_key):
        _add(system, source, hook.url)
        _send(system, write_key, 2, LIVE_RATE)  # connections are open, code is compiled
        time.sleep(2)
        hook.take()
        accepted = _send(system, write_key, seconds, LIVE_RATE)
        late = _collect(hook, accepted)
        late.sort()
        print(
            f"  one webhook at {LIVE_RATE:,}/s, an event a request: {len(late):,} of {accepted:,} arrived   "
            f"p50 {1000 * late[len(late) // 2]:.0f} ms (goal 100)   p99 {1000 * late[len(late) * 99 // 100]:.0f} ms "
            f"(goal 1,000)",
            flush=True,
        )


def _batches(folder: Path, seconds: float) -> None:
    """Sustained with a mapping; then a backlog, which the courier sends as fast as it can."""
    port = free_port()
    with _running(folder) as (system, source, write_key):
        with receiver(port) as hook:
            _add(system, source, hook.url, mapping=MAPPING, batch_size=BATCH_EVENTS)
            before, began = seconds_by_process(system.process.pid), time.perf_counter()
            accepted = _send(system, write_key, seconds, 6_000)
            _collect(hook, accepted)
            rate = accepted / (time.perf_counter() - began)
            after = seconds_by_process(system.process.pid)
            cost = {name: 1e6 * (after[name] - before.get(name, 0)) / accepted for name in after}
            print(
                f"  batches of {BATCH_EVENTS} with six mapped properties, while events arrive: {rate:,.0f} events/s "
                f"(goal 5,000)   processor time an event: "
                + ", ".join(f"{name} {value:.0f} µs" for name, value in sorted(cost.items())),
                flush=True,
            )
        accepted = _send(system, write_key, seconds, 12_000)
        time.sleep(5)
        with receiver() as other:  # what the destination gets meanwhile would not be counted
            baseline = asyncio.run(_bare(other, 3))
        with receiver(port) as hook:
            before = seconds_by_process(system.process.pid)
            began = time.perf_counter()
            first = None
            got = 0
            while got < accepted and time.perf_counter() - began < 600:
                count = hook.take()
                if count.events and first is None:
                    first = time.perf_counter()
                got += count.events
                time.sleep(0.02)
            rate = got / (time.perf_counter() - (first or began))
            spent = seconds_by_process(system.process.pid)["courier"] - before["courier"]
            print(
                f"  catching up with {accepted:,}: {rate:,.0f} events/s (goal 15,000)   processor time an event: "
                f"courier {1e6 * spent / got:.0f} µs   bare client {baseline:,.0f}   ratio {rate / baseline:.2f}   "
                f"{memory(system)}",
                flush=True,
            )


def _ten(folder: Path, seconds: float) -> None:
    rates: dict[str, float] = {}
    for dead in (False, True):
        with receiver() as hook, _running(folder / str(dead)) as (system, source, write_key):
            url = f"http://127.0.0.1:{free_port()}/hook" if dead else hook.url
            for number in range(10):
                _add(system, source, hook.url if number else url, batch_size=BATCH_EVENTS)
            _send(system, write_key, 2, LIVE_RATE)
            time.sleep(2)
            hook.take()
            living = 9 if dead else 10
            began = time.perf_counter()
            accepted = _send(system, write_key, seconds, LIVE_RATE)
            late = sorted(_collect(hook, accepted * living))
            rates[str(dead)] = len(late) / living / (time.perf_counter() - began)
            print(
                f"  {living} living destinations at {LIVE_RATE:,}/s{' and a dead one' if dead else ''}: "
                f"{rates[str(dead)]:,.0f} events/s each   p50 {1000 * statistics.median(late):.0f} ms   "
                f"p99 {1000 * late[len(late) * 99 // 100]:.0f} ms",
                flush=True,
            )
    print(f"  with a dead one the others have {rates['True'] / rates['False']:.3f} of their rate (goal 0.95)")


def _running(folder: Path) -> Any:
    return running(folder, HEADWATER_ALLOW_PRIVATE_DESTINATIONS="127.0.0.0/8")


def _add(system: RunningSystem, source: int, url: str, *, mapping: str = "", batch_size: int = 1) -> None:
    """Add a webhook that gets the events of the source."""
    with httpx.Client(base_url=system.base_url, headers=system.authorization) as client:
        connection = {
            "name": "Hook",
            "role": "Destination",
            "connector": "http-webhook",
            "sendingMode": "Server",
            "linkedConnections": [source],
            "settings": {"url": url, "secret": SECRET, "batchSize": batch_size},
        }
        created = client.post("/v1/connections", json=connection).raise_for_status().json()["id"]
        pipeline: dict[str, Any] = {
            "connection": created,
            "target": "Event",
            "eventType": "send_event",
            "name": "All",
            "enabled": True,
        }
        if mapping:
            types = client.get(f"/v1/connections/{created}/schemas/event?type=send_data").raise_for_status().json()
            data = next(each for each in types["schema"]["properties"] if each["name"] == "data")
            schema = {"kind": "object", "properties": [data]}
            pipeline |= {
                "eventType": "send_data",
                "outSchema": schema,
                "transformation": {"mapping": {"data": mapping}},
            }
        client.post("/v1/pipelines", json=pipeline).raise_for_status()


def _send(system: RunningSystem, write_key: str, seconds: float, rate: int) -> int:
    """Send events in batches; return how many were accepted."""
    plan = Plan(system.port, "batch", seconds, 8, f"Bearer {write_key}", "/v1/batch", rate=rate / 100)
    result = measure(plan)
    return 100 * (result.requests - result.failures)


def _collect(hook: Receiver, events: int) -> list[float]:
    """Wait until these events have arrived; return how late each was."""
    late: list[float] = []
    got, deadline = 0, time.monotonic() + 300
    while got < events and time.monotonic() < deadline:
        count = hook.take()
        got += count.events
        late += count.seconds_late
        time.sleep(0.02)
    return late


async def _bare(hook: Receiver, seconds: float) -> float:
    """Return the events/s of the HTTP client alone, with batches of the same size."""
    body = b"[" + b",".join(b'{"id":"%d","data":"%s"}' % (n, b"x" * 300) for n in range(BATCH_EVENTS)) + b"]"
    request = HttpRequest(method="POST", url=hook.url, headers={"content-type": "application/json"}, body=body)
    end, sent = time.monotonic() + seconds, 0
    environment = ConnectorEnvironment(addresses=AddressPolicy.parse("127.0.0.0/8"))
    async with environment.context("http-webhook", 1, None) as context:

        async def repeat() -> None:
            nonlocal sent
            while time.monotonic() < end:
                await context.http.send(request)
                sent += BATCH_EVENTS

        await asyncio.gather(*(repeat() for _ in range(16)))
    return sent / seconds
