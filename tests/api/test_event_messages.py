"""Typed events and JSON: gRPC loses no data."""

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.api.messages.events import event_message, wire_event, wire_time
from headwater.base.clock import microseconds
from headwater.events import DEFAULT_LIMITS, PROTOCOLS, Envelope, Rejection
from headwater.events.protocol import Call
from headwater.events.protocols.track import read_call
from headwater.v1 import events_pb2 as pb
from tests.events.reading import canonical, check
from tests.harness import NOW
from tests.jsontexts import json_values

ENVELOPE = Envelope("track", "batch", 7, 42, microseconds(NOW), bytes(16))
SERVER_SET = ("connectionId", "receivedAt")
TIMES = ("timestamp", "originalTimestamp", "sentAt")


def document(event: bytes) -> dict[str, Raw]:
    """Return the stored members of an event of a batch."""
    call = read_call("batch", b'{"batch":[' + event + b"]}")
    wire = check(call.events[0], None)
    assert not isinstance(wire, Rejection), wire
    return msgspec.json.decode(canonical(wire, call.events[0], call, ENVELOPE, 0)[1], type=dict[str, Raw])


def texts(members: dict[str, Raw]) -> dict[str, object]:
    """Return comparable members: JSON of users as it is, times to the microsecond, everything else by value."""
    own = {name: bytes(text) for name, text in members.items() if name in ("properties", "traits", "integrations")}
    rest = {name: json.loads(bytes(text)) for name, text in members.items() if name not in own}
    times = {name: rest.pop(name).rstrip("Z").removesuffix("000") for name in TIMES}
    return {**own, **times, **{name: exact(value) for name, value in rest.items()}}


def exact(value: object) -> object:
    """Make 1 and 1.0 equal, and 1 and true different."""
    if isinstance(value, dict):
        return {name: exact(member) for name, member in value.items()}
    if isinstance(value, list):
        return [exact(member) for member in value]
    return (isinstance(value, bool), value)


def assert_round_trip(event: bytes) -> pb.Event:
    stored = document(event)
    message = event_message(stored)
    again = pb.Event.FromString(message.SerializeToString())
    back = msgspec.json.decode(wire_event(again), type=dict[str, Raw])
    assert texts(back) == texts({name: text for name, text in stored.items() if name not in SERVER_SET})
    return message


def test_every_documented_member_has_its_field() -> None:
    event = {
        "type": "track",
        "event": "e",
        "userId": "u",
        "anonymousId": "a",
        "groupId": "g",
        "previousId": "p",
        "objectTypeId": "2",
        "messageId": "m",
        "name": "n",
        "category": "c",
        "channel": "server",
        "properties": {"p": 1.0},
        "traits": {"t": 1},
        "integrations": {"All": True},
        "timestamp": "2026-11-22T12:00:00.123456Z",
        "originalTimestamp": "2026-11-22",
        "sentAt": "2026-11-22T12:00:01Z",
        "context": {
            "app": {"name": "x", "version": "1", "build": "2", "namespace": "com.example"},
            "consents": {"ads": True, "stats": False},
            "device": {"id": "d", "adTrackingEnabled": False},
            "ip": "203.0.113.9",
            "location": {"latitude": 45.5, "speed": 0},
            "network": {"wifi": True, "cellular": False},
            "screen": {"width": 320, "density": 2.5},
            "session": {"id": 2**62, "start": True},
            "os": {},
            "timezone": "Europe/Rome",
            "userAgent": "",
        },
    }
    message = assert_round_trip(json.dumps(event).encode())
    assert message.extra_json == message.context.extra_json == ""
    assert (message.connection_id, message.message_id, message.user_id, message.properties_json) == (
        42,
        "m",
        "u",
        '{"p": 1.0}',
    )
    assert (message.object_type_id, dict(message.context.consents)) == ("2", {"ads": True, "stats": False})
    assert (message.context.session.id, message.context.HasField("os"), message.context.user_agent) == (2**62, True, "")
    assert message.timestamp.ToJsonString() == "2026-11-22T12:00:00.123456Z"
    assert message.received_at.ToJsonString() == "2026-11-22T12:00:10.500Z"


