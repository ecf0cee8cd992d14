"""Frames on their way to a batch: when they are read, and which."""

import asyncio
from collections.abc import Iterator

import pytest

from headwater.base.errors import Unavailable
from headwater.events import Envelope
from headwater.events.envelope import encode_envelope
from headwater.log import LogEntry, StoredEntry
from headwater.processing import reading
from headwater.processing.reading import Reading

HEADER = encode_envelope(Envelope("track", "batch", 7, 42, 1_000_000, bytes(16)))


def entries(number: int, *, events: int = 5, padding: int = 0) -> list[StoredEntry]:
    """Calls whose context, which each of their events gets, has so many bytes."""
    event = b'{"type":"page","userId":"u"}'
    body = b'{"context":{"a":"%b"},"batch":[%b]}' % (b"x" * padding, b",".join([event] * events))
    return [StoredEntry(1 + events * index, LogEntry(events, HEADER, body)) for index in range(number)]


class Source:
    """Gives the frames, when it is let."""

    def __init__(self, entries: list[StoredEntry]) -> None:
        self._frames = entries
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self) -> list[StoredEntry]:
        self.asked += 1
        await self.may_answer.wait()
        return self._frames


@pytest.fixture(params=[1, 1 << 10, 1 << 20])
def _slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLICE_BYTES", request.param)


@pytest.mark.usefixtures("_slices")
async def test_nothing_is_an_empty_batch() -> None:
    batch = await Reading(Source([]).fetch).finish()
    assert (batch.accepted, batch.rejected, batch.last) == ([], [], 0)


@pytest.mark.usefixtures("_slices")
@pytest.mark.parametrize(("limit", "last"), [(1, 5), (4_000, 5), (9_000, 10), (1 << 20, 20)])
async def test_a_batch_ends_with_the_frame_whose_documents_are_enough(
    limit: int, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_DOCUMENT_BYTES", limit)
    batch = await Reading(Source(entries(4, padding=1_000)).fetch).finish()
    assert (len(batch.accepted), batch.last) == (last, last)


@pytest.mark.usefixtures("_slices")
@pytest.mark.parametrize("turns", range(14))
async def test_wherever_reading_is_interrupted_the_batch_is_the_same(turns: int) -> None:
    source, has_time = Source(entries(8, padding=500)), asyncio.Event()
    being_read = Reading(source.fetch)
    task = asyncio.create_task(being_read.go_on(has_time))
    await asyncio.sleep(0)
    assert source.asked == 0, "there was no time yet"
    has_time.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    batch = await being_read.finish()
    assert source.asked == 1
    assert [arrival.position for arrival in batch.accepted] == list(range(1, 41))
    assert batch.last == 40


async def test_it_stops_where_there_is_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLICE_BYTES", 1)
    taken: list[int] = []

    class Noted(list[StoredEntry]):
        def __iter__(self) -> Iterator[StoredEntry]:
            for entry in super().__iter__():
                taken.append(entry.position)
                yield entry

    has_time = asyncio.Event()
    being_read = Reading(Source(Noted(entries(8))).fetch)
    task = asyncio.create_task(being_read.go_on(has_time))
    has_time.set()
    while len(taken) < 3:
        await asyncio.sleep(0)
    has_time.clear()
    for _ in range(10):
        await asyncio.sleep(0)
    assert taken == [1, 6, 11]
    has_time.set()
    await task
    assert taken == [entry.position for entry in entries(8)]


async def test_what_fetching_raises_is_raised_to_whoever_wants_the_batch() -> None:
    async def fetch() -> list[StoredEntry]:
        raise Unavailable("the log is away")

    being_read = Reading(fetch)
    with pytest.raises(Unavailable, match="the log is away"):
        await being_read.finish()
    await being_read.close()


async def test_closing_waits_for_what_is_being_fetched() -> None:
    source, has_time = Source(entries(1)), asyncio.Event()
    source.may_answer.clear()
    has_time.set()
    being_read = Reading(source.fetch)
    task = asyncio.create_task(being_read.go_on(has_time))
    while not source.asked:
        await asyncio.sleep(0)
    task.cancel()
    closing = asyncio.create_task(being_read.close())
    await asyncio.wait([task])
    assert not closing.done()
    source.may_answer.set()
    await closing
