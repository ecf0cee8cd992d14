"""The guarantees of every log, in any storage."""

import asyncio
import time
from datetime import timedelta
from itertools import pairwise

import pytest

from headwater.base.errors import Unavailable
from headwater.log import Backlog, EventLog, LeaseTaken, LogEntry, StoredEntry
from headwater.log.contract import MAX_ENTRY_EVENTS
from tests.log.conftest import SMALL, Open

NOT_AT_ALL = timedelta(0)
EVERYTHING = 1 << 30


def entry(number: int, events: int = 1, size: int = 0) -> LogEntry:
    return LogEntry(events, b"header %d" % number, (b"body %d" % number).ljust(size))


async def read(log: EventLog, after: int = 0, max_bytes: int = EVERYTHING) -> list[StoredEntry]:
    return await log.read(after, max_bytes=max_bytes, wait=NOT_AT_ALL)


# --- Positions ----------------------------------------------------------------------------------------------------


async def test_an_empty_log_has_position_0(log: EventLog) -> None:
    assert await log.last_position() == 0
    assert await read(log) == []
    assert await log.cursors() == {}


async def test_positions_ascend_and_those_of_an_entry_are_consecutive(log: EventLog) -> None:
    counts = [1, 3, 1, 100, 20_000, MAX_ENTRY_EVENTS, 1]
    positions = [await log.append(entry(number, events)) for number, events in enumerate(counts)]
    found = await read(log)
    assert [stored.position for stored in found] == positions
    assert [stored.last - stored.position + 1 for stored in found] == counts
    assert positions[0] > 0
    _assert_ascending(found)
    assert await log.last_position() == found[-1].last


async def test_entries_come_back_as_they_were(log: EventLog) -> None:
    entries = [LogEntry(2, bytes(range(256)), b""), LogEntry(1, b"", b"\0" * 70_000)]
    for each in entries:
        await log.append(each)
    assert [stored.entry for stored in await read(log)] == entries


async def test_positions_go_on_after_a_restart(log: EventLog, open_log: Open) -> None:
    first = await log.append(entry(0, 5))
    await log.close()
    reopened = open_log()
    try:
        assert await reopened.last_position() == first + 4
        second = await reopened.append(entry(1))
        assert second > first + 4
        assert [stored.position for stored in await read(reopened)] == [first, second]
    finally:
        await reopened.close()


async def test_concurrent_appends_get_positions_of_their_own(log: EventLog) -> None:
    entries = [entry(number, events=1 + number % 4) for number in range(500)]
    positions = await asyncio.gather(*(log.append(each) for each in entries))
    found = await read(log)
    assert {stored.position: stored.entry for stored in found} == dict(zip(positions, entries, strict=True))
    _assert_ascending(found)


async def test_several_writers_share_the_positions(log: EventLog, other: EventLog) -> None:
    entries = [entry(number, events=1 + number % 3) for number in range(200)]
    appends = [(log if number % 2 else other).append(each) for number, each in enumerate(entries)]
    positions = await asyncio.wait_for(asyncio.gather(*appends), 20)
    found = await read(other)
    assert {stored.position: stored.entry for stored in found} == dict(zip(positions, entries, strict=True))
    _assert_ascending(found)


def _assert_ascending(stored: list[StoredEntry]) -> None:
    assert all(before.last < after.position for before, after in pairwise(stored))


# --- Reading ------------------------------------------------------------------------------------------------------


async def test_reads_from_where_the_consumer_has_finished(log: EventLog) -> None:
    one, two, three = [await log.append(entry(number, events)) for number, events in enumerate([1, 3, 1])]
    assert [stored.position for stored in await read(log, after=one)] == [two, three]
    assert [stored.position for stored in await read(log, after=two + 2)] == [three]
    assert await read(log, after=three) == []
    assert await read(log, after=three + 1_000_000) == []
    assert [stored.position for stored in await read(log, after=one)] == [two, three], "also when it goes back"


