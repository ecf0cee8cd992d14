"""Delivered events are not sent again after an outage of the queue, a stop, or a change of couriers."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import EventType
from headwater.connectors.http_webhook.events import WebhookSink
from headwater.delivery import dispatcher, sender
from headwater.state.deliveries import CourierReplaced, DeadSelection, DeliveryStore
from tests.delivery.conftest import Deliveries, delivered
from tests.delivery.test_dispatcher import wait_for
from tests.e2e.receiver import Received, Receiver, receiver


class Faulty:
    """A queue whose methods can be away, or slow."""

    def __init__(self, store: DeliveryStore) -> None:
        self._store = store
        self.away: set[str] = set()
        self.slow: set[str] = set()
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any, **values: Any) -> Any:
            self.calls.append(name)
            if name in self.away:
                await asyncio.sleep(0.01)
                raise Unavailable("the queue is away")
            if name in self.slow:
                await asyncio.sleep(0.5)
            return await method(*arguments, **values)

        return call


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def store(deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    monkeypatch.setattr(dispatcher, "RETRY_SECONDS", 0.05)
    faulty = Faulty(deliveries.store)
    deliveries.store = cast(DeliveryStore, faulty)
    return faulty


@pytest.mark.parametrize("method", ["wait_for_chunk", "expire", "make_space", "summaries", "commit"])
async def test_an_outage_of_the_queue_ends_no_request(
    deliveries: Deliveries, hook: Receiver, store: Faulty, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLEAN_SECONDS", "REPORT_SECONDS", "STATUS_SECONDS", "WATCH_SECONDS"):
        monkeypatch.setattr(dispatcher, name, 0.05)
    answering = threading.Event()

    def answer(_: Received) -> tuple[int, dict[str, str], bytes]:
        answering.wait(10)
        return 200, {}, b""

    hook.answer = answer
    destination = await deliveries.add_destination(hook.url)
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann", "bob"])
        await wait_for(lambda: len(hook.requests) == 2)
        store.away = {method}
        store.calls.clear()
        answering.set()
        await wait_for(lambda: store.calls.count(method) >= 3)
        store.away = set()
        await deliveries.wait_until_empty(destination.id)
    assert sorted(delivered(hook.bodies())) == [1, 2]


async def test_a_stop_commits_what_was_delivered(deliveries: Deliveries, hook: Receiver, store: Faulty) -> None:
    destination = await deliveries.add_destination(hook.url)
    store.slow = {"commit"}
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann"])
        await wait_for(lambda: "commit" in store.calls)
    store.slow = set()
    await deliveries.wait_until_empty(destination.id, seconds=1)


async def test_a_stop_ends_while_the_queue_is_away(
    deliveries: Deliveries, hook: Receiver, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "STOP_SECONDS", 0.5)
    destination = await deliveries.add_destination(hook.url)
    stop = asyncio.Event()
    running = asyncio.create_task(deliveries.dispatcher().run(stop))
    await deliveries.append(destination, users=["ann"])
    store.away = {"commit"}
    await wait_for(lambda: "commit" in store.calls)
    stop.set()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(running, 5)


async def test_what_was_delivered_before_a_change_of_couriers_is_committed_after_it(
    deliveries: Deliveries, hook: Receiver, store: Faulty
) -> None:
    destination = await deliveries.add_destination(hook.url)
    active = deliveries.dispatcher()
    stop = asyncio.Event()
    await deliveries.append(destination, users=["ann"])
    store.away = {"commit"}
    running = asyncio.create_task(active.run(stop))
    await wait_for(lambda: "commit" in store.calls)  # the event is delivered
    await store.claim()
    store.away = set()
    with pytest.raises(CourierReplaced):
        await asyncio.wait_for(running, 10)
    running = asyncio.create_task(active.run(stop))
    await deliveries.wait_until_empty(destination.id)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert delivered(hook.bodies()) == [1]


async def test_documents_for_which_there_is_no_memory_are_read_again(
    deliveries: Deliveries, hook: Receiver, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is that of all destinations together."""
    monkeypatch.setattr(dispatcher, "MAX_CACHED_BYTES", 0)
    hook.answer = lambda _: (422, {}, b"")
    destinations = [await deliveries.add_destination(hook.url) for _ in range(2)]
    async with deliveries.dispatching():
        for _ in range(3):
            await deliveries.append(*destinations, users=["ann", "bob"])
        for destination in destinations:
            await deliveries.wait_until_empty(destination.id)
    page = await store.dead_letters(DeadSelection(workspace=deliveries.workspace), limit=20)
    assert sorted(letter.event.position for letter in page.letters) == sorted([*range(1, 7)] * 2)


async def test_a_destination_that_returns_no_event_types_is_asked_again(
    deliveries: Deliveries, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = await deliveries.add_destination(hook.url)
    asked = 0
    event_types = WebhookSink.event_types

    async def hang_once(self: WebhookSink) -> Sequence[EventType]:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.Event().wait()
        return await event_types(self)

    monkeypatch.setattr(WebhookSink, "event_types", hang_once)
    monkeypatch.setattr(sender, "OPEN_SECONDS", 0.1)
    monkeypatch.setattr(sender, "RETRY_SECONDS", 0.1)
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann"])
        await deliveries.wait_until_empty(destination.id)
    assert asked == 2


async def test_a_destination_that_returns_no_event_types_is_reported(
    deliveries: Deliveries, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request fails if the credentials are revoked while nothing is sent, so only this state has the reason."""
    destination = await deliveries.add_destination(hook.url)
    event_types, is_revoked = WebhookSink.event_types, True

    async def ask(self: WebhookSink) -> Sequence[EventType]:
        if is_revoked:
            raise Unavailable("the service responds with status 401")
        return await event_types(self)

    async def health() -> Any:
        return (await deliveries.store.health()).get(destination.id)

    monkeypatch.setattr(WebhookSink, "event_types", ask)
    monkeypatch.setattr(sender, "RETRY_SECONDS", 0.05)
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann"])
        async with asyncio.timeout(20):
            while (found := await health()) is None or found.failures < 2:
                await asyncio.sleep(0.01)
        assert (found.state, found.last_error) == ("open", "Unavailable: the service responds with status 401")
        assert found.failing_since and found.paused_until > found.failing_since
        is_revoked = False
        await deliveries.wait_until_empty(destination.id)
    found = await health()
    assert (found.state, found.failures, found.failing_since, found.last_error) == ("closed", 0, 0, "")
