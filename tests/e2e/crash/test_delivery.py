"""Deliveries on PostgreSQL and NATS: every process is killed, and two machines share one destination.

HEADWATER_CRASH_ROUNDS sets the number of kills.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.receiver import Receiver, receiver
from tests.e2e.source import get, make_source
from tests.e2e.test_delivery import DELIVERED_WITHIN_SECONDS, add_destination, check_order, numbers, send
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start, wait_until

ROUNDS: Final = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
USERS: Final = [f"user-{number % 50}" for number in range(100_000)]
ROUND_EVENTS: Final = 500
BATCH_EVENTS: Final = 20
MAX_REPEATED: Final = 16 * BATCH_EVENTS + 500 + BATCH_EVENTS
"""Events that the crash of a courier repeats at most: those in flight, and those whose results are not committed."""
VARIABLES: Final = {
    "HEADWATER_API_KEY": "api_for-the-tests-of-deliveries-0123456789",
    "HEADWATER_SECRET_KEY": "a secret that all machines share",
    "HEADWATER_ALLOW_PRIVATE_DESTINATIONS": "1",
    "HEADWATER_WATCHDOG_SECONDS": "0",  # a courier is suspended for longer
}

pytestmark = pytest.mark.timeout(200 + 30 * ROUNDS)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def machines(tmp_path: Path, postgresql_server: PostgresqlServer) -> Iterator[Callable[[str], RunningSystem]]:
    """Starts machines of one installation by name."""
    nats = NatsServer()
    url = postgresql_server.create()
    running: list[RunningSystem] = []

    def run(name: str) -> RunningSystem:
        running.append(start(tmp_path / name, HEADWATER_DATABASE_URL=url, HEADWATER_NATS_URL=nats.url, **VARIABLES))
        return running[-1]

    try:
        yield run
    finally:
        living = [system for system in running if system.process.poll() is None]
        errors = [system.errors for system in living if system.stop() != 0]
        errors += [system.errors for system in running if "Traceback" in system.errors]
        nats.close()
        postgresql_server.drop(url)
        assert not errors, "\n".join(errors)


def kill(system: RunningSystem, child: str) -> None:
    """Kill a process as soon as it runs."""
    wait_until(lambda: child in system.children(), 30)
    os.kill(system.children()[child], signal.SIGKILL)


def wait_for_more(hook: Receiver, requests: int) -> None:
    wanted = len(hook.requests) + requests
    wait_until(lambda: len(hook.requests) >= wanted, DELIVERED_WITHIN_SECONDS)


def check_all(hook: Receiver, events: int) -> None:
    """Check that all events arrive, each user's in their order."""
    wait_until(lambda: len(set(numbers(hook))) == events, DELIVERED_WITHIN_SECONDS)
    check_order(numbers(hook), USERS)


def test_killed_couriers_and_workers_lose_nothing(machines: Callable[[str], RunningSystem], hook: Receiver) -> None:
    system = machines("machine")
    source = make_source(system)
    destination = add_destination(source, hook.url, batchSize=BATCH_EVENTS)
    sent = 0
    for number in range(ROUNDS + 1):
        send(source, USERS[sent : sent + ROUND_EVENTS], sent)
        sent += ROUND_EVENTS
        wait_for_more(hook, 5)
        kill(system, ("courier", "worker")[number % 2])
    check_all(hook, sent)
    assert len(numbers(hook)) - sent <= (ROUNDS // 2 + 1) * MAX_REPEATED
    wait_until(lambda: get(system, f"/v1/connections/{destination}/delivery")["openItems"] == "0", 20)
    assert get(system, "/v1/dead-letters")["deadLetters"] == []


def test_one_of_two_couriers_is_active_and_the_other_takes_over(
    machines: Callable[[str], RunningSystem], hook: Receiver
) -> None:
    first, second = machines("first"), machines("second")
    source = make_source(first)
    add_destination(source, hook.url, batchSize=BATCH_EVENTS)
    send(source, USERS[:ROUND_EVENTS])
    check_all(hook, ROUND_EVENTS)
    assert len(numbers(hook)) == ROUND_EVENTS, "only one courier sends"
    send(source, USERS[ROUND_EVENTS : 2 * ROUND_EVENTS], ROUND_EVENTS)
    wait_for_more(hook, 5)
    for system in (first, second):  # the active one is among them
        kill(system, "courier")
    check_all(hook, 2 * ROUND_EVENTS)
    first.process.kill()  # the whole machine
    first.process.wait()
    send(replace(source, system=second), USERS[2 * ROUND_EVENTS : 3 * ROUND_EVENTS], 2 * ROUND_EVENTS)
    check_all(hook, 3 * ROUND_EVENTS)
    assert len(numbers(hook)) - 3 * ROUND_EVENTS <= 2 * MAX_REPEATED
