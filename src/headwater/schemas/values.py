"""The Python classes of values, and lookups inside records.

    string, uuid, ip    str             date        datetime.date       json      Json
    boolean             bool            datetime    DateTime            array     list
    int, year           int             time        Time                object    dict, missing properties left out
    float               float           decimal     Decimal             map       dict

Missing, null and JSON null differ: a missing property has no key, a null property is None, and a property of kind json
may also hold `Json("null")`.
"""

import ipaddress
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Final, TypeAlias

from headwater.schemas.datetimes import DateTime, Time
from headwater.schemas.json_value import Json
from headwater.schemas.paths import Path

Value: TypeAlias = (
    str | bool | int | float | Decimal | DateTime | date | Time | Json | list["Value"] | dict[str, "Value"] | None
)
Record: TypeAlias = dict[str, Value]


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING
"""The result of looking up a property that a record does not have."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
"""Matches addresses that are already canonical."""


def value_at(record: Mapping[str, Value], path: Path) -> Value | Missing:
    """Return the value at the path, through objects only; MISSING if it, or an object on the way, is missing or
    null."""
    here: Value | Mapping[str, Value] = record
    for component in path[:-1]:
        here = here.get(component) if isinstance(here, dict) else None
    return here.get(path[-1], MISSING) if isinstance(here, Mapping) else MISSING


def canonical_uuid(text: str) -> str:
    """Return the UUID in lower case. Raises ValueError unless it is hexadecimal digits in groups of 8-4-4-4-12."""
    if not _UUID.fullmatch(text):
        raise ValueError("must be a UUID")
    return text.lower()


def canonical_ip(text: str) -> str:
    """Return the address in its canonical text (RFC 5952). Raises ValueError for any other text and for addresses with
    a zone."""
    if _IPV4.fullmatch(text):
        return text
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError("must be an IP address") from error
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.scope_id is not None:
        raise ValueError("must be an IP address without a zone")
    mapped = address.ipv4_mapped  # newer versions of Python write these in the canonical form
    return str(address) if mapped is None else f"::ffff:{mapped}"
