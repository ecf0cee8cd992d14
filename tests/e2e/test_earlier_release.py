"""An installation of an earlier release is taken over complete, although its first starts are killed. One of the next
release can be used, and one of a release after that is refused.

`installations/sqlite-rows.tar.xz` is the data directory of a release that kept operational tables and events, a row
each, in warehouse.db. Its processes were killed while 10 events waited in the lane of a function and 11 calls in the
log. Its ids are older than the deduplication window, so repeats are no part of this.
"""

import random
import sqlite3
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import sqlite
from tests.e2e.source import all_events, get, make_source
from tests.system import RunningSystem, free_port, serve, start, wait_until

INSTALLATION = Path(__file__).with_name("installations") / "sqlite-rows.tar.xz"
KILLS = 4
MAX_KILL_DELAY_SECONDS = 3.0
EVENTS = [f"m{number}" for number in range(40)]
DONE_WITHIN_SECONDS = 60.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return an unpacked data directory whose first starts were killed."""
    with tarfile.open(INSTALLATION) as archive:
        archive.extractall(tmp_path, filter="data")
    data_dir = tmp_path / "data"
    for _ in range(KILLS):
        process = serve(data_dir, free_port())
        time.sleep(random.uniform(0, MAX_KILL_DELAY_SECONDS))
        process.kill()
        process.wait()
    return data_dir


def test_an_installation_of_an_earlier_release_is_taken_over(data_dir: Path) -> None:
    system = start(data_dir)
    try:
        connections = {each["connector"]: each["id"] for each in get(system, "/v1/connections")["connections"]}
        shop, client = connections["http"], connections["client"]
        pipelines = {each["name"]: each["id"] for each in _pipelines(system, shop)}
        wait_until(lambda: len(all_events(system)) >= len(EVENTS) + 1, DONE_WITHIN_SECONDS)
        assert sorted(_message_ids(system, shop)) == sorted(EVENTS)
        assert len(_message_ids(system, client)) == 1
        (device,) = get(system, f"/v1/devices?connection={client}")["devices"]
        assert (device["deviceId"], device["anonymousId"], device["token"]) == ("d", "an", "t")
        rejected = get(system, "/v1/events/rejected")["events"]
        assert ['"messageId":"bad' in each["bodyText"] for each in rejected] == [True] * 4
        (count,) = get(system, "/v1/events/rejected/counts")["counts"]
        assert (count["protocol"], count["count"]) == ("track", "4")

        def is_lane_empty() -> bool:
            return bool(get(system, f"/v1/pipelines/{pipelines['Function']}/lane")["waiting"] == "0")

        wait_until(is_lane_empty, DONE_WITHIN_SECONDS)
        identities = get(system, f"/v1/connections/{shop}/identities?limit=1000")["identities"]
        seen = sorted((each["userId"], each["anonymousIds"], each["pipeline"]) for each in identities)
        users = [(f"u{number}", [f"a{number}"]) for number in range(10)]
        expected = [(*user, pipelines[name]) for user in users for name in ("User", "Function")]
        assert seen == sorted(expected)
    finally:
        assert system.stop() == 0, system.errors
    assert "Traceback" not in system.errors


def migrate_later(data_dir: Path, oldest_usable: str | None) -> None:
    """Make databases whose revisions are those of a later release. None is the present revision of each."""
    data_dir.mkdir()
    sqlite.fill(data_dir)
    for path in data_dir.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection, connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%\\_revision' ESCAPE '\\'")
            for (table,) in tables.fetchall():
                usable = "version_num" if oldest_usable is None else f"'{oldest_usable}'"
                connection.execute(f"UPDATE {table} SET oldest_usable = {usable}, version_num = '9999'")


def test_databases_of_the_next_release_are_used(tmp_path: Path) -> None:
    migrate_later(tmp_path / "data", None)
    system = start(tmp_path / "data")
    try:
        source = make_source(system)
        assert source.send("track", {"userId": "ada", "event": "Ordered"}).status_code == 200
        source.wait_for(1)
    finally:
        assert system.stop() == 0, system.errors
    assert "a later version has migrated a database" in system.errors
    assert "Traceback" not in system.errors


def test_databases_of_a_release_after_the_next_are_refused(tmp_path: Path) -> None:
    migrate_later(tmp_path / "data", "9998")
    with pytest.raises(AssertionError, match="start the later version, or restore a backup"):
        start(tmp_path / "data")


def _pipelines(system: RunningSystem, connection: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(system, f"/v1/connections/{connection}")["pipelines"]
    return found


def _message_ids(system: RunningSystem, connection: int) -> list[str]:
    return [event["messageId"] for event in all_events(system) if event["connectionId"] == connection]
