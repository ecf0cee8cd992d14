"""Times of updated-at columns: the documented formats, and the fast paths, which are those of strptime."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.clock import microseconds
from headwater.runs.importing.updatedat import compile_time
from headwater.schemas import DateTime, DateTimeType, DateType, InvalidValue, Json, JsonType, StringType

TEXT = StringType()


def at(text: str) -> int:
    return microseconds(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("format", "text", "expected"),
    [
        ("ISO8601", "2033-12-14", at("2033-12-14")),
        ("ISO8601", "2033-12-14T13:52Z", at("2033-12-14T13:52")),
        ("ISO8601", "2033-12-14T13:52:01.123456789Z", at("2033-12-14T13:52:01.123456")),
        ("ISO8601", "2033-12-14T13:52+02:00", at("2033-12-14T11:52")),
        ("ISO8601", "2033-12-14 13:52:07", at("2033-12-14T13:52:07")),
        ("ISO8601", "0001-01-01", at("0001-01-01")),
        ("Excel", "39448", at("2008-01-01")),
        ("Excel", "39448.5", at("2008-01-01T12:00")),
        ("Excel", "1", at("1900-01-01")),
        ("Excel", "59", at("1900-02-28")),
        ("Excel", "61", at("1900-03-01")),
        ("Excel", "44620.354166666664", at("2022-02-28T08:30")),
        ("Excel", "4.4620354166666664E4", at("2022-02-28T08:30")),
        ("%d %m %Y", "14 12 2033", at("2033-12-14")),
        ("%Y-%m-%d %H:%M:%S", "2026-02-28 10:00:00", at("2026-02-28T10:00")),
        ("%Y-%m-%d %H:%M:%S", "2026-2-8 1:2:3", at("2026-02-08T01:02:03")),
        ("%d/%b/%Y:%H:%M:%S %z", "14/Dec/2033:13:00:00 +0200", at("2033-12-14T11:00")),
        ("%Y%m%d", "20331214", at("2033-12-14")),
        ("100%% %Y.%m.%d", "100% 2033.12.14", at("2033-12-14")),
    ],
)
def test_formats(format: str, text: str, expected: int) -> None:
    assert compile_time(TEXT, format)(text) == expected


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("ISO8601", ""),
        ("ISO8601", "10000-01-01"),
        ("ISO8601", "0001-01-01T00:00+01:00"),
        ("ISO8601", "9999-12-31T23:59-01:00"),
        ("Excel", "-1"),
        ("Excel", "2958466"),
        ("Excel", "nan"),
        ("Excel", "1e9"),
        ("Excel", "2008-01-01"),
        ("%d %m %Y", "2033-12-14"),
        ("%d %m %Y", "31 02 2033"),
        ("%Y-%m-%d %H:%M:%S", "2026-02-30 10:00:00"),
        ("%Q", "x"),
        ("%", "%"),
    ],
)
def test_texts_that_are_no_time(format: str, text: str) -> None:
    with pytest.raises(InvalidValue, match="is not a time of the format"):
        compile_time(TEXT, format)(text)


def test_values_of_time_kinds_need_no_format() -> None:
    assert compile_time(DateTimeType(), "")(DateTime.parse("2033-12-14T13:52:00.1234569Z")) == at(
        "2033-12-14T13:52:00.123456"
    )
    assert compile_time(DateType(), "")(date(2033, 12, 14)) == at("2033-12-14")


def test_json() -> None:
    assert compile_time(JsonType(), "ISO8601")(Json('"2033-12-14"')) == at("2033-12-14")
    assert compile_time(JsonType(), "Excel")(Json("39448")) == at("2008-01-01")
    for format, value in (("ISO8601", "5"), ("ISO8601", "null"), ("Excel", "true"), ("Excel", "[1]")):
        with pytest.raises(InvalidValue):
            compile_time(JsonType(), format)(Json(value))


FORMATS = ("%Y-%m-%d %H:%M:%S", "%d.%m.%Y", "%Y%m%d%H%M%S", "%Y-%m-%dT%H:%M", "%H:%M %d/%m/%Y", "%Y %m %d")


@given(st.sampled_from(FORMATS), st.datetimes() | st.text("0123456789-: ./T", max_size=20), st.booleans())
def test_patterns_give_what_strptime_gives(format: str, moment: datetime | str, is_short: bool) -> None:
    text = moment if isinstance(moment, str) else moment.strftime(format.replace("%Y", f"{moment.year:04d}"))
    if is_short:
        text = text.replace("-0", "-").replace(".0", ".")
    try:
        expected = microseconds(datetime.strptime(text, format).replace(tzinfo=UTC))
    except ValueError:
        with pytest.raises(InvalidValue):
            compile_time(TEXT, format)(text)
    else:
        assert compile_time(TEXT, format)(text) == expected
