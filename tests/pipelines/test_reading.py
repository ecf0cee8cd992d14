"""Frames on their way to a batch: when they are read, and which."""

import asyncio
from collections.abc import Iterator

import pytest

from headwater.eventlog import Frame, StoredFrame
from headwater.events import Envelope
from headwater.events.envelope import encode_envelope
from headwater.pipelines import reading
from headwater.pipelines.reading import Reading

HEADER = encode_envelope(Envelope("track", "batch", 7, 42, 1_000_000, bytes(16)))


def frames(number: int, *, events: int = 5, padding: int = 0) -> list[StoredFrame]:
    """Calls whose context, which each of their events gets, has so many bytes."""
    event = b'{"type":"page","userId":"u"}'
    body = b'{"context":{"a":"%b"},"batch":[%b]}' % (b"x" * padding, b",".join([event] * events))
    return [StoredFrame(1 + events * index, Frame(events, HEADER, body)) for index in range(number)]


@pytest.fixture(params=[1, 1 << 10, 1 << 20])
def _slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLICE_BYTES", request.param)


@pytest.mark.usefixtures("_slices")
def test_nothing_is_an_empty_batch() -> None:
    batch = Reading([]).finish()
    assert (batch.arrivals, batch.rejected, batch.last) == ([], [], 0)


@pytest.mark.usefixtures("_slices")
@pytest.mark.parametrize(("limit", "last"), [(1, 5), (4_000, 5), (9_000, 10), (1 << 20, 20)])
def test_a_batch_ends_with_the_frame_whose_documents_are_enough(
    limit: int, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_DOCUMENT_BYTES", limit)
    batch = Reading(frames(4, padding=1_000)).finish()
    assert (len(batch.arrivals), batch.last) == (last, last)


@pytest.mark.usefixtures("_slices")
async def test_it_reads_while_there_is_time_and_goes_on_where_it_was() -> None:
    taken: list[int] = []

    def noted() -> Iterator[StoredFrame]:
        for frame in frames(8, padding=500):
            taken.append(frame.position)
            yield frame

    being_read, has_time = Reading(noted()), asyncio.Event()
    task = asyncio.create_task(being_read.go_on(has_time))
    await asyncio.sleep(0)
    assert taken == []
    has_time.set()
    while not taken:
        await asyncio.sleep(0)
    has_time.clear()
    task.cancel()
    batch = being_read.finish()
    assert taken == [1 + 5 * index for index in range(8)]
    assert [arrival.position for arrival in batch.arrivals] == list(range(1, 41))
