"""What every log promises, whatever it is kept in."""

import asyncio
import time
from datetime import timedelta

import pytest

from headwater.base.errors import Unavailable
from headwater.eventlog import EventLog, Frame, LeaseTaken, StoredFrame
from tests.eventlog.conftest import Open

NOT_AT_ALL = timedelta(0)
EVERYTHING = 1 << 30


def frame(number: int, events: int = 1, size: int = 0) -> Frame:
    return Frame(events, b"header %d" % number, (b"body %d" % number).ljust(size))


async def read(log: EventLog, after: int = 0, max_bytes: int = EVERYTHING) -> list[StoredFrame]:
    return await log.read(after, max_bytes=max_bytes, wait=NOT_AT_ALL)


# --- Positions ----------------------------------------------------------------------------------------------------


async def test_an_empty_log_has_position_0(log: EventLog) -> None:
    assert await log.last_position() == 0
    assert await read(log) == []
    assert await log.cursors() == {}


async def test_positions_count_events_from_1_without_gaps(log: EventLog) -> None:
    assert [await log.append(frame(number, events)) for number, events in enumerate([1, 3, 1, 100, 1])] == [
        1,
        2,
        5,
        6,
        106,
    ]
    assert await log.last_position() == 106
    assert [(stored.position, stored.last) for stored in await read(log)] == [
        (1, 1),
        (2, 4),
        (5, 5),
        (6, 105),
        (106, 106),
    ]


async def test_frames_come_back_as_they_were(log: EventLog) -> None:
    frames = [Frame(2, bytes(range(256)), b""), Frame(1, b"", b"\0" * 70_000)]
    for each in frames:
        await log.append(each)
    assert [stored.frame for stored in await read(log)] == frames


async def test_positions_go_on_after_a_restart(log: EventLog, open_log: Open) -> None:
    await log.append(frame(0, 5))
    await log.close()
    reopened = open_log()
    try:
        assert await reopened.last_position() == 5
        assert await reopened.append(frame(1)) == 6
        assert [stored.position for stored in await read(reopened)] == [1, 6]
    finally:
        await reopened.close()


async def test_concurrent_appends_get_positions_of_their_own(log: EventLog) -> None:
    frames = [frame(number, events=1 + number % 4) for number in range(500)]
    positions = await asyncio.gather(*(log.append(each) for each in frames))
    _assert_gapless(await read(log), dict(zip(positions, frames, strict=True)))


async def test_several_writers_share_the_positions(log: EventLog, other: EventLog) -> None:
    frames = [frame(number, events=1 + number % 3) for number in range(200)]
    appends = [(log if number % 2 else other).append(each) for number, each in enumerate(frames)]
    positions = await asyncio.wait_for(asyncio.gather(*appends), 20)
    _assert_gapless(await read(other), dict(zip(positions, frames, strict=True)))


def _assert_gapless(stored: list[StoredFrame], appended: dict[int, Frame]) -> None:
    assert {each.position: each.frame for each in stored} == appended
    position = 1
    for each in stored:
        assert each.position == position
        position = each.last + 1


# --- Reading ------------------------------------------------------------------------------------------------------


async def test_reads_from_where_the_consumer_has_finished(log: EventLog) -> None:
    for number, events in enumerate([1, 3, 1]):
        await log.append(frame(number, events))
    assert [stored.position for stored in await read(log, after=1)] == [2, 5]
    assert [stored.position for stored in await read(log, after=4)] == [5]
    assert await read(log, after=5) == []
    assert await read(log, after=1000) == []


async def test_reads_about_so_many_bytes_but_at_least_one_frame(log: EventLog) -> None:
    for number in range(10):
        await log.append(frame(number, size=1000))
    assert [stored.position for stored in await read(log, max_bytes=1)] == [1]
    assert [stored.position for stored in await read(log, max_bytes=1001)] == [1, 2]
    assert [stored.position for stored in await read(log, after=2, max_bytes=3000)] == [3, 4, 5]
    assert len(await read(log, max_bytes=EVERYTHING)) == 10


async def test_waits_for_the_first_frame(log: EventLog, other: EventLog) -> None:
    reading = asyncio.create_task(log.read(0, max_bytes=EVERYTHING, wait=timedelta(seconds=20)))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await other.append(frame(0))
    assert [stored.frame for stored in await asyncio.wait_for(reading, 10)] == [frame(0)]


async def test_waits_no_longer_than_it_was_told(log: EventLog) -> None:
    start = time.monotonic()
    assert await log.read(0, max_bytes=EVERYTHING, wait=timedelta(seconds=0.1)) == []
    assert 0.1 <= time.monotonic() - start < 5


