"""Events reach real receivers: in order, again until it is done, and without an effect on other destinations."""

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.delivery.conftest import SECRET
from tests.e2e.receiver import Received, Receiver, receiver
from tests.e2e.source import Source, get, make_source, post
from tests.system import RunningSystem, wait_until
from tests.tenants import add_tenant

DELIVERED_WITHIN_SECONDS = 60.0


@pytest.fixture(scope="module")
def system(delivering_system: RunningSystem) -> RunningSystem:
    return delivering_system


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def add_destination(source: Source, url: str, *, filter: Any = None, **settings: Any) -> int:
    """Link a webhook to the source, and send it the events that pass a filter; return the connection."""
    members = {} if filter is None else {"filter": filter}
    return connect(source, "http-webhook", {"url": url, "secret": SECRET, **settings}, "send_event", **members)


def connect(source: Source, connector: str, settings: dict[str, Any], event_type: str, **members: Any) -> int:
    """Link a destination to the source, with a pipeline for all events; return the connection."""
    body = {
        "name": "Destination",
        "role": "Destination",
        "connector": connector,
        "sendingMode": "Server",
        "linkedConnections": [source.id],
        "settings": settings,
    }
    created: int = post(source.system, "/v1/connections", body)["id"]
    pipeline = {"connection": created, "target": "Event", "eventType": event_type, "name": "All", "enabled": True}
    post(source.system, "/v1/pipelines", {**pipeline, **members})
    return created


def send(source: Source, users: Sequence[str], first: int = 0) -> None:
    """Send an event for each of the users, numbered from `first`."""
    batch = [
        {
            "type": "track",
            "event": "Ordered",
            "userId": user,
            "messageId": f"m{first + number}",
            "properties": {"n": first + number},
        }
        for number, user in enumerate(users)
    ]
    assert source.send("batch", {"batch": batch}).status_code == 200


def numbers(hook: Receiver) -> list[int]:
    """Return the numbers of the events that a receiver got, in their order."""
    events = [event for body in hook.bodies() for event in (body["data"] if body["type"] == "batch" else [body])]
    return [event["data"]["properties"]["n"] for event in events]


def check_order(received: Sequence[int], users: Sequence[str]) -> None:
    """Check that the first arrivals of each user's events are in the order in which they were sent."""
    by_user: defaultdict[str, list[int]] = defaultdict(list)
    for number in dict.fromkeys(received):
        by_user[users[number]].append(number)
    for arrivals in by_user.values():
        assert arrivals == sorted(arrivals)


def test_events_arrive_signed_and_in_order(system: RunningSystem, hook: Receiver) -> None:
    source = make_source(system)
    add_destination(source, hook.url)
    users = [f"user-{number % 7}" for number in range(200)]
    send(source, users)
    wait_until(lambda: len(hook.requests) >= 200, DELIVERED_WITHIN_SECONDS)
    assert sorted(numbers(hook)) == list(range(200))
    check_order(numbers(hook), users)
    assert all(request.headers["webhook-signature"].startswith("v1,") for request in hook.requests)


def test_a_killed_courier_loses_nothing(system: RunningSystem, hook: Receiver) -> None:
    source = make_source(system)
    add_destination(source, hook.url, batchSize=20)
    users = [f"user-{number % 50}" for number in range(3_000)]
    for first in range(0, 3_000, 500):
        send(source, users[first : first + 500], first)
    wait_until(lambda: len(hook.requests) > 10, DELIVERED_WITHIN_SECONDS)
    os.kill(system.children()["courier"], signal.SIGKILL)
    wait_until(lambda: len(set(numbers(hook))) == 3_000, DELIVERED_WITHIN_SECONDS)
    received = numbers(hook)
    check_order(received, users)
    assert len(received) - 3_000 <= 16 * 20 + 500 + 20


def test_a_dead_destination_of_another_workspace_is_not_noticed(system: RunningSystem, hook: Receiver) -> None:
    hanging = threading.Event()

    def hang(_: Received) -> tuple[int, dict[str, str], bytes]:
        hanging.wait(60)
        return 500, {}, b""

    other = add_tenant(system, "Other")
    with receiver(hang) as stuck:
        theirs = make_source(other)
        add_destination(theirs, stuck.url)
        send(theirs, ["ann"] * 300)
        wait_until(lambda: len(stuck.requests) > 0, DELIVERED_WITHIN_SECONDS)
        source = make_source(system)
        add_destination(source, hook.url)
        send(source, ["bob"] * 100)
        wait_until(lambda: len(hook.requests) == 100, 15)
        assert numbers(hook) == list(range(100))
        hanging.set()


def test_a_receiver_that_restarts_gets_everything(system: RunningSystem) -> None:
    source = make_source(system)
    with receiver() as first:
        add_destination(source, first.url)
        send(source, ["ann"] * 5)
        wait_until(lambda: len(first.requests) == 5, DELIVERED_WITHIN_SECONDS)
    send(source, ["ann"] * 5, 5)
    with receiver(port=first.port) as second:
        wait_until(lambda: len(second.requests) >= 5, DELIVERED_WITHIN_SECONDS)
    assert numbers(second) == [5, 6, 7, 8, 9]


def destination_steps(source: Source, destination: int, message_id: str) -> list[dict[str, Any]]:
    """Return the steps of a message at a destination."""
    traces = get(source.system, f"/v1/events/{message_id}/trace")["traces"]
    [steps] = [trace["steps"] for trace in traces if trace["connection"] == source.id]
    return [step for step in steps if step["connection"] == destination]


def test_the_trace_shows_every_decision_and_every_attempt(system: RunningSystem, hook: Receiver) -> None:
    """One event is rejected, and sent again; another is delivered after a failure."""
    refusals, failures = iter([422]), iter([503])

    def answer(received: Received) -> tuple[int, dict[str, str], bytes]:
        number = received.json()["data"]["properties"]["n"]
        return next(refusals if number == 0 else failures, 200), {}, b"not yet"

    hook.answer = answer
    source = make_source(system)
    destination = add_destination(source, hook.url)
    identify = {"logical": "and", "conditions": [{"property": "type", "operator": "is", "values": ["identify"]}]}
    other = add_destination(source, hook.url, filter=identify)
    send(source, ["ann", "bob"], first=0)
    wait_until(
        lambda: (
            [step["outcome"] for id_ in ("m0", "m1") for step in destination_steps(source, destination, id_)]
            == ["Failed", "Passed"]
        ),
        DELIVERED_WITHIN_SECONDS,
    )
    [filtered] = destination_steps(source, other, "m0")
    assert (filtered["step"], filtered["outcome"]) == ("Filter", "Filtered")
    [refused] = destination_steps(source, destination, "m0")
    assert (refused["step"], refused["reason"], refused["attempts"]) == ("Finalize", "Status422", 1)
    [delivered] = destination_steps(source, destination, "m1")
    assert [(each["outcome"], each.get("status")) for each in delivered["requests"]] == [
        ("Retrying", 503),
        ("Passed", 200),
    ]
    operation = post(system, "/v1/operations/resend", {"destination": destination})["id"]
    wait_until(
        lambda: [step["outcome"] for step in destination_steps(source, destination, "m0")] == ["Failed", "Passed"],
        DELIVERED_WITHIN_SECONDS,
    )
    first, second = destination_steps(source, destination, "m0")
    assert (first["reason"], first["requests"][0]["status"]) == ("Status422", 422)
    assert (second["operation"], second["requests"][0]["status"]) == (operation, 200)
    assert SECRET not in str(get(system, "/v1/events/m0/trace"))
