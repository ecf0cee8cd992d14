"""Reading a call in one decode equals reading each event by its protocol and `canonical`, for any call."""

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from headwater.events import PROTOCOLS, Envelope, Event, ProtocolName, Rejection, check_events
from headwater.events.canonical import Canonical, canonical
from headwater.events.reader import CallReader
from tests.events.contexts import USER_AGENT

RECEIVED = 1_795_341_600_000_000
Generate = Callable[[random.Random], tuple[str, Any]]


def _pick(dice: random.Random, usual: list[Any], unusual: list[Any]) -> Any:
    return dice.choice(unusual if dice.random() < 0.04 else usual)


def _context(dice: random.Random) -> dict[str, Any]:
    members: dict[str, Callable[[], Any]] = {
        "userAgent": lambda: _pick(dice, [USER_AGENT, f"{USER_AGENT} Edg/126.0", "okhttp/4.12.0"], ["", None, 5]),
        "locale": lambda: _pick(dice, ["en-US", "en_us", "de"], [None, "", 5]),
        "screen": lambda: _pick(dice, [{"width": 1, "density": 2}, {"density": 2.625}], [None, "x", {"density": "x"}]),
        "browser": lambda: _pick(dice, [{"name": "chrome"}, {"name": "IE"}, {}], [None, 5]),
        "os": lambda: _pick(dice, [{"name": "iPadOS", "version": "7"}, {"name": ""}], [None, []]),
        "ip": lambda: _pick(dice, ["203.0.113.9", "0.0.0.0", "255.255.255.0"], ["x", None, 5]),
        "page": lambda: {"path": f"/{dice.randrange(10**6)}", "url": "https://shop.example/\u00e9"},
        "session": lambda: _pick(dice, [{"id": 5, "start": True}, {"id": "7"}], [None, "x"]),
        "sessionId": lambda: _pick(dice, [1712345678901], [None, "x", 1.5]),
        "sessionStart": lambda: dice.choice([True, False]),
        "device": lambda: _pick(dice, [{"id": "d", "token": "t"}], [None]),
        "channel": lambda: _pick(dice, ["web"], ["", None, 5]),
        "traits": lambda: _pick(dice, [{"email": "a@b.c", "n": 1.50}], [None, {}]),
        "other": lambda: {"n": 10**25},
    }
    return {name: make() for name, make in members.items() if dice.random() < 0.25}


def _id(dice: random.Random, prefix: str) -> Any:
    return _pick(dice, [f"{prefix}{dice.randrange(1000)}", f"{prefix}\u00e9"], [None, 5, 1.50, ""])


