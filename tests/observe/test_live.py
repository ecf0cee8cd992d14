"""Live events: who gets which, what is omitted, and that nothing else notices."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from headwater.base.errors import BadRequest, TooManyRequests, Unavailable, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Connection
from headwater.filters import CheckedFilter, check_filter, parse_json
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.links import link_connections
from headwater.observe import watching
from headwater.observe.live import ArrivedEvent, LiveEvents, Selection
from headwater.observe.outcomes import OutcomeFeed
from headwater.observe.selection import find_destination, select_events
from headwater.observe.watching import Observers, Waiting, Watcher, make_observers
from headwater.schemas import EVENT_SCHEMA
from tests.harness import Harness, add_source, add_workspace


@pytest.fixture
async def observers(harness: Harness) -> AsyncIterator[Observers]:
    observers = make_observers(harness.log, Identifiers(), OutcomeFeed())
    yield observers
    await observers.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("live-events", "log-tail"))]


def batch(*ids: str, event: str = "Seen") -> bytes:
    return msgspec.json.encode(
        {"batch": [{"type": "track", "userId": "u", "event": event, "messageId": id_} for id_ in ids]}
    )


def event_filter(event: str) -> CheckedFilter:
    text = msgspec.json.encode(
        {"logical": "and", "conditions": [{"property": "event", "operator": "is", "values": [event]}]}
    )
    found = parse_json(text.decode())
    assert found is not None
    return check_filter(found, EVENT_SCHEMA, role="Source", target="Event")


def ids(documents: list[bytes]) -> list[str]:
    return [msgspec.json.decode(document)["messageId"] for document in documents]


async def take(watcher: Watcher, count: int) -> list[str]:
    """Wait for so many events, of which none is omitted."""
    found: list[str] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            watched = await watcher.next(1)
            assert not watched.omitted_events
            found += ids(watched.documents)
    return found


class Recorder:
    """A subscriber that keeps everything."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.ids: list[str] = []
        self.omitted = 0

    def put(self, arrived: ArrivedEvent) -> None:
        self.ids.append(arrived.event.message_id)

    def omit(self, events: int) -> None:
        self.omitted += events


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_watcher_gets_the_stored_document_of_what_arrives_later(
    harness: Harness, source: Connection, observers: Observers
) -> None:
    await harness.send(source, batch("before"))
    async with observers.watchers.watch(Selection(harness.workspace)) as watcher:
        await harness.send(source, batch("1", "2"))
        async with asyncio.timeout(30):
            watched = await watcher.next(30)
        await harness.process_log()
        assert watched.documents == (await harness.documents())[1:]
    assert set(await harness.log.cursors()) == set()


async def test_another_workspace_gets_nothing(harness: Harness, source: Connection, observers: Observers) -> None:
    other = await add_workspace(harness.catalog)
    other_source = await add_source(harness.catalog, other.id)
    async with (
        observers.watchers.watch(Selection(harness.workspace)) as own,
        observers.watchers.watch(Selection(other.id)) as theirs,
    ):
        await harness.send(source, batch("a"))
        await harness.send(other_source, batch("b"))
        assert await take(own, 1) == ["a"]
        assert await take(theirs, 1) == ["b"]


async def test_rejected_events_and_calls_are_not_shown(
    harness: Harness, source: Connection, observers: Observers
) -> None:
    async with observers.watchers.watch(Selection(harness.workspace)) as watcher:
        body = b'{"batch":[{"type":"track","userId":"u","event":""},{"type":"page","userId":"u","messageId":"p"}]}'
        await harness.send(source, body)
        with pytest.raises(BadRequest):
            await harness.send(source, b"{")
        await harness.send(source, batch("last"))
        assert await take(watcher, 2) == ["p", "last"]


async def test_connections_and_filters_select(harness: Harness, source: Connection, observers: Observers) -> None:
    second = await add_source(harness.catalog, harness.workspace)
    selection = select_events(harness.catalog, harness.workspace, source.id, event_filter("Seen"))
    async with observers.watchers.watch(selection) as watcher:
        await harness.send(source, batch("1", event="Ordered"))
        await harness.send(second, batch("2"))
        await harness.send(source, batch("3"))
        assert await take(watcher, 1) == ["3"]


async def test_a_destination_means_the_sources_linked_with_it_at_that_moment(
    harness: Harness, source: Connection
) -> None:
    catalog, workspace = harness.catalog, harness.workspace
    request = CreateConnection(name="Dummy", role="Destination", connector="dummy", sending_mode="Server")
    destination = await create_connection(catalog, workspace, request)
    assert select_events(catalog, workspace, destination.id, None).sources == frozenset()
    await link_connections(catalog, workspace, source.id, destination.id)
    assert select_events(catalog, workspace, destination.id, None).sources == frozenset((source.id,))
    assert find_destination(catalog, workspace, destination.id) == destination.id
    assert find_destination(catalog, workspace, source.id) is None
    assert find_destination(catalog, workspace, None) is None


