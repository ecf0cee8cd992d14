"""Clients of every protocol: each sends numbered events, call after call, and each call until it is acknowledged.

An event's name is its number, which is also its message id if the protocol has one. The client API has none, so a
repetition cannot be recognised: each attempt sends new events.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Protocol, Self

import grpc
import httpx

from headwater.v1 import events_pb2 as pb
from headwater.v1 import events_pb2_grpc

PAUSE_SECONDS: Final = 0.02
"""Pause of an SDK before it tries again."""
CALL_PAUSE_SECONDS: Final = 0.1
"""Pause between two calls of a client. Without it the clients take most of the processor time of these tests."""
TIMEOUT_SECONDS: Final = 15.0
RETRIABLE_STATUSES: Final = {408, 429, 502, 503, 504}
"""Statuses on which a client tries again. Any other status that is not an acknowledgement is a bug."""
RETRIABLE_GRPC_STATUSES: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
GRPC_OPTIONS: Final = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))


class Addresses(Protocol):
    """The addresses of the system. They change when machines die."""

    @property
    def ports(self) -> Sequence[int]:
        """Ports of 127.0.0.1; all of them are equivalent."""
        ...


class EventProtocol(Protocol):
    """The events calls of one protocol."""

    name: str
    events: int
    """Number of events in a call."""
    has_message_ids: bool

    async def send(self, port: int, key: str, user: str, names: list[str]) -> str | None:
        """Send one call. Return None when it is acknowledged, or else the reason to send it again."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Sender(ABC):
    """A client with its own user."""

    has_message_ids = True

    def __init__(self, name: str, addresses: Addresses, key: str) -> None:
        self.name = name
        self.key = key
        self.acknowledged: list[str] = []
        """Names of acknowledged events, in the order of sending."""
        self.attempted: set[str] = set()
        """Names of all events that it has sent."""
        self.retries = 0
        self._addresses = addresses
        self._number = 0

    @abstractmethod
    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set, and then the last call until it is acknowledged."""

    def port(self) -> int:
        """Return the port for the next attempt: another one after each failure, if there is one."""
        ports = self._addresses.ports
        return ports[self.retries % len(ports)]

    def next_names(self, events: int) -> list[str]:
        """Return names of this number of new events."""
        names = [f"{self.name} {number}" for number in range(self._number, self._number + events)]
        self._number += events
        self.attempted.update(names)
        return names


class CallSender(Sender):
    """Sends one call after another."""

    def __init__(self, name: str, protocol: EventProtocol, addresses: Addresses, key: str) -> None:
        super().__init__(name, addresses, key)
        self.has_message_ids = protocol.has_message_ids
        self._dialect = protocol

    async def run(self, stop: asyncio.Event) -> None:
        async with self._dialect:
            while not stop.is_set():
                names = self.next_names(self._dialect.events)
                while await self._dialect.send(self.port(), self.key, self.name, names) is not None:
                    self.retries += 1
                    await asyncio.sleep(PAUSE_SECONDS)
                    if not self.has_message_ids:
                        names = self.next_names(self._dialect.events)
                self.acknowledged += names
                await asyncio.sleep(CALL_PAUSE_SECONDS)


class HttpProtocol:
    """A protocol of JSON over HTTP."""

    def __init__(
        self, name: str, path: str, events: int, body: Callable[[str, list[str]], Any], *, has_message_ids: bool = True
    ) -> None:
        self.name = name
        self.events = events
        self.has_message_ids = has_message_ids
        self._path = path
        self._body = body
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=False)

    async def send(self, port: int, key: str, user: str, names: list[str]) -> str | None:
        url = f"http://127.0.0.1:{port}{self._path}"
        headers = {"authorization": f"Bearer {key}", "x-strict-mode": "1"}
        try:
            response = await self._client.post(url, json=self._body(user, names), headers=headers)
        except httpx.TransportError as error:
            return repr(error)
        if response.status_code in (200, 204):
            return None
        assert response.status_code in RETRIABLE_STATUSES, f"{self.name}: {response.status_code} {response.text}"
        return response.text

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


class GrpcProtocol:
    """The typed events API."""

    def __init__(self, name: str, events: int) -> None:
        self.name = name
        self.events = events
        self.has_message_ids = True
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._open = AsyncExitStack()

    async def send(self, port: int, key: str, user: str, names: list[str]) -> str | None:
        metadata = (("authorization", f"Bearer {key}"),)
        events = [pb.Event(type="track", user_id=user, event=name, message_id=name) for name in names]
        stub = events_pb2_grpc.EventServiceStub(await self._channel(port))
        try:
            response = await stub.SendEvents(
                pb.SendEventsRequest(events=events), metadata=metadata, timeout=TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            assert error.code() in RETRIABLE_GRPC_STATUSES, f"{self.name}: {error.code()} {error.details()}"
            return error.details() or ""
        assert (response.accepted, len(response.rejected)) == (len(events), 0)
        return None

    async def _channel(self, port: int) -> grpc.aio.Channel:
        if port not in self._channels:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=GRPC_OPTIONS)
            self._channels[port] = await self._open.enter_async_context(channel)
        return self._channels[port]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()


def protocols() -> list[EventProtocol]:
    """Return one of each protocol."""

    def track(user: str, name: str) -> dict[str, str]:
        return {"type": "track", "userId": user, "event": name, "messageId": name}

    def batch(user: str, names: list[str]) -> dict[str, Any]:
        return {"batch": [track(user, name) for name in names]}

    def client(user: str, names: list[str]) -> list[dict[str, str]]:
        return [{"external_id": user, "name": name} for name in names]

    return [
        HttpProtocol("track", "/v1/track", 1, lambda user, names: track(user, names[0])),
        HttpProtocol("batch", "/v1/batch", 10, batch),
        HttpProtocol("native", "/v1/events", 10, batch),
        HttpProtocol("native-one", "/v1/events/track", 1, lambda user, names: track(user, names[0])),
        HttpProtocol("client", "/api/client/events", 5, client, has_message_ids=False),
        GrpcProtocol("grpc", 10),
    ]
