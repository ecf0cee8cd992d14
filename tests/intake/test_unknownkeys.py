"""Calls with unknown keys: their log lines, and the number that is stored."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from headwater.base.errors import HeadwaterError, Unauthorized
from headwater.intake.authentication import UnknownWriteKey
from headwater.intake.unknownkeys import MAX_PREFIXES, MAX_STORED_PER_SECOND, REPORT_INTERVAL_SECONDS, UnknownKeys
from tests.harness import MovableClock

NO_KEY = Unauthorized("a write key is required")


def reported(errors: list[HeadwaterError], *, seconds: float = 0) -> list[Any]:
    """The count and keys of each log line, when calls fail with the errors so many seconds apart."""
    clock = MovableClock()
    unknown = UnknownKeys(clock)
    with capture_logs() as lines:
        for error in errors:
            unknown.add(error)
            clock.advance(seconds)
    assert all(line["log_level"] == "warning" for line in lines)
    assert all(line["event"] == "calls with an unknown write key" for line in lines)
    return [(line["count"], line["keys"]) for line in lines]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("Yk8Ld0aPq3", "Yk8L…"),
        ("code", "code…"),
        ("ab", "ab…"),
        ("\n\x1b[31m", "??[3…"),
        ("žluťoučký", "?lu?…"),
    ],
)
def test_no_more_of_a_key_is_logged_than_tells_it_from_others(key: str, shown: str) -> None:
    assert reported([UnknownWriteKey(key)]) == [(1, {shown: 1})]


def test_a_call_without_a_key_counts_without_a_prefix() -> None:
    assert reported([NO_KEY]) == [(1, {})]


def test_there_is_a_line_a_minute_at_most_with_the_calls_since_the_line_before() -> None:
    key = UnknownWriteKey("abcdefgh")
    calls = 2 * REPORT_INTERVAL_SECONDS + 1
    assert reported([key] * calls, seconds=1) == [
        (1, {"abcd…": 1}),
        (REPORT_INTERVAL_SECONDS, {"abcd…": REPORT_INTERVAL_SECONDS}),
        (REPORT_INTERVAL_SECONDS, {"abcd…": REPORT_INTERVAL_SECONDS}),
    ]
    assert len(reported([key] * 1000)) == 1


def test_a_clock_that_is_set_back_does_not_silence_it() -> None:
    assert len(reported([NO_KEY] * 3, seconds=-1)) == 3


def test_a_line_has_a_bounded_number_of_prefixes() -> None:
    first, *others = [UnknownWriteKey(f"{number:04}rest") for number in range(500)]
    lines = reported([first, *others, first], seconds=REPORT_INTERVAL_SECONDS / 500)
    assert [(count, len(keys)) for count, keys in lines] == [(1, 1), (500, MAX_PREFIXES)]


def test_so_many_a_second_are_stored() -> None:
    clock = MovableClock()
    unknown = UnknownKeys(clock)
    assert [unknown.add(NO_KEY) for _ in range(25)].count(True) == MAX_STORED_PER_SECOND
    clock.advance(1)
    assert unknown.add(NO_KEY)
