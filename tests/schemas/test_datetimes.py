from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import DateTime, Time
from tests.schemas.strategies import MAX_DATETIME, MIN_DATETIME

moments = st.integers(MIN_DATETIME, MAX_DATETIME).map(DateTime)
times = st.integers(0, 86_400 * 10**9 - 1).map(Time)


@pytest.mark.parametrize(
    ("given", "text", "json_text"),
    [
        ("2024-03-05T10:00:00Z", "2024-03-05T10:00:00Z", "2024-03-05T10:00:00Z"),
        ("2024-03-05T10:00:00.5Z", "2024-03-05T10:00:00.5Z", "2024-03-05T10:00:00.500Z"),
        ("2024-03-05T10:00:00.0005Z", "2024-03-05T10:00:00.0005Z", "2024-03-05T10:00:00.000500Z"),
        ("2024-03-05T10:00:00.000000001Z", "2024-03-05T10:00:00.000000001Z", "2024-03-05T10:00:00.000000001Z"),
        ("2024-05-01T10:00:00+02:00", "2024-05-01T08:00:00Z", "2024-05-01T08:00:00Z"),
        ("2024-05-01T23:30:00-01:30", "2024-05-02T01:00:00Z", "2024-05-02T01:00:00Z"),
        ("1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59.900Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_moments(given: str, text: str, json_text: str) -> None:
    moment = DateTime.parse(given)
    assert (str(moment), moment.json_text) == (text, json_text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-03-05",
        "2024-03-05 10:00:00Z",
        "2024-03-05T10:00Z",
        "2024-03-05T10:00:00",
        "2024-03-05t10:00:00z",
        "2024-03-05T10:00:00.Z",
        "2024-03-05T10:00:00.1234567890Z",
        "2024-03-05T10:00:00,5Z",
        "2024-02-30T10:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-03-05T24:00:00Z",
        "2024-03-05T23:60:00Z",
        "2024-03-05T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2024-03-05T10:00:00+24:00",
        "2024-03-05T10:00:00+0200",
        "2024-03-05T10:00:00Z ",
        "2024-03-05T10:00:00Z\n",
        "२०२४-03-05T10:00:00Z",
        "2024-W10-2T10:00:00Z",
    ],
)
def test_invalid_datetimes(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be"):
        DateTime.parse(text)


@pytest.mark.parametrize("nanoseconds", [MIN_DATETIME - 1, MAX_DATETIME + 1, 10**40])
def test_moments_outside_the_years(nanoseconds: int) -> None:
    with pytest.raises(ValueError, match="must be in the years 1 to 9999"):
        DateTime(nanoseconds)


def test_from_python() -> None:
    assert str(DateTime.of(datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))))) == "2024-01-01T10:00:00Z"
    assert DateTime.of(datetime(2024, 1, 1)) == DateTime.at(date(2024, 1, 1))
    assert DateTime.at(date(2024, 1, 1), Time.parse("10:00:00.5")) == DateTime.parse("2024-01-01T10:00:00.5Z")
    with pytest.raises(ValueError, match="must be in the years 1 to 9999"):
        DateTime.of(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))


@pytest.mark.parametrize(
    ("given", "text", "json_text"),
    [
        ("00:00:00", "00:00:00", "00:00:00"),
        ("10:00:00.25", "10:00:00.25", "10:00:00.250"),
        ("23:59:59.999999999", "23:59:59.999999999", "23:59:59.999999999"),
        ("01:02:03.000100", "01:02:03.0001", "01:02:03.000100"),
    ],
)
def test_times(given: str, text: str, json_text: str) -> None:
    time = Time.parse(given)
    assert (str(time), time.json_text) == (text, json_text)


@pytest.mark.parametrize(
    "text",
    ["", "10:00", "24:00:00", "10:00:00Z", "10:00:00 x", "1:00:00", "10:00:60", "10:00:00.", "10:00:00.1234567890"],
)
def test_invalid_times(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time of day"):
        Time.parse(text)
    with pytest.raises(ValueError, match="must be in the range"):
        Time(86_400 * 10**9)


@given(moments)
def test_both_texts_are_read_again(moment: DateTime) -> None:
    assert DateTime.parse(str(moment)) == moment
    assert DateTime.parse(moment.json_text) == moment
    assert DateTime.at(moment.date, moment.time) == moment
    assert DateTime.of(moment.to_datetime()).nanoseconds == moment.nanoseconds // 1000 * 1000


@given(times)
def test_both_texts_of_a_time_are_read_again(time: Time) -> None:
    assert Time.parse(str(time)) == time
    assert Time.parse(time.json_text) == time


@given(moments, moments)
def test_moments_are_ordered_as_in_time(a: DateTime, b: DateTime) -> None:
    assert (a < b) == (a.nanoseconds < b.nanoseconds)
    assert DateTime.of(datetime.fromtimestamp(0, UTC)) == DateTime(0)
