"""The members of canonical events: ids, the type of a group, the channel, the device."""

import json
from typing import Any

import pytest
from msgspec import Raw

from headwater.events import Envelope, Rejection
from headwater.events.protocol import Call
from headwater.events.wire import WireEvent
from tests.events.reading import canonical, check

ENVELOPE = Envelope("track", "batch", 7, 42, 1_000_000, bytes(16))


def stored(event: dict[str, Any] | bytes) -> dict[str, Any]:
    text = Raw(event if isinstance(event, bytes) else json.dumps(event).encode())
    wire = check(text)
    assert isinstance(wire, WireEvent), wire
    document: dict[str, Any] = json.loads(canonical(wire, text, Call(None, [text]), ENVELOPE, 0)[1])
    return document


@pytest.mark.parametrize(
    "sent", ["5", "1e3", "1.0", "-0", "1.50", "12345678901234567890123", "0.1000000000000000000001"]
)
@pytest.mark.parametrize("member", ["userId", "anonymousId", "groupId", "messageId", "objectTypeId"])
def test_an_id_that_is_a_number_is_the_text_that_was_sent(member: str, sent: str) -> None:
    event = b'{"type":"track","event":"e","userId":"u","%s" : %s }' % (member.encode(), sent.encode())
    assert stored(event)[member] == sent


@pytest.mark.parametrize(
    ("said", "type_"),
    [
        ({}, "1"),
        ({"objectTypeId": "2"}, "2"),
        ({"objectTypeId": 2}, "2"),
        ({"objectTypeId": None}, "1"),
        ({"objectTypeId": ""}, "1"),
        ({"traits": {"object_type_id": "3"}}, "3"),
        ({"traits": {"object_type_id": 3}}, "3"),
        ({"traits": {"objectTypeId": "4"}}, "4"),
        ({"traits": {"object_type_id": "3", "objectTypeId": "4"}}, "3"),
        ({"traits": {"object_type_id": None, "objectTypeId": "4"}}, "4"),
        ({"traits": {"object_type_id": [3]}}, "1"),
        ({"objectTypeId": "2", "traits": {"object_type_id": "3"}}, "2"),
        ({"context": {"traits": {"object_type_id": "5"}}}, "5"),
    ],
    ids=str,
)
def test_the_type_of_a_group(said: dict[str, Any], type_: str) -> None:
    document = stored({"type": "group", "groupId": "g", **said})
    assert document["objectTypeId"] == type_
    assert document["traits"] == said.get("traits", said.get("context", {}).get("traits", {}))


def test_other_events_have_the_object_type_that_they_say() -> None:
    track = {"type": "track", "event": "Relationship Deleted", "userId": "u", "properties": {"objectTypeId": 2}}
    assert "objectTypeId" not in stored(track)
    assert stored({**track, "objectTypeId": 3})["objectTypeId"] == "3"


def test_an_object_type_is_an_id() -> None:
    rejection = check(Raw(b'{"type":"group","groupId":"g","objectTypeId":true}'))
    assert rejection == Rejection("BadRequest", "objectTypeId", "objectTypeId must be a string, a number or null")


def test_relationship_attributes_stay_in_the_traits() -> None:
    traits = {"name": "Acme", "relationshipAttributes": {"role": "admin", "n": 1.5}}
    assert stored({"type": "group", "groupId": "g", "traits": traits})["traits"] == traits


@pytest.mark.parametrize(
    ("event", "channel"),
    [
        ({"context": {"channel": "browser"}}, "browser"),
        ({"channel": "server", "context": {"channel": "browser"}}, "server"),
        ({"channel": None, "context": {"channel": "mobile"}}, "mobile"),
        ({"context": {"channel": ""}}, None),
        ({"context": {"channel": ["x"]}}, None),
        ({"context": {"channel": "x\0"}}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_channel_may_be_in_the_context(event: dict[str, Any], channel: str | None) -> None:
    document = stored({"type": "page", "userId": "u", **event})
    assert document.get("channel") == channel
    assert document.get("context") == event.get("context")


def test_a_device_in_the_properties_is_that_of_the_context() -> None:
    device = {"token": "t", "type": "ios"}
    event = {"type": "track", "event": "Device Created or Updated", "userId": "u", "properties": {"device": device}}
    document = stored(event)
    assert document["context"] == {"device": device}
    assert document["properties"] == {"device": device}
