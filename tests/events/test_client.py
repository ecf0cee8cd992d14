"""The client protocol: accepted calls with their documents, and rejected calls with their messages."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.base.clock import microseconds
from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge, Unprocessable
from headwater.events import PROTOCOLS, Envelope, Limits
from headwater.events.canonical import canonical, generated_message_id
from headwater.events.protocols import client
from headwater.events.raw import members
from headwater.events.wire import MEMBERS
from tests.jsontexts import json_text, json_values

RECEIVED = datetime(2026, 11, 22, 12, 0, 10, 500_000, tzinfo=UTC)
ENVELOPE = Envelope("client", "events", 7, 42, microseconds(RECEIVED), bytes(range(16)))
DEVICE = {
    "external_id": "E",
    "device_id": "d1",
    "token": "t1",
    "os": "iOS 16.3",
    "model": "iPhone15,2",
    "app_build": "465",
    "app_version": "1.2.4",
}


def text(body: object) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def documents(call: str, body: object) -> list[dict[str, Any]]:
    """Return the documents of an accepted call, without the members that the server adds."""
    read = client.read_call(call, text(body))
    found = []
    for index, event in enumerate(read.events):
        document = json.loads(canonical(*client.read(event, read), read, ENVELOPE, index)[1])
        for member in ("connectionId", "messageId", "timestamp", "originalTimestamp", "sentAt", "receivedAt"):
            del document[member]
        found.append(document)
    return found


def without(object_: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in object_.items() if name not in names}


# --- Documents of accepted calls ------------------------------------------------------------------------------------

BECOMES: list[tuple[str, object, dict[str, Any]]] = [
    (
        "alias",
        {"anonymous_id": "A", "external_id": "E", "source": "app"},
        {"type": "alias", "userId": "E", "previousId": "A", "traits": {}, "source": "app"},
    ),
    ("alias", {"anonymous_id": "A", "external_id": ""}, {"type": "alias", "previousId": "A", "traits": {}}),
    (
        "identify",
        {
            "anonymous_id": "A",
            "external_id": "E",
            "email": "a@b.c",
            "phone": "+15550100",
            "timezone": "America/Chicago",
            "locale": "en",
            "data": {"first_name": "Ada", "has_completed_onboarding": True},
        },
        {
            "type": "identify",
            "userId": "E",
            "anonymousId": "A",
            "traits": {
                "first_name": "Ada",
                "has_completed_onboarding": True,
                "email": "a@b.c",
                "phone": "+15550100",
                "timezone": "America/Chicago",
                "locale": "en",
            },
        },
    ),
    (
        "identify",
        {"external_id": "E", "email": None, "data": {"email": "in data", "plan": None}},
        {"type": "identify", "userId": "E", "traits": {"email": None, "plan": None}},
    ),
    ("identify", {"anonymous_id": "A", "external_id": None, "data": None}, {"anonymousId": "A", "traits": {}}),
    ("identify", {"external_id": ""}, {"type": "identify", "traits": {}}),
    (
        "events",
        [{"external_id": "E", "name": "Product Purchased", "data": {"price": 49.99}}],
        {
            "type": "track",
            "userId": "E",
            "event": "Product Purchased",
            "properties": {"price": 49.99},
            "traits": {},
        },
    ),
    ("events", [{"anonymous_id": "A"}], {"event": "", "properties": {}}),
    ("events", [{"anonymous_id": "A", "name": None, "data": None, "user": None}], {"event": "", "properties": {}}),
    (
        "events",
        [{"external_id": "E", "name": "n", "user": {"email": "a@b.c", "plan": "pro", "data": {"age": 36}}}],
        {"traits": {"age": 36, "email": "a@b.c", "plan": "pro"}},
    ),
    (
        "events",
        [{"external_id": "E", "name": "n", "properties": {"a": 1, "b": 1}, "data": {"b": 2}}],
        {"properties": {"a": 1, "b": 2}},
    ),
    ("events", [{"external_id": "E", "properties": "not an object"}], {"properties": {}}),
    (
        "events",
        [{"external_id": "E", "created_at": "2020-01-01", "timestamp": "2020-01-01", "userId": "F", "kpid": "x"}],
        {"userId": "E", "created_at": "2020-01-01"},
    ),
    ("events", [{"external_id": "E", "name": "n", "event": []}], {"event": "n"}),
    ("track", {"event": "Opened", "anonymous_id": "A", "data": {"a": 1}}, {"event": "Opened", "properties": {"a": 1}}),
    ("track", {"name": "Opened", "external_id": "E"}, {"type": "track", "event": "Opened", "userId": "E"}),
    (
        "devices",
        DEVICE,
        {
            "type": "track",
            "userId": "E",
            "event": "Device Created or Updated",
            "context": {
                "device": {"id": "d1", "token": "t1", "model": "iPhone15,2", "type": "ios"},
                "os": {"name": "iOS", "version": "16.3"},
                "app": {"build": "465", "version": "1.2.4"},
            },
            "properties": without(DEVICE, "external_id"),
            "traits": {},
        },
    ),
    (
        "devices",
        {**DEVICE, "anonymous_id": "A", "token": None, "os": "Android", "os_version": "14", "sdk_version": "1.0.0"},
        {
            "anonymousId": "A",
            "context": {
                "device": {"id": "d1", "model": "iPhone15,2", "type": "android"},
                "os": {"name": "Android", "version": "14"},
                "app": {"build": "465", "version": "1.2.4"},
            },
            "properties": {
                **without(DEVICE, "external_id"),
                "token": None,
                "os": "Android",
                "os_version": "14",
                "sdk_version": "1.0.0",
            },
        },
    ),
]


@pytest.mark.parametrize(("call", "body", "members"), BECOMES, ids=lambda value: str(value)[:40])
def test_becomes(call: str, body: object, members: dict[str, Any]) -> None:
    (document,) = documents(call, body)
    if "type" in members and "traits" in members:
        assert document == members
    assert {name: document.get(name) for name in members} == members
    assert "kpid" not in document


def test_every_digit_of_a_number_stays() -> None:
    body = b'[{"external_id":"E","name":"n","data":{"n":12345678901234567890.10}}]'
    (event,) = client.read_call("events", body).events
    assert b'"n":12345678901234567890.10' in bytes(event)


@pytest.mark.parametrize(
    ("sent", "kept"), [(b'"cut \\ud83d"', b'"cut \\ufffd"'), (b"NaN", b"null"), (b"[Infinity]", b"[null]")]
)
def test_what_sdks_write_and_json_has_not_is_put_right(sent: bytes, kept: bytes) -> None:
    (event,) = client.read_call("events", b'[{"external_id":"E","data":{"x":' + sent + b"}}]").events
    assert bytes(members(event)["properties"]) == b'{"x":' + kept + b"}"


# --- Message ids --------------------------------------------------------------------------------------------------

IDENTIFIED: list[tuple[str, Any]] = [
    ("alias", {"anonymous_id": "A", "external_id": "E"}),
    ("identify", {"external_id": "E", "data": {"message_id": "in data"}}),
    ("devices", DEVICE),
    ("events", {"external_id": "E", "name": "n", "user": {"data": {}}}),
    ("track", {"external_id": "E", "event": "n"}),
]


@pytest.mark.parametrize(("call", "body"), IDENTIFIED, ids=lambda value: str(value)[:20])
def test_every_call_may_have_a_message_id(call: str, body: dict[str, Any]) -> None:
    def message_id(**member: str | None) -> str:
        object_ = {**body, **member}
        read = client.read_call(call, text([object_] if call == "events" else object_))
        event, document, _ = canonical(*client.read(read.events[0], read), read, ENVELOPE, 0)
        assert b'"message_id"' not in document or call == "identify"
        assert event.traits == (Raw(b'{"message_id":"in data"}') if call == "identify" else Raw(b"{}"))
        return event.message_id

    assert message_id(message_id="m") == "m"
    generated = {message_id(), message_id(message_id=None), message_id(message_id="")}
    assert generated == {generated_message_id(ENVELOPE.nonce, 0)}


@pytest.mark.parametrize(
    ("message_id", "rule"),
    [
        (5, "be a string."),
        (["m"], "be a string."),
        ("a\0", "NOT contain the NUL character."),
        ("x" * 1001, "NOT have more than 1000 characters."),
        ("\U0001f680" * 501, "NOT have more than 2000 bytes."),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize(("call", "body"), IDENTIFIED, ids=lambda value: str(value)[:20])
def test_a_message_id_is_an_id(call: str, body: dict[str, Any], message_id: object, rule: str) -> None:
    object_ = {**body, "message_id": message_id}
    path = "0/message_id" if call == "events" else "message_id"
    with pytest.raises(Unprocessable) as raised:
        client.read_call(call, text([object_] if call == "events" else object_))
    assert (raised.value.field, raised.value.message) == ("message_id", f"The value of `{path}` must {rule}")


@pytest.mark.parametrize("cut", ["a\ud800", "a\ud801", "\udc00"])
@pytest.mark.parametrize(
    ("call", "member"),
    [
        *((call, member) for call, _ in IDENTIFIED for member in ("anonymous_id", "external_id", "message_id")),
        ("devices", "device_id"),
        ("devices", "token"),
    ],
)
def test_an_identifier_with_an_unpaired_surrogate_rejects_the_call(call: str, member: str, cut: str) -> None:
    good = dict(IDENTIFIED)[call]
    broken = {**good, member: cut}
    path = f"1/{member}" if call == "events" else member
    with pytest.raises(Unprocessable) as raised:
        client.read_call(call, text([good, broken] if call == "events" else broken))
    expected = f"The value of `{path}` must NOT contain an unpaired surrogate."
    assert (raised.value.field, raised.value.message) == (member, expected)


# --- Rejected calls and their messages ------------------------------------------------------------------------------

REFUSED: list[tuple[str, object, str | None, str]] = [
    ("alias", {}, "external_id", "Must have required property 'external_id'"),
    ("alias", b"", "external_id", "Must have required property 'external_id'"),
    ("alias", {"externalId": "E", "anonymousId": "A"}, "external_id", "Must have required property 'external_id'"),
    ("alias", {"external_id": "E"}, "anonymous_id", "Must have required property 'anonymous_id'"),
    (
        "alias",
        {"external_id": None, "anonymous_id": "A"},
        "external_id",
        "The value of `external_id` must be a string.",
    ),
    ("alias", {"external_id": "E", "anonymous_id": 5}, "anonymous_id", "The value of `anonymous_id` must be a string."),
    ("alias", [], None, "The value of `` must be a object."),
    ("identify", {}, "anonymous_id", "Must have required property 'anonymous_id'"),
    ("identify", {"plan": 1}, "anonymous_id", "Must have required property 'anonymous_id'"),
    ("identify", {"external_id": 5, "externalId": "E"}, None, "Must NOT have additional properties"),
    ("identify", {"external_id": 5}, "external_id", "The value of `external_id` must be a string."),
    ("identify", {"external_id": "E", "email": 5}, "email", "The value of `email` must be a string."),
    ("identify", {"external_id": "E", "data": []}, "data", "The value of `data` must be a object."),
    ("devices", {}, "device_id", "Must have required property 'device_id'"),
    ("devices", without(DEVICE, "external_id"), "anonymous_id", "Must have required property 'anonymous_id'"),
    *(
        ("devices", without(DEVICE, name), name, f"Must have required property '{name}'")
        for name in ("os", "model", "app_build", "app_version")
    ),
    ("devices", {**DEVICE, "app_build": 465}, "app_build", "The value of `app_build` must be a string."),
    ("devices", {**DEVICE, "os_version": None}, "os_version", "The value of `os_version` must be a string."),
    ("devices", {**DEVICE, "token": 5}, "token", "The value of `token` must be a string."),
    ("devices", {**DEVICE, "token": "é" * 501}, "token", "The value of `token` must NOT have more than 1000 bytes."),
    (
        "devices",
        {**DEVICE, "device_id": "a\0"},
        "device_id",
        "The value of `device_id` must NOT contain the NUL character.",
    ),
    (
        "identify",
        {"external_id": "\U0001f680" * 501},
        "external_id",
        "The value of `external_id` must NOT have more than 2000 bytes.",
    ),
    ("events", {}, None, "The value of `` must be a array."),
    ("events", b"", None, "The value of `` must be a array."),
    ("events", [], None, "Must NOT have fewer than 1 items"),
    ("events", [5], None, "The value of `0` must be a object."),
    ("events", [{"name": "n"}], "anonymous_id", "Must have required property 'anonymous_id'"),
    (
        "events",
        [{"external_id": "E"}, {"external_id": "E", "data": 5}],
        "data",
        "The value of `1/data` must be a object.",
    ),
    ("events", [{"external_id": "E", "name": 5}], "name", "The value of `0/name` must be a string."),
    ("events", [{"external_id": "E", "user": 5}], "user", "The value of `0/user` must be a object."),
    (
        "events",
        [{"external_id": "E", "user": {"email": 5}}],
        "user.email",
        "The value of `0/user/email` must be a string.",
    ),
    (
        "events",
        [{"external_id": "x" * 1001}],
        "external_id",
        "The value of `0/external_id` must NOT have more than 1000 characters.",
    ),
    (
        "events",
        b'[{"external_id":"E","data":%s1%s}]' % (b'{"a":' * 100, b"}" * 100),
        None,
        "The value of `0` must NOT be nested deeper than 100 levels.",
    ),
    ("track", [], None, "The value of `` must be a object."),
    ("track", {"external_id": "E", "event": 5}, "event", "The value of `event` must be a string."),
]


@pytest.mark.parametrize(("call", "body", "path", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_call_that_breaks_a_rule_is_rejected_as_a_whole(
    call: str, body: object, path: str | None, message: str
) -> None:
    with pytest.raises(Unprocessable) as raised:
        client.read_call(call, text(body))
    assert (raised.value.code, raised.value.field, raised.value.message) == ("ValidationError", path, message)


@pytest.mark.parametrize("call", ["alias", "identify", "devices", "events", "track"])
@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"5", b'"text"', b"null", b"[" * 100_000, b'{"external_id":"\xff"}', b"{}x"]
)
def test_what_is_no_json_object_or_array_is_a_bad_request(call: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        client.read_call(call, body)


def test_a_call_has_no_more_events_than_any_other() -> None:
    event = b'{"external_id":""}'
    assert len(client.read_call("events", b"[" + b",".join([event] * 20_000) + b"]").events) == 20_000
    with pytest.raises(PayloadTooLarge):
        client.read_call("events", b"[" + b",".join([event] * 20_001) + b"]")


def test_a_body_may_have_a_mebibyte() -> None:
    assert {client.max_body(call, Limits()) for call in ("alias", "events")} == {1_048_576}
    assert client.max_body("events", Limits(client_bytes=5)) == 5


# --- For all bodies -----------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    [*DEVICE, "anonymous_id", "message_id", "name", "data", "user", "email", "event", "properties", *MEMBERS.values()]
)
_OBJECTS = st.dictionaries(_NAMES | st.text(max_size=5), st.text(max_size=5) | json_values, max_size=12)
_BODIES = st.one_of(_OBJECTS, st.lists(_OBJECTS, max_size=3), json_values)


@given(st.sampled_from(["alias", "identify", "devices", "events", "track"]), _BODIES)
def test_a_call_is_accepted_or_rejected_as_documented(call: str, body: Any) -> None:
    """The worker reads the same documents as the intake accepted."""
    try:
        first = documents(call, body)
    except HeadwaterError as error:
        assert error.status in (400, 422)
        assert error.message
    else:
        assert first
        assert documents(call, body) == first
        for document in first:
            assert document["type"] in ("alias", "identify", "track")
            assert not {"kpid", "writeKey"} & document.keys()


def test_it_implements_the_wire_protocol() -> None:
    assert PROTOCOLS["client"] is client
    assert not client.KEY_IN_BODY


@given(st.data(), st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), json_values, max_size=4))
def test_what_apps_say_stays_the_text_that_was_sent(data: st.DataObject, said: dict[str, Any]) -> None:
    values = [json_text(value, data.draw) for value in said.values()]
    sent = b"{" + b",".join(text(name) + b":" + value.encode() for name, value in zip(said, values, strict=True)) + b"}"
    (event,) = client.read_call("events", b'[{"external_id":"E","data":' + sent + b"}]").events
    properties = members(members(event)["properties"])
    assert [(name, bytes(value).decode()) for name, value in properties.items()] == [*zip(said, values, strict=True)]
