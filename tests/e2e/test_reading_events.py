"""Reading events through the gateway: conditions, pages and counts in the query of a GET."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.source import Source, get, make_source
from tests.system import HTTP, RunningSystem


@pytest.fixture(scope="module")
def shop(system: RunningSystem) -> Source:
    """Create a source with six events."""
    source = make_source(system)
    for number in range(6):
        event = {
            "messageId": f"m{number}",
            "userId": f"u{number % 2}",
            "timestamp": f"2026-01-0{number + 1}T10:00:00Z",
            "properties": {"total": number + 0.5},
            **({"type": "track", "event": "Order Completed"} if number < 4 else {"type": "page"}),
        }
        assert source.send("batch", {"batch": [event]}).status_code == 200
    source.wait_for(6)
    return source


def ids(system: RunningSystem, query: str) -> list[str]:
    return [event["messageId"] for event in get(system, f"/v1/events?{query}")["events"]]


def test_conditions_select_events(system: RunningSystem, shop: Source) -> None:
    mine = f"connection={shop.id}"
    assert ids(system, mine) == ["m5", "m4", "m3", "m2", "m1", "m0"]
    assert ids(system, f"{mine}&connection=7&type=page") == ["m5", "m4"]
    assert ids(system, f"{mine}&event=Order%20Completed&userId=u1") == ["m3", "m1"]
    assert ids(system, f"{mine}&since=2026-01-02T10:00:00Z&until=2026-01-04T12:00:00%2B02:00&ascending=true") == [
        "m1",
        "m2",
    ]
    condition = {"property": "properties.total", "operator": "is greater than", "values": ["3"]}
    filter_ = quote(json.dumps({"logical": "and", "conditions": [condition]}))
    assert ids(system, f"{mine}&filter={filter_}") == ["m5", "m4", "m3"]


def test_pages_list_every_event_once(system: RunningSystem, shop: Source) -> None:
    found: list[str] = []
    token = ""
    for _ in range(10):
        page = get(system, f"/v1/events?connection={shop.id}&limit=4&pageToken={token}&properties=messageId")
        found += [event["messageId"] for event in page["events"]]
        token = page["nextPageToken"]
        if not token:
            break
    assert found == ["m5", "m4", "m3", "m2", "m1", "m0"]


def test_events_are_counted(system: RunningSystem, shop: Source) -> None:
    def counts(query: str) -> Any:
        return get(system, f"/v1/events/counts?connection={shop.id}&{query}")["counts"]

    assert counts("") == [{"count": "6"}]
    assert counts("by=event,type") == [
        {"count": "4", "event": "Order Completed", "type": "track"},
        {"count": "2", "type": "page"},
    ]
    assert counts("interval=day&limit=1") == [{"count": "1", "startTime": "2026-01-06T00:00:00Z"}]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/events?connections=1", "there is no query parameter 'connections': there are "),
        ("/v1/events/counts?intervall=day", "there is no query parameter 'intervall': there are "),
        ("/v1/events?since=now", "since must be a time such as 2026-01-31T10:00:00Z"),
        ("/v1/events?pageToken=x", "pageToken must be the nextPageToken of a response to the same request"),
        ("/v1/events?connection=x", "connection "),
    ],
)
def test_invalid_requests_are_rejected(system: RunningSystem, path: str, message: str) -> None:
    response = HTTP.get(f"{system.base_url}{path}", headers=system.authorization)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize(
    ("path", "member"), [("connections", "connections"), ("keys", "keys"), ("workspaces", "workspaces")]
)
def test_lists_have_pages(system: RunningSystem, shop: Source, path: str, member: str) -> None:
    whole = get(system, f"/v1/{path}")
    assert whole["nextPageToken"] == ""
    found: list[Any] = []
    token = ""
    for _ in range(len(whole[member])):
        page = get(system, f"/v1/{path}?limit=1&pageToken={token}")
        found += page[member]
        token = page["nextPageToken"]
    assert (found, token) == (whole[member], "")
