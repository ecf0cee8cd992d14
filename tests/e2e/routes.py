"""Every route for events, with a call that it accepts and its status for invalid ones."""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.source import Source

_TRACK: dict[str, dict[str, Any]] = {
    "identify": {"traits": {"plan": "free"}},
    "track": {"event": "Seen"},
    "page": {"name": "Home"},
    "screen": {"name": "Home"},
    "group": {"groupId": "g"},
    "alias": {"previousId": "p"},
}
_DEVICE = {"device_id": "d", "os": "iOS", "model": "iPhone16,2", "app_build": "1", "app_version": "1.0"}


@dataclass(frozen=True)
class Route:
    """A route of the intake."""

    path: str
    body: Any
    """A body that it accepts, as JSON."""
    accepted: int = 200
    bad: int = 400
    """The status for a body that is not JSON."""
    headers: dict[str, str] = field(default_factory=dict)
    events: int = 1
    """Number of events in the body."""

    def __str__(self) -> str:
        return self.path

    def headers_for(self, source: Source) -> dict[str, str]:
        """Return the headers of a call."""
        return {"authorization": f"Bearer {source.write_key}", "content-type": "application/json", **self.headers}

    def content(self) -> bytes:
        """The accepted body in bytes."""
        return json.dumps(self.body).encode()


def _strict(path: str, body: Any, events: int = 1) -> Route:
    """Return a route of the track API in strict mode, in which it reports errors."""
    return Route(path, body, headers={"x-strict-mode": "1"}, events=events)


def _event(call: str) -> dict[str, Any]:
    return {"type": call, "userId": "u", **_TRACK[call]}


def _person(**members: Any) -> dict[str, Any]:
    return {"external_id": "u", **members}


TRACK = [
    *(_strict(f"/v1/{path}", _event(call)) for call in _TRACK for path in (call, call[0])),
    *(_strict(f"/api/s/{path}", _event(call)) for call in _TRACK for path in (call, f"s2s/{call}")),
    *(_strict(path, {"batch": [_event("track"), _event("page")]}, 2) for path in ("/v1/batch", "/v1/b", "/b")),
]
NATIVE = [
    Route("/v1/events", [_event("track")]),
    *(Route(f"/v1/events/{call}", _event(call)) for call in _TRACK),
]
CLIENT = [
    Route("/api/client/alias", {"external_id": "u", "anonymous_id": "a"}, accepted=204),
    Route("/api/client/identify", _person(email="a@example.com"), accepted=204),
    *(Route(path, _person(**_DEVICE), accepted=204) for path in ("/api/client/devices", "/devices")),
    *(Route(path, [_person(name="Seen")], accepted=204) for path in ("/api/client/events", "/events")),
    Route("/api/client/track", _person(event="Seen"), accepted=204),
]
ROUTES = [*TRACK, *NATIVE, *CLIENT]
