"""`context.locale`: one spelling for each language and region."""

import re
from functools import lru_cache
from typing import Final

from msgspec import Raw

REMEMBERED: Final = 1024
MAX_BYTES: Final = 32
"""The longest text that can be such a locale."""

_LOCALE: Final = re.compile(
    r'"(?P<language>[a-z]{2,3})(?:[-_](?P<script>[a-z]{4}))?(?:[-_](?P<region>[a-z]{2}|[0-9]{3}))?(?:\.[a-z0-9-]+)?"',
    re.IGNORECASE | re.ASCII,
)
"""A language, perhaps its script and region, as BCP 47 and POSIX write them; POSIX may add an encoding."""


def locale_of(sent: Raw) -> Raw:
    """The locale as BCP 47 spells it, "en-US" for "en_us"; what is no such locale as it was sent.

    A language without a region gets none: which it is spoken in, nobody said.
    """
    if len(sent) > MAX_BYTES:
        return sent
    own = bytes(sent)
    normal = _normal(own)
    return sent if normal == own else Raw(normal)


@lru_cache(maxsize=REMEMBERED)
def _normal(sent: bytes) -> bytes:
    match = _LOCALE.fullmatch(sent.decode())
    if match is None:
        return sent
    parts = (match["language"].lower(), (match["script"] or "").title(), (match["region"] or "").upper())
    return f'"{"-".join(part for part in parts if part)}"'.encode()
