"""Moments are stored as whole microseconds, exactly."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.clock import SystemClock, from_microseconds, microseconds


@pytest.mark.parametrize(
    ("moment", "stored"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
        (datetime(2026, 11, 22, 12, 0, 10, 500_001, tzinfo=UTC), 1_795_348_810_500_001),
        (datetime.min.replace(tzinfo=UTC), -62_135_596_800_000_000),
        (datetime.max.replace(tzinfo=UTC), 253_402_300_799_999_999),
    ],
)
def test_microseconds(moment: datetime, stored: int) -> None:
    assert microseconds(moment) == stored
    assert from_microseconds(stored) == moment


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_comes_back(moment: datetime) -> None:
    assert from_microseconds(microseconds(moment)) == moment


def test_the_systems_clock_tells_utc() -> None:
    assert SystemClock().now().tzinfo is UTC
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=5)
