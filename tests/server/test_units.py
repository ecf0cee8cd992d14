"""Sizes, durations and rates in the texts of settings."""

import pytest

from headwater.server.units import Rate, parse_duration, parse_event_rate, parse_size


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1024", 1024), ("1KiB", 1024), ("64 MiB", 64 << 20), ("10GiB", 10 << 30), ("2tib", 2 << 40)],
)
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("24h", 86_400), (" 7 D ", 604_800)]
)
def test_durations(text: str, value: int) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5GiB", "1e6", "10GB", "ten", "GiB", "٨٠", "1" * 16, "1KiB2"])
def test_invalid_sizes_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of bytes"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "1w", "ever", "24:00"])
def test_invalid_durations_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1", Rate(1, 20_000)),
        (" 1000 ", Rate(1000, 20_000)),
        ("30000", Rate(30_000, 30_000)),
        ("30000:5", Rate(30_000, 5)),
        ("10000000:10000000", Rate(10_000_000, 10_000_000)),
    ],
)
def test_rates(text: str, rate: Rate) -> None:
    assert parse_event_rate(text) == rate
    assert parse_event_rate(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "0", "1:0", ":", "1:", ":1", "1:2:3", "-1", "1.5", "1k", "10000001", "\u0665"])
def test_invalid_rates_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must be the events a second"):
        parse_event_rate(text)