def _time(dice: random.Random) -> Any:
    usual = [
        "2026-11-22T10:00:00.000Z",
        "2026-11-22T11:00:00+01:00",
        "2026-11-22T10:00:00",
        "2026-11-22T10:00:00.123456Z",
    ]
    return _pick(
        dice, usual, ["soon", "", None, 1795341600, "1795341600", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
    )


def _event(dice: random.Random, protocol: ProtocolName) -> dict[str, Any]:
    type_ = dice.choice(["track", "page", "screen", "identify", "group", "alias"])
    event: dict[str, Any] = {"type": _pick(dice, [type_], [type_.title(), None])}
    event["userId"] = _id(dice, "u")
    if type_ == "track":
        event["event"] = _pick(dice, ["Order Completed", ""], ["Device Created or Updated", "Device Deleted", None])
    if type_ == "group":
        event["groupId"] = _id(dice, "g")
    if type_ == "alias":
        event["previousId"] = _id(dice, "p")
    optional: dict[str, Callable[[], Any]] = {
        "messageId": lambda: _id(dice, "m"),
        "anonymousId": lambda: _id(dice, "a"),
        "objectTypeId": lambda: _id(dice, "o"),
        "name": lambda: _pick(dice, ["Home"], ["", None]),
        "category": lambda: _pick(dice, ["Shop"], ["", None]),
        "channel": lambda: _pick(dice, ["server"], ["", None]),
        "timestamp": lambda: _time(dice),
        "originalTimestamp": lambda: _time(dice),
        "sentAt": lambda: _time(dice),
        "context": lambda: _pick(dice, [_context(dice)], [None]),
        "properties": lambda: _pick(
            dice, [{"total": 1.50, "n": 10**25}, {}], [None, {"device": {"token": "t"}, "device_id": "d"}]
        ),
        "traits": lambda: _pick(dice, [{"email": "a@b.c"}, {"objectTypeId": 4}], [None, {}]),
        "integrations": lambda: _pick(dice, [{"All": True}, {}], [None]),
        "writeKey": lambda: "k",
    }
    if protocol == "native":
        optional = {name: make for name, make in optional.items() if dice.random() < 0.7}
        if type_ not in ("page", "screen"):
            optional.pop("name", None)
        if type_ != "page":
            optional.pop("category", None)
        optional.pop("properties" if type_ in ("identify", "group", "alias") else "traits", None)
    event |= {name: make() for name, make in optional.items() if dice.random() < 0.4}
    for name in ("_metadata", "connectionId", "receivedAt", "kpid"):
        if dice.random() < 0.03:
            event[name] = dice.choice([None, 5, {"bundled": ["x"]}])
    return event


def _defaults(dice: random.Random) -> dict[str, Any]:
    makers: dict[str, Callable[[], Any]] = {
        "sentAt": lambda: _time(dice),
        "context": lambda: _context(dice),
        "integrations": lambda: {"Mail": False},
    }
    return {name: make() for name, make in makers.items() if dice.random() < 0.3}


def _track(dice: random.Random, protocol: ProtocolName = "track") -> tuple[str, Any]:
    if dice.random() < 0.3:
        return dice.choice(["track", "page", "identify", "group", "alias"]), _event(dice, protocol)
    events = [_event(dice, protocol) for _ in range(dice.randint(1, 8))]
    return "batch", {"batch": events, **_defaults(dice)}


def _typed(dice: random.Random) -> tuple[str, Any]:
    return "batch", {"batch": [_event(dice, "grpc") for _ in range(dice.randint(1, 8))]}


def _native(dice: random.Random) -> tuple[str, Any]:
    events = [_event(dice, "native") for _ in range(dice.randint(1, 8))]
    match dice.randrange(4):
        case 0:
            return dice.choice(["track", "page", "identify"]), events[0]
        case 1:
            return "events", dice.choice([events[0], events])
        case _:
            return "events", {"batch": events, **_defaults(dice)}


def _client(dice: random.Random) -> tuple[str, Any]:
    ids = {"external_id": _id(dice, "u"), "anonymous_id": _id(dice, "a")}
    data = {"data": {"total": 1.50, "email": "a@b.c"}, "message_id": f"m{dice.randrange(1000)}"}
    match dice.randrange(4):
        case 0:
            return "identify", {**ids, **data, "email": "b@c.d"}
        case 1:
            return "alias", {"external_id": "u", "anonymous_id": "a", "x": 5}
        case 2:
            device = {"device_id": "d", "os": "iOS 16.3", "model": "m", "app_build": "1", "app_version": "1.0"}
            return "devices", {**ids, **device}
        case _:
            events = [
                {"name": "Order", **ids, **data} | dice.choice([{}, {}, {"x": 1}]) for _ in range(dice.randint(1, 5))
            ]
            return "events", events


GENERATORS: dict[ProtocolName, Generate] = {"track": _track, "grpc": _typed, "native": _native, "client": _client}


def _fields(event: Event) -> dict[str, Any]:
    values = {field: getattr(event, field) for field in Event.__struct_fields__}
    return {field: _exact(value) if isinstance(value, Raw) else value for field, value in values.items()}


def _exact(text: Raw | bytes) -> Any:
    """The value of JSON, each number as the text that it is."""
    return json.loads(bytes(text) or b"null", parse_float=str, parse_int=str)


def _expected(envelope: Envelope, body: bytes) -> list[Canonical | Rejection]:
    protocol = PROTOCOLS[envelope.protocol]
    call = protocol.read_call(envelope.call, body)
    rejected = envelope.rejected or {}
    return [
        rejected.get(index) or canonical(*protocol.read(text, call), call, envelope, index)
        for index, text in enumerate(call.events)
    ]


@pytest.mark.parametrize("protocol", GENERATORS)
@pytest.mark.parametrize("is_client_side", [False, True])
def test_one_decode_gives_the_same_events(protocol: ProtocolName, is_client_side: bool) -> None:
    dice = random.Random(f"{protocol}{is_client_side}")
    events = usual = 0
    while events < 2_500:
        name, value = GENERATORS[protocol](dice)
        body = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode()
        envelope = Envelope(
            protocol, name, 7, 42, RECEIVED, bytes(16), "198.51.100.7", "curl/8.0", is_client_side=is_client_side
        )
        try:
            call = PROTOCOLS[protocol].read_call(name, body)
        except Exception:
            continue
        checked = enumerate(check_events(PROTOCOLS[protocol], call, envelope.limits))
        rejected = {index: each for index, each in checked if isinstance(each, Rejection)}
        envelope = msgspec.structs.replace(envelope, rejected=rejected)
        reader = CallReader(envelope, body)
        expected = _expected(envelope, body)
        assert len(reader) == len(expected)
        for index, other in enumerate(expected):
            outcome = reader.read(index)
            assert bytes(reader.source(index)) == bytes(call.events[index])
            if isinstance(outcome, Rejection) or isinstance(other, Rejection):
                assert outcome == other
                continue
            assert _exact(outcome[1]) == _exact(other[1]), body
            assert _fields(outcome[0]) == _fields(other[0]), body
            assert outcome[2] == other[2]
            usual += type(outcome[0]) is not Event
        events += len(expected)
    assert usual > 500, "hardly any event was decoded in one go"


def test_a_call_of_before_rejections_were_stored_is_held_to_the_rules() -> None:
    body = b'{"batch":[{"type":"page","userId":"u"},{"type":"page"}]}'
    reader = CallReader(Envelope("track", "batch", 7, 42, RECEIVED, bytes(16)), body)
    first, second = reader.read(0), reader.read(1)
    assert not isinstance(first, Rejection)
    assert isinstance(second, Rejection)


def test_what_the_server_sets_cannot_be_sent() -> None:
    body = b'{"type":"page","userId":"u","connectionId":5,"receivedAt":"2020-01-01T00:00:00Z"}'
    reader = CallReader(Envelope("track", "page", 7, 42, RECEIVED, bytes(16), rejected={}), body)
    read = reader.read(0)
    assert not isinstance(read, Rejection)
    assert json.loads(read[1])["connectionId"] == 42
    assert json.loads(read[1])["receivedAt"] == "2026-11-22T10:00:00Z"
