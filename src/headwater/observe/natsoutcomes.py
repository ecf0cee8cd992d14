"""Carries the outcomes of deliveries between machines: core NATS, without a stream, so that nothing is stored.

A process with watchers repeats which workspaces they watch, and publishers send the outcomes of those workspaces only.
A connection that is down loses outcomes. It is opened when the first watcher, or the publisher, needs it.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from headwater.base.outcomes import DeliveryOutcome, Outcomes
from headwater.observe.outcomes import OutcomeFeed, Receive, Receivers, group, packets

SUBJECT: Final = "HEADWATER.outcomes"
"""The subject of the outcomes of workspace 7 is "HEADWATER.outcomes.7"."""
WATCHED_SUBJECT: Final = "HEADWATER.watched"
"""The subject on which the watched workspaces are repeated, as decimal texts."""
REPEAT_SECONDS: Final = 2.0
FORGET_SECONDS: Final = 7.0
"""Time after which a publisher forgets a workspace that was not repeated."""
MAX_UNSENT: Final = 5_000
"""Maximum number of outcomes that wait for the connection. Further ones are lost."""
CONNECT_SECONDS: Final = 1.0
"""Delay between attempts to connect, and their time limit."""
FLUSH_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)
_ERRORS: Final = (nats.errors.Error, OSError, TimeoutError)


class _Link:
    """A connection to NATS that is opened again until it is closed."""

    def __init__(self, url: str, prepare: Callable[[Client], Awaitable[None]]) -> None:
        """`prepare` subscribes a new connection. The client subscribes again when it reconnects."""
        self._servers = [server.strip() for server in url.split(",")]
        self._prepare = prepare
        self.client = Client()
        self._opening = asyncio.create_task(self._open(), name="outcomes-nats")

    async def close(self) -> None:
        self._opening.cancel()
        await asyncio.wait([self._opening])
        with suppress(*_ERRORS):
            await self.client.close()

    async def wait(self) -> None:
        """Wait until the connection is open, for a limited time."""
        await asyncio.wait([self._opening], timeout=CONNECT_SECONDS)

    async def _open(self) -> None:
        while True:
            self.client = client = Client()
            try:
                await client.connect(
                    self._servers,
                    name="headwater-outcomes",
                    max_reconnect_attempts=-1,
                    connect_timeout=2,
                    error_cb=_ignore,
                )
                await self._prepare(client)
                return
            except _ERRORS as error:
                _log.warning("the outcomes of deliveries cannot be watched: NATS is unavailable", reason=str(error))
                with suppress(*_ERRORS):
                    await client.close()
            await asyncio.sleep(CONNECT_SECONDS)


async def _ignore(error: Exception) -> None:
    """Ignore an error of the connection: the client connects again."""


class NatsOutcomeFeed(OutcomeFeed):
    """Receives outcomes from processes of any machine. Used in one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._receivers = Receivers()
        self._link: _Link | None = None
        self._repeating: asyncio.Task[None] | None = None

    async def subscribe(self, workspace: int, receive: Receive) -> None:
        self._receivers.add(workspace, receive)
        if self._link is None:
            self._link = _Link(self._url, self._prepare)
            self._repeating = asyncio.create_task(self._repeat(), name="outcomes-repeat")
        await self._link.wait()
        await self._state_watched(workspace)

    def unsubscribe(self, workspace: int, receive: Receive) -> None:
        self._receivers.remove(workspace, receive)

    async def close(self) -> None:
        if self._repeating is not None:
            self._repeating.cancel()
            await asyncio.wait([self._repeating])
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def _prepare(self, client: Client) -> None:
        await client.subscribe(f"{SUBJECT}.*", cb=self._take)

    async def _take(self, message: Msg) -> None:
        workspace = message.subject.rpartition(".")[2]
        if workspace.isdecimal():
            self._receivers.receive(int(workspace), message.data)

    async def _repeat(self) -> None:
        while True:
            for workspace in self._receivers:
                await self._state_watched(workspace)
            await asyncio.sleep(REPEAT_SECONDS)

    async def _state_watched(self, workspace: int) -> None:
        if self._link is not None and self._link.client.is_connected:
            with suppress(*_ERRORS):
                await self._link.client.publish(WATCHED_SUBJECT, str(workspace).encode())
                await self._link.client.flush(FLUSH_SECONDS)  # type: ignore[arg-type]  # an int by its annotation only


class NatsOutcomes(Outcomes):
    """Publishes to processes of any machine. Used in one event loop."""

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._watched: dict[int, float] = {}
        """The times at which workspaces are forgotten."""
        self._unsent: deque[DeliveryOutcome] = deque()
        self._lost: dict[int, int] = {}
        """Number of lost outcomes by workspace."""
        self._has_unsent = asyncio.Event()
        self._link = _Link(url, self._prepare)
        self._sending = asyncio.create_task(self._send(), name="outcomes-send")

    def is_watched(self, workspace: int) -> bool:
        until = self._watched.get(workspace)
        if until is None:
            return False
        if until < self._monotonic():
            del self._watched[workspace]
            self._lost.pop(workspace, None)
            return False
        return True

    def publish(self, outcomes: Sequence[DeliveryOutcome]) -> None:
        for outcome in outcomes:
            if self.is_watched(outcome.workspace):
                self._unsent.append(outcome)
        while len(self._unsent) > MAX_UNSENT:
            self._lose(self._unsent.popleft().workspace, 1)
        if self._unsent:
            self._has_unsent.set()

    async def close(self) -> None:
        """Close the connection without waiting for what is not yet sent."""
        self._sending.cancel()
        await asyncio.wait([self._sending])
        await self._link.close()

    async def _prepare(self, client: Client) -> None:
        await client.subscribe(WATCHED_SUBJECT, cb=self._remember)

    async def _remember(self, message: Msg) -> None:
        if message.data.isdigit():
            self._watched[int(message.data)] = self._monotonic() + FORGET_SECONDS

    async def _send(self) -> None:
        while True:
            await self._has_unsent.wait()
            self._has_unsent.clear()
            outcomes = [*self._unsent]
            self._unsent.clear()
            for workspace, some in group(outcomes, self._watched).items():
                for data, count in packets(some, self._lost.pop(workspace, 0)):
                    if data is None or not await self._is_sent(workspace, data):
                        self._lose(workspace, count)

    async def _is_sent(self, workspace: int, data: bytes) -> bool:
        client = self._link.client
        if not client.is_connected:
            return False
        try:
            await client.publish(f"{SUBJECT}.{workspace}", data)
        except _ERRORS:
            return False
        return True

    def _lose(self, workspace: int, count: int) -> None:
        self._lost[workspace] = self._lost.get(workspace, 0) + count


@asynccontextmanager
async def open_nats_outcomes(url: str) -> AsyncIterator[NatsOutcomes]:
    """Open the publisher of a process, and close it at the end of the block."""
    outcomes = NatsOutcomes(url)
    try:
        yield outcomes
    finally:
        await outcomes.close()
