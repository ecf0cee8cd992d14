"""Conversions of text to datetime, date and time, and to UUIDs and IP addresses."""

import re
from datetime import date, timedelta
from typing import Final

from headwater.schemas import DateTime, InvalidValue, Time, canonical_ip

_ISO_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NOT_ISO_DATE: Final = "must be a date as YYYY-MM-DD"
_US_DATE: Final = re.compile(r"([0-9]{2})([/.])([0-9]{2})\2([0-9]{4})")
_SERIAL: Final = re.compile(r"([0-9]+)(?:\.[0-9]*)?")
_SERIAL_EPOCH: Final = date(1899, 12, 31)
_LEAP_SERIAL: Final = 60
"""29 February 1900 in spreadsheets, a day that did not exist."""
_MAX_SERIAL: Final = (date.max - _SERIAL_EPOCH).days + 1
_ISO_8601: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2})(?:(:[0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?)?(?:[Zz]|([+-][0-9]{2}):?([0-9]{2})?)?)?"
)
_TIME: Final = re.compile(r"([0-9:]{8}(?:\.[0-9]{1,9})?)[0-9]*Z?")
_UUID: Final = re.compile(
    r"(?:urn:uuid:)?([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})", re.IGNORECASE
)
_BARE_UUID: Final = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})", re.IGNORECASE)


def text_to_datetime(text: str) -> DateTime:
    """Parse RFC 3339 with a zone, in its exact form."""
    try:
        return DateTime.parse(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None


def iso_to_datetime(text: str) -> DateTime:
    """Parse ISO 8601 as programs write it: a date, or a date and a time of at least hours and minutes; UTC without a
    zone. Digits after the ninth of a fraction are ignored."""
    match = _ISO_8601.fullmatch(text)
    if match is None:
        raise InvalidValue("must be a date and time of ISO 8601")
    day, clock, seconds, fraction, hours, minutes = match.groups()
    zone = "Z" if hours is None else f"{hours}:{minutes or '00'}"
    return text_to_datetime(f"{day}T{clock or '00:00'}{seconds or ':00'}{'.' + fraction if fraction else ''}{zone}")


def text_to_date(text: str) -> date:
    """Parse YYYY-MM-DD, MM/DD/YYYY, MM.DD.YYYY, or a spreadsheet's serial number of a day with three characters or
    more."""
    if len(text) == 10 and text[4] == text[7] == "-":  # most dates
        return _to_date(text)
    if us := _US_DATE.fullmatch(text):
        return iso_to_date(f"{us[4]}-{us[1]}-{us[3]}")
    serial = _SERIAL.fullmatch(text) if len(text) >= 3 else None
    if serial is None:
        return iso_to_date(text)
    digits = serial[1].lstrip("0") or "0"
    days = int(digits) if len(digits) <= 7 else _MAX_SERIAL + 1
    if days == _LEAP_SERIAL or days > _MAX_SERIAL:
        raise InvalidValue("must be the number of a day that exists, in the years 1 to 9999")
    return _SERIAL_EPOCH + timedelta(days - 1 if days > _LEAP_SERIAL else days)


def iso_to_date(text: str) -> date:
    """Parse YYYY-MM-DD."""
    if not _ISO_DATE.fullmatch(text):
        raise InvalidValue(_NOT_ISO_DATE)
    return _to_date(text)


def _to_date(text: str) -> date:
    """Parse a text of ten characters with dashes after the year and the month."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        rule = "must be a day that exists, in the years 1 to 9999" if _ISO_DATE.fullmatch(text) else _NOT_ISO_DATE
        raise InvalidValue(rule) from None


def text_to_time(text: str) -> Time:
    """Parse hh:mm:ss with an optional fraction. A trailing `Z`, which files have, and digits after the ninth are
    ignored."""
    match = _TIME.fullmatch(text)
    try:
        return Time.parse(match[1] if match else text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None


def text_to_uuid(text: str) -> str:
    """Parse a UUID with its dashes or without any, in braces, or as a URN."""
    inside = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
    match = _UUID.fullmatch(inside) or _BARE_UUID.fullmatch(inside)
    if match is None:
        raise InvalidValue("must be a UUID")
    return "-".join(match.groups()).lower()


def text_to_ip(text: str) -> str:
    """Parse an IPv4 or IPv6 address."""
    try:
        return canonical_ip(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None
