"""A session keeps account of its items, also when their chunks or their store are away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from headwater.base.clock import SystemClock, microseconds
from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    DELIVERED,
    EncodedEvent,
    EventSink,
    SendResult,
    rejected,
    succeeded,
)
from headwater.delivery.chunks import ChunkCache
from headwater.delivery.items import Health, HealthState
from headwater.delivery.preparing import Prepared, Preparer, SourceEvent
from headwater.delivery.progress import GivenUp
from headwater.delivery.session import Session, SessionHooks
from headwater.state.deliveries import (
    ITEM_BITS,
    ChunkProgress,
    DeliveryStore,
    LaneHealth,
    NewChunk,
    NewDeliveries,
    QueuedChunk,
    open_delivery_store,
)
from tests.delivery.conftest import queued_event
from tests.delivery.lanes import make_lane, make_policy
from tests.sqlite import migrated_url

WORKSPACE, SOURCE, DESTINATION, PIPELINE = 1, 2, 3, 7
Answer = Callable[[Sequence[EncodedEvent]], Awaitable[SendResult]]


class Sink:
    """A destination with the responses of the test."""

    def __init__(self, answer: Answer) -> None:
        self.policy = make_policy(max_events=1)
        self.sent: list[str] = []
        self._answer = answer

    def request(self, events: Sequence[EncodedEvent], attempt: object) -> None:
        return None

    async def send(self, request: object, events: Sequence[EncodedEvent]) -> SendResult:
        self.sent += [event.id for event in events]
        return await self._answer(events)


class Plain:
    """Prepares each event under its message id."""

    async def prepare(self, events: Sequence[SourceEvent]) -> list[Prepared]:
        return [EncodedEvent(id=each.event.message_id, body=each.document) for each in events]

    def key(self, event: SourceEvent) -> str:
        return event.event.message_id


class World:
    """A queue, and the session of one destination."""

    def __init__(self, store: DeliveryStore) -> None:
        self.store = store
        self.cache = ChunkCache(1 << 20)
        self.given_up: list[GivenUp] = []
        self.epoch = 0
        self.positions = 0

    async def append(self, *users: str) -> int:
        """Append a chunk with an event of each user; return the id of the chunk."""
        first = self.positions + 1
        self.positions += len(users)
        events = [queued_event(first + index, SOURCE, user) for index, user in enumerate(users)]
        chunk = NewChunk(DESTINATION, WORKSPACE, {PIPELINE: None})
        await self.store.append([NewDeliveries(WORKSPACE, events, [chunk])], through=self.positions, now=now())
        return await self.store.newest_chunk()

    def session(self, answer: Answer, preparer: object | None = None, **values: Any) -> tuple[Session, Sink]:
        sink = Sink(answer)
        hooks = SessionHooks(
            progressed=lambda: None, sent=values.pop("sent", lambda _: None), given_up=self.given_up.append
        )
        session = Session(
            destination=DESTINATION,
            workspace=WORKSPACE,
            sink=cast(EventSink, sink),
            preparers={PIPELINE: cast(Preparer, preparer or Plain())},
            lane=values.pop("lane", None) or make_lane(sink.policy, expiry_seconds=1e9),
            store=values.pop("store", self.store),
            clock=SystemClock(),
            hooks=hooks,
            cache=self.cache,
            **values,
        )
        return session, sink

    async def flush(self, session: Session) -> None:
        """Commit the progress of a session, as the dispatcher does."""
        if not (progress := session.take()).is_empty:
            await self.store.commit(
                self.epoch,
                progress.chunks,
                dead=progress.dead,
                health=[progress.health] if progress.health else [],
                now=now(),
            )
            session.committed(progress)

    async def expire(self, session: Session) -> None:
        """Give up all unfinished chunks, as the dispatcher does."""
        for chunk in (await self.store.expire(self.epoch, before=now() + 1, now=now())).chunks:
            session.forget(chunk.id)

    async def dead(self) -> int:
        """Return the number of dead deliveries."""
        return sum(each.count for each in await self.store.dead_counts(WORKSPACE))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_delivery_store(migrated_url(tmp_path / "delivery.db")) as store:
        world = World(store)
        world.epoch = await store.claim()
        yield world


@asynccontextmanager
async def running(session: Session) -> AsyncIterator[asyncio.Task[None]]:
    """Run a session during the block."""
    task = asyncio.create_task(session.run())
    try:
        yield task
    finally:
        session.stop()
        await asyncio.wait((task,), timeout=10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_results_of_a_chunk_that_expires_are_committed(world: World) -> None:
    is_over = asyncio.Event()

    async def deliver_the_first(events: Sequence[EncodedEvent]) -> SendResult:
        if events[0].id != "m1":
            await is_over.wait()
        return succeeded([DELIVERED])

    await world.append("ann", "bob")
    session, sink = world.session(deliver_the_first)
    async with running(session):
        await until(lambda: session.uncommitted == 1 and len(sink.sent) == 2)
        await world.expire(session)
        await world.flush(session)
        assert session.uncommitted == 0
        assert await world.dead() == 1  # the first was delivered
        is_over.set()


async def test_a_delivery_of_a_chunk_that_expired_is_given_up_once(world: World) -> None:
    expired = asyncio.Event()

    async def refuse(events: Sequence[EncodedEvent]) -> SendResult:
        await expired.wait()
        return succeeded([rejected("Status422")])

    await world.append("ann")
    session, sink = world.session(refuse)
    async with running(session):
        await until(lambda: len(sink.sent) == 1)
        await world.expire(session)
        expired.set()
        await until(lambda: not session.lane.figures.items)
    await world.flush(session)
    assert await world.dead() == 1
    assert world.given_up == []


async def test_a_chunk_that_expires_while_it_is_prepared_is_not_sent(world: World) -> None:
    prepared, expired = asyncio.Event(), asyncio.Event()

    class Slow(Plain):
        async def prepare(self, events: Sequence[SourceEvent]) -> list[Prepared]:
            prepared.set()
            await expired.wait()
            return await super().prepare(events)

    await world.append("ann")
    session, sink = world.session(accept, Slow())
    async with running(session):
        await prepared.wait()
        await world.expire(session)
        expired.set()
        session.notify(await world.append("bob"))
        await until(lambda: bool(sink.sent))
    assert sink.sent == ["m2"]


async def test_a_chunk_that_the_worker_has_deleted_is_forgotten(world: World) -> None:
    """The worker makes space too, and tells no session."""
    id_ = await world.append("ann", "ann", "ann")
    session, _ = world.session(accept)
    await session._read_next()
    await session._read_next()
    numbers = [id_ << ITEM_BITS | index for index in range(3)]
    await world.store.commit(world.epoch, [ChunkProgress(id_, DESTINATION, b"\x07")], now=now())
    world.cache.drop(id_)
    await session._reload(numbers[:1])
    assert session.is_idle and not session.lane.figures.items


async def test_a_cancelled_session_ends_while_the_queue_is_away(world: World) -> None:
    """The caller of a session waits for the end, and a session of another courier may begin before it."""

    class Away:
        is_away = False

        async def read(self, destination: int, after: int, *, max_bytes: int) -> list[QueuedChunk]:
            if self.is_away:
                raise Unavailable("the queue is away")
            return await world.store.read(destination, after, max_bytes=max_bytes)

    async def refuse_and_cancel(events: Sequence[EncodedEvent]) -> SendResult:
        store.is_away = True
        task.cancel()
        return succeeded([rejected("Status422")])

    store = Away()
    await world.append("ann")
    session, _ = world.session(refuse_and_cancel, store=cast(DeliveryStore, store))
    world.cache.put = lambda chunk: None  # type: ignore[method-assign]  # documents are read again
    task = asyncio.create_task(session.run())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 10)


async def test_a_session_ends_with_the_error_of_a_request(world: World) -> None:
    """Otherwise its items would stay in flight forever."""

    def fail(_: object) -> None:
        raise KeyError("a bug")

    await world.append("ann")
    session, _ = world.session(accept, sent=fail)
    with pytest.raises(KeyError):
        await asyncio.wait_for(session.run(), 10)


async def test_a_session_that_waits_for_commits_takes_no_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.delivery.session.MAX_UNCOMMITTED_ITEMS", 2)
    await world.append(*"abcdefghij")
    lane = make_lane(make_policy(max_events=3), expiry_seconds=1e9)  # the last event lingers, for others to come
    session, _ = world.session(accept, lane=lane)
    looks = 0
    expire = session.lane.expire

    def count(now: float) -> list[Any]:
        nonlocal looks
        looks += 1
        return expire(now)

    session.lane.expire = count  # type: ignore[method-assign]
    async with running(session):
        await until(lambda: session.uncommitted > 2)
        await asyncio.sleep(0.1)
        looks = 0
        await asyncio.sleep(0.3)
        assert looks <= 2
        await world.flush(session)
        await until(lambda: session.uncommitted == 1)  # the last event


async def test_the_health_is_stored_when_it_differs_from_what_is_stored(world: World) -> None:
    """A session may begin with another health: a user has changed the settings that were the cause."""
    stored = Health(state=HealthState.REFUSING, failures=1, failing_since=1.0)
    session, _ = world.session(accept, stored_health=stored, last_success_at=5)
    await world.flush(session)
    health: LaneHealth = (await world.store.health())[DESTINATION]
    assert (health.state, health.failing_since, health.last_success_at) == ("closed", 0, 5)


async def accept(events: Sequence[EncodedEvent]) -> SendResult:
    return succeeded([DELIVERED for _ in events])


def now() -> int:
    return microseconds(SystemClock().now())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
