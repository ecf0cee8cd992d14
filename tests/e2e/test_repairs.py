"""A person repairs what did not arrive: a changed pipeline, changed settings, a re-send, a replay."""

import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.delivery.conftest import SECRET
from tests.e2e.receiver import Received, Receiver, receiver
from tests.e2e.source import get, make_source, post
from tests.e2e.test_delivery import DELIVERED_WITHIN_SECONDS, add_destination, connect, numbers, send
from tests.system import HTTP, RunningSystem, free_port, wait_until

SCHEMA: Final = {
    "kind": "object",
    "properties": [
        {"name": "type", "type": {"kind": "string"}},
        {"name": "data", "type": {"kind": "json"}, "createRequired": True},
    ],
}
EVENTS: Final = 20


@pytest.fixture(scope="module")
def system(delivering_system: RunningSystem) -> RunningSystem:
    return delivering_system


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def mapping(type_: str) -> dict[str, Any]:
    """Return the members of a pipeline whose messages have a type."""
    return {"outSchema": SCHEMA, "transformation": {"mapping": {"data": "properties", "type": f"'{type_}'"}}}


def function(source: str) -> dict[str, Any]:
    """Return the members of a pipeline whose function makes the data."""
    text = f"function transform(event) {{ {source} }}"
    definition = {"language": "JavaScript", "source": text, "inPaths": ["properties"], "outPaths": ["data"]}
    return {"outSchema": {**SCHEMA, "properties": SCHEMA["properties"][1:]}, "transformation": {"function": definition}}


def change_pipeline(system: RunningSystem, id_: int, **members: Any) -> None:
    update(system, f"/v1/pipelines/{id_}", {"name": "All", "enabled": True, **members})


def update(system: RunningSystem, path: str, body: dict[str, Any]) -> None:
    response = HTTP.put(f"{system.base_url}{path}", json=body, headers=system.authorization, timeout=30)
    assert response.status_code == 200, response.text


def find_pipeline(system: RunningSystem, destination: int) -> int:
    [pipeline] = get(system, f"/v1/connections/{destination}")["pipelines"]
    found: int = pipeline["id"]
    return found


def queue(system: RunningSystem, destination: int) -> Any:
    return get(system, f"/v1/connections/{destination}/delivery")


def run_operation(system: RunningSystem, kind: str, **body: Any) -> Any:
    """Run an operation to its end; return it."""
    id_ = post(system, f"/v1/operations/{kind}", body)["id"]
    wait_until(lambda: get(system, f"/v1/operations/{id_}")["status"] == "Completed", 60)
    return get(system, f"/v1/operations/{id_}")


