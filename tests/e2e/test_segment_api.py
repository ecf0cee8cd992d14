"""Headwater to Headwater: what a source stores, the connector `segment-api` sends, and another source stores again."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from headwater.base.clock import SystemClock
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import Attempt, ConnectorContext, Outcome, OutgoingEvent, SendResult
from headwater.connectors.http import AiohttpClient
from headwater.connectors.redaction import Redactor
from headwater.connectors.segment_api.events import SegmentSink
from headwater.connectors.segment_api.settings import SegmentSettings
from tests.e2e.source import Source, make_source
from tests.system import RunningSystem

SET_BY_RECEIVER = ("connectionId", "receivedAt", "sentAt")
OLD = "2026-05-04T12:00:00.123456Z"


def outgoing(document: dict[str, Any]) -> OutgoingEvent:
    return OutgoingEvent(
        key=uuid.uuid4().hex,
        message_id=document["messageId"],
        source=document["connectionId"],
        type=document["type"],
        event_type="send_event",
        timestamp=datetime.fromisoformat(document["timestamp"]),
        received_at=datetime.fromisoformat(document["receivedAt"]),
        document=msgspec.json.encode(document),
        user_id=document.get("userId", ""),
        anonymous_id=document.get("anonymousId", ""),
    )


async def deliver(settings: SegmentSettings, documents: list[dict[str, Any]], attempts: int = 1) -> SendResult:
    """Send stored events in one batch, and repeat it as a courier does that does not know the outcome."""
    client = AiohttpClient(AddressPolicy.parse("127.0.0.0/8"), Redactor(settings.secrets()))
    context = ConnectorContext(http=client, clock=SystemClock(), logger=structlog.get_logger())
    sink = SegmentSink(settings, context)
    events = [sink.encode(outgoing(document)) for document in documents]
    try:
        for number in range(1, attempts + 1):
            request = sink.request(events, Attempt(key="0" * 32, number=number, at=datetime.now(UTC)))
            result = await sink.send(request, events)
        return result
    finally:
        await client.close()


def settings(receiver: Source) -> SegmentSettings:
    return SegmentSettings(write_key=receiver.write_key, endpoint=f"{receiver.system.base_url}/v1/batch")


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    compared = {name: value for name, value in document.items() if name not in SET_BY_RECEIVER}
    compared["context"] = {name: value for name, value in document.get("context", {}).items() if name != "headwater"}
    return compared


def test_nothing_is_lost_doubled_or_moved(system: RunningSystem) -> None:
    sender, receiver = make_source(system, connector="javascript", strategy="Fusion"), make_source(system)
    agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/125.0.0.0 Safari/537.36"
    wrong_clock = (datetime.now(UTC) - timedelta(hours=7)).isoformat()
    calls: list[dict[str, Any]] = [
        {"type": "identify", "userId": "ada", "anonymousId": "a", "traits": {"email": "ada@example.com", "n": 1.10}},
        {"type": "track", "userId": "ada", "event": "Bought", "properties": {"price": 1e-7, "items": [1, "é☕"]}},
        {"type": "track", "anonymousId": "a", "event": "Seen", "timestamp": OLD, "sentAt": OLD},
        {"type": "track", "anonymousId": "a", "event": "Ago", "timestamp": wrong_clock, "sentAt": wrong_clock},
        {"type": "page", "anonymousId": "a", "name": "Home", "timestamp": OLD, "originalTimestamp": OLD},
        {"type": "screen", "userId": 7, "context": {"screen": {"density": 1.6000001}, "sessionId": 5}},
        {"type": "group", "groupId": "g", "traits": {"object_type_id": "2"}, "unknown": [None]},
        {"type": "alias", "userId": "ada", "previousId": "a", "integrations": {"All": False}},
    ]
    sent: list[dict[str, Any]] = [{**call, "messageId": str(uuid.uuid4())} for _ in range(10) for call in calls]
    batch = {"batch": sent, "context": {"userAgent": agent, "ip": "255.255.255.0", "locale": "en_us"}}
    assert sender.send("batch", batch, **{"X-Strict-Mode": "1"}).status_code == 200
    before = sender.wait_for(len(sent))
    result = asyncio.run(deliver(settings(receiver), before, attempts=3))
    assert {item.outcome for item in result.items} == {Outcome.DELIVERED}
    asyncio.run(deliver(settings(receiver), before[:5]))
    after = receiver.wait_for(len(sent))
    assert [comparable(event) for event in after] == [comparable(event) for event in before]
    marker = {"userId": "u", "event": "after all others"}
    assert receiver.send("track", marker).status_code == 200
    assert len(receiver.wait_for(len(sent) + 1)) == len(sent) + 1, "repetitions are not stored"


def test_a_receiver_reports_what_it_rejects(system: RunningSystem) -> None:
    receiver = make_source(system)
    document = {
        **{"type": "track", "event": "E", "userId": "u", "messageId": "m", "connectionId": 1},
        **{"timestamp": OLD, "originalTimestamp": OLD, "receivedAt": OLD},
    }
    unknown = settings(receiver)
    unknown = msgspec.structs.replace(unknown, write_key="no-such-key")
    failure = asyncio.run(deliver(unknown, [document])).failure
    assert failure is not None and failure.reason == "Status401"
    failure = asyncio.run(deliver(settings(receiver), [document, {**document, "event": "x" * 2_000}])).failure
    assert failure is not None and failure.reason == "Status400" and "event" in failure.message
    [stored] = receiver.wait_for(1)
    assert stored["messageId"] == "m"
