"""The fast decoder of contexts: what it returns is what the codec returns, and it leaves alone what it cannot read."""

import json
from typing import Any, cast

import msgspec
import pytest
from hypothesis import event, given
from msgspec import Raw

from headwater.events.fast_context import FastContext
from headwater.schemas import EVENT_SCHEMA, Codec, InvalidValue, ObjectType, property_at
from tests.events.contexts import contexts

CONTEXT = cast(ObjectType, property_at(EVENT_SCHEMA, "context").type)
FAST = FastContext(CONTEXT)
CODEC = Codec(CONTEXT)


def known(value: Any, schema: ObjectType) -> Any:
    """The members that the schema has, at both levels."""
    if not isinstance(value, dict):
        return value
    return {
        name: known(member, type_) if isinstance(type_ := schema.by_name[name].type, ObjectType) else member
        for name, member in value.items()
        if name in schema.by_name
    }


@given(contexts())
def test_the_result_is_that_of_the_codec(context: dict[str, Any]) -> None:
    expected = decoded(CODEC.decode, json.dumps(known(context, CONTEXT)).encode())
    event("fits" if expected is not None else "does not fit")
    assert repr(ordered(decoded(FAST.decode, Raw(json.dumps(context).encode())))) == repr(ordered(expected))


@pytest.mark.parametrize(
    "context",
    [
        {"location": {"latitude": -0.0, "longitude": 41}},
        {"location": {"speed": "NaN"}},
        {"screen": {"width": 3024, "height": 1964, "density": 2}},
        {"screen": {"density": 2.625}},
        {"screen": {"width": 1e2}},
        {"session": {"id": "1766272512048", "start": True}},
        {"session": {"id": 1766272512048}},
        {"ip": "2001:DB8::1"},
        {"ip": "203.0.113.7."},
        {"browser": {"name": "Chrome"}},
        {"browser": {"name": "chrome"}},
        {"consents": {"ads": True, "stats": False}},
        {"consents": {"ads": None}},
        {"locale": None},
        {"page": []},
        {"os": {}},
        {},
    ],
    ids=json.dumps,
)
def test_values_that_are_not_plain_are_read_by_the_schema(context: dict[str, Any]) -> None:
    text = json.dumps(context).encode()
    assert repr(decoded(FAST.decode, Raw(text))) == repr(decoded(CODEC.decode, text))


def test_unknown_members_are_skipped() -> None:
    assert FAST.decode(Raw(b'{"locale":"en","x":{"y":1},"page":{"url":"u","z":[1]}}')) == {
        "locale": "en",
        "page": {"url": "u"},
    }


def decoded(decode: Any, text: bytes) -> Any:
    try:
        return decode(text)
    except (msgspec.DecodeError, InvalidValue):
        return None


def ordered(value: Any) -> Any:
    return {name: ordered(value[name]) for name in sorted(value)} if isinstance(value, dict) else value
