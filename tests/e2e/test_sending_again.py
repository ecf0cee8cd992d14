"""Dead letters of a real receiver are sent again, stored events are replayed, and both keep their idempotency keys."""

from collections import defaultdict
from typing import Any

import pytest

from tests.delivery.conftest import SECRET
from tests.e2e.receiver import Received, Receiver, receiver
from tests.e2e.source import get, make_source, post
from tests.e2e.test_delivery import DELIVERED_WITHIN_SECONDS, add_destination, numbers, send
from tests.system import RunningSystem, wait_until


@pytest.fixture(scope="module")
def system(delivering_system: RunningSystem) -> RunningSystem:
    return delivering_system


def refuse_odd(request: Received) -> tuple[int, dict[str, str], bytes]:
    return (422 if request.json()["data"]["properties"]["n"] % 2 else 200), {}, b"no odd ones"


def keys(hook: Receiver) -> dict[int, set[str]]:
    """Return the idempotency keys with which each event arrived."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for request in hook.requests:
        found[request.json()["data"]["properties"]["n"]].add(request.headers["webhook-id"])
    return found


def complete(system: RunningSystem, call: str, body: dict[str, Any]) -> dict[str, Any]:
    """Start an operation, and return it when it is completed."""
    id_ = post(system, f"/v1/operations/{call}", body)["id"]
    wait_until(lambda: get(system, f"/v1/operations/{id_}")["status"] == "Completed", DELIVERED_WITHIN_SECONDS)
    found: dict[str, Any] = get(system, f"/v1/operations/{id_}")
    return found


def test_what_was_refused_is_sent_again_with_the_same_keys(system: RunningSystem) -> None:
    source = make_source(system)
    with receiver(refuse_odd) as hook:
        destination = add_destination(source, hook.url)
        [pipeline] = [each["id"] for each in get(system, f"/v1/connections/{destination}")["pipelines"]]
        send(source, [f"user-{number}" for number in range(10)])

        def counts() -> list[tuple[int, str]]:
            found = get(system, f"/v1/dead-letters/counts?destination={destination}")["counts"]
            return [(each["pipeline"], each["count"]) for each in found]

        wait_until(lambda: counts() == [(pipeline, "5")], DELIVERED_WITHIN_SECONDS)
        [reason] = [
            each["reason"] for each in get(system, f"/v1/dead-letters/counts?destination={destination}")["counts"]
        ]
        letters = get(system, f"/v1/dead-letters?destination={destination}&reason={reason}")["deadLetters"]
        assert sorted(letter["messageId"] for letter in letters) == ["m1", "m3", "m5", "m7", "m9"]
        assert {letter["status"] for letter in letters} == {422}
        hook.answer = lambda _: (200, {}, b"")
        body = {"destination": destination, "reason": reason}
        assert post(system, "/v1/operations/resend", {**body, "validateOnly": True}) == {"total": "5"}
        shown = complete(system, "resend", body)
        assert (shown["done"], shown["enqueued"]) == ("5", "5")
        wait_until(lambda: len(hook.requests) == 15, DELIVERED_WITHIN_SECONDS)
        assert sorted(numbers(hook)[10:]) == [1, 3, 5, 7, 9]
        assert counts() == []

        assert complete(system, "replay", {"pipeline": pipeline})["enqueued"] == "10"
        wait_until(lambda: len(hook.requests) == 25, DELIVERED_WITHIN_SECONDS)
        assert sorted(numbers(hook)[15:]) == list(range(10))
        by_event = keys(hook)
        assert {len(each) for each in by_event.values()} == {1}
        assert len(set.union(*by_event.values())) == 10

        def is_empty() -> bool:
            queue = get(system, f"/v1/connections/{destination}/delivery")
            return (queue["health"], queue["openItems"], queue["deadItems"]) == ("Closed", "0", "0")

        wait_until(is_empty, DELIVERED_WITHIN_SECONDS)


def test_a_trial_shows_the_request_without_the_secret_and_sends_nothing(system: RunningSystem) -> None:
    source = make_source(system)
    with receiver() as hook:
        destination = add_destination(source, hook.url, headers=[{"key": "x-token", "value": "top-secret-token"}])
        send(source, ["ann"] * 3)
        wait_until(lambda: len(hook.requests) == 3, DELIVERED_WITHIN_SECONDS)
        source.wait_for(3)
        draft = {"connection": destination, "target": "Event", "eventType": "send_event"}
        tried = post(system, "/v1/pipelines/try", {"draft": draft})
        assert (tried["passed"], len(hook.requests)) == (3, 3)
        for event in tried["events"]:
            shown = event["result"]["request"]
            assert shown.startswith(f"POST {hook.url}\n")
            assert SECRET not in shown and "top-secret" not in shown
