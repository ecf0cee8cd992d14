"""Trials, dead letters and operations through the gateway, and the death of the process that executes an operation."""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from headwater.base.clock import SystemClock, microseconds
from headwater.state.deliveries import (
    ChunkProgress,
    DeadLetter,
    NewChunk,
    NewDeliveries,
    QueuedEvent,
    open_delivery_store,
)
from headwater.storage.database import sqlite_url
from tests.e2e.source import get, make_source, post
from tests.system import HEADWATER, HTTP, RunningSystem, start, wait_until
from tests.tenants import add_tenant

EMAIL: Final = {
    "kind": "object",
    "properties": [{"name": "email", "type": {"kind": "string"}, "readOptional": True, "description": ""}],
}
NOWHERE: Final = "http://127.0.0.1:9/"
"""A private address, which destinations may not connect to."""
DEAD: Final = 10_000
"""Dead letters of the killed operation: it takes some seconds."""


def call(
    system: RunningSystem, method: str, path: str, workspace: int | None = None, body: Any = None
) -> httpx.Response:
    headers = dict(system.authorization) if workspace is None else other_headers(system, workspace)
    return HTTP.request(method, f"{system.base_url}{path}", json=body, headers=headers, timeout=60)


def headwater(system: RunningSystem, *arguments: str) -> str:
    """Run a command for operators on the data of a running system; return its standard output."""
    environment = {**os.environ, "HEADWATER_DATA_DIR": str(system.data_dir)}
    ran = subprocess.run([*HEADWATER, *arguments], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


_keys: dict[tuple[str, int], str] = {}


def other_headers(system: RunningSystem, workspace: int) -> dict[str, str]:
    """Return the headers of a key of a workspace of `make_other`."""
    return {"authorization": f"Bearer {_keys[system.base_url, workspace]}"}


def make_other(system: RunningSystem) -> int:
    """Create a second workspace, which `call` accepts; return its id."""
    tenant = add_tenant(system, "Other")
    workspace = int(get(tenant, "/v1/workspaces/current")["id"])
    _keys[system.base_url, workspace] = tenant.api_key
    return workspace


@pytest.fixture
def other(system: RunningSystem) -> int:
    return make_other(system)


def make_destination(system: RunningSystem, *sources: int, enabled: bool = False) -> tuple[int, int]:
    """Create a destination with a pipeline, and return both ids. The deliveries of a disabled pipeline wait."""
    body = {
        "name": "Dummy",
        "role": "Destination",
        "connector": "dummy",
        "sendingMode": "Server",
        "linkedConnections": list(sources),
        "settings": {"urlForDispatchingEvents": NOWHERE},
    }
    destination = post(system, "/v1/connections", body)["id"]
    pipeline = {"connection": destination, "target": "Event", "name": "Send", "eventType": "send_event_with_no_schema"}
    return destination, post(system, "/v1/pipelines", {**pipeline, "enabled": enabled})["id"]


def test_a_pipeline_is_tried_on_stored_events(system: RunningSystem, other: int) -> None:
    source = make_source(system)
    for number in range(3):
        source.send("identify", {"userId": f"u{number}", "traits": {"email": f"{number}@EXAMPLE.com"}})
    source.send("track", {"userId": "u1", "event": "Bought", "properties": {"total": 1234567890.123456789}})
    source.wait_for(4)
    draft = {
        "connection": source.id,
        "target": "User",
        "outSchema": EMAIL,
        "transformation": {"mapping": {"email": "lower(traits.email)"}, "function": None},
        "filter": {"logical": "and", "conditions": [{"property": "type", "operator": "is", "values": ["identify"]}]},
    }
    tried = post(system, "/v1/pipelines/try", {"draft": draft})
    assert (tried["passed"], tried["filtered"], tried["failed"]) == (3, 1, 0)
    [bought, *people] = tried["events"]
    assert bought["result"]["condition"]["valueJson"] == '"track"'
    assert {event["result"]["outputJson"] for event in people} == {f'{{"email":"{n}@example.com"}}' for n in range(3)}
    changed = post(system, "/v1/pipelines/try", {"draft": draft, "pipeline": source.user_pipeline})
    assert changed["different"] == 4
    assert [event["saved"]["outcome"] for event in changed["events"]] == ["Passed"] * 4
    assert len(post(system, "/v1/pipelines/try", {"draft": draft, "limit": 2})["events"]) == 2
    failed = call(system, "POST", "/v1/pipelines/try", other, {"draft": draft})
    assert (failed.status_code, failed.json()["error"]["code"]) == (404, "NotFound")


def test_the_request_of_a_destination_is_shown_without_sending_it(system: RunningSystem) -> None:
    source = make_source(system)
    source.send("track", {"userId": "u", "event": "Bought"})
    source.wait_for(1)
    destination, pipeline = make_destination(system, source.id)
    draft = {"connection": destination, "target": "Event", "eventType": "send_event_with_no_schema"}
    tried = post(system, "/v1/pipelines/try", {"draft": draft, "pipeline": pipeline})
    [event] = tried["events"]
    assert event["result"]["request"].startswith(f"POST {NOWHERE}\n")
    assert ('"event": "Bought"' in event["result"]["request"], tried["different"]) == (True, 0)


def test_an_operation_ends_and_another_workspace_sees_nothing(system: RunningSystem, other: int) -> None:
    destination, _ = make_destination(system)
    queue = get(system, f"/v1/connections/{destination}/delivery")
    assert (queue["health"], queue["openItems"], queue["deadItems"]) == ("Closed", "0", "0")
    assert get(system, "/v1/dead-letters?limit=5&since=2026-01-01T00:00:00Z") == {
        "deadLetters": [],
        "nextPageToken": "",
    }
    assert get(system, f"/v1/dead-letters/counts?destination={destination}") == {"counts": []}
    body = {"destination": destination}
    assert post(system, "/v1/operations/resend", {**body, "validateOnly": True}) == {"total": "0"}
    id_ = post(system, "/v1/operations/resend", body)["id"]
    assert f"Operation {id_} is completed" in headwater(system, "operations", "watch", str(id_))
    shown = get(system, f"/v1/operations/{id_}")
    assert (shown["kind"], shown["status"], shown["destination"]) == ("Resend", "Completed", destination)
    assert id_ in [each["id"] for each in get(system, "/v1/operations")["operations"]]
    assert post(system, f"/v1/operations/{id_}/cancel", {})["operation"]["status"] == "Completed"
    for method, path, given in (
        ("GET", f"/v1/operations/{id_}", None),
        ("POST", f"/v1/operations/{id_}/cancel", {}),
        ("GET", f"/v1/connections/{destination}/delivery", None),
        ("POST", "/v1/operations/resend", body),
    ):
        assert call(system, method, path, other, given).status_code == 404
    assert call(system, "GET", "/v1/operations", other).json() == {"operations": [], "nextPageToken": ""}
    assert call(system, "GET", "/v1/dead-letters?since=yesterday").status_code == 400


def test_stored_events_are_replayed(system: RunningSystem, other: int) -> None:
    source = make_source(system)
    for number in range(4):
        source.send("track", {"userId": "u", "event": f"E{number % 2}"})
    source.wait_for(4)
    _, pipeline = make_destination(system, source.id, enabled=True)
    filter_ = {"logical": "and", "conditions": [{"property": "event", "operator": "is", "values": ["E1"]}]}
    for body, total in (({}, "4"), ({"filter": filter_}, "2"), ({"since": "2100-01-01T00:00:00Z"}, "0")):
        dry = post(system, "/v1/operations/replay", {"pipeline": pipeline, "validateOnly": True, **body})
        assert dry == {"total": total}
    id_ = post(system, "/v1/operations/replay", {"pipeline": pipeline, "filter": filter_})["id"]
    wait_until(lambda: get(system, f"/v1/operations/{id_}")["status"] == "Completed", 60)
    shown = get(system, f"/v1/operations/{id_}")
    assert (shown["done"], shown["enqueued"], shown["filter"]) == ("2", "2", filter_)
    assert call(system, "POST", "/v1/operations/replay", other, {"pipeline": pipeline}).status_code == 404


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"


async def kill_deliveries(path: Path, workspace: int, destination: int, pipeline: int) -> None:
    """Add dead letters to the queue of a stopped system."""
    now = microseconds(SystemClock().now()) - 1_000_000
    async with open_delivery_store(sqlite_url(path)) as store:
        epoch = await store.claim()
        for first in range(0, DEAD, 1_000):
            events = [
                QueuedEvent(number + 1, 1, f"m{number}", now, f"u{number % 50}", None, b'{"type":"track"}')
                for number in range(first, first + 1_000)
            ]
            chunk = NewChunk(destination, workspace, {pipeline: None})
            progress = await store.operation_progress("test")
            await store.append_again(
                "test",
                [NewDeliveries(workspace, events, [chunk])],
                expected=progress.cursor,
                cursor=str(first + 1).encode(),
                now=now,
            )
        while chunks := await store.read(destination, 0, max_bytes=1 << 20):
            for read in chunks:
                dead = [
                    DeadLetter(
                        number=item.number,
                        workspace=workspace,
                        destination=destination,
                        pipeline=pipeline,
                        reason="Rejected",
                        enqueued_at=now,
                        died_at=now,
                        event=item.event,
                    )
                    for item in read.unfinished()
                ]
                done = bytes([255] * (read.item_count // 8 + 1))
                await store.commit(epoch, [ChunkProgress(read.id, destination, done)], dead=dead, now=now)


async def read_waiting(path: Path, destination: int) -> list[str]:
    """Return the message ids of what waits, in its order."""
    found: list[str] = []
    after = 0
    async with open_delivery_store(sqlite_url(path)) as store:
        while chunks := await store.read(destination, after, max_bytes=1 << 20):
            for chunk in chunks:
                found += [item.event.message_id for item in chunk.unfinished()]
                after = chunk.id
    return found


def test_an_operation_continues_after_its_process_was_killed(folder: Path) -> None:
    system = start(folder)
    destination, pipeline = make_destination(system)
    workspace = int(get(system, "/v1/workspaces/current")["id"])
    assert system.stop() == 0, system.errors
    asyncio.run(kill_deliveries(folder / "delivery.db", workspace, destination, pipeline))
    system = start(folder)
    try:
        id_ = post(system, "/v1/operations/resend", {"destination": destination})["id"]

        def done() -> int:
            return int(get(system, f"/v1/operations/{id_}")["done"])

        wait_until(lambda: done() > 0, 30)
        killed = system.children()["courier"]
        os.kill(killed, signal.SIGKILL)
        assert done() < DEAD, "the operation was killed too late to show anything"
        wait_until(lambda: get(system, f"/v1/operations/{id_}")["status"] == "Completed", 90)
        assert system.children()["courier"] != killed
        shown = get(system, f"/v1/operations/{id_}")
        assert (shown["total"], shown["done"], shown["enqueued"]) == (str(DEAD), str(DEAD), str(DEAD))
        assert get(system, "/v1/dead-letters/counts") == {"counts": []}
    finally:
        assert system.stop() == 0, system.errors
    found = asyncio.run(read_waiting(folder / "delivery.db", destination))
    assert Counter(found) == Counter(f"m{number}" for number in range(DEAD))
