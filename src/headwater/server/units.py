"""Sizes, durations and rates as people write them in settings: `10GiB`, `7d`, `1000:20000`. A number alone is bytes,
seconds, or events a second."""

import re
from typing import Final, NamedTuple

_SIZES: Final = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_NUMBER: Final = re.compile(r"([0-9]{1,15})\s*([A-Za-z]*)")


MAX_RATE: Final = 10_000_000
MAX_CALL_EVENTS: Final = 20_000
"""The most events of one call, which a rate lets come at once unless it says otherwise."""


class EventRate(NamedTuple):
    """So many events a second in the long run, and so many at once. As text "1000:20000"."""

    per_second: int
    burst: int

    def __str__(self) -> str:
        return f"{self.per_second}:{self.burst}"


def event_rate(text: str) -> EventRate:
    """A rate of events. Raises ValueError with the rule."""
    return _rate(text, "events", MAX_CALL_EVENTS)


def call_rate(text: str) -> EventRate:
    """A rate of calls; the burst is that of ten seconds unless it is given. Raises ValueError with the rule."""
    rate = _rate(text, "calls", 1)
    return rate if ":" in text else EventRate(rate.per_second, 10 * rate.per_second)


def _rate(text: str, unit: str, least_burst: int) -> EventRate:
    numbers = text.strip().split(":")
    if len(numbers) > 2 or not all(
        number.isascii() and number.isdigit() and 1 <= int(number) <= MAX_RATE for number in numbers
    ):
        raise ValueError(
            f"must be the {unit} a second, from 1 to {MAX_RATE}, or these and the {unit} at once (1000:20000), "
            f"not {text!r}"
        )
    per_second = int(numbers[0])
    return EventRate(per_second, int(numbers[1]) if len(numbers) == 2 else max(per_second, least_burst))


def size(text: str) -> int:
    """Bytes. Raises ValueError with the rule."""
    number = _NUMBER.fullmatch(text.strip())
    if number is None or (unit := _SIZES.get(number[2].upper())) is None:
        raise ValueError(f"must be a number of bytes, or one with KiB, MiB, GiB or TiB (10GiB), not {text!r}")
    return int(number[1]) * unit


def duration(text: str) -> int:
    """Seconds. Raises ValueError with the rule."""
    number = _NUMBER.fullmatch(text.strip())
    if number is None or (unit := _SECONDS.get(number[2].lower())) is None:
        raise ValueError(f"must be a number of seconds, or one with s, m, h or d (24h), not {text!r}")
    return int(number[1]) * unit
