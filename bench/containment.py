"""The effect of workspace A on workspace B: acknowledgement, visibility and function of B's events under A's load."""

import contextlib
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.running import memory
from tests.e2e.source import Source, make_source, post
from tests.system import HEADWATER, RunningSystem, start
from tests.tenants import add_tenant, function, mapping

EVENTS = 60
"""Number of B's events that are measured in each case, one after another."""
MAPPINGS = 20
WIDTH = 500
"""Properties of each wide mapping."""
TIMEOUT_SECONDS = 120.0
_ENDLESS = {
    "JavaScript": "function transform(e) { for (;;) {} }",
    "Python": "def transform(e):\n    while True:\n        pass\n",
}
_GOOD = "function transform(e) { return { email: e.userId + '@example.com' } }"


@dataclass
class _Times:
    """The seconds of each event."""

    acknowledged: list[float] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    transformed: list[float] = field(default_factory=list)


def containment(folder: Path, seconds: float) -> None:
    """Seconds until B's events are acknowledged, visible, and through B's function: alone, and under A's load."""
    cases: dict[str, Callable[[RunningSystem], contextlib.AbstractContextManager[None]]] = {
        "alone": lambda _: contextlib.nullcontext(),
        "12 endless functions": _endless_functions,
        f"{MAPPINGS} wide mappings": _wide_mappings,
        "management calls": _management_calls,
    }
    baseline: _Times | None = None
    for name, load in cases.items():
        system = start(folder / name.replace(" ", "-"), headwater=HEADWATER)
        try:
            source = _good_source(add_tenant(system, "B"))
            with load(add_tenant(system, "A")):
                times = _measure(source)
            baseline = baseline or times
            for what in ("acknowledged", "visible", "transformed"):
                own, alone = getattr(times, what), getattr(baseline, what)
                ratio = statistics.median(own) / statistics.median(alone)
                print(
                    f"  {name:>22}: {what:>12}   p50 {statistics.median(own):.3f}   p99 {_p99(own):.3f}"
                    f"   p50 is {ratio:.1f} times the baseline's",
                    flush=True,
                )
            print(f"  {name:>22}: {memory(system)}   (goal: each below 400 MB)", flush=True)
        finally:
            system.stop()


def _good_source(tenant: RunningSystem) -> Source:
    source = make_source(tenant)
    members = {"connection": source.id, "target": "User", "name": "Good", "enabled": True}
    post(tenant, "/v1/pipelines", members | function("JavaScript", _GOOD))
    return source


def _measure(source: Source) -> _Times:
    times = _Times()
    with httpx.Client(base_url=source.system.base_url, timeout=30) as client:
        for number in range(EVENTS):
            event = {"messageId": f"b{number}", "userId": f"u{number}", "event": "E"}
            began = time.monotonic()
            client.post("/v1/track", json=event, auth=(source.write_key, "")).raise_for_status()
            acknowledged = time.monotonic()
            times.acknowledged.append(acknowledged - began)
            is_visible = False
            while True:
                path = f"/v1/events/b{number}/trace"
                [arrival] = client.get(path, headers=source.system.authorization).raise_for_status().json()["traces"]
                if not is_visible and arrival["outcome"] != "Pending":
                    is_visible = True
                    times.visible.append(time.monotonic() - acknowledged)
                if is_visible and all(step["outcome"] != "Pending" for step in arrival["steps"]):
                    assert all(step["outcome"] == "Passed" for step in arrival["steps"]), arrival
                    times.transformed.append(time.monotonic() - acknowledged)
                    break
                assert time.monotonic() < acknowledged + TIMEOUT_SECONDS, arrival
                time.sleep(0.005)
    return times


@contextmanager
def _endless_functions(tenant: RunningSystem) -> Iterator[None]:
    source = make_source(tenant)
    for number in range(12):
        language = ("JavaScript", "Python")[number % 2]
        members = {"connection": source.id, "target": "User", "name": f"F{number}", "enabled": True}
        post(tenant, "/v1/pipelines", members | function(language, _ENDLESS[language]))
    with _again_and_again(tenant, lambda client, number: _track(client, source, number, {}), pause=0.3):
        yield


@contextmanager
def _wide_mappings(tenant: RunningSystem) -> Iterator[None]:
    source = make_source(tenant)
    names = [f"p{number}" for number in range(WIDTH)]
    schema = {
        "kind": "object",
        "properties": [
            {"name": name, "type": {"kind": "string", "maxLength": 100}, "readOptional": True} for name in names
        ],
    }
    for number in range(MAPPINGS):
        members = {"connection": source.id, "target": "User", "name": f"M{number}", "enabled": True}
        post(tenant, "/v1/pipelines", members | mapping(dict.fromkeys(names, "userId"), schema))
    with _again_and_again(
        tenant, lambda client, number: _track(client, source, number, {"text": "x" * 1000}), pause=0.05
    ):
        yield


@contextmanager
def _management_calls(tenant: RunningSystem) -> Iterator[None]:
    expression = " ".join(f"properties.p{number}" for number in range(1_000))
    body = {"expressions": [{"value": expression, "type": {"kind": "string"}}] * 4}

    def call(client: httpx.Client, number: int) -> None:
        client.post("/v1/expressions-properties", json=body, headers=tenant.authorization)
        client.get("/v1/connections", headers=tenant.authorization)

    with _again_and_again(tenant, call, call, call, call, pause=0.0):
        yield


def _track(client: httpx.Client, source: Source, number: int, properties: dict[str, str]) -> None:
    events = [
        {
            "type": "track",
            "messageId": f"a{number}-{index}",
            "userId": f"u{index}",
            "event": "E",
            "properties": properties,
        }
        for index in range(20)
    ]
    client.post("/v1/batch", content=json.dumps({"batch": events}), auth=(source.write_key, ""))


@contextmanager
def _again_and_again(
    tenant: RunningSystem, *calls: Callable[[httpx.Client, int], None], pause: float
) -> Iterator[None]:
    """Repeat each call in a thread of its own until the end of the block, which begins some seconds after them."""
    stop = threading.Event()

    def repeat(call: Callable[[httpx.Client, int], None]) -> None:
        with httpx.Client(base_url=tenant.base_url, timeout=60) as client:
            for number in itertools.count():
                if stop.wait(pause):
                    return
                with contextlib.suppress(httpx.HTTPError):
                    call(client, number)

    threads = [threading.Thread(target=repeat, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    try:
        time.sleep(8)
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]
