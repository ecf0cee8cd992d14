"""Streams of typed events: order, acknowledgements, and bounds."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio

from headwater.api.services.eventstream import GROUP_EVENTS, REQUEST_BYTES, WINDOW_BYTES, EventStream
from headwater.catalog import Connection
from headwater.intake import Receipt
from headwater.v1 import events_pb2 as pb
from headwater.v1.events_pb2_grpc import EventServiceStub
from tests.api.conftest import Api

Requests = Iterable[pb.StreamEventsRequest]


def page(message_id: str, **members: Any) -> pb.Event:
    return pb.Event(type="page", user_id="u", message_id=message_id, **members)


def request(*events: pb.Event, **members: Any) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(events=events, **members)


def opened(api: Api, key: str) -> Any:
    stub: Any = EventServiceStub(api.channel)
    return stub.StreamEvents(metadata=(("authorization", f"Bearer {key}"),), timeout=20)


async def stream(api: Api, source: Connection, requests: Requests) -> list[pb.StreamEventsResponse]:
    """Return all responses to a stream of these requests."""
    call = opened(api, source.event_write_keys[0])
    for each in requests:
        await call.write(each)
    await call.done_writing()
    return [respond async for respond in call]


async def stored_ids(api: Api) -> list[str]:
    await api.harness.process_log()
    return [msgspec.json.decode(document)["messageId"] for document in await api.harness.documents()]


async def test_acknowledged_events_are_in_the_log_in_the_order_of_the_stream(api: Api, source: Connection) -> None:
    call = opened(api, source.event_write_keys[0])
    for number in range(0, 30, 3):
        await call.write(request(*(page(str(number + index)) for index in range(3))))
        respond = await call.read()
        assert (respond.requests, respond.accepted, len(respond.rejected)) == (number // 3 + 1, number + 3, 0)
        assert sum(entry.entry.events for entry in await api.harness.log_entries()) == number + 3
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await stored_ids(api) == [str(number) for number in range(30)]


async def test_requests_that_wait_are_appended_together(api: Api, source: Connection) -> None:
    responses = await stream(api, source, (request(page(str(number))) for number in range(500)))
    assert responses[-1] == pb.StreamEventsResponse(requests=500, accepted=500)
    assert [respond.requests for respond in responses] == sorted({respond.requests for respond in responses})
    assert len(await api.harness.log_entries()) == len(responses) < 500
    assert await stored_ids(api) == [str(number) for number in range(500)]


async def test_rejected_events_are_reported_once_by_request_and_index(api: Api, source: Connection) -> None:
    bad = pb.Event(type="track", user_id="u")
    responses = await stream(
        api, source, [request(page("a"), bad), request(), request(page("b")), request(bad, page("c"), bad)]
    )
    rejected = [rejected for respond in responses for rejected in respond.rejected]
    assert [(each.request, each.rejection.index) for each in rejected] == [(0, 1), (3, 0), (3, 2)]
    assert {(each.rejection.code, each.rejection.path) for each in rejected} == {("BadRequest", "event")}
    assert (responses[-1].requests, responses[-1].accepted) == (4, 3)
    assert await stored_ids(api) == ["a", "b", "c"]


async def test_the_time_of_sending_is_that_of_each_request(api: Api, source: Connection) -> None:
    now = int(api.harness.clock.now().timestamp())
    happened = Timestamp(seconds=now - 100)
    late = request(page("late", timestamp=happened), sent_at=Timestamp(seconds=now - 50, nanos=500_000_000))
    own = page("own", timestamp=happened, sent_at=Timestamp(seconds=now, nanos=500_000_000))
    right = request(page("right", timestamp=happened))
    await stream(api, source, [late, request(own, sent_at=Timestamp(seconds=now - 10)), right])
    await api.harness.process_log()
    documents = [msgspec.json.decode(document) for document in await api.harness.documents()]
    assert [(each["messageId"], each["timestamp"][14:19]) for each in documents] == [
        ("late", "59:20"),
        ("own", "58:30"),
        ("right", "58:30"),
    ]


async def test_a_stream_without_requests_ends(api: Api, source: Connection) -> None:
    assert await stream(api, source, []) == []
    assert await api.harness.log_entries() == []


async def test_an_unknown_key_is_rejected_before_the_first_request(api: Api) -> None:
    call = opened(api, "unknown")
    with pytest.raises(aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() == StatusCode.UNAUTHENTICATED


async def test_a_request_that_is_too_large_ends_the_stream_after_earlier_ones(api: Api, source: Connection) -> None:
    large = page("large", properties_json='{"x":"' + "x" * 30_000 + '"}')
    call = opened(api, source.event_write_keys[0])
    await call.write(request(page("before")))
    assert (await call.read()).requests == 1
    await call.write(request(*[large] * 20))
    with pytest.raises(aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() == StatusCode.INVALID_ARGUMENT
    assert "larger than" in (failed.value.details() or "")
    assert await stored_ids(api) == ["before"]


async def test_requests_are_appended_together_up_to_the_limit_of_a_call(api: Api, source: Connection) -> None:
    large = [page(str(number), properties_json='{"x":"' + "x" * 30_000 + '"}') for number in range(45)]
    responses = await stream(api, source, (request(*large[number : number + 15]) for number in (0, 15, 30)))
    assert responses[-1] == pb.StreamEventsResponse(requests=3, accepted=45)


async def test_a_client_that_disconnects_loses_no_acknowledged_event(api: Api, source: Connection) -> None:
    call = opened(api, source.event_write_keys[0])
    await call.write(request(page("acknowledged")))
    assert (await call.read()).accepted == 1
    call.cancel()
    responses = await stream(api, source, [request(page("after"))])
    assert responses[-1].accepted == 1
    assert await stored_ids(api) == ["acknowledged", "after"]


async def test_a_log_that_cannot_be_written_ends_the_stream(api: Api, source: Connection) -> None:
    await api.harness.log.close()
    with pytest.raises(aio.AioRpcError) as failed:
        await stream(api, source, [request(page("lost"))])
    assert failed.value.code() == StatusCode.UNAVAILABLE


# --- The stream alone -----------------------------------------------------------------------------------------------


class SlowLog:
    """A log that stores when the test lets it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.may_store = asyncio.Event()

    async def accept(self, body: bytes) -> Receipt:
        await self.may_store.wait()
        self.bodies.append(body)
        return Receipt([msgspec.Raw()] * len(msgspec.json.decode(body)["batch"]))  # type: ignore[list-item]  # not looked at


