"""The one source of the present time, passed to whoever needs it so that tests can move it."""

from datetime import UTC, date, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """`moment` as whole microseconds since the epoch, exactly: how times are stored."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_microseconds(stored: int) -> datetime:
    """The moment that `microseconds` made `stored` of, in UTC."""
    return _EPOCH + timedelta(microseconds=stored)


def day_start(day: date) -> int:
    """The moment at which a day begins in UTC, in microseconds since the epoch."""
    return microseconds(datetime(day.year, day.month, day.day, tzinfo=UTC))


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The present moment in UTC, with microseconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)
