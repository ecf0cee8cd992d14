"""The stored document: the event's members in their order, then those that it has no field for."""

from datetime import UTC, datetime

from msgspec import Raw

from headwater.events.event import Event, encode_document

MOMENT = datetime(2026, 11, 22, 12, 0, 10, 500_000, tzinfo=UTC)
TIMES = b",".join(
    b'"%s":"2026-11-22T12:00:10.500000Z"' % name
    for name in (b"timestamp", b"originalTimestamp", b"sentAt", b"receivedAt")
)


def event(**values: object) -> Event:
    times = dict.fromkeys(("timestamp", "original_timestamp", "sent_at", "received_at"), MOMENT)
    return Event(**{"connection_id": 1, "message_id": "m", "type": "page", "traits": Raw(b"{}"), **times, **values})  # type: ignore[arg-type]  # a test's shorthand


def test_what_was_not_sent_is_not_there() -> None:
    assert (
        encode_document(event(), {}) == b'{"connectionId":1,"messageId":"m","type":"page","traits":{},' + TIMES + b"}"
    )


def test_people_s_own_json_is_text() -> None:
    text = encode_document(
        event(user_id="ü", properties=Raw(b'{ "a" : 1.0 }')), {"x": Raw(b"[ 1 ]"), "ü": Raw(b"null")}
    )
    assert text == (
        '{"connectionId":1,"messageId":"m","type":"page","userId":"ü","properties":{ "a" : 1.0 },"traits":{},'.encode()
        + TIMES
        + ',"x":[ 1 ],"ü":null}'.encode()
    )