async def test_the_waiting_requests_are_bounded() -> None:
    log, taken = SlowLog(), 0
    event = page("x", properties_json='{"x":"' + "x" * 20_000 + '"}')

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield request(event)

    async def respond(response: pb.StreamEventsResponse) -> None:
        assert response.requests <= taken

    running = asyncio.create_task(EventStream(log.accept, group_bytes=100_000).acknowledge(requests(), respond))
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert 1 < taken <= 2 + (WINDOW_BYTES + 100_000) // 20_000
    log.may_store.set()
    await running
    assert taken == 200
    assert max(map(len, log.bodies)) <= 100_000


async def test_waiting_requests_without_events_are_bounded() -> None:
    """A client may send them without ever reading a response."""
    may_answer, taken = asyncio.Event(), 0
    log = SlowLog()
    log.may_store.set()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        nonlocal taken
        for _ in range(3 * WINDOW_BYTES // REQUEST_BYTES):
            taken += 1
            yield request()

    responses: list[int] = []

    async def respond(response: pb.StreamEventsResponse) -> None:
        await may_answer.wait()
        responses.append(response.requests)

    running = asyncio.create_task(EventStream(log.accept, group_bytes=100_000).acknowledge(requests(), respond))
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert 1 < taken <= 2 + (WINDOW_BYTES + 100_000) // REQUEST_BYTES
    may_answer.set()
    await running
    assert responses[-1] == taken == 3 * WINDOW_BYTES // REQUEST_BYTES


async def test_a_group_has_a_bounded_number_of_events() -> None:
    log = SlowLog()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        for _ in range(10):
            yield request(*[pb.Event()] * (GROUP_EVENTS // 4))

    responses: list[int] = []

    async def respond(response: pb.StreamEventsResponse) -> None:
        responses.append(response.requests)

    log.may_store.set()
    await EventStream(log.accept, group_bytes=1 << 20).acknowledge(requests(), respond)
    assert responses[-1] == 10
    assert max(len(msgspec.json.decode(body)["batch"]) for body in log.bodies) <= GROUP_EVENTS


async def test_a_failure_to_store_ends_the_stream() -> None:
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        try:
            yield request(page("x"))
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def accept(body: bytes) -> Receipt:
        raise OSError("the disk is gone")

    async def respond(response: pb.StreamEventsResponse) -> None:
        raise AssertionError("nothing is durable")

    with pytest.raises(OSError, match="the disk is gone"):
        await EventStream(accept, group_bytes=1 << 20).acknowledge(requests(), respond)
    assert ended.is_set()
