"""A person is erased from a running system: no file has a byte of its ids, except the log of accepted calls."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from headwater.delivery.backoff import MAX_DELAY_SECONDS
from tests.e2e.receiver import Received, receiver
from tests.e2e.source import Source, get, make_source, post
from tests.e2e.test_delivery import DELIVERED_WITHIN_SECONDS, add_destination
from tests.system import HTTP, RunningSystem, wait_until

JANE = "jane-doe-4711"
EMAIL = "jane.doe@example.com"
ANONYMOUS = "anonymous-of-jane"
SECRETS = (JANE, EMAIL, ANONYMOUS)
NUMBER = 10
RETRIED_WITHIN_SECONDS = MAX_DELAY_SECONDS + 10
"""Every failed request makes the pause of a destination longer."""


@pytest.fixture(scope="module")
def system(delivering_system: RunningSystem) -> RunningSystem:
    return delivering_system


def reject(request: Received) -> tuple[int, dict[str, str], bytes]:
    return 422, {}, f"unknown: {request.json()['data'].get('userId')}".encode()


class Failing:
    """A receiver that fails until it is repaired."""

    is_repaired = False

    def __call__(self, _: Received) -> tuple[int, dict[str, str], bytes]:
        return (200 if self.is_repaired else 503), {}, b"later"


def fill(source: Source, client: Source) -> None:
    """Send events of the person and of others, also rejected ones, devices and traits."""
    for number in range(NUMBER):
        other = f"other-{number}"
        source.send("identify", {"userId": JANE, "anonymousId": ANONYMOUS, "traits": {"email": EMAIL}})
        source.send("track", {"anonymousId": ANONYMOUS, "event": "Viewed"})
        source.send("track", {"userId": JANE, "event": "Viewed", "properties": {"note": EMAIL}})
        source.send("track", {"userId": other, "event": "Viewed"})
        source.send("batch", {"batch": [{"type": "no such type", "userId": JANE}]})
    body = {"external_id": JANE, "email": EMAIL, "data": {"plan": "pro"}}
    headers = {"Authorization": f"Bearer {client.write_key}"}
    device = {
        "external_id": JANE, "device_id": "d", "token": "t", "os": "iOS", "os_version": "17.2", "model": "iPhone15,2",
        "app_build": "465", "app_version": "1.2.4",
    }  # fmt: skip
    for path, call in (("identify", body), ("devices", device)):
        response = HTTP.post(f"{client.system.base_url}/api/client/{path}", json=call, headers=headers, timeout=15)
        assert response.status_code == 204, response.text


def files_with(folder: Path, secret: str) -> list[str]:
    """Return the files that contain the text, except those of the event log."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("log.db") and secret.encode() in path.read_bytes()
    ]


def find_kpid(system: RunningSystem, user: str) -> str:
    """Return the kpid of the oldest profile of a user."""
    with closing(sqlite3.connect(system.data_dir / "state.db")) as connection:
        query = "SELECT kpid FROM profiles JOIN members ON profile = profiles.id WHERE identity_id = ? ORDER BY id"
        (kpid,) = connection.execute(query, (user,)).fetchone()
    return str(UUID(bytes=kpid))


def export(system: RunningSystem, kpid: str) -> list[dict[str, Any]]:
    """Export a profile; return its records."""
    response = HTTP.get(f"{system.base_url}/v1/profiles/{kpid}/export", headers=system.authorization, timeout=60)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def erase(system: RunningSystem, **members: Any) -> dict[str, Any]:
    """Erase a person; return the receipt."""
    id_ = post(system, "/v1/erasures", members)["id"]
    wait_until(lambda: get(system, f"/v1/erasures/{id_}")["status"] not in ("Pending", "Running"), 120)
    found: dict[str, Any] = get(system, f"/v1/erasures/{id_}")
    assert found["status"] == "Completed", (found, system.errors)
    return found


def removed(receipt: dict[str, Any]) -> dict[str, int]:
    return {each["store"]: int(each["removed"]) for each in receipt.get("stores", [])}


@pytest.mark.timeout(2 * RETRIED_WITHIN_SECONDS)
def test_no_file_of_a_running_system_has_a_byte_of_an_erased_person(system: RunningSystem) -> None:
    source, client = make_source(system), make_source(system, connector="client")
    behaviour = Failing()
    with receiver(reject) as rejecting, receiver(behaviour) as failing:
        dead = add_destination(source, rejecting.url)
        add_destination(source, failing.url)
        fill(source, client)
        source.wait_for(4 * NUMBER)
        client.wait_for(2)

        def dead_letters() -> int:
            counts = get(system, f"/v1/dead-letters/counts?destination={dead}")["counts"]
            return sum(int(each["count"]) for each in counts)

        wait_until(lambda: dead_letters() == 4 * NUMBER, DELIVERED_WITHIN_SECONDS)
        wait_until(lambda: len(failing.requests) > 0, DELIVERED_WITHIN_SECONDS)
        assert all(files_with(system.data_dir, secret) for secret in (JANE, EMAIL))
        lines = export(system, find_kpid(system, JANE))
        kinds = Counter(line["kind"] for line in lines)
        assert kinds["event"] >= 3 * NUMBER and kinds["rejected event"] == NUMBER
        assert kinds.keys() == {"profile", "identity", "event", "rejected event"}
        assert all("other-" not in json.dumps(line) for line in lines)
        counted = removed(erase(system, userId=JANE, validateOnly=True))
        receipt = erase(system, userId=JANE, suppress=True)
        found = removed(receipt)
        assert {store: found[store] for store in counted} == counted
        assert found["events"] == 3 * NUMBER + 2
        assert found["rejected events"] == NUMBER
        assert found["dead letters"] == 3 * NUMBER
        assert found["deliveries"] == 3 * NUMBER
        assert found.keys() >= {"identities", "profiles", "devices", "traits", "messages"}
        assert receipt["eventLogTime"] > receipt["endTime"]
        assert {secret: files_with(system.data_dir, secret) for secret in SECRETS} == {each: [] for each in SECRETS}
        assert dead_letters() == NUMBER
        tried = len(failing.requests)
        behaviour.is_repaired = True

        def delivered() -> list[str | None]:
            return [request.json()["data"].get("userId") for request in failing.requests[tried:]]

        wait_until(lambda: len(delivered()) >= NUMBER, RETRIED_WITHIN_SECONDS)
        assert JANE not in delivered()
        assert {event.get("userId") for event in source.events()} == {f"other-{number}" for number in range(NUMBER)}
        assert json.dumps(get(system, f"/v1/operations/{receipt['id']}")).find(JANE) < 0
        source.send("track", {"userId": JANE, "event": "Viewed"})
        source.send("track", {"userId": "last", "event": "Viewed"})
        events = source.wait_for(NUMBER + 1)
        assert JANE not in {event.get("userId") for event in events}
        assert {secret: files_with(system.data_dir, secret) for secret in SECRETS} == {each: [] for each in SECRETS}
    assert removed(erase(system, userId=JANE)) == {}
