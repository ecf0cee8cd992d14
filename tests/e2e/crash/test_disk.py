"""A disk that fills up under the running system, and has free space again: no process needs a restart."""

from pathlib import Path

import httpx
import pytest

from tests.disk import small_disk
from tests.e2e.source import Source, get, make_source
from tests.system import HTTP, RunningSystem, start, wait_until

FILLING = "ballast"
RECOVERY_SECONDS = 60


def _fill(disk: Path) -> None:
    """Fill the disk."""
    with (disk / FILLING).open("ab", buffering=0) as ballast:
        try:
            while ballast.write(bytes(1 << 16)) == 1 << 16:
                pass
        except OSError:
            return


def _make_room(disk: Path) -> None:
    (disk / FILLING).unlink()


def _send(source: Source, number: int) -> httpx.Response:
    events = [
        {"type": "track", "messageId": f"{number}-{index}", "userId": f"u{number}", "event": "E", "text": "x" * 500}
        for index in range(10)
    ]
    return source.send("batch", {"batch": events}, **{"X-Strict-Mode": "1"})


class _Client:
    """Sends calls one after another, each with its number."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.number = 0
        self.acknowledged: list[int] = []

    def until_failure(self) -> httpx.Response:
        """Send until a call fails; return its response."""
        for _ in range(5_000):
            response = _send(self.source, self.number)
            if response.status_code != 200:
                return response
            self.acknowledged.append(self.number)
            self.number += 1
        raise AssertionError("the disk is not full")

    def is_accepted(self) -> bool:
        """Return whether the failed call is accepted when it is sent again."""
        if _send(self.source, self.number).status_code != 200:
            return False
        self.acknowledged.append(self.number)
        self.number += 1
        return True

    def message_ids(self) -> list[str]:
        """Return the message ids of all acknowledged calls."""
        return [f"{number}-{index}" for number in self.acknowledged for index in range(10)]


def _stored(source: Source) -> list[str]:
    return [event["messageId"] for event in source.events()]


def _processes(system: RunningSystem) -> dict[str, int]:
    return {**system.children(), "supervisor": system.process.pid}


@pytest.mark.timeout(240)
def test_the_intake_fails_loses_nothing_and_continues(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "96m") as disk:
        system = start(disk / "data")
        try:
            source = make_source(system)
            client = _Client(source)
            for _ in range(20):
                assert client.is_accepted()
            processes = _processes(system)
            for _ in range(2):
                _fill(disk)
                failed = client.until_failure()
                assert failed.status_code == 503, failed.text
                assert int(failed.headers["retry-after"]) >= 1
                assert failed.json()["code"] == "ServiceUnavailable"
                _management_is_unavailable_or_works(system)
                _make_room(disk)
                wait_until(client.is_accepted, RECOVERY_SECONDS)
            wait_until(lambda: len(_stored(source)) >= len(client.message_ids()), RECOVERY_SECONDS)
            assert _stored(source) == client.message_ids()
            make_source(system)
            assert _processes(system) == processes, "nobody has been started again"
        finally:
            assert system.stop() == 0, system.errors
        assert "Traceback" not in system.errors, system.errors


def _management_is_unavailable_or_works(system: RunningSystem) -> None:
    """Assert that reads succeed, and that writes succeed or return 503."""
    assert get(system, "/v1/connections")["connections"]
    body = {"name": "n" * 60, "role": "Source", "connector": "http"}
    for _ in range(50):
        response = HTTP.post(f"{system.base_url}/v1/connections", json=body, headers=system.authorization, timeout=30)
        assert response.status_code in (200, 503), response.text


@pytest.mark.timeout(240)
def test_a_worker_without_space_waits_and_then_processes_everything_once(tmp_path: Path) -> None:
    """Only the state store's messages are on the full disk: the log accepts events, and the worker cannot process
    them."""
    with small_disk(tmp_path / "disk", "96m") as disk:
        data = tmp_path / "data"
        data.mkdir()
        (disk / "ledger").mkdir()
        (data / "ledger").symlink_to(disk / "ledger")
        system = start(data)
        try:
            source = make_source(system)
            client = _Client(source)
            processes = _processes(system)
            _fill(disk)
            for _ in range(100):
                assert client.is_accepted()
            wait_until(lambda: "the consumer waits" in system.errors, RECOVERY_SECONDS)
            _make_room(disk)
            assert client.is_accepted()
            wait_until(lambda: len(_stored(source)) >= len(client.message_ids()), RECOVERY_SECONDS)
            assert _stored(source) == client.message_ids()
            assert _send(source, 0).status_code == 200
            assert client.is_accepted()
            wait_until(lambda: len(_stored(source)) >= len(client.message_ids()), RECOVERY_SECONDS)
            assert _stored(source) == client.message_ids(), "the deduplication store has lost messages"
            traces = get(system, "/v1/events/0-0/trace")["traces"]
            assert [trace["outcome"] for trace in traces] == ["Processed", "Duplicate"]
            assert _processes(system) == processes, "nobody has been started again"
        finally:
            assert system.stop() == 0, system.errors
        assert "Traceback" not in system.errors, system.errors
