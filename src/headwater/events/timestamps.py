"""Reads the times that clients send, and corrects them for the difference between the client's clock and the server's.

The grammar is defined here and does not depend on the version of Python: `datetime.fromisoformat`, whose grammar
differs between versions, is used for speed only, for a form in which it always agrees with this grammar.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from headwater.base.clock import from_microseconds

MAX_LENGTH: Final = 1_000
"""Maximum length of a text that is parsed as a time, in characters. ISO 8601 does not limit the digits of a
fraction."""
MAX_KEPT_LENGTH: Final = 200
"""Maximum length of the stored text of an unreadable time. A `sentAt` of a batch is stored with each of its events."""
SECONDS_DIGITS: Final = range(9, 12)
"""Possible numbers of digits before the decimal point of seconds since 1970: from 1973-03-03 to the year 5138.

Smaller numbers are mostly a 0 or 1 that means "unknown"; and 7 or 8 digits are a date (2026333, 20261122).
"""
MILLISECONDS_DIGITS: Final = range(12, 15)
"""The same for milliseconds. They are the same years, so the digits alone distinguish the units."""
MAX_FUTURE: Final = timedelta(days=1)
"""Maximum time after its receipt to which the correction of the client's clock may move an event."""

_WITH_Z: Final = frozenset((20, 24, 27))
_WITH_OFFSET: Final = frozenset((25, 29, 32))
_WITHOUT_OFFSET: Final = frozenset((19, 23, 26))
"""Lengths of a date and time in extended form, with `Z`, an offset in minutes or neither, and a fraction of 0, 3 or 6
digits.

Nearly all SDKs write times in this form. For texts of such a length that have `T`, `:` and the ending at their
positions, all versions of `fromisoformat` agree with this grammar, or raise.
"""
_from_iso: Final = datetime.fromisoformat
_RULE: Final = "is not an ISO 8601 date and time"

_ISO: Final = re.compile(
    r"(?P<year>\d{4})"
    r"(?:-(?P<month>\d\d)-(?P<day>\d\d)|(?P<month_>\d\d)(?P<day_>\d\d)"
    r"|-?(?P<ordinal>\d{3})"
    r"|-W(?P<week>\d\d)(?:-(?P<weekday>\d))?|W(?P<week_>\d\d)(?P<weekday_>\d)?)"
    r"(?:[Tt ](?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)"
    r"(?:(?P=colon)(?P<second>\d\d)(?:[.,:](?P<fraction>\d+))?)?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<off_hour>\d\d)"
    r"(?:(?P<off_colon>:?)(?P<off_minute>\d\d)"
    r"(?:(?P=off_colon)(?P<off_second>\d\d)(?:[.,](?P<off_fraction>\d+))?)?)?)?)?",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"\+?(?P<whole>\d+)(?:\.(?P<fraction>\d*))?(?:[eE](?P<exponent>[+-]?\d{1,3}))?", re.ASCII)


def parse_timestamp(text: str) -> datetime:
    """Parse an ISO 8601 or RFC 3339 date, or date and time; return it in UTC.

    Dates are calendar dates, ordinal dates (2026-333) and week dates, extended or basic. The separator is `T`, `t` or a
    space. A second 60 is the first second of the next minute, and 24:00 is midnight of the next day. A time without an
    offset is UTC. Digits of the fraction beyond microseconds are cut off.

    Raises ValueError for anything else, and for a time outside the years 1 to 9999.
    """
    try:
        if text[10] == "T" and text[16] == ":":
            if text[-1] == "Z":
                if len(text) in _WITH_Z:
                    return _from_iso(text)
            elif len(text) in _WITH_OFFSET:
                if text[-6:] == "+00:00":
                    return _from_iso(text)
                if text[-3] == ":" and text[-2] < "6":
                    return _from_iso(text).astimezone(UTC)
            elif len(text) in _WITHOUT_OFFSET:
                time = _from_iso(text)
                if time.tzinfo is None:
                    return time.replace(tzinfo=UTC)
    except (ValueError, IndexError, OverflowError):
        pass
    return _parse(text)


def read_time(text: str) -> datetime | None:
    """Parse a time in any form of clients of the track API; return it in UTC, or None if it cannot be read.

    It has the grammar of `parse_timestamp`, with white space around it, or is a decimal number of seconds or
    milliseconds since 1970-01-01T00:00:00Z. The number of digits before the decimal point decides the unit.
    """
    try:
        return parse_timestamp(text)
    except ValueError:
        if len(text) > MAX_LENGTH:
            return None
    text = text.strip()
    try:
        return _parse(text)
    except ValueError:
        return _since_epoch(text)


def correct(client_time: datetime, *, sent: datetime, received: datetime) -> datetime | None:
    """Move `client_time` by the difference between the clocks, which `sent` and `received` show.

    Network time counts as clock error, as in every SDK of this family. Returns None if that would move the time forward
    to more than `MAX_FUTURE` after `received`: then `sent` is wrong, and the difference unknown. A result before year 1
    gives `received`.
    """
    try:
        corrected = client_time + (received - sent)
    except OverflowError:
        return None if sent < received else received
    return None if sent < received and corrected - received > MAX_FUTURE else corrected


def _parse(text: str) -> datetime:
    match = _ISO.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise ValueError(_RULE)
    try:
        day = _date(match)
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return midnight + (_time_of_day(match) - _offset(match))
    except (ValueError, OverflowError) as error:
        raise ValueError(_RULE) from error


def _date(match: re.Match[str]) -> date:
    year = int(match["year"])
    if match["ordinal"]:
        day = date(year, 1, 1) + timedelta(days=int(match["ordinal"]) - 1)
        if day.year != year:
            raise ValueError
        return day
    if week := match["week"] or match["week_"]:
        return date.fromisocalendar(year, int(week), int(match["weekday"] or match["weekday_"] or 1))
    return date(year, int(match["month"] or match["month_"]), int(match["day"] or match["day_"]))


def _time_of_day(match: re.Match[str]) -> timedelta:
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    microsecond = _microseconds(match["fraction"])
    is_midnight = hour == 24 and not (minute or second or microsecond)
    if not is_midnight and (hour > 23 or minute > 59 or second > 60):
        raise ValueError
    return timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)


def _offset(match: re.Match[str]) -> timedelta:
    if not match["sign"]:
        return timedelta()
    hour, minute, second = (int(match[name] or 0) for name in ("off_hour", "off_minute", "off_second"))
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError
    offset = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=_microseconds(match["off_fraction"]))
    return -offset if match["sign"] == "-" else offset


def _microseconds(fraction: str | None) -> int:
    return int(fraction[:6].ljust(6, "0")) if fraction else 0


def _since_epoch(text: str) -> datetime | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    # Digit by digit, and not as a float, which cannot represent every microsecond.
    fraction = match["fraction"] or ""
    digits = (match["whole"] + fraction).lstrip("0")
    exponent = int(match["exponent"] or 0) - len(fraction)
    size = len(digits) + exponent
    if size in SECONDS_DIGITS:
        exponent += 6
    elif size in MILLISECONDS_DIGITS:
        exponent += 3
    else:
        return None
    return from_microseconds(int(digits + "0" * exponent if exponent >= 0 else digits[:exponent]))
