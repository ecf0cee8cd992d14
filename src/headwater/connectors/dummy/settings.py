"""The dummy's settings: how often it fails, how slow it is, and where it sends events. All have defaults."""

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from headwater.connectors.settings import Number, Settings, Text, setting

MAX_DELAY: Final = timedelta(hours=24)
MIN_CUSTOMERS: Final = 10
"""The customers that every connection has."""

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,  # the micro sign
    "\u03bcs": 1e-6,  # the Greek letter that looks like it
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII)


def parse_delay(text: str) -> tuple[timedelta, timedelta]:
    """Return the minimum and maximum of a duration ("10ms", "1m30s") or of a range ("10ms-50ms"); empty is 0.

    Raises ValueError.
    """
    if not text:
        return timedelta(0), timedelta(0)
    least, dash, most = text.partition("-")
    delays = _duration(least), _duration(most if dash else least)
    if delays[0] > delays[1] or delays[1] > MAX_DELAY:
        raise ValueError(text)
    return delays


def _duration(text: str) -> timedelta:
    if text == "0":
        return timedelta(0)
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(text)
    try:
        return timedelta(seconds=sum(float(part[1]) * _UNITS[part[2]] for part in parts))
    except OverflowError:
        raise ValueError(text) from None


def _delay_rule(text: str) -> str | None:
    try:
        parse_delay(text)
    except ValueError:
        return 'must be a duration such as "10ms", or a range such as "10ms-50ms", of at most 24h'
    return None


def _url_rule(text: str) -> str | None:
    rule = "must be an HTTP URL"
    if not text:
        return None
    if not text.isascii() or not text.isprintable() or " " in text:
        return rule
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises if the port is not valid
    except ValueError:
        return rule
    return None if parts.scheme in ("http", "https") and parts.hostname else rule


class DummySettings(Settings, frozen=True, kw_only=True):
    """The settings of one connection."""

    REQUIRED: ClassVar = False

    export_fail_percentage: Annotated[
        int, Number(0, 100, label="Failing customers", help="How many in 100 customers fail to be written.")
    ] = setting("customerExportFailPercentage", 0)
    operation_delay: Annotated[
        str,
        Text(0, 100, check=_delay_rule, help='How long each operation takes: "10ms", or a range such as "10ms-50ms".'),
    ] = ""
    dispatch_url: Annotated[
        str,
        Text(
            0,
            2_000,
            check=_url_rule,
            label="URL for events",
            help="Events are sent to it with POST; without it they cannot be sent.",
        ),
    ] = setting("urlForDispatchingEvents", "")

    number_of_customers: Annotated[
        int,
        Number(MIN_CUSTOMERS, 1_000_000, label="Customers", help="How many customers there are to import, at least."),
    ] = MIN_CUSTOMERS

    @property
    def delay_range(self) -> tuple[timedelta, timedelta]:
        """The minimum and maximum duration of an operation."""
        return parse_delay(self.operation_delay)
