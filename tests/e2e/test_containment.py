"""Functions of one workspace do not affect another one, and a killed courier repeats no event."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.source import Source, get, make_source, post
from tests.system import RunningSystem, start, wait_until
from tests.tenants import add_tenant, function

ENDLESS = {
    "JavaScript": "function transform(e) { for (;;) {} }",
    "Python": "def transform(e):\n    while True:\n        pass\n",
}
GOOD = "function transform(e) { return { email: e.userId + '@' + e.traits.n } }"
DONE_WITHIN_SECONDS = 120.0
EVENTS = 3
"""Number of events of the workspace that is not to be delayed. Each may wait for a limit of two seconds."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start a system that restarts a suspended courier after ten seconds."""
    system = start(tmp_path_factory.mktemp("containment") / "data", HEADWATER_WATCHDOG_SECONDS="10")
    try:
        yield system
    finally:
        assert system.stop() == 0, system.errors


def add_pipeline(source: Source, **members: Any) -> int:
    """Add a User pipeline to the source."""
    base = {"connection": source.id, "target": "User", "name": "Function", "enabled": True}
    created: int = post(source.system, "/v1/pipelines", base | members)["id"]
    return created


def steps(source: Source, message_id: str) -> dict[int, dict[str, Any]]:
    """Return the steps of a message by pipeline; empty while it is pending."""
    traces = get(source.system, f"/v1/events/{message_id}/trace")["traces"]
    return {step["pipeline"]: step for trace in traces for step in trace["steps"]}


def outcome(source: Source, message_id: str, pipeline: int) -> str:
    found: str = steps(source, message_id).get(pipeline, {}).get("outcome", "")
    return found


def kill_courier(system: RunningSystem) -> None:
    """Kill the courier, and wait until there is another one."""
    courier = system.children()["courier"]
    os.kill(courier, signal.SIGKILL)
    wait_until(lambda: system.children().get("courier", courier) != courier, DONE_WITHIN_SECONDS)


def wait_for_outcome(source: Source, message_id: str, pipeline: int) -> None:
    """Wait until the pipeline has passed the message."""
    wait_until(lambda: outcome(source, message_id, pipeline) == "Passed", DONE_WITHIN_SECONDS)


@pytest.mark.timeout(400)
def test_a_killed_courier_continues_in_order(system: RunningSystem) -> None:
    source = make_source(system)
    pipeline = add_pipeline(source, **function("JavaScript", GOOD))
    sent = 0
    for _ in range(4):
        for number in range(40):
            sent += 1
            event = {"userId": f"u{number % 5}", "traits": {"n": sent}, "messageId": str(sent)}
            assert source.send("identify", event).status_code == 200
        kill_courier(system)
    wait_for_outcome(source, str(sent), pipeline)
    assert {outcome(source, str(number), pipeline) for number in range(1, sent + 1)} == {"Passed"}


@pytest.mark.timeout(400)
def test_events_are_stored_while_the_courier_is_suspended_and_it_is_restarted(system: RunningSystem) -> None:
    source = make_source(system)
    pipeline = add_pipeline(source, **function("JavaScript", GOOD))
    courier = system.children()["courier"]
    os.kill(courier, signal.SIGSTOP)
    source.send("identify", {"userId": "u", "traits": {"n": 1}, "messageId": "during"})
    assert len(source.wait_for(1)) == 1
    assert outcome(source, "during", pipeline) == "Pending"
    wait_until(lambda: system.children().get("courier", courier) != courier, DONE_WITHIN_SECONDS)
    source.send("identify", {"userId": "u", "traits": {"n": 2}, "messageId": "after"})
    for message in ("during", "after"):
        wait_for_outcome(source, message, pipeline)


@pytest.mark.timeout(400)
def test_endless_functions_do_not_delay_others(system: RunningSystem) -> None:
    a, b = make_source(add_tenant(system, "A")), make_source(add_tenant(system, "B"))
    endless = [add_pipeline(a, **function(language, ENDLESS[language])) for language in ("JavaScript", "Python") * 2]
    good = add_pipeline(b, **function("JavaScript", GOOD))
    before = system.children()
    for number in range(10):
        a.send("track", {"userId": f"u{number}", "event": "E", "messageId": f"a{number}"})
    for number in range(EVENTS):
        message = {"userId": f"u{number}", "traits": {"n": number}, "messageId": f"b{number}"}
        assert b.send("identify", message).status_code == 200
        wait_for_outcome(b, f"b{number}", good)
    assert len(b.events()) == EVENTS
    assert len(a.wait_for(10)) == 10, "A's events are stored, whatever its functions do"
    assert any(outcome(a, "a9", pipeline) == "Pending" for pipeline in endless), "late, and not failed"
    wait_until(lambda: "a pipeline keeps reaching a limit and is paused" in system.errors, DONE_WITHIN_SECONDS)
    assert system.children() == before, "no process was restarted"
