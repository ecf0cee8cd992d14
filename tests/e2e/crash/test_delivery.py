"""Deliveries while processes and servers crash: nothing is lost, and the order of each user stays.

HEADWATER_CRASH_ROUNDS sets the number of kills, HEADWATER_CRASH_SEED the failures of the destination.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.delivery.conftest import SECRET
from tests.e2e.receiver import Received, Receiver, receiver
from tests.e2e.source import Source, get, make_source
from tests.e2e.test_delivery import DELIVERED_WITHIN_SECONDS, add_destination, check_order, connect, numbers, send
from tests.e2e.test_repairs import change_pipeline, find_pipeline, mapping
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start, wait_until

ROUNDS: Final = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
SEED: Final = int(os.environ.get("HEADWATER_CRASH_SEED", "20260101"))
USERS: Final = [f"user-{number % 50}" for number in range(100_000)]
ROUND_EVENTS: Final = 250
OUTAGE_SECONDS: Final = 1.0
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


class Installation:
    """The machines of one installation, and their servers."""

    def __init__(self, folder: Path, database: PostgresqlServer | None) -> None:
        """Without a database it has one machine."""
        self._folder = folder
        self._database = database
        self._nats = None if database is None else NatsServer()
        self._variables = dict(VARIABLES)
        if database is not None and self._nats is not None:
            self._variables |= {"HEADWATER_DATABASE_URL": database.create(), "HEADWATER_NATS_URL": self._nats.url}
        self._running: list[RunningSystem] = []

    def start(self, name: str = "machine") -> RunningSystem:
        self._running.append(start(self._folder / name, None, **self._variables))
        return self._running[-1]

    def victims(self, system: RunningSystem) -> list[Callable[[], None]]:
        """Return functions, each of which kills a part and starts it again."""
        children: list[Callable[[], None]] = [
            partial(kill, system, child) for child in ("courier", "worker", "backend")
        ]
        return children if self._database is None else [*children, self._crash_database, self._crash_nats]

    def end_locks(self) -> None:
        """End the connections whose locks make a courier or worker the only one."""
        assert self._database is not None
        self._database.administer("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")

    def _crash_database(self) -> None:
        assert self._database is not None
        self._database.crash()
        time.sleep(OUTAGE_SECONDS)
        self._database.start()

    def _crash_nats(self) -> None:
        assert self._nats is not None
        self._nats.stop()
        self._nats.start()

    def close(self) -> None:
        living = [system for system in self._running if system.process.poll() is None]
        errors = [system.errors for system in living if system.stop() != 0]
        errors += [system.errors for system in self._running if "Traceback" in system.errors]
        if self._database is not None and self._nats is not None:
            self._nats.close()
            self._database.drop(self._variables["HEADWATER_DATABASE_URL"])
        assert not errors, "\n".join(errors)


@pytest.fixture(params=["embedded", "postgresql"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    is_embedded = request.param == "embedded"
    installation = Installation(tmp_path, None if is_embedded else request.getfixturevalue("postgresql_server"))
    yield installation
    installation.close()


def kill(system: RunningSystem, child: str) -> None:
    """Kill a process as soon as it runs."""
    wait_until(lambda: child in system.children(), 30)
    os.kill(system.children()[child], signal.SIGKILL)


def wait_for_more(hook: Receiver, requests: int) -> None:
    wanted = len(hook.requests) + requests
    wait_until(lambda: len(hook.requests) >= wanted, DELIVERED_WITHIN_SECONDS)


def send_until_accepted(source: Source, first: int) -> None:
    """Send the events of a round as an SDK does, again after an error. Their message ids stay the same."""

    def is_accepted() -> bool:
        try:
            send(source, USERS[first : first + ROUND_EVENTS], first)
        except (AssertionError, httpx.TransportError):
            return False
        return True

    wait_until(is_accepted, DELIVERED_WITHIN_SECONDS)


def check_all(hook: Receiver, events: int) -> None:
    """Check that all events arrive, each user's in their order."""
    wait_until(lambda: len(set(numbers(hook))) == events, DELIVERED_WITHIN_SECONDS)
    check_order(numbers(hook), USERS)


