"""A visitor of a website: the documented behaviour of the browser SDK for each strategy for anonymous users.

The server only stores the strategy and returns it in the settings; the SDK acts on it. It keeps an anonymous id, a user
id, traits, a group and a session. A strategy decides which of them a login and a logout change.
"""

import itertools
import json
import uuid
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.e2e.source import Source
from tests.system import HTTP

_sessions = itertools.count(1_766_272_512_048)


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class _State:
    """The part of the state that can be suspended."""

    anonymous_id: str = field(default_factory=_new_id)
    traits: dict[str, Any] = field(default_factory=dict)
    group_id: str | None = None
    session: int = field(default_factory=lambda: next(_sessions))
    starts_session: bool = True


class Visitor:
    """One browser. `page`, `track`, `identify`, `group` and `reset` are the calls of the SDK."""

    def __init__(self, source: Source) -> None:
        """Read the strategy of the source from its settings, as a page does."""
        response = HTTP.get(f"{source.system.base_url}/v1/events/settings/{source.write_key}", timeout=30)
        assert response.status_code == 200, response.text
        self.strategy = response.json()["strategy"]
        self._source = source
        self._state = _State()
        self._suspended: _State | None = None
        self._user_id: str | None = None
        self.sent: list[dict[str, Any]] = []

    @property
    def anonymous_id(self) -> str:
        return self._state.anonymous_id

    @property
    def traits(self) -> dict[str, Any]:
        return self._state.traits

    def page(self, name: str) -> None:
        self._send({"type": "page", "name": name, "properties": {"name": name}})

    def track(self, event: str) -> None:
        self._send({"type": "track", "event": event, "properties": {}})

    def group(self, group_id: str) -> None:
        self._state.group_id = group_id
        self._send({"type": "group", "groupId": group_id, "traits": {}})

    def identify(self, user_id: str, **traits: Any) -> None:
        """Log in, or add traits to the same user."""
        previous, self._user_id = self._user_id, user_id
        isolates = self.strategy in ("Isolation", "Preservation")
        if previous is None and isolates:
            self._suspended = deepcopy(self._state) if self.strategy == "Preservation" else None
            self._state = _State()
        elif previous not in (None, user_id):
            self._state.anonymous_id = _new_id()
            self._state.traits = {}
        self._state.traits |= traits
        self._send({"type": "identify", "traits": self._state.traits})

    def reset(self, *, all_: bool = False) -> None:
        """Log out."""
        self._user_id = None
        suspended, self._suspended = self._suspended, None
        if all_ or self.strategy in ("Conversion", "Isolation"):
            self._state = _State()
        elif self.strategy == "Preservation":
            self._state = suspended or _State()
        else:
            self._state.traits = {}
            self._state.group_id = None

    def _send(self, event: dict[str, Any]) -> None:
        """Send one event as the SDK does: a plain text, so that the browser needs no preflight."""
        state = self._state
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        context = {"library": {"name": "krenalis.js", "version": "1.0.0"}, "sessionId": state.session}
        if state.starts_session:
            context["sessionStart"] = True
            state.starts_session = False
        event |= {
            "userId": self._user_id,
            "anonymousId": state.anonymous_id,
            "messageId": _new_id(),
            "timestamp": now,
            "context": context,
            "integrations": {},
        }
        body = {"batch": [event], "sentAt": now, "writeKey": self._source.write_key}
        response = HTTP.post(
            f"{self._source.system.base_url}/v1/events",
            content=json.dumps(body).encode(),
            headers={"content-type": "text/plain;charset=UTF-8", "origin": "https://shop.example"},
            timeout=30,
        )
        assert response.status_code == 200, response.text
        self.sent.append(event)
