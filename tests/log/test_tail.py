"""The tail: the entries of watchers, and the losses of slow ones."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from headwater.base.errors import Unavailable
from headwater.log import EventLog, LogEntry, StoredEntry, Tail, Watcher, tail


def decode(stored: StoredEntry) -> bytes:
    if stored.entry.body == b"broken":
        raise ValueError("a bug")
    return stored.entry.body


async def append(log: EventLog, *bodies: bytes, events: int = 1) -> int:
    """Append entries one after another; return the position of the last event."""
    last = 0
    for body in bodies:
        last = await log.append(LogEntry(events, b"", body)) + events - 1
    return last


async def collect(watcher: Watcher[bytes], count: int) -> list[bytes]:
    """Wait for so many items, of which none is lost."""
    found: list[bytes] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            watched = await watcher.next()
            assert (watched.dropped, watched.missed_bytes) == (0, 0)
            found += watched.items
    return found


async def test_watchers_see_what_comes_after_they_began(log: EventLog, other: EventLog) -> None:
    await append(log, b"before")
    live = Tail(log, decode)
    async with live.watch() as first:
        await append(other, b"a")
        assert await collect(first, 1) == [b"a"]
        async with live.watch() as second:
            await append(other, b"b", b"c")
            assert await collect(first, 2) == await collect(second, 2) == [b"b", b"c"]
        await append(other, b"d")
        assert await collect(first, 1) == [b"d"]
    assert await log.cursors() == {}, "without a lease"


async def test_each_entry_is_read_and_decoded_once_for_all(log: EventLog) -> None:
    decoded: list[int] = []

    def counting(stored: StoredEntry) -> bytes:
        decoded.append(stored.position)
        return stored.entry.body

    live = Tail(log, counting)
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(live.watch()) for _ in range(20)]
        await append(log, b"a", b"b")
        for watcher in watchers:
            assert await collect(watcher, 2) == [b"a", b"b"]
    assert len(decoded) == 2


async def test_a_slow_watcher_loses_the_oldest_and_learns_how_much_and_slows_nobody(log: EventLog) -> None:
    live = Tail(log, decode, queue_bytes=1000)
    async with live.watch() as slow, live.watch() as quick:
        bodies = [(b"%d" % number).ljust(100) for number in range(50)]
        for body in bodies:
            last = await append(log, body, events=3)
            assert await collect(quick, 1) == [body]
        watched = await slow.next()
        assert watched.items == bodies[-10:]
        assert watched.dropped == 3 * 40
        assert watched.position == last
        await append(log, b"next")
        watched = await slow.next()
        assert (watched.items, watched.dropped) == ([b"next"], 0)


async def test_an_entry_larger_than_a_queue_is_seen(log: EventLog) -> None:
    live = Tail(log, decode, queue_bytes=10)
    async with live.watch() as watcher:
        await append(log, bytes(1000))
        assert await collect(watcher, 1) == [bytes(1000)]


@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_watcher_may_begin_at_any_position_without_loss(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, is_followed: bool
) -> None:
    """However slow it is, and however much comes meanwhile."""
    monkeypatch.setattr(tail, "MAX_READ_BYTES", 500)
    live = Tail(log, decode, queue_bytes=1000)
    bodies = [(b"%d" % number).ljust(100) for number in range(60)]
    position = await append(log, *bodies[:10])
    await append(log, *bodies[10:30])
    async with AsyncExitStack() as stack:
        if is_followed:
            await stack.enter_async_context(live.watch())
        watcher = await stack.enter_async_context(live.watch(after=position))
        found = (await watcher.next()).items
        await append(log, *bodies[30:58])  # more than a queue can hold
        found += await collect(watcher, 48 - len(found))
        await append(log, *bodies[58:])
        found += await collect(watcher, 50 - len(found))
        assert found == bodies[10:]


async def test_a_watcher_that_begins_before_what_is_left_learns_what_it_missed(log: EventLog) -> None:
    first = await append(log, bytes(1000))
    last = await append(log, *[bytes(1000)] * 9)
    lease = await log.lease("warehouse")
    await lease.advance(last)
    await lease.release()
    await log.trim(older_than=timedelta(0))
    async with Tail(log, decode).watch(after=first) as watcher:
        watched = await watcher.next()
        assert len(watched.items) == 1
        assert watched.missed_bytes == pytest.approx(8000, rel=0.02)


async def test_a_watcher_can_continue_where_another_has_ended(log: EventLog) -> None:
    live = Tail(log, decode)
    async with live.watch() as watcher:
        await append(log, b"a")
        position = (await watcher.next()).position
    await append(log, b"b")
    async with live.watch(after=position) as watcher:
        assert await collect(watcher, 1) == [b"b"]
        await append(log, b"c")
        assert await collect(watcher, 1) == [b"c"]


async def test_an_entry_that_cannot_be_decoded_is_left_out(log: EventLog) -> None:
    live = Tail(log, decode)
    async with live.watch() as watcher:
        await append(log, b"a", b"broken", b"b")
        assert await collect(watcher, 2) == [b"a", b"b"]


async def test_it_reads_nothing_without_watchers(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Tail(log, decode)
    async with live.watch() as watcher:
        await append(log, b"a")
        await collect(watcher, 1)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "log-tail"]


async def test_it_continues_after_an_outage_of_the_log(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "BACK_OFF_SECONDS", 0.01)
    read, failures = log.read, [Unavailable("away"), ValueError("a bug"), Unavailable("away")]

    async def away(after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        if failures:
            raise failures.pop()
        return await read(after, max_bytes=max_bytes, wait=wait)

    monkeypatch.setattr(log, "read", away)
    async with Tail(log, decode).watch() as watcher:
        await append(log, b"a")
        assert await collect(watcher, 1) == [b"a"]
    assert not failures
