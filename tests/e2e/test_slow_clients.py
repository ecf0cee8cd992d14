"""Slow, numerous, disconnected and impatient clients, on every route of the intake. Meanwhile others are served, a call
arrives completely or not at all, and each gets its own response."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from tests.e2e.routes import ROUTES, Route
from tests.e2e.source import Source, get, make_source
from tests.e2e.stored import stored, wait_until_processed
from tests.system import RunningSystem

CONNECTIONS = 500
TIMEOUT_SECONDS = 40


@pytest.fixture
def source(system: RunningSystem) -> Source:
    return make_source(system)


class Wire:
    """One HTTP/1.1 connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def status(self) -> int:
        """Return the status of the next response, and read its body."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), TIMEOUT_SECONDS)
        lines = head.decode().lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if line)
        assert "transfer-encoding" not in fields
        await self._reader.readexactly(int(fields.get("content-length", 0)))
        return int(lines[0].split()[1])

    async def is_closed(self) -> bool:
        """Return whether the other side closes it soon."""
        try:
            await asyncio.wait_for(self._reader.read(), TIMEOUT_SECONDS)
        except ConnectionError:
            return True
        return self._reader.at_eof()

    async def cut(self) -> None:
        """Disconnect like a client that has crashed."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def connected(system: RunningSystem) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", system.port)
    wire = Wire(reader, writer)
    try:
        yield wire
    finally:
        await wire.cut()


def head(route: Route, source: Source, length: int | None) -> bytes:
    """Return the start of a call; without a length its body is chunked."""
    fields = {"host": "localhost", **route.headers_for(source)}
    fields |= {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
    lines = [f"POST {route.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


def whole(route: Route, source: Source, content: bytes | None = None) -> bytes:
    content = route.content() if content is None else content
    return head(route, source, len(content)) + content


async def serve_others(source: Source, calls: int) -> None:
    """Assert that other clients are served."""
    async with httpx.AsyncClient(base_url=source.system.base_url, timeout=TIMEOUT_SECONDS) as client:
        for number in range(calls):
            event = {"userId": "u", "event": "E", "messageId": f"other {number}"}
            response = await client.post("/v1/track", json=event, auth=(source.write_key, ""))
            assert response.status_code == 200


async def test_a_call_may_arrive_byte_by_byte(system: RunningSystem, source: Source) -> None:
    async def slow(route: Route) -> None:
        async with connected(system) as wire:
            request = whole(route, source)
            await wire.write(request[:-5])
            for byte in request[-5:]:
                await asyncio.sleep(1)
                await wire.write(bytes([byte]))
            assert await wire.status() == route.accepted

    async def never_ends_its_headers(route: Route) -> None:
        async with connected(system) as wire:
            closed = asyncio.create_task(wire.is_closed())
            with suppress(ConnectionError):
                for byte in head(route, source, 10):
                    await wire.write(bytes([byte]))
                    await asyncio.sleep(0.5)
                    if closed.done():
                        break
            assert await closed

    async with asyncio.TaskGroup() as clients:
        for route in ROUTES:
            clients.create_task(slow(route))
        for route in ROUTES[:3]:
            clients.create_task(never_ends_its_headers(route))
        clients.create_task(serve_others(source, 100))
    await asyncio.to_thread(wait_until_processed, source)
    assert await asyncio.to_thread(stored, source) == sum(route.events for route in ROUTES) + 100 + 1


async def test_500_idle_connections_do_not_delay_others(system: RunningSystem, source: Source) -> None:
    async def waits(route: Route, number: int, others: asyncio.Event, half: asyncio.Semaphore) -> None:
        async with connected(system) as wire:
            content = json.dumps(_numbered(route, f"waiting {number}")).encode()
            request = whole(route, source, content)
            await wire.write(request[: -len(content) // 2])
            half.release()
            await others.wait()
            await wire.write(request[-len(content) // 2 :])
            assert await wire.status() == route.accepted

    others, half = asyncio.Event(), asyncio.Semaphore(0)
    events = 0
    async with asyncio.TaskGroup() as clients:
        for number in range(CONNECTIONS):
            route = ROUTES[number % len(ROUTES)]
            events += route.events
            clients.create_task(waits(route, number, others, half))
        for _ in range(CONNECTIONS):
            await asyncio.wait_for(half.acquire(), TIMEOUT_SECONDS)
        await serve_others(source, 100)
        others.set()
    await asyncio.to_thread(wait_until_processed, source)
    assert await asyncio.to_thread(stored, source) == events + 100 + 1


def _numbered(route: Route, id_: str) -> Any:
    """Return the route's body with new ids, if the route has ids."""
    if not isinstance(route.body, dict) or "batch" in route.body or "external_id" in route.body:
        return route.body
    return {**route.body, "messageId": id_}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_an_incomplete_call_stores_nothing(system: RunningSystem, source: Source, chunked: bool) -> None:
    refused = get(system, f"/v1/events/rejected?connection={source.id}")["events"]
    for route in ROUTES:
        content = route.content()
        for part in (0, 1, len(content) // 2, len(content) - 1, len(content)):
            async with connected(system) as wire:
                if chunked:  # the body may be complete, except for the last chunk
                    chunk = b"%x\r\n%s\r\n" % (part, content[:part]) if part else b""
                    await wire.write(head(route, source, None) + chunk)
                elif part < len(content):
                    await wire.write(head(route, source, len(content)) + content[:part])
    await asyncio.to_thread(wait_until_processed, source)
    assert await asyncio.to_thread(stored, source) == 1
    assert get(system, f"/v1/events/rejected?connection={source.id}")["events"] == refused == []


@pytest.mark.parametrize("route", ROUTES, ids=str)
async def test_pipelined_calls_get_their_responses_in_order(
    system: RunningSystem, source: Source, route: Route
) -> None:
    bad = whole(route, source, b"{")
    good = whole(route, source)
    unknown = b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
    async with connected(system) as wire:
        # The unknown path comes last. The gateway itself responds to it immediately, and it closes a connection with
        # more than two pending responses, because it takes the client for a flood.
        await wire.write(good + bad + good + good + unknown)
        statuses = [await wire.status() for _ in range(5)]
    assert statuses == [route.accepted, route.bad, route.accepted, route.accepted, 404]
    await asyncio.to_thread(wait_until_processed, source)
    assert await asyncio.to_thread(stored, source) == 3 * route.events + 1