async def test_reads_on_after_any_entry_of_those_that_were_appended_together(log: EventLog, other: EventLog) -> None:
    """The entries may share one message: a reader can stop, and another continue, in the middle of it."""
    await asyncio.gather(*(log.append(entry(number, 1 + number % 3)) for number in range(40)))
    found = await read(log)
    for index, stored in enumerate(found):
        assert await read(other, after=stored.last) == found[index + 1 :]
    position, one_by_one = 0, []
    while entries := await read(log, after=position, max_bytes=1):
        one_by_one += entries
        position = entries[-1].last
    assert one_by_one == found


async def test_callers_at_different_positions_read_at_the_same_time(log: EventLog) -> None:
    for number in range(5):
        await log.append(entry(number))
    first, *_, last = await read(log)
    waiting = [asyncio.create_task(log.read(last.last, max_bytes=1, wait=timedelta(seconds=60))) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        for _ in range(3):
            assert (await read(log, after=first.last))[-1] == last
    await log.append(entry(5))
    for reading in waiting:
        assert [stored.entry for stored in await asyncio.wait_for(reading, 60)] == [entry(5)]


async def test_reads_about_so_many_bytes_but_at_least_one_entry(log: EventLog) -> None:
    at = [await log.append(entry(number, size=1000)) for number in range(10)]
    assert [stored.position for stored in await read(log, max_bytes=1)] == at[:1]
    assert [stored.position for stored in await read(log, max_bytes=1009)] == at[:2]
    assert [stored.position for stored in await read(log, after=at[1], max_bytes=3000)] == at[2:5]
    assert len(await read(log, max_bytes=EVERYTHING)) == 10


async def test_the_headers_of_entries_without_a_body_count_too(log: EventLog) -> None:
    at = [await log.append(LogEntry(1, b"h" * 100, b"")) for _ in range(10)]
    assert [stored.position for stored in await read(log, max_bytes=250)] == at[:3]


async def test_waits_for_the_first_entry(log: EventLog, other: EventLog) -> None:
    reading = asyncio.create_task(log.read(0, max_bytes=EVERYTHING, wait=timedelta(seconds=120)))
    done, _ = await asyncio.wait([reading], timeout=0.1)
    assert not done
    await other.append(entry(0))
    assert [stored.entry for stored in await asyncio.wait_for(reading, 60)] == [entry(0)]


async def test_waits_no_longer_than_it_was_told(log: EventLog) -> None:
    start = time.monotonic()
    assert await log.read(0, max_bytes=EVERYTHING, wait=timedelta(seconds=0.1)) == []
    assert 0.1 <= time.monotonic() - start < 5


async def test_a_reader_sees_no_entry_before_one_that_it_has_read(log: EventLog, other: EventLog) -> None:
    async def write(writer: EventLog, count: int) -> None:
        await asyncio.gather(*(writer.append(entry(number, events=2)) for number in range(count)))

    writing = asyncio.gather(write(log, 300), write(other, 300))
    finished, seen = 0, 0
    while seen < 600:
        for stored in await other.read(finished, max_bytes=500, wait=timedelta(seconds=10)):
            assert stored.position > finished
            finished = stored.last
            seen += 1
    await writing
    assert [stored.last for stored in await read(log)][-1] == finished


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
        await log.append(entry(number, events))
    one, two, three, four = await read(log)
    await finish(log, "warehouse", four.last)
    await finish(log, "delivery", one.last)
    assert await log.trim(older_than=NOT_AT_ALL) == 1
    assert await positions(log) == [two.position, three.position, four.position], "delivery has not finished them"
    await finish(log, "delivery", two.last)
    assert await log.trim(older_than=NOT_AT_ALL) == 1
    assert await positions(log) == [three.position, four.position]


async def test_trims_nothing_that_is_younger(log: EventLog) -> None:
    at = [await log.append(entry(number)) for number in range(3)]
    await finish(log, "warehouse", at[-1])
    assert await log.trim(older_than=timedelta(minutes=1)) == 0
    assert await positions(log) == at


async def test_trims_nothing_without_a_consumer(log: EventLog) -> None:
    for number in range(3):
        await log.append(entry(number))
    assert await log.trim(older_than=NOT_AT_ALL) == 0


async def test_never_trims_the_newest_entry_so_that_positions_go_on(log: EventLog, open_log: Open) -> None:
    at = [await log.append(entry(number, events=10)) for number in range(3)]
    await finish(log, "warehouse", at[-1] + 9)
    assert await log.trim(older_than=NOT_AT_ALL) == 2
    assert await positions(log) == at[-1:]
    await log.close()
    reopened = open_log()
    try:
        assert await reopened.append(entry(3)) > at[-1] + 9
    finally:
        await reopened.close()


async def test_trims_any_number_of_entries(log: EventLog) -> None:
    await asyncio.gather(*(log.append(entry(number)) for number in range(1000)))
    at = await positions(log)
    await finish(log, "warehouse", at[989])
    assert await log.trim(older_than=NOT_AT_ALL) > 0
    assert await log.trim(older_than=NOT_AT_ALL) == 0
    left = await positions(log)
    assert left == at[-len(left) :]
    assert 10 <= len(left) < 1000, "finished entries may stay for as long as one that shares their message"


# --- Bounds -------------------------------------------------------------------------------------------------------


async def fill(log: EventLog) -> list[tuple[int, LogEntry]]:
    """Append until the log rejects an entry. Return the acknowledged positions."""
    acknowledged = []
    with pytest.raises(Unavailable, match="cannot be written"):
        for number in range(1000):
            each = entry(number, size=50_000)
            acknowledged.append((await log.append(each), each))
    return acknowledged


async def test_a_log_full_of_unprocessed_entries_rejects_appends_and_loses_nothing(log: EventLog) -> None:
    await (await log.lease("warehouse")).release()
    acknowledged = await fill(log)
    assert 0.7 * SMALL < sum(each.size for _, each in acknowledged) < SMALL
    assert [(stored.position, stored.entry) for stored in await read(log)] == acknowledged
    with pytest.raises(Unavailable):
        await log.append(entry(0, size=50_000))


async def test_processed_entries_are_removed_for_space_the_oldest_first(log: EventLog, other: EventLog) -> None:
    acknowledged = await fill(log)
    finished = acknowledged[len(acknowledged) // 2][0]
    await finish(other, "warehouse", finished)
    at = await log.append(entry(1000, size=50_000))
    left = await positions(log)
    assert left[-1] == at
    assert left[:-1] == [position for position, _ in acknowledged][-len(left) + 1 :]
    assert left[0] <= acknowledged[len(acknowledged) // 2 + 1][0], "what is not finished stays"


async def test_near_its_bound_younger_entries_are_trimmed_too(log: EventLog) -> None:
    acknowledged = await fill(log)
    await finish(log, "warehouse", acknowledged[-1][0])
    assert await log.trim(older_than=timedelta(hours=1)) > 0
    left = await positions(log)
    assert 0 < len(left) < len(acknowledged)
    assert await log.trim(older_than=timedelta(hours=1)) == 0


# --- Consumers that may lag -----------------------------------------------------------------------------------------


async def test_a_consumer_that_may_lag_holds_back_nothing(log: EventLog) -> None:
    at = [await log.append(entry(number, size=10_000)) for number in range(10)]
    await finish(log, "warehouse", at[7])
    await (await log.lease("lane", may_lag=True)).release()
    assert await log.backlog_bytes() == pytest.approx(20_000, rel=0.02)
    backlogs = await log.backlogs()
    assert {name: backlog.may_lag for name, backlog in backlogs.items()} == {"warehouse": False, "lane": True}
    assert backlogs["warehouse"].bytes == pytest.approx(20_000, rel=0.02)
    assert backlogs["lane"].bytes == pytest.approx(100_000, rel=0.02)
    assert await log.trim(older_than=NOT_AT_ALL) == 8
    assert await positions(log) == at[8:]
    assert await log.cursors() == {"warehouse": at[7], "lane": 0}
    assert (await log.backlogs())["lane"].bytes == pytest.approx(20_000, rel=0.02), "no more than what is there"


async def test_one_that_lags_continues_at_the_oldest_entry_and_learns_how_much_it_missed(log: EventLog) -> None:
    at = [await log.append(entry(number, size=10_000)) for number in range(10)]
    await finish(log, "warehouse", at[7])
    await log.trim(older_than=NOT_AT_ALL)
    first, second = await read(log, after=at[2])
    assert (first.position, second.position) == (at[8], at[9])
    assert first.missed_bytes == pytest.approx(50_000, rel=0.02)
    assert second.missed_bytes == 0
    assert [stored.missed_bytes for stored in await read(log, after=at[7])] == [0, 0]
    assert [stored.missed_bytes for stored in await read(log)] == [0, 0], "one that begins has missed nothing"


async def test_nothing_is_trimmed_when_all_consumers_may_lag(log: EventLog) -> None:
    at = [await log.append(entry(number)) for number in range(3)]
    lease = await log.lease("lane", may_lag=True)
    await lease.advance(at[-1])
    assert await log.trim(older_than=NOT_AT_ALL) == 0
    assert await log.backlog_bytes() > 0
    await lease.release()


async def test_the_latest_lease_decides_whether_a_consumer_may_lag(log: EventLog, other: EventLog) -> None:
    for may_lag in (True, False, True):
        await (await log.lease("lane", may_lag=may_lag)).release()
        assert (await other.backlogs())["lane"].may_lag is may_lag


async def test_a_consumer_that_is_forgotten_holds_back_nothing(log: EventLog, other: EventLog) -> None:
    at = [await log.append(entry(number)) for number in range(3)]
    await finish(log, "warehouse", at[-1])
    lease = await log.lease("delivery")
    with pytest.raises(LeaseTaken):
        await other.forget("delivery")
    with pytest.raises(LeaseTaken):
        await log.forget("delivery")
    await lease.release()
    assert await log.trim(older_than=NOT_AT_ALL) == 0
    await other.forget("delivery")
    await other.forget("delivery")
    await other.forget("nobody")
    assert await log.cursors() == {"warehouse": at[-1]}
    assert await log.backlogs() == {"warehouse": Backlog(0, may_lag=False)}
    assert await log.trim(older_than=NOT_AT_ALL) == 2
    lease = await log.lease("delivery")
    assert (await log.cursors())["delivery"] == 0, "it begins again"
    await lease.release()


# --- The backlog --------------------------------------------------------------------------------------------------


async def test_tells_how_much_the_slowest_consumer_has_not_finished(log: EventLog, other: EventLog) -> None:
    assert await log.backlog_bytes() == 0
    at = [await log.append(entry(number, size=10_000)) for number in range(10)]
    for finished, unfinished in ((None, 100_000), (at[3], 60_000), (at[9], 0)):
        if finished is not None:
            await finish(other, "warehouse", finished)
        assert await log.backlog_bytes() == pytest.approx(unfinished, rel=0.02)
    await finish(other, "delivery", at[5])
    assert await log.backlog_bytes() == pytest.approx(40_000, rel=0.02)
    await log.trim(older_than=NOT_AT_ALL)
    assert await log.backlog_bytes() == pytest.approx(40_000, rel=0.02)


# --- Closing ------------------------------------------------------------------------------------------------------


async def test_closing_writes_what_still_waits(log: EventLog, open_log: Open) -> None:
    appends = [asyncio.create_task(log.append(entry(number))) for number in range(50)]
    await asyncio.sleep(0)
    await log.close()
    positions = sorted(await asyncio.gather(*appends))
    reopened = open_log()
    try:
        assert [stored.position for stored in await read(reopened)] == positions
    finally:
        await reopened.close()


async def test_a_closed_log_takes_nothing(log: EventLog) -> None:
    await log.close()
    with pytest.raises(Unavailable):
        await log.append(entry(0))


async def test_closing_twice_is_harmless(log: EventLog) -> None:
    await log.close()
    await log.close()
    with pytest.raises(Unavailable):
        await log.append(entry(0))


async def test_a_caller_that_goes_away_does_not_take_its_group_with_it(log: EventLog) -> None:
    appends = [asyncio.create_task(log.append(entry(number))) for number in range(10)]
    await asyncio.sleep(0)
    appends[3].cancel()
    appends[0].cancel()
    kept = await asyncio.gather(*(append for number, append in enumerate(appends) if number not in (0, 3)))
    assert len(set(kept)) == 8
    assert {stored.entry.body for stored in await read(log)} >= {
        entry(number).body for number in (1, 2, 4, 5, 6, 7, 8, 9)
    }
