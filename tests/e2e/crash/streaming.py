"""A client that streams typed events, with several requests in flight. After a break it sends the requests without an
acknowledgement again, in their order, on a new stream."""

import asyncio
from collections import deque
from typing import Any, Final

import grpc

from headwater.v1 import events_pb2 as pb
from headwater.v1 import events_pb2_grpc
from tests.e2e.crash.senders import (
    CALL_PAUSE_SECONDS,
    GRPC_OPTIONS,
    PAUSE_SECONDS,
    RETRIABLE_GRPC_STATUSES,
    TIMEOUT_SECONDS,
    Sender,
)

EVENTS: Final = 5
"""Number of events in a request."""
UNDER_WAY: Final = 4
BREAKING_STATUSES: Final = RETRIABLE_GRPC_STATUSES | {grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED}
"""Statuses of a broken stream. A stream that loses its server in the middle may have a status without a reason."""


class StreamSender(Sender):
    """A client of StreamEvents."""

    async def run(self, stop: asyncio.Event) -> None:
        waiting: deque[list[str]] = deque()
        while not (stop.is_set() and not waiting):
            port = self.port()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=GRPC_OPTIONS) as channel:
                stub = events_pb2_grpc.EventServiceStub(channel)
                call = stub.StreamEvents(metadata=(("authorization", f"Bearer {self.key}"),))
                try:
                    await self._stream(call, waiting, stop)
                except grpc.aio.AioRpcError as error:
                    assert error.code() in BREAKING_STATUSES, f"{self.name}: {error.code()} {error.details()}"
                except (TimeoutError, asyncio.InvalidStateError):
                    call.cancel()
                else:
                    continue
            self.retries += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _stream(self, call: Any, waiting: deque[list[str]], stop: asyncio.Event) -> None:
        """Send the waiting requests, then new events until `stop` is set; return when all are acknowledged."""
        done = 0
        for names in waiting:
            await self._write(call, names)
        while True:
            while not stop.is_set() and len(waiting) < UNDER_WAY:
                waiting.append(self.next_names(EVENTS))
                await self._write(call, waiting[-1])
            if not waiting:
                return
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await call.read()
            if response is grpc.aio.EOF:
                raise TimeoutError("the stream has ended")
            assert not response.rejected
            for _ in range(response.requests - done):
                self.acknowledged += waiting.popleft()
            done = response.requests
            await asyncio.sleep(CALL_PAUSE_SECONDS)

    async def _write(self, call: Any, names: list[str]) -> None:
        events = [pb.Event(type="track", user_id=self.name, event=name, message_id=name) for name in names]
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await call.write(pb.StreamEventsRequest(events=events))
