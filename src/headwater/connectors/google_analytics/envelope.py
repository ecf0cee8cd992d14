"""Makes the members of a request that are those of all its events: the user, with place, device and consent.

A user is known by the ids that the tag of Google Analytics has in the browser. SDKs send them in `integrations`.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.contexts import find_text
from headwater.connectors.contract import EventRejected, OutgoingEvent
from headwater.connectors.google_analytics.api import MAX_USER_ID_CHARACTERS
from headwater.connectors.google_analytics.parameters import read_user_properties
from headwater.connectors.identities import is_placeholder

INTEGRATIONS: Final = ("Google Analytics 4", "Google Analytics", "GA4")
"""Members of `integrations` with the `clientId` and `sessionId` of the browser."""

_COOKIE: Final = re.compile(r"GA[0-9]\.[0-9-]+\.([0-9]+\.[0-9]+)")
"""The value of the cookie `_ga`, in which the client id is the end."""


class _Event(msgspec.Struct, frozen=True):
    """The members of a stored event that no mapping is needed for."""

    context: Any = None
    integrations: Raw = Raw()


class Browser(msgspec.Struct, frozen=True):
    """The ids of the browser: those of Google's tag, or else the session of the SDK. Both are empty if unknown."""

    client_id: str = ""
    session_id: str = ""


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Any]).decode


def find_browser(document: bytes) -> Browser:
    """Return the ids in a stored event. A session id is a positive whole number; others are left out."""
    stored = _decode_event(document)
    context = stored.context if isinstance(stored.context, dict) else {}
    tag = _find_tag(bytes(stored.integrations))
    client = tag.get("clientId")
    client = client if isinstance(client, str) else ""  # a number has lost digits
    cookie = _COOKIE.fullmatch(client)
    sessions = (find_text(tag, "sessionId"), find_text(context, "session", "id"))
    return Browser(
        client_id=cookie[1] if cookie else client,
        session_id=next((id_ for id_ in sessions if id_.isascii() and id_.isdigit() and id_.strip("0")), ""),
    )


def _find_tag(integrations: bytes) -> dict[str, Any]:
    if b'"clientId"' not in integrations and b'"sessionId"' not in integrations:
        return {}
    members = _decode_members(integrations)
    tags = (members.get(name) for name in INTEGRATIONS)
    return next((tag for tag in tags if isinstance(tag, dict)), {})


def take_envelope(event: OutgoingEvent, browser: Browser, values: dict[str, Any]) -> dict[str, Any]:
    """Return the members that name and describe the user, and take them out of the values.

    Raises EventRejected without any identity, and for values that Google Analytics does not take.
    """
    envelope: dict[str, Any] = _find_user(event, browser)
    for name in ("ip_override", "user_agent"):
        if text := values.pop(name, None):
            envelope[name] = text
    consent = {
        name: values.pop(name) for name in ("ad_user_data", "ad_personalization") if values.get(name) is not None
    }
    if consent:
        envelope["consent"] = consent
    if properties := values.pop("user_properties", None):
        envelope["user_properties"] = read_user_properties(properties)
    return envelope


def _find_user(event: OutgoingEvent, browser: Browser) -> dict[str, str]:
    """Return the members of a request that name the user. Raises EventRejected without any identity."""
    user = {}
    for client in (browser.client_id, event.anonymous_id, event.user_id):
        if not is_placeholder(client):
            user["client_id"] = client
            break
    else:
        raise EventRejected("MissingIdentity", "the event has no user id and no anonymous id, or only a placeholder")
    if not is_placeholder(event.user_id):
        user["user_id"] = event.user_id
    for name, id_ in user.items():
        if len(id_) > MAX_USER_ID_CHARACTERS:
            raise EventRejected(
                "IdentityTooLong", f"{name} has {len(id_)} characters, and {MAX_USER_ID_CHARACTERS} are allowed"
            )
    return user
