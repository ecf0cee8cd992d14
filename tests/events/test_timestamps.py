"""Client times: read in every form that SDKs send, and corrected by the difference between the clocks."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.events.timestamps import MAX_FUTURE, _parse, correct, parse_timestamp, read_time
from tests.examples import examples

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


MOMENTS = {
    "2026-11-22T12:00:00Z": NOON,
    "2026-11-22t12:00:00z": NOON,
    "2026-11-22 12:00:00": NOON,
    "2026-11-22T12": NOON,
    "2026-11-22T12:00": NOON,
    "2026-11-22T12:00:00": NOON,
    "2026-11-22T14:00:00+02:00": NOON,
    "2026-11-22T14:00:00+02": NOON,
    "2026-11-22T12:53:28+00:53:28": NOON,
    "2026-11-22T06:30:00-0530": NOON,
    "2026-11-22T12:00:00-00:00": NOON,
    "20261122T120000Z": NOON,
    "20261122T12:00:00Z": NOON,
    "2026-326T12:00Z": NOON,
    "2026326T1200Z": NOON,
    "2026-W47-7T12Z": NOON,
    "2026W477T12Z": NOON,
    "2026-11-22T11:59:60Z": NOON,
    "2026-11-22T11:59:60.5Z": NOON + timedelta(milliseconds=500),
    "2016-12-31T23:59:60Z": datetime(2017, 1, 1, tzinfo=UTC),
    "2026-11-22T24:00:00+12:00": NOON,
    "2026-11-22T24:00Z": NOON + timedelta(hours=12),
    "9999-12-31T24:00:00+00:01": datetime(9999, 12, 31, 23, 59, tzinfo=UTC),
    "2026-11-22T12:00:00.123Z": NOON + timedelta(milliseconds=123),
    "2026-11-22T12:00:00,1Z": NOON + timedelta(milliseconds=100),
    "2026-11-22T12:00:00:123": NOON + timedelta(milliseconds=123),
    "2026-11-22T12:00:00.123456789Z": NOON + timedelta(microseconds=123_456),
    "2026-11-22T12:00:00." + "0" * 900 + "Z": NOON,
    "2026-11-22": NOON - timedelta(hours=12),
    "20261122": NOON - timedelta(hours=12),
    "2026-333": datetime(2026, 11, 29, tzinfo=UTC),
    "2028-366": datetime(2028, 12, 31, tzinfo=UTC),
    "2026-W47": datetime(2026, 11, 16, tzinfo=UTC),
}


@pytest.mark.parametrize(("text", "moment"), MOMENTS.items(), ids=lambda value: str(value)[:40])
def test_reads_iso_8601(text: str, moment: datetime) -> None:
    parsed = parse_timestamp(text)
    assert parsed == moment
    assert parsed.tzinfo is UTC
    assert read_time(text) == read_time(f" {text}\n") == moment


NO_MOMENTS = [
    "",
    "now",
    "0000-01-01",
    "12:00",
    "2026-11",
    "2026",
    "2026-13-01",
    "2026-02-29",
    "2026-000",
    "2026-366",
    "2026-W54-1",
    "2026-W47-0",
    "2026-W47-8",
    "2026-11-22T",
    "2026-11-22T1",
    "2026-11-22T12:",
    "2026-11-22T12:00:00.",
    "2026-11-22T12:00:00.Z",
    "2026-11-22T12:00:00 Z",
    "2026-11-22T123Z",
    "2026-11-22T12:0000Z",
    "2026-11-22T12:00:61Z",
    "2026-11-22T12:60:00Z",
    "2026-11-22T24:00:01Z",
    "2026-11-22T24:00:00.1Z",
    "2026-11-22T25:00:00Z",
    "2026-11-22T12:00:00+24:00",
    "2026-11-22T12:00:00+00:60",
    "2026-11-22T12:00:00+",
    "2026-11-22x12:00:00Z",
    "2026-11-22112:00:00Z",
    "2026-11-22TT12:00:00Z",
    "٢٠٢٦-11-22",
    "2026-11-22T12:00:00\u0660Z",
    "0001-01-01T00:00+00:01",
    "9999-12-31T24:00:00Z",
    "2026-11-22T12:00:00Z junk",
    "2026-11-22T12:00:+00",
    "2026-11-22T12:00:00.+00:00",
    "2026-11-22T12,00:000",
    "2026-11-22T12:00:00." + "0" * 1000 + "Z",
]


@pytest.mark.parametrize("text", [*NO_MOMENTS, "1795306839", "1795306839000"], ids=lambda text: text[:40])
def test_rejects_the_rest(text: str) -> None:
    with pytest.raises(ValueError, match="is not an ISO 8601 date and time"):
        parse_timestamp(text)


@pytest.mark.parametrize("text", NO_MOMENTS, ids=lambda text: text[:40])
def test_what_is_no_time_is_none(text: str) -> None:
    assert read_time(text) is None


@given(st.text(max_size=30) | st.text("0123456789-:.,TtZzW+ eE", max_size=40))
def test_raises_nothing_but_value_errors(text: str) -> None:
    read_time(text)
    try:
        parse_timestamp(text)
    except ValueError:
        return


@given(st.datetimes(timezones=st.just(UTC)))
def test_reads_what_python_writes(moment: datetime) -> None:
    assert parse_timestamp(moment.isoformat()) == moment


@st.composite
def written_moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """A time in any form of the grammar, and its value by the arithmetic of `datetime`."""
    day = draw(st.dates(date(2, 1, 1), date(9998, 12, 31)))
    year, week, weekday = day.isocalendar()
    dash = draw(st.sampled_from(["-", ""]))
    text = draw(
        st.sampled_from(
            [
                f"{day:%m}{dash}{day:%d}".join((f"{day.year:04}{dash}", "")),
                f"{day.year:04}{dash}{day.timetuple().tm_yday:03}",
                f"{year:04}{dash}W{week:02}{dash}{weekday}",
            ]
        )
    )
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if draw(st.booleans()):
        return text, moment
    colon = draw(st.sampled_from([":", ""]))
    hour, minute, second = draw(
        st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 60)) | st.just((24, 0, 0))
    )
    parts = draw(st.sampled_from([1, 2, 3]))
    fraction = draw(st.text("0123456789", max_size=12)) if parts == 3 and hour < 24 else ""
    clock = (hour, minute, second)[:parts]
    text += draw(st.sampled_from("Tt ")) + colon.join(f"{each:02}" for each in clock)
    text += f"{draw(st.sampled_from('.,'))}{fraction}" if fraction else ""
    moment += timedelta(**dict(zip(("hours", "minutes", "seconds"), clock, strict=False)))
    moment += timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
    if draw(st.booleans()):
        return text + draw(st.sampled_from(["", "Z", "z"])), moment
    colon = draw(st.sampled_from([":", ""]))
    offset = draw(st.tuples(st.integers(0, 23), st.integers(0, 59)))[: draw(st.sampled_from([1, 2]))]
    sign = draw(st.sampled_from([1, -1]))
    text += "+-"[sign < 0] + colon.join(f"{each:02}" for each in offset)
    return text, moment - sign * timedelta(**dict(zip(("hours", "minutes"), offset, strict=False)))


@given(written_moments())
def test_reads_every_form_to_the_microsecond(written: tuple[str, datetime]) -> None:
    text, moment = written
    assert parse_timestamp(text) == moment
    assert read_time(text) == moment


@st.composite
def _spoiled(draw: st.DrawFn) -> str:
    """A text similar to those of SDKs, of a length for which `fromisoformat` is used."""
    fraction = draw(st.sampled_from(["", ".123", ".123456"]))
    text = list("2026-11-22T12:34:56" + fraction + draw(st.sampled_from(["Z", "+01:30", "+00:00", ""])))
    for _ in range(draw(st.integers(1, 3))):
        text[draw(st.integers(0, len(text) - 1))] = draw(st.sampled_from("0123456789-:.,TtWZ+ x/\u0660"))
    return "".join(text)


@settings(max_examples=examples(500))
@given(_spoiled())
def test_the_grammar_is_not_that_of_the_python_version(text: str) -> None:
    try:
        moment = _parse(text)
    except ValueError:
        with pytest.raises(ValueError, match="is not an ISO 8601"):
            parse_timestamp(text)
    else:
        assert parse_timestamp(text) == moment


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(10**14, 10**17 - 1), st.integers(0, 6))
def test_numbers_are_read_to_the_microsecond(microseconds: int, digits: int) -> None:
    """Whole seconds and milliseconds, and with a fraction."""
    moment = EPOCH + timedelta(microseconds=microseconds)
    seconds = f"{microseconds // 10**6}.{microseconds % 10**6:06}"
    milliseconds = f"{microseconds // 10**3}.{microseconds % 10**3:03}"
    for text in (seconds, milliseconds, f"+{seconds}", f"0{milliseconds}", f"{seconds}{'9' * digits}"):
        assert read_time(text) == moment
    assert read_time(f"{microseconds}e-6") == read_time(f"{microseconds}E-3") == moment
    assert read_time(str(microseconds // 10**6)) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        ("0", None),
        ("1", None),
        ("9999999", None),
        ("99999999.9", None),
        ("100000000", datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        ("99999999999", datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        ("100000000000", datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        ("99999999999999", datetime(5138, 11, 16, 9, 46, 39, 999_000, tzinfo=UTC)),
        ("100000000000000", None),
        ("1e9", datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
        ("1e300", None),
        ("1e999", None),
        ("1e9999999999", None),
        ("1" * 5000, None),
        ("0" * 900 + "1000000000", datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)),
        ("-1000000000", None),
        ("NaN", None),
        ("inf", None),
        ("1_000_000_000", None),
        ("0x3b9aca00", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_size_of_a_number_tells_its_unit(number: str, moment: datetime | None) -> None:
    assert read_time(number) == moment


def test_correction_moves_by_the_difference_of_the_clocks() -> None:
    sent, received = NOON, NOON + timedelta(seconds=5.5)
    assert correct(NOON - timedelta(hours=1), sent=sent, received=received) == NOON - timedelta(hours=1) + (
        received - sent
    )
    assert correct(NOON, sent=received, received=sent) == NOON - timedelta(seconds=5.5)


def test_a_correction_that_no_calendar_has_gives_the_time_of_arrival_or_none() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert correct(last, sent=NOON, received=NOON + timedelta(seconds=1)) is None
    assert correct(first, sent=NOON, received=NOON - timedelta(seconds=1)) == NOON - timedelta(seconds=1)
    assert correct(last, sent=NOON, received=NOON) == last


_MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(_MOMENTS, _MOMENTS, st.datetimes(datetime(2026, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_no_correction_moves_an_event_more_than_a_day_into_the_future(
    client_time: datetime, sent: datetime, received: datetime
) -> None:
    corrected = correct(client_time, sent=sent, received=received)
    if corrected is None:
        assert client_time - sent > MAX_FUTURE
    else:
        assert corrected <= max(client_time, received + MAX_FUTURE)