@pytest.mark.parametrize(
    ("context", "extra"),
    [
        ({"active": True}, {"active": True}),
        ({"page": {"url": "x", "keywords": ["a"]}}, {"page": {"url": "x", "keywords": ["a"]}}),
        ({"page": {"url": 5}}, {"page": {"url": 5}}),
        ({"page": None}, {"page": None}),
        ({"page": "x"}, {"page": "x"}),
        ({"ip": 5}, {"ip": 5}),
        ({"ip": None}, {"ip": None}),
        ({"ip": ["1.2.3.4"]}, {"ip": ["1.2.3.4"]}),
        ({"network": {"wifi": 1}}, {"network": {"wifi": 1}}),
        ({"screen": {"width": 2**31}}, {"screen": {"width": 2**31}}),
        ({"screen": {"width": 1.0}}, {"screen": {"width": 1.0}}),
        ({"screen": {"width": True}}, {"screen": {"width": True}}),
        ({"session": {"id": 2**63}}, {"session": {"id": 2**63}}),
        ({"session": {"id": "007"}}, {"session": {"id": "007"}}),
        ({"consents": {"ads": True, "stats": 1}}, {"consents": {"ads": True, "stats": 1}}),
        ({"consents": {}}, {"consents": {}}),
        ({"location": {"latitude": 2**53 + 1}}, {"location": {"latitude": 2**53 + 1}}),
        ({"location": {"latitude": 10**400}}, {"location": {"latitude": 10**400}}),
        ({"extraJson": {"a": 1}}, {"extraJson": {"a": 1}}),
        ({"extraJson": "x"}, {"extraJson": "x"}),
        ({"traits": {"a": 1}}, {"traits": {"a": 1}}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_values_without_a_field_are_extra_members(context: dict[str, Any], extra: dict[str, Any]) -> None:
    message = assert_round_trip(
        json.dumps({"type": "page", "userId": "u", "context": {"locale": "it-IT", **context}}).encode()
    )
    assert message.context.locale == "it-IT"
    assert json.loads(message.context.extra_json) == extra


def test_numbers_out_of_range_are_extra_members() -> None:
    digits = b"9" * 5000
    message = event_message(
        document(
            b'{"type":"page","userId":"u","context":{"ip":%s,"location":{"speed":%s}},"x":%s}'
            % (digits, digits, digits)
        )
    )
    assert message.context.extra_json.count("9") == 10_000
    assert message.extra_json.count("9") == 5_000


@pytest.mark.parametrize("object_type", ["5", "[1]", "null"])
def test_an_object_type_of_an_older_version_is_an_extra_member(object_type: str) -> None:
    """Older versions accepted any value of the member."""
    stored = document(b'{"type":"page","userId":"u"}') | {"objectTypeId": Raw(object_type.encode())}
    message = event_message(stored)
    assert message.extra_json == '{"objectTypeId":' + object_type + "}"
    assert not message.HasField("object_type_id")


@pytest.mark.parametrize("name", ["_metadata", "version", "extraJson", "propertiesJson", "extra_json", "unknown"])
@pytest.mark.parametrize("value", [None, 5, "x", {"a": 1}, [1]], ids=str)
def test_unknown_members_are_extra_members(name: str, value: object) -> None:
    message = assert_round_trip(json.dumps({"type": "page", "userId": "u", name: value}).encode())
    assert json.loads(message.extra_json) == {name: value}


_NAMES = [field.json_name for field in pb.EventContext.DESCRIPTOR.fields] + [
    "name",
    "id",
    "wifi",
    "width",
    "latitude",
    "version",
    "url",
]
_contexts = st.dictionaries(
    st.sampled_from(_NAMES),
    st.one_of(json_values, st.dictionaries(st.sampled_from(_NAMES), json_values, max_size=3)),
    max_size=4,
)


@given(
    _contexts,
    st.dictionaries(
        st.sampled_from(["a", "extraJson", "_metadata", "properties", "traits", "integrations"]),
        json_values,
        max_size=3,
    ),
)
def test_no_event_loses_data(context: dict[str, Any], members: dict[str, Any]) -> None:
    objects = {
        name: value if isinstance(value, dict) else {"value": value}
        for name, value in members.items()
        if name in ("properties", "traits", "integrations")
    }
    event = {"type": "track", "event": "e", "userId": "u", "context": context, **members, **objects}
    assert_round_trip(json.dumps(event).encode())


# --- From gRPC ----------------------------------------------------------------------------------------------------


def sent(**values: Any) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(wire_event(pb.Event(**values)))
    return members


def test_absent_fields_are_not_sent() -> None:
    assert sent(type="page", user_id="u") == {"type": "page", "userId": "u"}
    assert sent() == {}


def test_fields_of_the_server_are_not_sent() -> None:
    assert sent(type="page", connection_id=7, kpid="k", received_at=Timestamp(seconds=1)) == {"type": "page"}


@pytest.mark.parametrize("text", ["{", "x", "", "\ufeff{}", "NaN", "[" * 100_000])
def test_a_text_that_is_not_json_is_rejected_with_the_members_name(text: str) -> None:
    wire = wire_event(pb.Event(type="page", user_id="u", properties_json=text))
    assert json.loads(wire)["properties"] == text
    outcome = check(Raw(wire), None)
    assert isinstance(outcome, Rejection)
    assert outcome.path == "properties" or outcome.code == "PayloadTooLarge"


@pytest.mark.parametrize("text", ["{", "[1]", "5", '"x"'])
def test_extra_members_that_are_not_an_object_are_one_member(text: str) -> None:
    kept = text if text == "{" else json.loads(text)
    assert sent(extra_json=text) == {"extraJson": kept}
    assert sent(context=pb.EventContext(extra_json=text)) == {"context": {"extraJson": kept}}


def test_fields_come_before_extra_members() -> None:
    assert sent(
        user_id="u", extra_json=' {"userId":"v","x":1.0} ', context=pb.EventContext(ip="1", extra_json='{"ip":"2"}')
    ) == {
        "userId": "u",
        "x": 1.0,
        "context": {"ip": "1"},
    }


@pytest.mark.parametrize("field", ["timestamp", "original_timestamp", "sent_at"])
@pytest.mark.parametrize(
    ("seconds", "nanos"), [(10**15, 0), (-(10**15), 0), (0, -1), (0, 2 * 10**9), (253402300800, 0)]
)
def test_a_time_out_of_range_is_rejected_with_its_name(field: str, seconds: int, nanos: int) -> None:
    event = pb.Event(type="page", user_id="u")
    getattr(event, field).CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    source = Raw(wire_event(event))
    outcome = PROTOCOLS["grpc"].check(source, Call(None, [source]), DEFAULT_LIMITS)
    assert isinstance(outcome, Rejection)
    assert outcome.path == event.DESCRIPTOR.fields_by_name[field].json_name


@given(st.datetimes(), st.integers(0, 999), st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]))
def test_times_are_written_as_protobuf_writes_them(moment: datetime, nanos: int, unit: int) -> None:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    timestamp.nanos = (timestamp.nanos + nanos) // unit * unit % 1_000_000_000
    assert wire_time(timestamp) == timestamp.ToJsonString()