@pytest.mark.parametrize(("connection", "error"), [(0, BadRequest), (2**31, BadRequest), (7, Unprocessable)])
async def test_bad_connections(harness: Harness, connection: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        select_events(harness.catalog, harness.workspace, connection, None)


async def test_a_filter_that_fails_lets_nothing_through(harness: Harness, source: Connection) -> None:
    def fail(_record: Any) -> bool:
        raise ZeroDivisionError

    events = LiveEvents(harness.log)
    broken, well = Recorder(Selection(harness.workspace, None, fail)), Recorder(Selection(harness.workspace))
    await events.add(broken)
    await events.add(well)
    await harness.send(source, batch("1"))
    await until(lambda: bool(well.ids))
    assert not broken.ids
    await events.close()


async def test_calls_that_find_no_time_are_counted_in_their_own_workspace(harness: Harness, source: Connection) -> None:
    other = await add_workspace(harness.catalog)
    quiet_source = await add_source(harness.catalog, other.id)
    events = LiveEvents(harness.log, waiting_bytes=2_000)
    busy, quiet = Recorder(Selection(harness.workspace)), Recorder(Selection(other.id))
    await events.add(busy)
    await events.add(quiet)
    sent = 0
    for number in range(20):
        await harness.send(source, batch(*(f"{number}-{index}" for index in range(10))))
        sent += 10
        if number % 5 == 0:
            await harness.send(quiet_source, batch(f"quiet-{number}"))
    await until(lambda: len(busy.ids) + busy.omitted == sent and len(quiet.ids) == 4)
    assert quiet.omitted == 0
    assert busy.ids == sorted(busy.ids, key=lambda id_: tuple(map(int, id_.split("-"))))
    await events.close()


async def test_reading_leaves_the_event_loop_most_of_its_time(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("headwater.observe.live.asyncio.sleep", record)
    time = iter(range(1_000_000))
    events = LiveEvents(harness.log, monotonic=lambda: next(time) * 0.001)
    recorder = Recorder(Selection(harness.workspace))
    await events.add(recorder)
    await harness.send(source, batch(*map(str, range(20))))
    async with asyncio.timeout(30):
        while len(recorder.ids) < 20:
            await sleep(0.005)
    paused = [pause for pause in pauses if pause]
    assert len(paused) >= 3, "20 events take 20 ms by this clock"
    assert sum(paused) >= 0.020 * 3 - 0.001
    await events.close()


async def test_a_log_that_cannot_be_reached_is_unavailable_until_it_can(
    harness: Harness, source: Connection, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> int:
        raise Unavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(harness.log, "last_position", fail)
        with pytest.raises(Unavailable):
            async with observers.watchers.watch(Selection(harness.workspace)):
                pass
    async with observers.watchers.watch(Selection(harness.workspace)) as watcher:
        await harness.send(source, batch("1"))
        assert await take(watcher, 1) == ["1"]


# --- Watchers -----------------------------------------------------------------------------------------------------


async def test_a_slow_watcher_loses_the_oldest_and_gets_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_QUEUE_BYTES", 30)
    watcher = Watcher(Selection(1), None)
    for number in range(5):
        watcher.put(ArrivedEvent(number, None, b"%010d" % number))  # type: ignore[arg-type]  # the event is not read
    watcher.omit(3)
    watched = await watcher.next(1)
    assert watched.documents == [b"%010d" % number for number in (2, 3, 4)]
    assert watched.omitted_events == 2 + 3
    assert (await watcher.next(0)).is_empty


async def test_what_waits_for_all_watchers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_ALL_QUEUE_BYTES", 50)
    waiting = Waiting()
    first, second = (Watcher(Selection(1), None, waiting) for _ in range(2))
    for watcher in (first, second):
        for number in range(4):
            watcher.put(ArrivedEvent(number, None, b"%010d" % number))  # type: ignore[arg-type]  # the event is not read
    assert [len((await watcher.next(1)).documents) for watcher in (first, second)] == [4, 1]
    second.put(ArrivedEvent(5, None, b"%010d" % 5))  # type: ignore[arg-type]  # the event is not read
    second.clear()
    assert waiting.bytes == 0


async def test_a_process_has_a_limited_number_of_watchers(harness: Harness) -> None:
    observers = make_observers(harness.log, Identifiers(), OutcomeFeed(), processes=200)
    async with AsyncExitStack() as stack:
        for workspace in range(watching.MAX_WATCHERS):
            await stack.enter_async_context(observers.watchers.watch(Selection(workspace + 1)))
        with pytest.raises(TooManyRequests):
            await stack.enter_async_context(observers.watchers.watch(Selection(99)))
    await observers.close()


async def test_much_that_waits_is_returned_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_TAKEN_BYTES", 15)
    watcher = Watcher(Selection(1), None)
    for number in range(3):
        watcher.put(ArrivedEvent(number, None, b"%010d" % number))  # type: ignore[arg-type]  # the event is not read
    assert [len((await watcher.next(1)).documents) for _ in range(2)] == [2, 1]


async def test_a_workspace_has_a_limited_number_of_watchers(harness: Harness, observers: Observers) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(watching.MAX_WATCHERS):
            await stack.enter_async_context(observers.watchers.watch(Selection(harness.workspace)))
        with pytest.raises(Unprocessable) as refused:
            async with observers.watchers.watch(Selection(harness.workspace)):
                pass
        assert refused.value.code == "TooManyListeners"
        async with observers.watchers.watch(Selection(harness.workspace + 1)):
            pass
    async with observers.watchers.watch(Selection(harness.workspace)):
        pass


async def test_the_end_of_the_process_ends_watchers_after_what_they_have(
    harness: Harness, source: Connection, observers: Observers
) -> None:
    async with observers.watchers.watch(Selection(harness.workspace)) as watcher:
        watcher.put(ArrivedEvent(1, None, b"{}"))  # type: ignore[arg-type]  # the event is not read
        observers.watchers.end()
        assert (await watcher.next(1)).documents == [b"{}"]
        with pytest.raises(Unavailable):
            await watcher.next(1)
    with pytest.raises(Unavailable):
        async with observers.watchers.watch(Selection(harness.workspace)):
            pass