def test_crashes_lose_nothing(installation: Installation, hook: Receiver) -> None:
    system = installation.start()
    source = make_source(system)
    destination = add_destination(source, hook.url, batchSize=BATCH_EVENTS)
    crashes = list(islice(cycle(installation.victims(system)), max(ROUNDS, 5)))
    sent = 0
    for crash in crashes:
        send_until_accepted(source, sent)
        sent += ROUND_EVENTS
        wait_for_more(hook, 5)
        crash()
    check_all(hook, sent)
    assert len(numbers(hook)) - sent <= len(crashes) * MAX_REPEATED
    wait_until(lambda: get(system, f"/v1/connections/{destination}/delivery")["openItems"] == "0", 20)
    assert get(system, "/v1/dead-letters")["deadLetters"] == []


@pytest.mark.parametrize("installation", ["postgresql"], indirect=True)
def test_one_of_two_couriers_is_active_and_the_other_takes_over(installation: Installation, hook: Receiver) -> None:
    first, second = installation.start("first"), installation.start("second")
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
    send(source, USERS[2 * ROUND_EVENTS : 3 * ROUND_EVENTS], 2 * ROUND_EVENTS)
    wait_for_more(hook, 5)
    installation.end_locks()  # the active courier goes on for a moment, and another begins
    check_all(hook, 3 * ROUND_EVENTS)
    first.process.kill()  # the whole machine
    first.process.wait()
    send(replace(source, system=second), USERS[3 * ROUND_EVENTS : 4 * ROUND_EVENTS], 3 * ROUND_EVENTS)
    check_all(hook, 4 * ROUND_EVENTS)
    assert len(numbers(hook)) - 4 * ROUND_EVENTS <= 3 * MAX_REPEATED


@pytest.mark.parametrize("installation", ["embedded"], indirect=True)
def test_a_failing_destination_gets_all_while_its_pipeline_is_edited(installation: Installation) -> None:
    """Requests fail, batches are halved, and the courier is killed. The receiver does not recognise repetitions."""
    system = installation.start()
    source = make_source(system)
    chance = random.Random(SEED)
    accepted: list[int] = []
    answering = threading.Lock()

    def answer(received: Received) -> tuple[int, dict[str, str], bytes]:
        with answering:
            share, given = chance.random(), [each["data"]["n"] for each in received.json()["data"]]
            if share < 0.05:
                return 503, {}, b"busy"
            if share < 0.06:
                return 429, {"retry-after": "1"}, b""
            if share < 0.12 and len(given) > 1:
                return 400, {}, b"one of them is wrong"
            accepted.extend(given)
            return 200, {}, b""

    with receiver(answer) as hook:
        settings = {"url": hook.url, "secret": SECRET, "batchSize": BATCH_EVENTS}
        destination = connect(source, "http-webhook", settings, "send_data", **mapping("first"))
        pipeline = find_pipeline(system, destination)
        for number in range(ROUNDS):
            send(source, USERS[number * ROUND_EVENTS : (number + 1) * ROUND_EVENTS], number * ROUND_EVENTS)
            wait_for_more(hook, 5)
            change_pipeline(system, pipeline, **mapping(f"edit {number}"))
            if number % 2:
                kill(system, "courier")
        wait_until(lambda: len(set(accepted)) == ROUNDS * ROUND_EVENTS, DELIVERED_WITHIN_SECONDS + 30 * ROUNDS)
        check_order(accepted, USERS)
    assert len(accepted) - ROUNDS * ROUND_EVENTS <= ROUNDS // 2 * MAX_REPEATED
    assert get(system, "/v1/dead-letters/counts")["counts"] == []
