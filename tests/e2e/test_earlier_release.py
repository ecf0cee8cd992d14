"""An installation of an earlier release is taken over complete, although its first starts are killed.

`installations/sqlite-rows.tar.xz` is the data directory of a release that kept operational tables and events, a row
each, in warehouse.db. Its processes were killed while 10 events waited in the lane of a function and 11 calls in the
log. Its ids are older than the deduplication window, so repeats are no part of this.
"""

import random
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.source import all_events, get
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


def _pipelines(system: RunningSystem, connection: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(system, f"/v1/connections/{connection}")["pipelines"]
    return found


def _message_ids(system: RunningSystem, connection: int) -> list[str]:
    return [event["messageId"] for event in all_events(system) if event["connectionId"] == connection]
