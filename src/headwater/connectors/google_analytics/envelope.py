"""Makes the members of a request that are those of all its events: the user, with place, device and consent.

A user is known by the ids that the tag of Google Analytics has in the browser. SDKs send them in `integrations`.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.connectors.contract import EventRejected, OutgoingEvent
from headwater.connectors.google_analytics.api import MAX_USER_ID_CHARACTERS
from headwater.connectors.google_analytics.parameters import read_user_properties
from headwater.connectors.identities import is_placeholder

INTEGRATIONS: Final = ("Google Analytics 4", "Google Analytics", "GA4")
"""Members of `integrations` with the `clientId` and `sessionId` of the browser."""

_COOKIE: Final = re.compile(r"GA[0-9]\.[0-9-]+\.([0-9]+\.[0-9]+)")
"""The value of the cookie `_ga`, in which the client id is the end."""


class _Session(msgspec.Struct, frozen=True):
    id: int | str | None = None


class _Context(msgspec.Struct, frozen=True):
    session: _Session = _Session()


class _Event(msgspec.Struct, frozen=True):
    """The members of a stored event that no mapping is needed for."""

    context: _Context = _Context()
    integrations: Raw = Raw()


class Browser(msgspec.Struct, frozen=True, rename="camel"):
    """The ids of the browser or the app: those of Google's tag, or else the session of the SDK."""

    client_id: str | None = None
    session_id: int | str | None = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_browser: Final = msgspec.json.Decoder(Browser).decode


def find_browser(document: bytes) -> Browser:
    """Return the ids in a stored event. A session id is a positive whole number as text; others are left out."""
    stored = _decode_event(document)
    tag = _find_tag(bytes(stored.integrations))
    cookie = _COOKIE.fullmatch(tag.client_id or "")
    return Browser(
        client_id=cookie[1] if cookie else tag.client_id,
        session_id=_read_session(tag.session_id) or _read_session(stored.context.session.id),
    )


def _find_tag(integrations: bytes) -> Browser:
    if b'"clientId"' not in integrations and b'"sessionId"' not in integrations:
        return Browser()
    try:
        members = _decode_members(integrations)
        return next((_decode_browser(members[name]) for name in INTEGRATIONS if name in members), Browser())
    except msgspec.ValidationError:
        return Browser()


def _read_session(id_: int | str | None) -> str | None:
    text = str(id_ or "")
    return text if text.isascii() and text.isdigit() and text.strip("0") else None


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
    for client in (browser.client_id or "", event.anonymous_id, event.user_id):
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
