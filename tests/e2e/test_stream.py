"""A stream of typed events through Envoy, while its backend is killed and while the system stops."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from grpc import StatusCode, aio

from headwater.v1 import events_pb2 as pb
from headwater.v1.events_pb2_grpc import EventServiceStub
from tests.e2e.source import Source, all_events, make_source
from tests.system import RunningSystem, start, wait_until

EVENTS = 20
"""Number of events in a request."""
PAUSE_SECONDS = 0.02
"""Pause between requests: the test reads back all events that a stream sends during the drain."""
BROKEN = {StatusCode.UNAVAILABLE, StatusCode.INTERNAL}
"""Statuses of a stream whose backend is gone: Envoy breaks off a stream that has had responses."""


class Client:
    """Sends numbered events, and after a break those without an acknowledgement again, on a new stream."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.acknowledged = 0
        """Number of acknowledged requests, from the first one on."""
        self.breaks: list[StatusCode] = []

    async def run(self, is_enough: Callable[[], bool]) -> None:
        async with aio.insecure_channel(f"127.0.0.1:{self._source.system.port}") as channel:
            stub = EventServiceStub(channel)
            while not is_enough():
                begin = self.acknowledged
                call = stub.StreamEvents(
                    self._requests(is_enough),
                    metadata=(("authorization", f"Bearer {self._source.write_key}"),),
                    timeout=60,
                    wait_for_ready=True,
                )
                try:
                    async for response in call:
                        assert response.accepted == EVENTS * response.requests
                        self.acknowledged = begin + response.requests
                except aio.AioRpcError as error:
                    self.breaks.append(error.code())

    async def _requests(self, is_enough: Callable[[], bool]) -> AsyncIterator[pb.StreamEventsRequest]:
        number = self.acknowledged
        while not is_enough():
            ids = [f"{number}-{index}" for index in range(EVENTS)]
            number += 1
            await asyncio.sleep(PAUSE_SECONDS)
            yield pb.StreamEventsRequest(
                events=[pb.Event(type="track", user_id="u", event="Seen", message_id=id_) for id_ in ids]
            )

    def ids(self) -> list[str]:
        """Return the ids of the acknowledged events."""
        return [f"{number}-{index}" for number in range(self.acknowledged) for index in range(EVENTS)]


async def test_acknowledged_events_are_stored_once_and_in_order_when_backends_are_killed(tmp_path: Path) -> None:
    system = start(tmp_path / "data", HEADWATER_BACKENDS="2")
    try:
        source = make_source(system)
        client = Client(source)
        stop = asyncio.Event()
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            group.create_task(client.run(stop.is_set))
            for victim in ("backend", "backend-2"):
                await _until_more(client)
                await _kill(system, victim)
            await _until_more(client)
            stop.set()
        assert set(client.breaks) <= BROKEN
        wait_until(lambda: len(source.events()) >= len(client.ids()), 60)
        stored = [event["messageId"] for event in all_events(system)]
        assert len(stored) == len(set(stored)), "an event is stored twice"
        assert [id_ for id_ in stored if id_ in set(client.ids())] == client.ids(), "lost, or in another order"
    finally:
        assert system.stop() == 0, system.errors


async def test_a_stop_ends_streams_and_loses_no_acknowledged_event(tmp_path: Path) -> None:
    system = start(tmp_path / "data")
    client = Client(make_source(system))
    running = asyncio.create_task(client.run(lambda: bool(client.breaks)))
    async with asyncio.timeout(60):
        await _until(lambda: client.acknowledged >= 20)
        assert await asyncio.to_thread(system.stop) == 0, system.errors
        await running
    assert client.breaks
    assert set(client.breaks) <= BROKEN
    again = start(tmp_path / "data", system.port)
    try:
        wait_until(lambda: len(all_events(again)) >= len(client.ids()), 60)
        stored = [event["messageId"] for event in all_events(again)]
        assert stored[: len(client.ids())] == client.ids()
    finally:
        assert again.stop() == 0, again.errors


async def _kill(system: RunningSystem, child: str) -> None:
    await _until(lambda: child in system.children())
    os.kill(system.children()[child], signal.SIGKILL)


async def _until_more(client: Client) -> None:
    least = client.acknowledged + 20
    await _until(lambda: client.acknowledged >= least)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)
