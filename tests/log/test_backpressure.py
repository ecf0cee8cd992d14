"""Back-pressure: the condition of rejections, and the delay for callers."""

import asyncio

import pytest

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.log import BackPressure, EventLog, LogEntry, backpressure
from headwater.log.jetstream import JetStreamEventLog
from headwater.log.sqlite import SqliteEventLog


def rejection(pressure: BackPressure) -> int | None:
    """The seconds to wait; None when events are accepted."""
    try:
        pressure.check()
    except TooManyRequests as error:
        return error.retry_after
    return None


def test_rejects_beyond_the_bound_only() -> None:
    pressure = BackPressure(1000)
    assert rejection(pressure) is None
    for lag, refused in ((1000, False), (1001, True), (1000, False)):
        pressure.observe(lag, 0.0)
        assert (rejection(pressure) is not None) is refused


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([(5000, 0)], 5),  # not known yet
        ([(5000, 0), (4000, 1)], 3),  # 1000 a second, 3000 to go
        ([(5000, 0), (4900, 1)], 39),
        ([(5000, 0), (4999, 1)], 60),  # never more than a minute
        ([(5000, 0), (1001, 1)], 1),
        ([(5000, 0), (4000, 2), (4000, 3)], 6),  # the last known pace
        ([(500, 0), (5000, 1), (5500, 2)], 5),
    ],
)
def test_tells_when_the_consumer_is_likely_to_have_caught_up(looks: list[tuple[int, float]], seconds: int) -> None:
    pressure = BackPressure(1000)
    for lag, at in looks:
        pressure.observe(lag, at)
    assert rejection(pressure) == seconds


class Away:
    """A log that cannot be asked after the first time."""

    def __init__(self) -> None:
        self.looks = 0

    async def backlog_bytes(self) -> int:
        self.looks += 1
        if self.looks > 1:
            raise Unavailable("away")
        return 2000


async def test_a_lag_that_cannot_be_looked_up_stays_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backpressure, "MEASURE_SECONDS", 0.01)
    pressure, log = BackPressure(1000), Away()
    async with pressure.track(log), asyncio.timeout(60):
        while log.looks < 5:
            await asyncio.sleep(0.01)
        assert rejection(pressure) is not None


async def test_a_log_rejects_while_its_consumer_is_too_far_behind(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(log, SqliteEventLog | JetStreamEventLog)
    monkeypatch.setattr(backpressure, "MEASURE_SECONDS", 0.02)
    log._back_pressure = pressure = BackPressure(50_000)
    last = 0
    async with pressure.track(log), asyncio.timeout(20):
        with pytest.raises(TooManyRequests, match="wait to be processed"):
            while True:
                last = await log.append(LogEntry(1, b"", bytes(10_000)))
                await asyncio.sleep(0.03)
        lease = await log.lease("warehouse")
        await lease.advance(last)
        while rejection(pressure) is not None:
            await asyncio.sleep(0.02)
        await log.append(LogEntry(1, b"", b"accepted again"))
