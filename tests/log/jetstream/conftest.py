"""Logs on a server that the test may harm."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from headwater.base.clock import SystemClock
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.log.jetstream import JetStreamEventLog
from tests.log.conftest import SMALL
from tests.nats import NatsServer


class OpenJetStream(Protocol):
    """Opens a log on a server; it is closed after the test."""

    def __call__(
        self,
        server: NatsServer,
        *,
        stream: str = "FRAMES",
        finished: Callable[[], int] = lambda: 0,
        max_bytes: int = SMALL,
        replicas: int = 1,
    ) -> JetStreamEventLog: ...


async def read_rejection(call: Callable[[], Awaitable[object]]) -> str:
    """Return the reason why an impatient log rejects a call, once the server can be reached."""
    async with asyncio.timeout(60):
        while True:
            with pytest.raises(Unavailable) as refused:
                await call()
            if "NATS cannot be reached" not in refused.value.message:
                return refused.value.message


@pytest.fixture
def own_server() -> Iterator[NatsServer]:
    """A server for one test."""
    server = NatsServer()
    yield server
    server.close()


@pytest.fixture
async def open_jetstream() -> AsyncIterator[OpenJetStream]:
    async with AsyncExitStack() as stack:

        def open_one(
            server: NatsServer,
            *,
            stream: str = "FRAMES",
            finished: Callable[[], int] = lambda: 0,
            max_bytes: int = SMALL,
            replicas: int = 1,
        ) -> JetStreamEventLog:
            async def position() -> int:
                return finished()

            log = JetStreamEventLog(
                server.url,
                SystemClock(),
                Identifiers(),
                finished=position,
                max_bytes=max_bytes,
                replicas=replicas,
                stream=stream,
            )
            stack.push_async_callback(log.close)
            return log

        yield open_one
