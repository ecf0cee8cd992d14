"""The source of the current time. It is passed to every part that needs it, so that tests can move it."""

from datetime import UTC, date, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Return `moment` as whole microseconds since the epoch, without rounding. Times are stored in this form."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_microseconds(stored: int) -> datetime:
    """Return the moment, in UTC, for which `microseconds` returned `stored`."""
    return _EPOCH + timedelta(microseconds=stored)


def day_start(day: date) -> int:
    """The moment at which a day begins in UTC, in microseconds since the epoch."""
    return microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> datetime:
        """Return the current time in UTC, with microseconds."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)
