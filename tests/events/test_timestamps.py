"""Client times: read in every form that SDKs send, and corrected by the difference between the clocks."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.events.timestamps import correct, parse_timestamp

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T12:00:00Z", NOON),
        ("2026-11-22T12:00:00", NOON),
        ("2026-11-22T14:00:00+02:00", NOON),
        ("2026-11-22T06:30:00-0530", NOON),
        ("20261122T120000Z", NOON),
        ("2026-11-22T12:00:00.123Z", NOON + timedelta(milliseconds=123)),
        ("2026-11-22T12:00:00.123456789Z", NOON + timedelta(microseconds=123_456)),
        ("2026-11-22", NOON - timedelta(hours=12)),
    ],
)
def test_reads_iso_8601(text: str, moment: datetime) -> None:
    parsed = parse_timestamp(text)
    assert parsed == moment
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "now", "0000-01-01", "12:00", "2026-11", "1763812800", "0001-01-01T00:00+00:01", "2026-11-22T12:00:00Z junk"],
)
def test_refuses_the_rest(text: str) -> None:
    with pytest.raises(ValueError, match="is not an ISO 8601 date and time"):
        parse_timestamp(text)


@given(st.text(max_size=30))
def test_raises_nothing_but_value_errors(text: str) -> None:
    try:
        parse_timestamp(text)
    except ValueError:
        return


@given(st.datetimes(timezones=st.just(UTC)))
def test_reads_what_python_writes(moment: datetime) -> None:
    assert parse_timestamp(moment.isoformat()) == moment


def test_correction_moves_by_the_difference_of_the_clocks() -> None:
    sent, received = NOON, NOON + timedelta(seconds=5.5)
    assert correct(NOON - timedelta(hours=1), sent=sent, received=received) == NOON - timedelta(hours=1) + (
        received - sent
    )
    assert correct(NOON, sent=received, received=sent) == NOON - timedelta(seconds=5.5)


def test_a_correction_that_no_calendar_has_gives_the_time_of_arrival() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert correct(last, sent=NOON, received=NOON + timedelta(seconds=1)) == NOON + timedelta(seconds=1)
    assert correct(first, sent=NOON, received=NOON - timedelta(seconds=1)) == NOON - timedelta(seconds=1)
    assert correct(last, sent=NOON, received=NOON) == last
