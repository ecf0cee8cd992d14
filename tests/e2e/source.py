"""A source connection, created over REST as a user creates it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.system import HTTP, RunningSystem, wait_until

STORED_WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Source:
    """A source whose events and users are stored."""

    system: RunningSystem
    id: int
    event_pipeline: int
    user_pipeline: int
    write_key: str

    def send(self, call: str, body: Any, **headers: str) -> httpx.Response:
        """Send a call of the track API with the write key as Basic user."""
        return HTTP.post(
            f"{self.system.base_url}/v1/{call}", json=body, auth=(self.write_key, ""), headers=headers, timeout=30
        )

    def events(self) -> list[dict[str, Any]]:
        """Return all stored events of this source, in the order of their acceptance."""
        return list(_pages(self.system, f"&connection={self.id}"))

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Wait until this source has `count` stored events or more; return them."""
        wait_until(lambda: len(self.events()) >= count, STORED_WITHIN_SECONDS)
        return self.events()

    def identities(self) -> list[dict[str, Any]]:
        """Return the identities of this source, the most recently updated first."""
        response = get(self.system, f"/v1/connections/{self.id}/identities?limit=1000")
        found: list[dict[str, Any]] = response["identities"]
        assert response["total"] == len(found)
        return found


def make_source(system: RunningSystem, *, connector: str = "http", **members: Any) -> Source:
    """Create a connection with an Event and a User pipeline."""
    body = {"name": "Shop", "role": "Source", "connector": connector, **members}
    connection = post(system, "/v1/connections", body)["id"]
    event_pipeline, user_pipeline = (
        post(system, "/v1/pipelines", {"connection": connection, "target": target, "name": target, "enabled": True})[
            "id"
        ]
        for target in ("Event", "User")
    )
    keys = get(system, f"/v1/connections/{connection}/event-write-keys")["keys"]
    return Source(system, connection, event_pipeline, user_pipeline, keys[0])


def all_events(system: RunningSystem) -> list[dict[str, Any]]:
    """Return every stored event of the workspace, in the order of acceptance."""
    return list(_pages(system))


def _pages(system: RunningSystem, condition: str = "") -> Iterator[dict[str, Any]]:
    first = 0
    while True:
        page = get(system, f"/v1/events?order=receivedAt&ascending=true&first={first}&limit=1000{condition}")["events"]
        yield from page
        if len(page) < 1000:
            return
        first += len(page)


def get(system: RunningSystem, path: str) -> Any:
    """GET as the workspace's administrator; return the JSON of a 200."""
    response = HTTP.get(f"{system.base_url}{path}", headers=system.authorization, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


def post(system: RunningSystem, path: str, body: Any) -> Any:
    """POST as the workspace's administrator; return the JSON of a 200."""
    response = HTTP.post(f"{system.base_url}{path}", json=body, headers=system.authorization, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()
