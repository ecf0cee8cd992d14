"""`context.screen`: its density with the two decimals that the schema has."""

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.raw import ABSENT, is_object, join, members

_FITTING: Final = re.compile(rb"[0-9](?:\.[0-9]{1,2})?")
_NUMBER: Final = re.compile(rb"[0-9][0-9.eE+-]{0,40}")
_HUNDREDTH: Final = Decimal("0.01")
_LEAST, _LIMIT = Decimal("0.005"), Decimal("9.995")


class _Screen(Struct):
    density: Raw = ABSENT


_decode = msgspec.json.Decoder(_Screen).decode


def screen_of(sent: Raw) -> Raw:
    """The section with its density, which Android computes to seven digits, rounded; itself when that fits already."""
    if not is_object(sent):
        return sent
    density = bytes(_decode(sent).density)
    if _FITTING.fullmatch(density) or not _NUMBER.fullmatch(density):
        return sent
    value = Decimal(density.decode())
    if not _LEAST <= value < _LIMIT:
        return sent
    rounded = value.quantize(_HUNDREDTH, ROUND_HALF_UP)
    return join(members(sent) | {"density": Raw(str(rounded).encode())})
