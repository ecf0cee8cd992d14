"""A whole context: completed and changed members, and all other members as they were sent."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.events import Envelope
from headwater.events.context import Locate, Location, normal_context
from headwater.events.context.normalise import MAX_CACHED_BYTES, Sections
from tests.events.contexts import context_texts

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
SERVER_SIDE = Envelope("track", "batch", 7, 42, 1_000_000, bytes(16), ip="203.0.113.9", user_agent=CHROME)
CLIENT_SIDE = msgspec.structs.replace(SERVER_SIDE, is_client_side=True)

BROWSER = {"name": "Chrome", "version": "126.0.0"}
OS = {"name": "Linux"}


def normal_text(context: bytes, envelope: Envelope = SERVER_SIDE, locate: Locate | None = None) -> bytes:
    return bytes(normal_context(Raw(context), Raw(), Raw(), envelope, locate).text or b"")


def normal(context: object, envelope: Envelope = SERVER_SIDE, locate: Locate | None = None) -> Any:
    text = normal_text(b"" if context is ... else json.dumps(context).encode(), envelope, locate)
    return json.loads(text) if text else ...


def test_a_server_says_nothing_of_the_environment_of_a_person() -> None:
    assert normal(...) is ...
    assert normal(None) is ...
    assert normal({"library": {"name": "x"}}) == {"library": {"name": "x"}}


@pytest.mark.parametrize("nothing", [..., None, {}])
def test_what_the_connection_of_a_person_tells(nothing: object) -> None:
    assert normal(nothing, CLIENT_SIDE) == {"userAgent": CHROME, "browser": BROWSER, "os": OS, "ip": "203.0.113.9"}


def test_what_the_client_says_counts_before_what_the_connection_tells() -> None:
    own = {"ip": "198.51.100.7", "userAgent": "okhttp/4.12.0", "os": {"name": "Android", "version": "14"}}
    assert normal(own, CLIENT_SIDE) == {**own, "browser": {"name": "Other", "other": "okhttp", "version": "4.12.0"}}


def test_the_user_agent_of_the_context_tells_of_browser_and_system_for_every_source() -> None:
    assert normal({"userAgent": CHROME}) == {"userAgent": CHROME, "browser": BROWSER, "os": OS}
    assert normal({"userAgent": CHROME, "os": {"name": "darwin"}}) == {
        "userAgent": CHROME,
        "browser": BROWSER,
        "os": {"name": "macOS"},
    }


def test_an_opt_out_leaves_no_trace_of_the_address() -> None:
    def locate(ip: str) -> Location | None:
        raise AssertionError(ip)

    assert "ip" not in normal({"ip": "0.0.0.0"}, CLIENT_SIDE, locate)
    assert normal({"ip": "0.0.0.0", "a": 1}) == {"a": 1}


UNTOUCHED = [
    b"{ }",
    b'{"active":true,"direct":false,"groupId":"g","n":1.0,"z":1E400,"list":[ 1 , 2 ]}',
    b'{"page":{"url":"x","keywords":["a"]},"campaign":{"name":"n","utm_x":1},"network":{"wifi":false,"bluetooth":null}}',
    b'{"device":{"id":"d","version":"1"},"consents":{"ads":false},"timezone":"Europe/Rome","app":{"build":7.10}}',
    b'{"ip":"198.51.100.7","locale":"en-US","browser":{"name":"Edge"},"os":{"name":"iOS"},"screen":{"density":2.50}}',
    b'{"session":{"id":"7","start":true},"location":{"city":"Rome"},"traits":{"a":1.00}}',
    b'{"ip":5,"locale":7,"browser":"x","os":[],"screen":"y","session":3,"userAgent":{},"location":0}',
    b'{"ip":null,"locale":null,"browser":null,"os":null,"screen":null,"session":null,"userAgent":null}',
]


@pytest.mark.parametrize("context", UNTOUCHED)
def test_what_is_normal_or_cannot_be_understood_stays(context: bytes) -> None:
    assert normal_text(context) == context


def test_only_the_members_that_change_are_written_again() -> None:
    assert normal_text(b'{ "n" : 1.0, "locale":"it_IT" , "sessionId":5, "z":[ 1E400 ]}') == (
        b'{"n":1.0,"locale":"it-IT","z":[ 1E400 ],"session":{"id":"5"}}'
    )
    added = b'"browser":{"name":"Chrome","version":"126.0.0"},"os":{"name":"Linux"}}'
    for before in (b'{"n" : 1.0,"userAgent":"%s"', b'{"userAgent":"%s" '):
        context = before % CHROME.encode()
        assert normal_text(context + b"}") == context.rstrip() + b"," + added


# --- Location -----------------------------------------------------------------------------------------------------

ROME = Location("Rome", "IT", 41.9, 12.5)
PLACE = {"city": "Rome", "country": "IT", "latitude": 41.9, "longitude": 12.5}


@pytest.mark.parametrize(
    ("sent", "envelope", "looked_up"),
    [
        ({"ip": "198.51.100.7"}, SERVER_SIDE, "198.51.100.7"),
        ({"ip": "255.255.255.0"}, SERVER_SIDE, "203.0.113.9"),  # with the whole address, which is not stored
        ({"ip": "255.255.0.0", "location": None}, CLIENT_SIDE, "203.0.113.9"),
        ({}, CLIENT_SIDE, "203.0.113.9"),
        ({"ip": "0.0.0.0"}, CLIENT_SIDE, None),
        ({"ip": "garbage"}, CLIENT_SIDE, None),
        ({}, SERVER_SIDE, None),
        ({"ip": "198.51.100.7", "location": {}}, SERVER_SIDE, None),
        ({"ip": "198.51.100.7", "location": {"city": "Milan"}}, SERVER_SIDE, None),
    ],
    ids=str,
)
def test_a_place_is_looked_up_where_none_was_said(
    sent: dict[str, Any], envelope: Envelope, looked_up: str | None
) -> None:
    asked: list[str] = []

    def locate(ip: str) -> Location | None:
        asked.append(ip)
        return ROME

    location = normal(sent, envelope, locate).get("location")
    assert asked == ([] if looked_up is None else [looked_up])
    assert location == (sent.get("location") if looked_up is None else PLACE)


def test_a_place_that_is_not_known_is_absent() -> None:
    assert normal({"ip": "198.51.100.7"}, locate=lambda ip: None) == {"ip": "198.51.100.7"}
    assert normal({"ip": "198.51.100.7"}, locate=lambda ip: Location(country="IT"))["location"] == {"country": "IT"}


# --- for every context --------------------------------------------------------------------------------------------


@given(context_texts(), st.sampled_from([SERVER_SIDE, CLIENT_SIDE]))
def test_what_is_normal_is_not_changed_again(context: bytes, envelope: Envelope) -> None:
    once = normal_text(context, envelope)
    # The result contains the caller's values. A person without a stored address gets none the second time either.
    assert normal_text(once, SERVER_SIDE) == once


@given(context_texts())
def test_members_that_nobody_looks_at_stay(context: bytes) -> None:
    before = msgspec.json.decode(context, type=dict[str, Raw])
    after = msgspec.json.decode(normal_text(context), type=dict[str, Raw])
    for name in before.keys() - set(Sections.__struct_encode_fields__):
        assert bytes(after[name]) == bytes(before[name])
    assert after.keys() - before.keys() <= {"browser", "os", "session"}


@pytest.mark.parametrize(
    ("own", "described", "expected"),
    [
        ({}, b"", {"device": {"id": "of the call"}}),
        ({"device": {"id": "own"}}, b'{"token":"t"}', {"device": {"id": "own"}}),
        ({"locale": "de_de"}, b"", {"device": {"id": "of the call"}, "locale": "de-DE"}),
    ],
)
def test_what_the_call_says_holds_for_events_that_do_not(
    own: object, described: bytes, expected: dict[str, object]
) -> None:
    defaults = Raw(b'{"device":{"id":"of the call"},"traits":{"of":"the call"}}')
    read = normal_context(Raw(json.dumps(own).encode()), defaults, Raw(described), SERVER_SIDE)
    assert json.loads(bytes(read.text or b"")) == {"traits": {"of": "the call"}, **expected}
    assert bytes(read.traits) == b"{}"


@pytest.mark.parametrize(("own", "expected"), [(b"", {"token": "t"}), (b'{"device":null}', {"token": "t"})])
def test_a_device_that_is_described_elsewhere_counts_where_the_context_says_none(own: bytes, expected: object) -> None:
    read = normal_context(Raw(own), Raw(), Raw(b'{"token":"t"}'), SERVER_SIDE)
    assert json.loads(bytes(read.text or b""))["device"] == expected


@given(context_texts(), st.sampled_from([SERVER_SIDE, CLIENT_SIDE]))
def test_what_is_remembered_is_what_is_read(text: bytes, envelope: Envelope) -> None:
    long = json.dumps(json.loads(text), indent=MAX_CACHED_BYTES).encode()  # too long to be remembered
    assert normal_text(text, envelope) == normal_text(text, envelope)
    assert json.loads(normal_text(long, envelope)) == json.loads(normal_text(text, envelope))
