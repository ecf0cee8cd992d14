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
    """All answers to a stream of these requests."""
    call = opened(api, source.event_write_keys[0])
    for each in requests:
        await call.write(each)
    await call.done_writing()
    return [answer async for answer in call]


async def stored_ids(api: Api) -> list[str]:
    await api.harness.process_log()
    return [msgspec.json.decode(document)["messageId"] for document in await api.harness.documents()]


async def test_what_is_acknowledged_is_in_the_log_in_the_order_of_the_stream(api: Api, source: Connection) -> None:
    call = opened(api, source.event_write_keys[0])
    for number in range(0, 30, 3):
        await call.write(request(*(page(str(number + index)) for index in range(3))))
        answer = await call.read()
        assert (answer.requests, answer.accepted, len(answer.rejected)) == (number // 3 + 1, number + 3, 0)
        assert sum(entry.entry.events for entry in await api.harness.log_entries()) == number + 3
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await stored_ids(api) == [str(number) for number in range(30)]


async def test_requests_that_wait_are_appended_together(api: Api, source: Connection) -> None:
    answers = await stream(api, source, (request(page(str(number))) for number in range(500)))
    assert answers[-1] == pb.StreamEventsResponse(requests=500, accepted=500)
    assert [answer.requests for answer in answers] == sorted({answer.requests for answer in answers})
    assert len(await api.harness.log_entries()) == len(answers) < 500
    assert await stored_ids(api) == [str(number) for number in range(500)]


async def test_refused_events_are_told_once_by_request_and_index(api: Api, source: Connection) -> None:
    bad = pb.Event(type="track", user_id="u")
    answers = await stream(
        api, source, [request(page("a"), bad), request(), request(page("b")), request(bad, page("c"), bad)]
    )
    rejected = [rejected for answer in answers for rejected in answer.rejected]
    assert [(each.request, each.rejection.index) for each in rejected] == [(0, 1), (3, 0), (3, 2)]
    assert {(each.rejection.code, each.rejection.path) for each in rejected} == {("BadRequest", "event")}
    assert (answers[-1].requests, answers[-1].accepted) == (4, 3)
    assert await stored_ids(api) == ["a", "b", "c"]


async def test_each_request_says_when_it_was_sent(api: Api, source: Connection) -> None:
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


async def test_a_key_that_is_not_known_is_refused_before_the_first_request(api: Api) -> None:
    call = opened(api, "unknown")
    with pytest.raises(aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() == StatusCode.UNAUTHENTICATED


async def test_a_request_that_is_too_large_ends_the_stream_after_what_came_before(api: Api, source: Connection) -> None:
    large = page("large", properties_json='{"x":"' + "x" * 30_000 + '"}')
    call = opened(api, source.event_write_keys[0])
    await call.write(request(page("before")))
    assert (await call.read()).requests == 1
    await call.write(request(*[large] * 20))
    with pytest.raises(aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() == StatusCode.INVALID_ARGUMENT
    assert "larger than" in (refused.value.details() or "")
    assert await stored_ids(api) == ["before"]


async def test_requests_are_not_appended_together_beyond_what_a_call_may_hold(api: Api, source: Connection) -> None:
    large = [page(str(number), properties_json='{"x":"' + "x" * 30_000 + '"}') for number in range(45)]
    answers = await stream(api, source, (request(*large[number : number + 15]) for number in (0, 15, 30)))
    assert answers[-1] == pb.StreamEventsResponse(requests=3, accepted=45)


async def test_a_client_that_goes_away_leaves_what_was_acknowledged(api: Api, source: Connection) -> None:
    call = opened(api, source.event_write_keys[0])
    await call.write(request(page("acknowledged")))
    assert (await call.read()).accepted == 1
    call.cancel()
    answers = await stream(api, source, [request(page("after"))])
    assert answers[-1].accepted == 1
    assert await stored_ids(api) == ["acknowledged", "after"]


async def test_a_log_that_cannot_be_written_ends_the_stream(api: Api, source: Connection) -> None:
    await api.harness.log.close()
    with pytest.raises(aio.AioRpcError) as refused:
        await stream(api, source, [request(page("lost"))])
    assert refused.value.code() == StatusCode.UNAVAILABLE


# --- The stream alone -----------------------------------------------------------------------------------------------


class SlowLog:
    """Stores when it is told to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.may_store = asyncio.Event()

    async def accept(self, body: bytes) -> Receipt:
        await self.may_store.wait()
        self.bodies.append(body)
        return Receipt([msgspec.Raw()] * len(msgspec.json.decode(body)["batch"]))  # type: ignore[list-item]  # not looked at


async def test_what_waits_is_bounded() -> None:
    log, taken = SlowLog(), 0
    event = page("x", properties_json='{"x":"' + "x" * 20_000 + '"}')

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield request(event)

    async def answer(response: pb.StreamEventsResponse) -> None:
        assert response.requests <= taken

    running = asyncio.create_task(EventStream(log.accept, group_bytes=100_000).acknowledge(requests(), answer))
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert 1 < taken <= 2 + (WINDOW_BYTES + 100_000) // 20_000
    log.may_store.set()
    await running
    assert taken == 200
    assert max(map(len, log.bodies)) <= 100_000


async def test_requests_without_events_wait_in_bounds_too() -> None:
    """A client may send them without ever reading an answer."""
    may_answer, taken = asyncio.Event(), 0
    log = SlowLog()
    log.may_store.set()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        nonlocal taken
        for _ in range(3 * WINDOW_BYTES // REQUEST_BYTES):
            taken += 1
            yield request()

    answers: list[int] = []

    async def answer(response: pb.StreamEventsResponse) -> None:
        await may_answer.wait()
        answers.append(response.requests)

    running = asyncio.create_task(EventStream(log.accept, group_bytes=100_000).acknowledge(requests(), answer))
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert 1 < taken <= 2 + (WINDOW_BYTES + 100_000) // REQUEST_BYTES
    may_answer.set()
    await running
    assert answers[-1] == taken == 3 * WINDOW_BYTES // REQUEST_BYTES


async def test_a_group_has_a_bounded_number_of_events() -> None:
    log = SlowLog()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        for _ in range(10):
            yield request(*[pb.Event()] * (GROUP_EVENTS // 4))

    answers: list[int] = []

    async def answer(response: pb.StreamEventsResponse) -> None:
        answers.append(response.requests)

    log.may_store.set()
    await EventStream(log.accept, group_bytes=1 << 20).acknowledge(requests(), answer)
    assert answers[-1] == 10
    assert max(len(msgspec.json.decode(body)["batch"]) for body in log.bodies) <= GROUP_EVENTS


async def test_when_storing_fails_nothing_goes_on() -> None:
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        try:
            yield request(page("x"))
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def accept(body: bytes) -> Receipt:
        raise OSError("the disk is gone")

    async def answer(response: pb.StreamEventsResponse) -> None:
        raise AssertionError("nothing is durable")

    with pytest.raises(OSError, match="the disk is gone"):
        await EventStream(accept, group_bytes=1 << 20).acknowledge(requests(), answer)
    assert ended.is_set()
