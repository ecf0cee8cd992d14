"""The next batch: the time of its decoding, and its entries."""

import asyncio
from collections.abc import Iterator

import pytest

from headwater.base.errors import Unavailable
from headwater.log import LogEntry, Prefetch, StoredEntry
from tests.log.decoding import ListDecoder


def entries(number: int, *, size: int = 100) -> list[StoredEntry]:
    """Entries of five events each."""
    return [StoredEntry(1 + 5 * index, LogEntry(5, b"", bytes(size))) for index in range(number)]


class Source:
    """Returns the entries once it may."""

    def __init__(self, entries: list[StoredEntry]) -> None:
        self._entries = entries
        self.calls = 0
        self.may_respond = asyncio.Event()
        self.may_respond.set()

    async def fetch(self) -> list[StoredEntry]:
        self.calls += 1
        await self.may_respond.wait()
        return self._entries


def prefetch_from(
    source: Source, *, max_decoded_bytes: int = 1 << 20, slice_bytes: int = 1 << 10
) -> Prefetch[list[StoredEntry]]:
    return Prefetch(source.fetch, ListDecoder(), max_decoded_bytes=max_decoded_bytes, slice_bytes=slice_bytes)


slices = pytest.mark.parametrize("slice_bytes", [1, 250, 1 << 20])


@slices
async def test_nothing_is_an_empty_batch(slice_bytes: int) -> None:
    prefetch = prefetch_from(Source([]), slice_bytes=slice_bytes)
    assert await prefetch.result() == []
    assert prefetch.last == 0


@slices
@pytest.mark.parametrize(("limit", "count"), [(1, 1), (100, 1), (101, 2), (250, 3), (1 << 20, 4)])
async def test_a_batch_ends_with_the_entry_that_reaches_the_limit(limit: int, count: int, slice_bytes: int) -> None:
    prefetch = prefetch_from(Source(entries(4)), max_decoded_bytes=limit, slice_bytes=slice_bytes)
    assert await prefetch.result() == entries(4)[:count]
    assert prefetch.last == 5 * count
    assert prefetch.entries == entries(4)


@slices
@pytest.mark.parametrize("turns", range(14))
async def test_wherever_decoding_is_interrupted_the_batch_is_the_same(turns: int, slice_bytes: int) -> None:
    source, io_bound = Source(entries(8)), asyncio.Event()
    prefetch = prefetch_from(source, slice_bytes=slice_bytes)
    task = asyncio.create_task(prefetch.run(io_bound))
    await asyncio.sleep(0)
    assert source.calls == 0, "the handler does not wait yet"
    io_bound.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert await prefetch.result() == entries(8)
    assert (source.calls, prefetch.last) == (1, 40)


async def test_it_pauses_while_the_handler_works() -> None:
    taken: list[int] = []

    class Noted(list[StoredEntry]):
        def __iter__(self) -> Iterator[StoredEntry]:
            for entry in super().__iter__():
                taken.append(entry.position)
                yield entry

    io_bound = asyncio.Event()
    prefetch = prefetch_from(Source(Noted(entries(8))), slice_bytes=1)
    task = asyncio.create_task(prefetch.run(io_bound))
    io_bound.set()
    while len(taken) < 3:
        await asyncio.sleep(0)
    io_bound.clear()
    for _ in range(10):
        await asyncio.sleep(0)
    assert taken == [1, 6, 11]
    io_bound.set()
    await task
    assert taken == [entry.position for entry in entries(8)]


async def test_an_error_of_fetching_is_raised_with_the_result() -> None:
    async def fetch() -> list[StoredEntry]:
        raise Unavailable("the log is away")

    prefetch = Prefetch(fetch, ListDecoder(), max_decoded_bytes=1, slice_bytes=1)
    with pytest.raises(Unavailable, match="the log is away"):
        await prefetch.result()
    await prefetch.close()


async def test_an_entry_that_cannot_be_decoded_is_not_left_out() -> None:
    class Failing(ListDecoder):
        def add(self, stored: StoredEntry) -> None:
            if stored.position == 6:
                raise ValueError("a bug")
            super().add(stored)

    io_bound = asyncio.Event()
    io_bound.set()
    prefetch = Prefetch(Source(entries(4)).fetch, Failing(), max_decoded_bytes=1 << 20, slice_bytes=1)
    with pytest.raises(ValueError, match="a bug"):
        await prefetch.run(io_bound)
    with pytest.raises(ValueError, match="a bug"):
        await prefetch.result()


async def test_closing_waits_for_what_is_being_fetched() -> None:
    source, io_bound = Source(entries(1)), asyncio.Event()
    source.may_respond.clear()
    io_bound.set()
    prefetch = prefetch_from(source)
    task = asyncio.create_task(prefetch.run(io_bound))
    while not source.calls:
        await asyncio.sleep(0)
    task.cancel()
    closing = asyncio.create_task(prefetch.close())
    await asyncio.wait([task])
    assert not closing.done()
    source.may_respond.set()
    await closing
