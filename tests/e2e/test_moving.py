"""A backup of a system under load, a restore of it, and the move of that installation to PostgreSQL.

The parts are tested in tests/cli/test_backup.py and tests/cli/test_migrating.py.
"""

import dataclasses
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.receiver import Received, receiver
from tests.e2e.source import Source, all_events, get, make_source
from tests.e2e.test_delivery import add_destination
from tests.e2e.test_profiles import Shop, open_shop
from tests.e2e.test_runs import make_import, start_run, wait_for
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, start, wait_until

SETTINGS: Final = {"HEADWATER_ALLOW_PRIVATE_DESTINATIONS": "1"}
WITHIN_SECONDS: Final = 60.0
MAX_BATCH_EVENTS: Final = 1_000
"""A call with too many events would be rejected as a whole."""
PATHS: Final = (
    "/v1/workspaces/current",
    "/v1/connections",
    "/v1/keys",
    "/v1/events/counts?by=event&by=type&by=connection",
    "/v1/events/counts?by=event&interval=hour",
    "/v1/events/rejected",
    "/v1/events/rejected/counts",
    "/v1/profiles?limit=1000",
    "/v1/profiles/schema",
    "/v1/profiles/separations",
    "/v1/identity-resolution/settings",
    "/v1/identity-resolution/latest",
    "/v1/pipelines/runs",
    "/v1/operations",
    "/v1/dead-letters?limit=1000",
    "/v1/dead-letters/counts",
    "/v1/events/a-0-0/trace",
)
"""Lists whose content is that of the stores."""


def headwater(*arguments: str, **variables: str) -> str:
    """Run a command as an operator does, and return its output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    command = [sys.executable, "-m", "headwater.cli", *arguments]
    done = subprocess.run(command, env={**environ, **variables}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(data_dir: Path, **variables: str) -> Iterator[RunningSystem]:
    """Run a system until the end of the block, and stop it in order."""
    system = start(data_dir, None, headwater=None, **SETTINGS, **variables)
    try:
        yield system
    finally:
        assert system.stop() == 0, system.errors


class Sender:
    """Sends batches of events, at most thirty in a second. Message ids are `NAME-BATCH-EVENT`."""

    def __init__(self, source: Source, name: str) -> None:
        self.accepted: list[str] = []
        """The message ids of acknowledged events."""
        self._source = source
        self._name = name
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            wait_until(lambda: len(self.accepted) > 20, WITHIN_SECONDS)
            yield
        finally:
            self._stop.set()
            thread.join()

    def send(self, ids: list[str]) -> None:
        for first in range(0, len(ids), MAX_BATCH_EVENTS):
            some = ids[first : first + MAX_BATCH_EVENTS]
            batch = [{"type": "track", "userId": "u0", "event": "Seen", "messageId": id_} for id_ in some]
            assert self._source.send("batch", {"batch": batch}).status_code == 200

    def _run(self) -> None:
        batch = 0
        while not self._stop.wait(0.03):
            ids = [f"{self._name}-{batch}-{number}" for number in range(10)]
            self.send(ids)
            self.accepted += ids
            batch += 1


def stored_ids(system: RunningSystem) -> Counter[str]:
    return Counter(event["messageId"] for event in all_events(system) if event["messageId"].startswith("a-"))


def content(shop: Shop, connections: list[int]) -> dict[str, Any]:
    """Return what the API returns of everything that is stored."""
    found: dict[str, Any] = {path: get(shop.system, path) for path in PATHS}
    for connection in connections:
        path = f"/v1/connections/{connection}/identities?limit=1000"
        found[path] = get(shop.system, path)
    for profile in found["/v1/profiles?limit=1000"]["profiles"]:
        for part in ("attributes", "identities", "explanation", "history"):
            path = f"/v1/profiles/{profile['kpid']}/{part}"
            found[path] = get(shop.system, path)
    for run in found["/v1/pipelines/runs"]["runs"]:
        found[f"run {run['id']}"] = get(shop.system, f"/v1/pipelines/runs/{run['id']}")
    return {**found, "events": all_events(shop.system)}


def has_no_open_delivery(system: RunningSystem, destination: int) -> bool:
    delivery = get(system, f"/v1/connections/{destination}/delivery")
    return int(delivery["openItems"]) == 0


@pytest.mark.timeout(400)
def test_a_backup_under_load_is_restored_and_moved_to_postgresql(
    tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    def refuse(_: Received) -> tuple[int, dict[str, str], bytes]:
        return 400, {}, b"{}"

    backup, restored = tmp_path / "backup", tmp_path / "restored"
    with receiver(refuse) as hook:
        with running(tmp_path / "data") as system:
            shop = open_shop(system, "Shop")
            for number in (0, 1):
                users = [{"userId": f"u{each}", "traits": {"email": f"{each}@x.io"}} for each in range(20)]
                shop.identify_all(number, users)
            wait_until(lambda: len(shop.profiles()) == 20, WITHIN_SECONDS)
            source = make_source(shop.system)
            destination = add_destination(source, hook.url)
            connection, pipeline = make_import(shop.system)
            wait_for(shop.system, start_run(shop.system, pipeline), "Succeeded")
            sender = Sender(source, "a")
            with sender.running():
                before = list(sender.accepted)
                headwater("backup", str(backup), HEADWATER_DATA_DIR=str(system.data_dir))
                during = len(sender.accepted) - len(before)
            assert during > 0
        headwater("restore", str(backup), HEADWATER_DATA_DIR=str(restored))

        # Every event that was acknowledged before is there once, and a client that sends all again repeats none.
        with running(restored) as system:
            shop, sender = move(system, shop, sender)
            wait_until(lambda: set(before) <= set(stored_ids(shop.system)), WITHIN_SECONDS)
            sender.send(sender.accepted)
            wait_until(lambda: set(sender.accepted) <= set(stored_ids(shop.system)), WITHIN_SECONDS)
            assert set(stored_ids(shop.system).values()) == {1}
            wait_until(lambda: has_no_open_delivery(shop.system, destination), WITHIN_SECONDS)
            expected = content(shop, [*shop.sources, source.id, connection])
        url = postgresql_server.create(empty=True)
        printed = headwater("migrate-data", HEADWATER_DATA_DIR=str(restored), HEADWATER_DATABASE_URL=url)
        assert "Everything is in PostgreSQL" in printed

        with running(restored, HEADWATER_DATABASE_URL=url) as system:
            shop, sender = move(system, shop, sender)
            found = content(shop, [*shop.sources, source.id, connection])
            assert {name for name in expected if found.get(name) != expected[name]} == set()
            assert len(found["events"]) >= len(sender.accepted)
            assert found["/v1/dead-letters?limit=1000"]["deadLetters"]
            # Messages are still known, ids continue, and everything works on.
            sender.send([*sender.accepted[:10], "a-new-0"])
            wait_until(lambda: "a-new-0" in stored_ids(shop.system), WITHIN_SECONDS)
            assert set(stored_ids(shop.system).values()) == {1}
            profiles = len(shop.profiles())
            shop.identify(0, "u-new", email="3@x.io")
            assert len(shop.profiles()) == profiles
            wait_for(shop.system, start_run(shop.system, pipeline), "Succeeded")


def move(system: RunningSystem, shop: Shop, sender: Sender) -> tuple[Shop, Sender]:
    """Return a shop and a sender that use another system with the same data."""
    tenant = dataclasses.replace(system, api_key=shop.system.api_key)
    moved = Sender(dataclasses.replace(sender._source, system=tenant), "a")
    moved.accepted = sender.accepted
    return dataclasses.replace(shop, system=tenant), moved
