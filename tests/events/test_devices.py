"""Device changes in events, from every place where clients put them."""

import json
from typing import Any

import pytest
from msgspec import UNSET

from headwater.base.clock import microseconds
from headwater.events import DEFAULT_LIMITS, Envelope, Event
from headwater.events.canonical import canonical
from headwater.events.devices import DeviceChange, device_change
from headwater.events.protocols.track import check, read_call
from headwater.events.protocols.track.rules import extra
from tests.harness import NOW

ENVELOPE = Envelope("track", "track", 7, 42, microseconds(NOW), bytes(16))
REGISTERED, REMOVED = "Device Created or Updated", "Device Deleted"


def event(name: str, **members: Any) -> Event:
    body = json.dumps({"event": name, "userId": "u", **members}).encode()
    call = read_call("track", body)
    wire = check(call.events[0], call, DEFAULT_LIMITS)
    return canonical(wire, extra(call.events[0]), call, ENVELOPE, 0)[0]  # type: ignore[arg-type]  # it is accepted


SAID: list[tuple[dict[str, Any], DeviceChange | None]] = [
    ({"context": {"device": {"token": "t", "type": "ios"}}}, DeviceChange("registered", "t", "t", "ios")),
    ({"properties": {"device": {"token": "t", "type": "ios"}}}, DeviceChange("registered", "t", "t", "ios")),
    (
        {
            "context": {
                "device": {"id": "d", "token": "t", "model": "m", "type": "android"},
                "os": {"name": "Android", "version": "14"},
                "app": {"build": "4", "version": "1.2"},
            }
        },
        DeviceChange("registered", "d", "t", "Android", "14", "m", "4", "1.2"),
    ),
    ({"context": {"device": {"id": "d", "token": None}}}, DeviceChange("registered", "d", None)),
    ({"context": {"device": {"id": "d", "token": ""}}}, DeviceChange("registered", "d", None)),
    ({"context": {"device": {"id": "d"}}}, DeviceChange("registered", "d", UNSET)),
    ({"context": {"device": {"id": "d", "model": "a\0b"}}}, DeviceChange("registered", "d", model="a\ufffdb")),
    ({"context": {"device": {"id": "d", "model": 5}}}, DeviceChange("registered", "d")),
    # Of no device
    ({}, None),
    ({"context": {"device": {"model": "m"}}}, None),
    ({"context": {"device": {"id": "", "token": None}}}, None),
    ({"context": {"device": {"id": "d" * 1001}}}, None),
    ({"context": {"device": {"id": "é" * 501}}}, None),
    ({"context": {"device": {"id": "a\0b"}}}, None),
    ({"context": {"device": {"id": "d", "token": "t" * 1001}}}, None),
]


@pytest.mark.parametrize(("members", "said"), SAID, ids=lambda value: str(value)[:50])
def test_a_registration(members: dict[str, Any], said: DeviceChange | None) -> None:
    assert device_change(event(REGISTERED, **members)) == said


def test_a_removal() -> None:
    change = device_change(event(REMOVED, context={"device": {"token": "t"}}))
    assert change == DeviceChange("removed", "t", "t")


@pytest.mark.parametrize("name", ["device created or updated", "Application Opened"])
def test_other_events_say_nothing_of_devices(name: str) -> None:
    assert device_change(event(name, context={"device": {"id": "d", "token": "t"}})) is None
