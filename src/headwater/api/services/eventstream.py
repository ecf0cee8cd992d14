"""One stream of typed events: takes its requests in their order, and tells how far they are durable.

Requests that have arrived while the log was writing are appended together, as one call, so that small requests cost few
writes. Requests that are not yet durable are bounded; beyond that the stream is not read, and the flow control of
HTTP/2 holds back the client.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from msgspec import Struct

from headwater.api.messages.events import batch_body, wire_event, wire_time
from headwater.events import Rejection
from headwater.intake import Receipt
from headwater.v1 import events_pb2 as pb

WINDOW_BYTES: Final = 1 << 20
"""Maximum size of the waiting requests of a stream, as JSON. One request may wait, whatever its size."""
REQUEST_BYTES: Final = 100
"""Size that a request has in addition to its events: a client may send requests without events."""
GROUP_EVENTS: Final = 1_000
"""Maximum number of events that are appended together, unless one request alone has more."""

Accept = Callable[[bytes], Awaitable[Receipt]]
"""Stores the events of a batch, and returns when they are durable."""
Answer = Callable[[pb.StreamEventsResponse], Awaitable[None]]


class _Request(Struct, frozen=True):
    """A request of the stream."""

    events: list[bytes]
    """The events as JSON."""
    size: int
    """In bytes, with the commas between them, and `REQUEST_BYTES`."""


class EventStream:
    """The requests of one stream on their way into the log."""

    def __init__(self, accept: Accept, *, group_bytes: int) -> None:
        """`group_bytes` is the largest body that `accept` takes."""
        self._accept = accept
        self._group_bytes = group_bytes - len(batch_body([]))
        self._waiting: deque[_Request] = deque()
        self._waiting_bytes = 0
        self._has_ended = False
        self._arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._answer = pb.StreamEventsResponse()
        """The response: the requests of the stream that are durable."""

    async def acknowledge(self, requests: AsyncIterator[pb.StreamEventsRequest], answer: Answer) -> None:
        """Store the events of the requests, and send a response when more of them are durable, until they end.

        Raises what `accept` raises: then what was answered is durable, and of the rest nothing is promised.
        """
        reading = asyncio.create_task(self._read(requests), name="event-stream")
        try:
            while await self._has_more():
                await answer(await self._store(self._take()))
            await reading
        finally:
            reading.cancel()
            await asyncio.wait((reading,))

    async def _read(self, requests: AsyncIterator[pb.StreamEventsRequest]) -> None:
        try:
            async for message in requests:
                sent_at = wire_time(message.sent_at) if message.HasField("sent_at") else None
                events = [wire_event(event, sent_at) for event in message.events]
                size = sum(map(len, events)) + len(events) + REQUEST_BYTES
                while self._waiting and self._waiting_bytes + size > WINDOW_BYTES:
                    self._has_room.clear()
                    await self._has_room.wait()
                self._waiting.append(_Request(events, size))
                self._waiting_bytes += size
                self._arrived.set()
        finally:
            self._has_ended = True
            self._arrived.set()

    async def _has_more(self) -> bool:
        while not self._waiting and not self._has_ended:
            self._arrived.clear()
            await self._arrived.wait()
        return bool(self._waiting)

    def _take(self) -> list[_Request]:
        """The next requests that fit into one call: one at least."""
        group: list[_Request] = []
        size = events = 0
        while self._waiting:
            size += self._waiting[0].size
            events += len(self._waiting[0].events)
            if group and (size > self._group_bytes or events > GROUP_EVENTS):
                break
            group.append(self._waiting.popleft())
            self._waiting_bytes -= group[-1].size
        self._has_room.set()
        return group

    async def _store(self, group: list[_Request]) -> pb.StreamEventsResponse:
        del self._answer.rejected[:]
        if events := [event for request in group for event in request.events]:
            receipt = await self._accept(batch_body(events))
            self._answer.accepted += receipt.accepted
            if receipt.accepted < len(events):
                self._tell_of_rejected(group, receipt.rejections)
        self._answer.requests += len(group)
        return self._answer

    def _tell_of_rejected(self, group: list[_Request], rejections: list[Rejection | None]) -> None:
        found = iter(rejections)
        for number, request in enumerate(group, self._answer.requests):
            for index, _ in enumerate(request.events):
                if (rejection := next(found)) is not None:
                    self._answer.rejected.add(request=number, rejection=event_rejection(index, rejection))


def event_rejection(index: int, rejection: Rejection) -> pb.EventRejection:
    """Why event number `index` of a request was refused."""
    return pb.EventRejection(index=index, code=rejection.code, path=rejection.path, message=rejection.message)
