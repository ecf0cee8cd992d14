"""Reads the track events that register and remove a device of a user.

SDKs of the Segment family put the device into the context. The client API sends more members than the context has;
those are read from the properties.
"""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from headwater.events.event import Event
from headwater.events.raw import ABSENT, is_absent, is_object, is_string, members

DEVICE_CREATED_OR_UPDATED: Final = "Device Created or Updated"
DEVICE_DELETED: Final = "Device Deleted"
DEVICE_EVENTS: Final = frozenset((DEVICE_CREATED_OR_UPDATED, DEVICE_DELETED))

MAX_KEY_BYTES: Final = 1_000
"""Maximum size of the id or token of a device, in UTF-8. Indexes contain both, and PostgreSQL limits their entries."""

Text = str | UnsetType | None
"""A text; None if null was sent, UNSET if nothing was sent."""

_decode_text = msgspec.json.Decoder(str).decode


class DeviceChange(Struct, frozen=True):
    """A device that was registered or removed."""

    kind: Literal["registered", "removed"]
    device_id: str
    token: Text = UNSET
    os: Text = UNSET
    os_version: Text = UNSET
    model: Text = UNSET
    app_build: Text = UNSET
    app_version: Text = UNSET


def device_change(event: Event) -> DeviceChange | None:
    """Return the device change in an event; None if it has no device, or one without an id or token."""
    if event.event not in DEVICE_EVENTS or event.type != "track":
        return None
    context, flat = members(event.context), members(event.properties)
    device, os, app = (_section(context, name) for name in ("device", "os", "app"))
    token = _first(device.get("token"), flat.get("token"))
    device_id = _first(device.get("id"), flat.get("device_id")) or token  # Customer.io's SDKs send only the token
    if not isinstance(device_id, str) or not (_is_key(device_id) and _is_key(token)):
        return None
    return DeviceChange(
        kind="registered" if event.event == DEVICE_CREATED_OR_UPDATED else "removed",
        device_id=device_id,
        token=token or None if isinstance(token, str) else token,
        os=_clean_text(flat.get("os"), os.get("other"), os.get("name"), device.get("type")),
        os_version=_clean_text(flat.get("os_version"), os.get("version")),
        model=_clean_text(flat.get("model"), device.get("model")),
        app_build=_clean_text(flat.get("app_build"), app.get("build")),
        app_version=_clean_text(flat.get("app_version"), app.get("version")),
    )


def _section(parts: dict[str, Raw], name: str) -> dict[str, Raw]:
    section = parts.get(name, ABSENT)
    return members(section) if is_object(section) else {}


def _first(*values: Raw | None) -> Text:
    """Return the first value that is a text, or null; UNSET if there is none."""
    for value in values:
        if value is not None and is_string(value):
            return _decode_text(value)
        if value is not None and is_absent(value):
            return None
    return UNSET


def _clean_text(*values: Raw | None) -> Text:
    """Return the first value that is a text, or null, without NUL, which PostgreSQL texts cannot contain."""
    text = _first(*values)
    return text.replace("\0", "\ufffd") if isinstance(text, str) else text


def _is_key(text: Text) -> bool:
    return not isinstance(text, str) or ("\0" not in text and len(text.encode()) <= MAX_KEY_BYTES)
