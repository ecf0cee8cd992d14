"""Points in time and times of day with nanoseconds: the values of kinds datetime and time.

Python's own types end at the microsecond. Both classes here wrap one whole number, so they compare, sort and hash like
it.
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Self

from msgspec import Struct

_SECOND: Final = 1_000_000_000
_DAY: Final = 86_400 * _SECOND
_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH_IN_UTC: Final = _EPOCH.replace(tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()
_MIN_NANOSECONDS: Final = (1 - _EPOCH_DAY) * _DAY
_END_NANOSECONDS: Final = (date.max.toordinal() + 1 - _EPOCH_DAY) * _DAY
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_RFC_3339: Final = re.compile(
    rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_CLOCK})(?:\.([0-9]{{1,9}}))?(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_TIME: Final = re.compile(rf"({_CLOCK})(?:\.([0-9]{{1,9}}))?")


class DateTime(Struct, frozen=True, order=True):
    """A point in time in the years 1 to 9999, in UTC."""

    nanoseconds: int
    """Since 1970-01-01T00:00:00Z, without leap seconds."""

    def __post_init__(self) -> None:
        if not _MIN_NANOSECONDS <= self.nanoseconds < _END_NANOSECONDS:
            raise ValueError("must be in the years 1 to 9999")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse RFC 3339 with any offset. Raises ValueError with the rule as its message for any other text."""
        match = _RFC_3339.fullmatch(text)
        if match is None:
            raise ValueError("must be a date and time of RFC 3339")
        moment, fraction, sign, hours, minutes = match.groups()
        try:
            since = datetime.fromisoformat(moment) - _EPOCH
        except ValueError as error:
            raise ValueError("must be a date and time that exists, in the years 1 to 9999") from error
        seconds = since.days * 86_400 + since.seconds
        if sign is not None:
            offset = int(hours) * 3600 + int(minutes) * 60
            seconds += offset if sign == "-" else -offset
        return cls(seconds * _SECOND + _nanoseconds(fraction))

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """Return the same point in time; a datetime without a zone is in UTC. Raises ValueError outside the years 1 to
        9999."""
        if moment.tzinfo is UTC:  # the usual case, which needs no conversion
            since = moment - _EPOCH_IN_UTC
            return cls((since.days * 86_400 + since.seconds) * _SECOND + since.microseconds * 1000)
        if moment.tzinfo is not None:
            try:
                moment = moment.astimezone(UTC).replace(tzinfo=None)
            except OverflowError as error:
                raise ValueError("must be in the years 1 to 9999") from error
        since = moment - _EPOCH
        return cls((since.days * 86_400 + since.seconds) * _SECOND + since.microseconds * 1000)

    @classmethod
    def at(cls, day: date, time: "Time | None" = None) -> Self:
        """Return this time of the day, by default midnight."""
        return cls((day.toordinal() - _EPOCH_DAY) * _DAY + (time.nanoseconds if time is not None else 0))

    def to_datetime(self) -> datetime:
        """Return the point in time in UTC, truncated to microseconds."""
        return (_EPOCH + timedelta(microseconds=self.nanoseconds // 1000)).replace(tzinfo=UTC)

    @property
    def date(self) -> date:
        """Return the day in UTC."""
        return date.fromordinal(self.nanoseconds // _DAY + _EPOCH_DAY)

    @property
    def time(self) -> "Time":
        """Return the time of day in UTC."""
        return Time(self.nanoseconds % _DAY)

    def __str__(self) -> str:
        """Return RFC 3339 with the fewest digits: `2024-03-05T10:00:00.5Z`."""
        seconds, fraction = divmod(self.nanoseconds, _SECOND)
        return f"{_format_second(seconds)}{_trimmed(fraction)}Z"

    @property
    def json_text(self) -> str:
        """Return RFC 3339 with a fraction of 0, 3, 6 or 9 digits: `2024-03-05T10:00:00.500Z`."""
        seconds, fraction = divmod(self.nanoseconds, _SECOND)
        return f"{_format_second(seconds)}{_grouped(fraction)}Z"


class Time(Struct, frozen=True, order=True):
    """A time of day."""

    nanoseconds: int
    """Since midnight."""

    def __post_init__(self) -> None:
        if not 0 <= self.nanoseconds < _DAY:
            raise ValueError("must be in the range 00:00:00 to 23:59:59.999999999")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `hh:mm:ss` with an optional fraction of 1 to 9 digits. Raises ValueError with the rule as its message
        for any other text."""
        match = _TIME.fullmatch(text)
        if match is None:
            raise ValueError("must be a time of day as hh:mm:ss, with a fraction of at most 9 digits")
        clock, fraction = match.groups()
        seconds = int(clock[0:2]) * 3600 + int(clock[3:5]) * 60 + int(clock[6:8])
        return cls(seconds * _SECOND + _nanoseconds(fraction))

    def __str__(self) -> str:
        """Return the time with the fewest digits: `10:00:00.5`."""
        return self._clock + _trimmed(self.nanoseconds % _SECOND)

    @property
    def json_text(self) -> str:
        """Return the time with a fraction of 0, 3, 6 or 9 digits: `10:00:00.500`."""
        return self._clock + _grouped(self.nanoseconds % _SECOND)

    @property
    def _clock(self) -> str:
        minutes, seconds = divmod(self.nanoseconds // _SECOND, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


@lru_cache(256)
def _format_second(seconds: int) -> str:
    """Return the date and time. Many events of a batch are of the same second."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def _nanoseconds(fraction: str | None) -> int:
    return int(fraction.ljust(9, "0")) if fraction else 0


def _trimmed(fraction: int) -> str:
    return f".{fraction:09d}".rstrip("0") if fraction else ""


def _grouped(fraction: int) -> str:
    if not fraction:
        return ""
    if not fraction % 1_000_000:
        return f".{fraction // 1_000_000:03d}"
    return f".{fraction:09d}" if fraction % 1_000 else f".{fraction // 1_000:06d}"
