"""Looks up the location of IP addresses in a database in MaxMind's format, such as GeoLite2 City.

The operator provides the file. It is mapped into memory: to replace it, rename another file over it and restart.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import maxminddb

from headwater.events.context import Locate, Location

MAX_CACHED_ADDRESSES: Final = 8192
"""Number of cached addresses. A lookup takes tens of microseconds."""

_NOWHERE: Final = Location()


def open_locator(path: Path) -> Locate:
    """Return a function that looks up locations in the database at `path`.

    Raises ValueError if the file cannot be read or has another format. The text continues a sentence that starts with
    the name of the setting.
    """
    try:
        reader = maxminddb.open_database(path)
    except OSError as error:
        raise ValueError(f"cannot be read: {path} ({error.strerror})") from None
    except maxminddb.InvalidDatabaseError:
        raise ValueError(f"is not a database of MaxMind's format: {path}") from None

    @lru_cache(maxsize=MAX_CACHED_ADDRESSES)
    def locate(ip: str) -> Location | None:
        try:
            return _location(reader.get(ip))
        except (ValueError, maxminddb.InvalidDatabaseError):  # an IPv6 address in an IPv4 database, or a damaged record
            return None

    return locate


def _location(found: object) -> Location | None:
    location = Location(
        city=_text(_at(found, "city", "names", "en")),
        country=_text(_at(found, "country", "iso_code")),
        latitude=_number(_at(found, "location", "latitude")),
        longitude=_number(_at(found, "location", "longitude")),
    )
    return None if location == _NOWHERE else location


def _at(found: Any, *path: str) -> object:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
