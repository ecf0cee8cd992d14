"""Several machines on one PostgreSQL and one NATS: each accepts calls, one at a time fills the warehouse, any may
die."""

import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.source import Source, all_events, make_source
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start, wait_until

TAKEN_OVER_WITHIN_SECONDS = 40.0


@pytest.fixture
def machines(postgresql_server: PostgresqlServer, tmp_path: Path) -> Iterator[list[RunningSystem]]:
    """Start two machines; the first has the older worker, which consumes."""
    server = NatsServer()
    database = postgresql_server.create()
    running: list[RunningSystem] = []
    try:
        for name in ("first", "second"):
            running.append(
                start(
                    tmp_path / name,
                    HEADWATER_NATS_URL=server.url,
                    HEADWATER_DATABASE_URL=database,
                    HEADWATER_SECRET_KEY="shared by all machines of these tests",
                    HEADWATER_API_KEY="api_of_all_machines_of_these_tests_0123456",
                )
            )
        yield running
    finally:
        for system in running:
            if system.process.poll() is None:
                system.stop()
        server.close()
        postgresql_server.drop(database)


def sent(source: Source, *messages: str) -> None:
    for message in messages:
        event = {"messageId": message, "userId": "ada", "event": "Ordered"}
        assert source.send("track", event, **{"X-Strict-Mode": "1"}).status_code == 200


def stored(source: Source) -> Counter[str]:
    return Counter(event["messageId"] for event in all_events(source.system))


def test_events_of_every_machine_are_stored_once_and_one_may_die(machines: list[RunningSystem]) -> None:
    first, second = machines
    here = make_source(first)
    there = replace(here, system=second)
    sent(here, "a", "shared")
    sent(there, "b", "shared")
    wait_until(lambda: {"a", "b", "shared"} <= set(stored(there)), 20)
    sent(here, "c")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(60)
    sent(there, "d", "a")
    wait_until(lambda: {"c", "d"} <= set(stored(there)), TAKEN_OVER_WITHIN_SECONDS)
    assert stored(there) == {"a": 1, "b": 1, "shared": 1, "c": 1, "d": 1}
