"""The record of an event: the part of it that fits the event schema, for any event."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.events import Envelope, Event, Rejection
from headwater.events.context import Location
from headwater.events.protocol import Call
from headwater.events.record import RecordReader, event_record
from headwater.schemas import EVENT_SCHEMA, Codec, ObjectType, Record, Schema, select
from tests.events.contexts import USER_AGENT, contexts
from tests.events.reading import canonical, check
from tests.jsontexts import json_text, json_values

CODEC = Codec(EVENT_SCHEMA)
PLACE = Location("Rome", "IT", 41.9, 12.5)


def make_event(text: str, *, is_client_side: bool = False) -> Event:
    return make_stored(text, is_client_side=is_client_side)[0]


def make_stored(text: str, *, is_client_side: bool = False) -> tuple[Event, bytes]:
    """Return an event and its document."""
    source = Raw(text.encode())
    envelope = Envelope(
        "track", "batch", 7, 42, 1_000_000, bytes(16), "203.0.113.9", USER_AGENT, is_client_side=is_client_side
    )
    wire = check(source)
    assert not isinstance(wire, Rejection), wire
    return canonical(wire, source, Call(None, [source]), envelope, 0, lambda ip: PLACE)[:2]


def seen_context(context: dict[str, Any]) -> Any:
    return event_record(make_event(json.dumps({"type": "page", "userId": "u", "context": context})))["context"]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ({"ip": "garbage", "locale": "en_US"}, {"locale": "en-US"}),
        ({"ip": None, "page": None, "timezone": "Europe/Rome"}, {"timezone": "Europe/Rome"}),
        ({"page": {"url": "x", "title": None, "path": 5, "keywords": ["a"]}}, {"page": {"url": "x"}}),
        ({"network": {"wifi": False, "cellular": "yes"}}, {"network": {"wifi": False}}),
        ({"screen": {"width": 40000, "height": 844}}, {"screen": {"height": 844}}),
        ({"sessionId": 7, "sessionStart": True}, {"session": {"id": 7, "start": True}}),
        ({"consents": {"ads": True, "stats": "x"}}, {"consents": {"ads": True}}),
        ({"os": {"name": "Ubuntu"}}, {"os": {"name": "Other", "other": "Ubuntu"}}),
        ({"browser": "Chrome"}, {}),
        ({"ip": {}, "locale": {"x": 1}, "timezone": []}, {}),
    ],
    ids=str,
)
def test_what_does_not_fit_is_not_seen(sent: dict[str, Any], seen: dict[str, Any]) -> None:
    assert seen_context(sent) == seen


_IDS = st.one_of(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), st.integers(), st.none())


@given(
    contexts(),
    st.sampled_from(["track", "page", "screen", "identify", "group", "alias"]),
    st.dictionaries(st.sampled_from(["anonymousId", "previousId", "messageId", "objectTypeId"]), _IDS),
    st.dictionaries(st.text(max_size=3), json_values, max_size=2),
    st.booleans(),
    st.data(),
)
def test_the_record_of_every_event_satisfies_the_schema(
    context: dict[str, Any],
    type_: str,
    ids: dict[str, object],
    own: dict[str, Any],
    is_client_side: bool,
    data: st.DataObject,
) -> None:
    required = {"type": type_, "event": "e", "userId": "u", "groupId": "g", "previousId": "p"}
    texts = {"context": context, "properties": own, "traits": own}
    members = [f'"{name}":{json.dumps(value)}' for name, value in {**ids, **required}.items()]
    members += [f'"{name}":{json_text(value, data.draw)}' for name, value in texts.items()]
    record = event_record(make_event("{" + ",".join(members) + "}", is_client_side=is_client_side))
    text = CODEC.encode(record)
    assert json.loads(CODEC.encode(CODEC.decode(text))) == json.loads(text)


def property_paths(schema: Schema, parent: str = "") -> Iterator[str]:
    for property_ in schema:
        yield parent + property_.name
        if isinstance(property_.type, ObjectType):
            yield from property_paths(property_.type, f"{parent}{property_.name}.")


def restricted(record: Record, schema: Schema | None) -> Record:
    """Return the part of a record that a schema has."""
    kept: Record = {}
    for property_ in schema or ():
        if property_.name in record:
            value: Any = record[property_.name]
            kept[property_.name] = (
                restricted(value, property_.type) if isinstance(property_.type, ObjectType) else value
            )
    return kept


@given(contexts(), st.sets(st.sampled_from(list(property_paths(EVENT_SCHEMA))), max_size=6))
def test_a_reader_of_some_paths_reads_what_the_whole_record_has_there(context: dict[str, Any], paths: set[str]) -> None:
    event = make_event(json.dumps({"type": "page", "userId": "u", "context": context, "properties": {"n": 1}}))
    assert RecordReader(paths).read(event) == restricted(event_record(event), select(EVENT_SCHEMA, paths))
