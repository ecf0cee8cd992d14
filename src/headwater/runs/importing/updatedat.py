"""Compiles the format of an updated-at column into a function that parses its values.

Times without a zone are in UTC. Only the years 1 to 9999 are times.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from headwater.base.clock import day_start
from headwater.schemas import DateTimeType, DateType, InvalidValue, JsonType, Type

ParseTime = Callable[[Any], int]
"""Returns microseconds since the epoch for a value of the schema that is not None. Raises InvalidValue."""
_ParseText = Callable[[str], datetime]
"""Raises ValueError or OverflowError."""

_EPOCH: Final = datetime(1970, 1, 1)
_SERIAL: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_MARCH_1_1900: Final = 61
"""The serial number from which on the days of Excel are right: it has a 29 February 1900, which is number 60."""
_END_OF_SERIALS: Final = 2_958_466
_MILLISECONDS_PER_DAY: Final = 86_400_000
_CACHED_TEXTS: Final = 4_096
_NUMBERS: Final = {"Y": "([0-9]{4})", "m": "([0-9]{1,2})", "d": "([0-9]{1,2})", "H": "([0-9]{1,2})",
                   "M": "([0-9]{1,2})", "S": "([0-9]{1,2})"}  # fmt: skip
_ORDER: Final = "YmdHMS"
_DIRECTIVE: Final = re.compile(r"%(.)|(\s+)", re.DOTALL)
_LIKE_ISO: Final = "%Y-%m-%d %H:%M:%S"

_decode_json: Final = msgspec.json.Decoder(str | int | float).decode


def compile_time(type: Type, format: str) -> ParseTime:
    """Return a parser of the values of a column. Texts and JSON have a format: `ISO8601`, `Excel`, or a pattern of
    strptime."""
    if isinstance(type, DateTimeType):
        return lambda value: value.nanoseconds // 1_000
    if isinstance(type, DateType):
        return day_start
    parse_text = _parser(format)

    def parse(text: str) -> int:
        try:
            return _microseconds(parse_text(text))
        except (ValueError, OverflowError, re.error):
            raise InvalidValue(f"is not a time of the format {format}") from None

    return _of_json(parse, format) if isinstance(type, JsonType) else parse


def _of_json(parse: Callable[[str], int], format: str) -> ParseTime:
    def parse_json(value: Any) -> int:
        text = value.text
        if not text.startswith('"') and format != "Excel":
            raise InvalidValue(f"is not a time of the format {format}")
        try:
            return parse(str(_decode_json(text)))
        except msgspec.DecodeError:
            raise InvalidValue(f"is not a time of the format {format}") from None

    return parse_json


def _microseconds(moment: datetime) -> int:
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _parser(format: str) -> _ParseText:
    if format == "ISO8601":
        return datetime.fromisoformat
    if format == "Excel":
        return _parse_serial
    parse_exactly = lru_cache(maxsize=_CACHED_TEXTS)(lambda text: datetime.strptime(text, format))
    if format == _LIKE_ISO:
        return _like_iso(parse_exactly)
    found = _pattern(format)
    return parse_exactly if found is None else _by_pattern(*found, parse_exactly)


def _parse_serial(text: str) -> datetime:
    """Return the time of a serial number of the 1900 system of Excel, to the millisecond, as Excel shows it."""
    if not _SERIAL.fullmatch(text):
        raise ValueError(text)
    serial = float(text)
    if not 0 <= serial < _END_OF_SERIALS:
        raise ValueError(text)
    milliseconds = round(serial * _MILLISECONDS_PER_DAY)
    first_day = datetime(1899, 12, 30) if serial >= _MARCH_1_1900 - 1 else datetime(1899, 12, 31)
    return first_day + milliseconds * _MILLISECOND


_MILLISECOND: Final = datetime(1, 1, 1, microsecond=1_000) - datetime(1, 1, 1)


def _like_iso(parse_exactly: _ParseText) -> _ParseText:
    def parse(text: str) -> datetime:
        if len(text) == 19 and text[4] == text[7] == "-" and text[10] == " " and text[13] == text[16] == ":":
            return datetime.fromisoformat(text)
        return parse_exactly(text)

    return parse


def _pattern(format: str) -> tuple[re.Pattern[str], tuple[int, ...]] | None:
    """Return the regular expression of a format of numbers only, and the places of its numbers in the order of
    `datetime`'s parameters; None for another format."""
    names: list[str] = []
    parts: list[str] = []
    end = 0
    for match in _DIRECTIVE.finditer(format):
        parts.append(re.escape(format[end : match.start()]))
        end = match.end()
        if match[2]:
            parts.append(r"\s+")
        elif match[1] == "%":
            parts.append("%")
        elif match[1] in _NUMBERS and match[1] not in names:
            names.append(match[1])
            parts.append(_NUMBERS[match[1]])
        else:
            return None
    parts.append(re.escape(format[end:]))
    used = [name for name in _ORDER if name in names]
    if used[:3] != ["Y", "m", "d"] or used != list(_ORDER[: len(used)]):
        return None
    return re.compile("".join(parts)), tuple(names.index(name) + 1 for name in used)


def _by_pattern(pattern: re.Pattern[str], places: tuple[int, ...], parse_exactly: _ParseText) -> _ParseText:
    """Return a parser that gives what `parse_exactly` gives, five times as fast for most texts."""
    match_text = pattern.fullmatch

    def parse(text: str) -> datetime:
        match = match_text(text)
        if match is not None:
            try:
                year, month, day, hour, minute, second, *_ = (*map(int, match.group(*places)), 0, 0, 0)
                return datetime(year, month, day, hour, minute, second)
            except ValueError:
                pass
        return parse_exactly(text)

    return parse
