import pytest

from headwater.schemas import (
    EVENT_SCHEMA,
    Codec,
    Json,
    as_destination,
    as_source,
    parse_schema,
    property_at,
    serialise,
    walk,
)

ALWAYS = {"connectionId", "messageId", "traits", "type"} | {
    "receivedAt", "sentAt", "originalTimestamp", "timestamp",
}  # fmt: skip


def test_it_is_a_schema_for_reading() -> None:
    assert parse_schema(serialise(EVENT_SCHEMA)) == EVENT_SCHEMA
    assert as_source(EVENT_SCHEMA) is EVENT_SCHEMA
    assert as_destination(EVENT_SCHEMA) != EVENT_SCHEMA
    assert {path for path, property in walk(EVENT_SCHEMA) if not property.read_optional} == ALWAYS
    assert not any(property.nullable for _, property in walk(EVENT_SCHEMA))
    assert all(property.description for _, property in walk(EVENT_SCHEMA))


@pytest.mark.parametrize(
    ("path", "type"),
    [
        ("kpid", "uuid"),
        ("connectionId", "int(32)"),
        ("context.ip", "ip"),
        ("context.consents", "map(boolean)"),
        ("context.screen.density", "decimal(3,2)"),
        ("context.screen.width", "int(16)"),
        ("context.session.id", "int(64)"),
        ("context.location.latitude", "float(64)"),
        ("context.network.wifi", "boolean"),
        ("properties", "json"),
        ("traits", "json"),
        ("receivedAt", "datetime"),
    ],
)
def test_types(path: str, type: str) -> None:
    assert str(property_at(EVENT_SCHEMA, path).type) == type


def test_an_event() -> None:
    text = (
        '{"connectionId":1371036433,"anonymousId":"a","context":{"ip":"192.0.2.1","screen":{"width":3024,"density":2},'
        '"session":{"id":"1766272512048"}},"event":"Order Completed","messageId":"m","properties":{"total":10.50},'
        '"receivedAt":"2025-10-20T16:15:24.340Z","sentAt":"2025-10-20T16:15:24.327Z",'
        '"originalTimestamp":"2025-10-20T16:15:23.992Z","timestamp":"2025-10-20T16:15:24.010Z","traits":{},"type":"track"}'
    )
    codec = Codec(EVENT_SCHEMA)
    event = codec.decode(text)
    assert event["properties"] == Json('{"total":10.50}')
    assert codec.encode(event).decode() == text