async def test_a_reader_sees_no_frame_before_one_that_it_has_read(log: EventLog, other: EventLog) -> None:
    async def write(writer: EventLog, count: int) -> None:
        await asyncio.gather(*(writer.append(frame(number, events=2)) for number in range(count)))

    writing = asyncio.gather(write(log, 300), write(other, 300))
    finished = 0
    while finished < 1200:
        for stored in await other.read(finished, max_bytes=500, wait=timedelta(seconds=10)):
            assert stored.position == finished + 1
            finished = stored.last
    await writing


# --- Leases and cursors -------------------------------------------------------------------------------------------


async def test_one_consumer_at_a_time_has_a_name(log: EventLog, other: EventLog) -> None:
    lease = await log.lease("warehouse")
    assert lease.consumer == "warehouse"
    for again in (log, other):
        with pytest.raises(LeaseTaken):
            await again.lease("warehouse")
    await (await other.lease("delivery")).release()
    await lease.release()
    await lease.release()
    await (await other.lease("warehouse")).release()


async def test_a_lease_starts_a_cursor_which_only_moves_forward(log: EventLog, other: EventLog) -> None:
    lease = await log.lease("warehouse")
    assert await other.cursors() == {"warehouse": 0}
    for position, cursor in ((5, 5), (9, 9), (7, 9)):
        await lease.advance(position)
        assert await other.cursors() == {"warehouse": cursor}
    await lease.release()
    lease = await other.lease("warehouse")
    assert await log.cursors() == {"warehouse": 9}
    await lease.release()


# --- Trimming -----------------------------------------------------------------------------------------------------


async def finish(log: EventLog, consumer: str, position: int) -> None:
    lease = await log.lease(consumer)
    await lease.advance(position)
    await lease.release()


async def positions(log: EventLog) -> list[int]:
    return [stored.position for stored in await read(log)]


async def test_trims_what_every_consumer_has_finished(log: EventLog) -> None:
    for number, events in enumerate([1, 3, 1, 1]):
        await log.append(frame(number, events))
    await finish(log, "warehouse", 6)
    await finish(log, "delivery", 3)
    assert await log.trim(older_than=NOT_AT_ALL) == 1
    assert await positions(log) == [2, 5, 6], "delivery has not finished position 4"
    await finish(log, "delivery", 4)
    assert await log.trim(older_than=NOT_AT_ALL) == 1
    assert await positions(log) == [5, 6]


async def test_trims_nothing_that_is_younger(log: EventLog) -> None:
    for number in range(3):
        await log.append(frame(number))
    await finish(log, "warehouse", 3)
    assert await log.trim(older_than=timedelta(minutes=1)) == 0
    assert await positions(log) == [1, 2, 3]


async def test_trims_nothing_without_a_consumer(log: EventLog) -> None:
    for number in range(3):
        await log.append(frame(number))
    assert await log.trim(older_than=NOT_AT_ALL) == 0


async def test_never_trims_the_newest_frame_so_that_positions_go_on(log: EventLog, open_log: Open) -> None:
    for number in range(3):
        await log.append(frame(number, events=10))
    await finish(log, "warehouse", 30)
    assert await log.trim(older_than=NOT_AT_ALL) == 2
    assert await positions(log) == [21]
    await log.close()
    reopened = open_log()
    try:
        assert await reopened.append(frame(3)) == 31
    finally:
        await reopened.close()


async def test_trims_any_number_of_frames(log: EventLog) -> None:
    await asyncio.gather(*(log.append(frame(number)) for number in range(1000)))
    await finish(log, "warehouse", 990)
    assert await log.trim(older_than=NOT_AT_ALL) == 990
    assert await log.trim(older_than=NOT_AT_ALL) == 0
    assert (await positions(log))[0] == 991


# --- Closing ------------------------------------------------------------------------------------------------------


async def test_closing_writes_what_still_waits(log: EventLog, open_log: Open) -> None:
    appends = [asyncio.create_task(log.append(frame(number))) for number in range(50)]
    await asyncio.sleep(0)
    await log.close()
    assert sorted(await asyncio.gather(*appends)) == list(range(1, 51))
    reopened = open_log()
    try:
        assert await reopened.last_position() == 50
    finally:
        await reopened.close()


async def test_a_closed_log_takes_nothing(log: EventLog) -> None:
    await log.close()
    with pytest.raises(Unavailable):
        await log.append(frame(0))


async def test_closing_twice_is_harmless(log: EventLog) -> None:
    await log.close()
    await log.close()


async def test_a_caller_that_goes_away_does_not_take_its_group_with_it(log: EventLog) -> None:
    appends = [asyncio.create_task(log.append(frame(number))) for number in range(10)]
    await asyncio.sleep(0)
    appends[3].cancel()
    appends[0].cancel()
    kept = await asyncio.gather(*(append for number, append in enumerate(appends) if number not in (0, 3)))
    assert len(set(kept)) == 8
    assert {stored.frame.body for stored in await read(log)} >= {
        frame(number).body for number in (1, 2, 4, 5, 6, 7, 8, 9)
    }