def test_the_backlog_is_sent_with_the_changed_pipeline(system: RunningSystem) -> None:
    source, port = make_source(system), free_port()
    settings = {"url": f"http://127.0.0.1:{port}/", "secret": SECRET}
    destination = connect(source, "http-webhook", settings, "send_data", **mapping("old"))
    send(source, ["ann", "bob"] * (EVENTS // 2))
    wait_until(lambda: queue(system, destination)["failures"] > 0, DELIVERED_WITHIN_SECONDS)
    change_pipeline(system, find_pipeline(system, destination), **mapping("new"))
    send(source, ["ann", "bob"] * (EVENTS // 2), EVENTS)
    with receiver(port=port) as hook:
        wait_until(lambda: len(hook.requests) >= 2 * EVENTS, DELIVERED_WITHIN_SECONDS)
        wait_until(lambda: queue(system, destination)["openItems"] == "0", DELIVERED_WITHIN_SECONDS)
    assert {body["type"] for body in hook.bodies()} == {"new"}
    assert sorted(body["data"]["n"] for body in hook.bodies()) == list(range(2 * EVENTS))


def test_dead_letters_are_sent_again_after_the_function_was_repaired(system: RunningSystem, hook: Receiver) -> None:
    source = make_source(system)
    settings = {"url": hook.url, "secret": SECRET}
    works = "return {data: event.properties}"
    breaks = f"if (event.properties.n % 2) throw new Error('odd'); {works}"
    destination = connect(source, "http-webhook", settings, "send_data", **function(breaks))
    pipeline = find_pipeline(system, destination)
    send(source, ["ann"] * EVENTS)
    wait_until(lambda: queue(system, destination)["deadItems"] == str(EVENTS // 2), DELIVERED_WITHIN_SECONDS)
    wait_until(lambda: len(hook.requests) == EVENTS // 2, DELIVERED_WITHIN_SECONDS)
    [count] = get(system, f"/v1/dead-letters/counts?destination={destination}")["counts"]
    assert (count["pipeline"], count["reason"]) == (pipeline, "TransformationFailed")
    change_pipeline(system, pipeline, **function(works))
    selection = {"destination": destination, "reason": "TransformationFailed"}
    assert post(system, "/v1/operations/resend", {**selection, "validateOnly": True}) == {"total": str(EVENTS // 2)}
    assert run_operation(system, "resend", **selection)["enqueued"] == str(EVENTS // 2)
    wait_until(lambda: len(hook.requests) == EVENTS, DELIVERED_WITHIN_SECONDS)
    wait_until(lambda: queue(system, destination)["openItems"] == "0", DELIVERED_WITHIN_SECONDS)
    assert [body["data"]["n"] for body in hook.bodies()] == [*range(0, EVENTS, 2), *range(1, EVENTS, 2)]
    assert queue(system, destination)["deadItems"] == "0"


def test_a_replay_repeats_events_with_their_idempotency_keys(system: RunningSystem, hook: Receiver) -> None:
    source = make_source(system)
    destination = add_destination(source, hook.url)
    send(source, ["ann"] * EVENTS)
    wait_until(lambda: len(hook.requests) == EVENTS, DELIVERED_WITHIN_SECONDS)
    source.wait_for(EVENTS)
    replayed = run_operation(system, "replay", pipeline=find_pipeline(system, destination))
    assert (replayed["done"], replayed["enqueued"]) == (str(EVENTS), str(EVENTS))
    wait_until(lambda: len(hook.requests) == 2 * EVENTS, DELIVERED_WITHIN_SECONDS)
    assert numbers(hook) == [*range(EVENTS), *range(EVENTS)]
    ids = [request.headers["webhook-id"] for request in hook.requests]
    assert ids[:EVENTS] == ids[EVENTS:] and len(set(ids)) == EVENTS


def test_a_refusal_outlasts_a_crash_and_ends_with_changed_settings(system: RunningSystem, hook: Receiver) -> None:
    source = make_source(system)

    def is_gone(_: Received) -> tuple[int, dict[str, str], bytes]:
        return 410, {}, b"moved"

    with receiver(is_gone) as old:
        destination = add_destination(source, old.url)
        send(source, ["ann"] * EVENTS)
        wait_until(lambda: queue(system, destination)["health"] == "Refusing", DELIVERED_WITHIN_SECONDS)
        refusing = queue(system, destination)
        assert (refusing["lastStatus"], refusing["lastResponse"]) == (410, "moved")
        assert "lastSuccessTime" not in refusing
        os.kill(system.children()["courier"], signal.SIGKILL)
        with receiver() as other:
            add_destination(source, other.url)
            send(source, ["ann"], EVENTS)
            wait_until(lambda: len(other.requests) == 1, DELIVERED_WITHIN_SECONDS)
        assert queue(system, destination)["pausedUntil"] == refusing["pausedUntil"]
        settings = {"url": hook.url, "secret": SECRET}
        body = {"name": "Hook", "sendingMode": "Server", "settings": settings, "linkedConnections": [source.id]}
        update(system, f"/v1/connections/{destination}", body)
        wait_until(lambda: len(hook.requests) == EVENTS + 1, DELIVERED_WITHIN_SECONDS)
        assert len(old.requests) == 1
    wait_until(lambda: "lastSuccessTime" in queue(system, destination), 10)
    working = queue(system, destination)
    assert (working["health"], working["failures"], working["lastError"]) == ("Closed", 0, "")
    assert "failingSince" not in working and "pausedUntil" not in working
