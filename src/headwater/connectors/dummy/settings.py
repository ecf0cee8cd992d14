"""The dummy's settings: how often it fails, how slow it is, and where it sends events. None of them is needed."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from headwater.connectors.settings import Number, SettingsRules, Text

MAX_DELAY: Final = timedelta(hours=24)

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


class DummySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one connection.

    `export_fail_percentage` is how many in 100 customers fail to be written. Each operation takes from `least_delay` to
    `most_delay`. `dispatch_url` is where events are sent with POST; empty when they cannot be sent.
    """

    export_fail_percentage: int = 0
    least_delay: timedelta = timedelta(0)
    most_delay: timedelta = timedelta(0)
    dispatch_url: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Self:
        """From settings that `RULES` have read; those of a connection without settings are empty."""
        read = RULES.read(settings)
        least, most = parse_delay(str(read["operationDelay"]))
        return cls(
            export_fail_percentage=int(str(read["customerExportFailPercentage"])),
            least_delay=least,
            most_delay=most,
            dispatch_url=str(read["urlForDispatchingEvents"]),
        )


def parse_delay(text: str) -> tuple[timedelta, timedelta]:
    """The least and the most of a duration ("10ms", "1m30s") or of a range of them ("10ms-50ms"); none is 0.

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
        _ = parts.port  # raises when it is no port
    except ValueError:
        return rule
    return None if parts.scheme in ("http", "https") and parts.hostname else rule


RULES: Final = SettingsRules(
    (
        Number("customerExportFailPercentage", 0, 100, default=0),
        Text("operationDelay", 0, 100, check=_delay_rule),
        Text("urlForDispatchingEvents", 0, 2_000, check=_url_rule),
    ),
    required=False,
)
