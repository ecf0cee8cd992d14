"""Listeners: the sample is fair and bounded, reading empties it, and unread listeners expire."""

from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import NotFound, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.observe import listeners
from headwater.observe.listeners import MAX_LISTENERS, MAX_WORKSPACE_BYTES, Listener, Listeners, _Space
from headwater.observe.live import ArrivedEvent, LiveEvents, Selection
from tests.harness import Harness


def arrived(position: int, size: int = 8) -> ArrivedEvent:
    return ArrivedEvent(position, None, b"%0*d" % (size, position))  # type: ignore[arg-type]  # the event is not read


def make(size: int, seed: int = 0) -> Listener:
    return Listener(Selection(1), size, Random(seed), _Space(MAX_WORKSPACE_BYTES))


@given(st.integers(1, 20), st.integers(0, 60), st.integers())
def test_a_sample_is_in_order_and_counts_what_it_leaves_out(size: int, events: int, seed: int) -> None:
    listener = make(size, seed)
    for position in range(events):
        listener.put(arrived(position))
    sample = listener.drain()
    assert len(sample.documents) == min(size, events)
    assert sample.omitted == events - len(sample.documents)
    assert sample.documents == sorted(set(sample.documents))
    assert listener.drain() == listeners.Sample([], 0)


def test_each_event_has_the_same_chance() -> None:
    kept: Counter[bytes] = Counter()
    rounds, size, events = 2_000, 5, 20
    for seed in range(rounds):
        listener = make(size, seed)
        for position in range(events):
            listener.put(arrived(position))
        kept.update(listener.drain().documents)
    expected = rounds * size / events
    assert len(kept) == events
    assert all(abs(count - expected) < 0.2 * expected for count in kept.values())


def test_events_that_were_not_read_are_omitted() -> None:
    listener = make(2)
    listener.put(arrived(1))
    listener.omit(7)
    assert listener.drain().omitted == 7


def test_the_size_of_a_sample_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "MAX_LISTENER_BYTES", 30)
    listener = make(10)
    for position in range(10):
        listener.put(arrived(position, 10))
    sample = listener.drain()
    assert (len(sample.documents), sample.omitted) == (3, 7)
    listener.put(arrived(11, 10))
    assert len(listener.drain().documents) == 1


def test_the_size_of_all_samples_is_bounded_by_workspace_and_together() -> None:
    everything = _Space(50)
    spaces = [_Space(30, everything) for _ in range(3)]
    some = [Listener(Selection(1), 10, Random(0), space) for space in (spaces[0], *spaces)]
    for listener in some:
        for position in range(10):
            listener.put(arrived(position, 10))
    assert [len(listener.drain().documents) for listener in some] == [3, 0, 2, 0]
    for listener in some[1:]:
        listener.put(arrived(11, 10))
    assert [len(listener.drain().documents) for listener in some[1:]] == [1, 1, 1]


class Time:
    """A monotonic clock that is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def registry(harness: Harness, time: Time) -> AsyncIterator[Listeners]:
    live = LiveEvents(harness.log)
    registry = Listeners(live, Identifiers(), monotonic=time)
    yield registry
    registry.close()
    await live.close()


async def test_listeners_belong_to_their_workspace(registry: Listeners) -> None:
    id_ = await registry.create(Selection(1), 10)
    with pytest.raises(NotFound):
        registry.read(2, id_)
    registry.delete(2, id_)
    assert registry.read(1, id_).documents == []
    registry.delete(1, id_)
    registry.delete(1, id_)
    with pytest.raises(NotFound):
        registry.read(1, id_)


async def test_a_listener_expires_an_hour_after_it_was_read(registry: Listeners, time: Time) -> None:
    read, unread = [await registry.create(Selection(1), 10) for _ in range(2)]
    time.now = 3_000
    registry.read(1, read)
    time.now = 3_600
    registry.expire()
    registry.read(1, read)
    with pytest.raises(NotFound):
        registry.read(1, unread)


async def test_the_limit_is_that_of_a_workspace_and_expiry_makes_space(registry: Listeners, time: Time) -> None:
    for _ in range(MAX_LISTENERS):
        await registry.create(Selection(1), 10)
    with pytest.raises(Unprocessable) as refused:
        await registry.create(Selection(1), 10)
    assert refused.value.code == "TooManyListeners"
    await registry.create(Selection(2), 10)
    time.now = 3_600
    await registry.create(Selection(1), 10)
