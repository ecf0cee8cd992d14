"""Parsers of sizes, durations and rates in settings: `10GiB`, `7d`, `1000:20000`.

A number without a unit means bytes, seconds, or events per second.
"""

import re
from typing import Final, NamedTuple

_SIZES: Final = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_NUMBER: Final = re.compile(r"([0-9]{1,15})\s*([A-Za-z]*)")


MAX_RATE: Final = 10_000_000
MAX_CALL_EVENTS: Final = 20_000
"""Maximum number of events in one call, which is the minimum burst of a rate without an explicit burst."""


class Rate(NamedTuple):
    """A long-term rate per second, and the maximum burst. As text: "1000:20000"."""

    per_second: int
    burst: int

    def __str__(self) -> str:
        return f"{self.per_second}:{self.burst}"


def parse_event_rate(text: str) -> Rate:
    """Parse a rate of events. Raises ValueError with the rule."""
    return _rate(text, "events", MAX_CALL_EVENTS)


def parse_call_rate(text: str) -> Rate:
    """Parse a rate of calls. The default burst is the number of calls in ten seconds. Raises ValueError with the
    rule."""
    rate = _rate(text, "calls", 1)
    return rate if ":" in text else Rate(rate.per_second, 10 * rate.per_second)


def _rate(text: str, unit: str, minimum_burst: int) -> Rate:
    numbers = text.strip().split(":")
    if len(numbers) > 2 or not all(
        number.isascii() and number.isdigit() and 1 <= int(number) <= MAX_RATE for number in numbers
    ):
        raise ValueError(
            f"must be the {unit} a second, from 1 to {MAX_RATE}, or these and the {unit} at once (1000:20000), "
            f"not {text!r}"
        )
    per_second = int(numbers[0])
    return Rate(per_second, int(numbers[1]) if len(numbers) == 2 else max(per_second, minimum_burst))


def parse_size(text: str) -> int:
    """Parse a size in bytes. Raises ValueError with the rule."""
    number = _NUMBER.fullmatch(text.strip())
    if number is None or (unit := _SIZES.get(number[2].upper())) is None:
        raise ValueError(f"must be a number of bytes, or one with KiB, MiB, GiB or TiB (10GiB), not {text!r}")
    return int(number[1]) * unit


def parse_duration(text: str) -> int:
    """Parse a duration in seconds. Raises ValueError with the rule."""
    number = _NUMBER.fullmatch(text.strip())
    if number is None or (unit := _SECONDS.get(number[2].lower())) is None:
        raise ValueError(f"must be a number of seconds, or one with s, m, h or d (24h), not {text!r}")
    return int(number[1]) * unit
