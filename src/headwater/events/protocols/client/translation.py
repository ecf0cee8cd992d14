"""Translates checked objects of the client API into the members of events of the track API."""

from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Raw

from headwater.events.devices import DEVICE_CREATED_OR_UPDATED
from headwater.events.protocols.client.shapes import decode_text
from headwater.events.raw import is_absent, is_object, join, members
from headwater.events.wire import MEMBERS

_PERSON: Final = ("anonymous_id", "external_id")
_IDS: Final = (*_PERSON, "message_id")
_EVENT_MEMBERS: Final = frozenset(MEMBERS.values())
"""Members of events that have no meaning in calls of the client API, where they would replace the event's own."""

_PLATFORMS: Final = {"ios": "ios", "ipados": "ios", "android": "android"}
"""The track API's type of a device, by its operating system."""

Parts = dict[str, Raw]


def alias(parts: Parts) -> Parts:
    """Translate an alias. The anonymous id is the previous id."""
    ids = _texts(previousId=decode_text(parts["anonymous_id"]), userId=decode_text(parts["external_id"]))
    return {**_others(parts, _IDS), "type": _raw("alias"), **ids, **_message(parts)}


def identify(parts: Parts) -> Parts:
    """Translate an identify call: all members except ids are traits. A null trait deletes the stored one."""
    return {"type": _raw("identify"), **_person(parts), **_message(parts), "traits": join(_traits(parts, _IDS))}


def event(parts: Parts) -> Parts:
    """Translate an event. A missing name is empty. The Android SDK sends `properties` instead of `data`."""
    made = {
        **_others(parts, ("name", "event", "data", "user", *_IDS)),
        "type": _raw("track"),
        "event": _raw(decode_text(parts.get("name")) or ""),
        **_person(parts),
        **_message(parts),
        "properties": join({**_object(parts.get("properties")), **_object(parts.get("data"))}),
    }
    user = parts.get("user")
    if user is not None and not is_absent(user):
        made["traits"] = join(_traits(members(user)))
    return made


def named_event(parts: Parts) -> Parts:
    """Translate an event of the JavaScript SDK, which has the name in `event`."""
    name = decode_text(parts.get("event"))
    return event(parts if name is None else {**parts, "name": _raw(name)})


def device(parts: Parts) -> Parts:
    """Translate a device into an event of the track API. The properties have all its members."""
    about = {name: value for name, value in parts.items() if name not in _IDS}
    os, version = _system(decode_text(parts["os"]) or "")
    context = {
        "device": {
            **_rename(about, id="device_id", token="token", model="model"),
            **_texts(type=_PLATFORMS.get(os.lower())),
        },
        "os": {**_texts(name=os or None, version=version), **_rename(about, version="os_version")},
        "app": _rename(about, build="app_build", version="app_version"),
    }
    return {
        "type": _raw("track"),
        "event": _raw(DEVICE_CREATED_OR_UPDATED),
        **_person(parts),
        **_message(parts),
        "context": join({name: join(section) for name, section in context.items()}),
        "properties": join(about),
    }


def _person(parts: Parts) -> Parts:
    return _texts(userId=decode_text(parts.get("external_id")), anonymousId=decode_text(parts.get("anonymous_id")))


def _message(parts: Parts) -> Parts:
    return _texts(messageId=decode_text(parts.get("message_id")))


def _traits(parts: Parts, ids: Collection[str] = _PERSON) -> Parts:
    """Return the fields of a person, except the `ids`, merged over the free `data`."""
    return {**_object(parts.get("data")), **_others(parts, ("data", *ids), reserved=())}


def _others(parts: Parts, known: Collection[str], reserved: Collection[str] = _EVENT_MEMBERS) -> Parts:
    return {name: value for name, value in parts.items() if name not in known and name not in reserved}


def _rename(parts: Parts, **names: str) -> Parts:
    """Return the present members of these names that are not null, under their track names."""
    return {new: parts[name] for new, name in names.items() if name in parts and not is_absent(parts[name])}


def _object(value: Raw | None) -> Parts:
    return members(value) if value is not None and is_object(value) else {}


def _system(os: str) -> tuple[str, str | None]:
    """Split an operating system into name and version: apps send both together ("iOS 16.3"), or the name alone."""
    name, _, version = os.rpartition(" ")
    return (name.strip(), version) if name.strip() and version[:1].isdigit() else (os, None)


def _texts(**texts: str | None) -> Parts:
    return {name: _raw(text) for name, text in texts.items() if text is not None}


def _raw(text: str) -> Raw:
    return Raw(msgspec.json.encode(text))
