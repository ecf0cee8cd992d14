"""Sizes and durations as people write them in settings: `10GiB`, `7d`. A number alone is bytes, or seconds."""

import re
from typing import Final

_SIZES: Final = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_NUMBER: Final = re.compile(r"([0-9]{1,15})\s*([A-Za-z]*)")


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
