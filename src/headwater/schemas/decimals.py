"""Exact decimal numbers: parsing, precision and scale, and printing.

Only `from_float` rounds. Numbers have at most 76 digits.
"""

import re
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

_CONTEXT: Final = Context(prec=200, Emax=999_999, Emin=-999_999)
_WIDE: Final = Context(prec=1200, Emax=999_999, Emin=-999_999)
"""Holds every float exactly: the smallest has 1074 digits after the point."""
_SYNTAX: Final = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_MAX_TEXT: Final = 1_000
"""Maximum length of a parsed text, in characters: far longer than any number that fits."""


def parse_decimal(text: str, precision: int = 76, scale: int = 37) -> Decimal:
    """Parse a number: sign, digits without leading zeros, point, exponent.

    Raises ValueError with the broken rule as its message if the text is not a number or does not fit exactly.
    """
    if len(text) > _MAX_TEXT or not _SYNTAX.fullmatch(text):
        raise ValueError("must be a decimal number")
    try:
        number = Decimal(text)
    except InvalidOperation as error:  # the exponent exceeds every limit
        raise ValueError(_range_rule(precision, scale)) from error
    if not fits(number, precision, scale):
        raise ValueError(_range_rule(precision, scale))
    return plain(number)


def from_float(value: float, precision: int, scale: int) -> Decimal:
    """Return the number rounded half away from zero to `scale` digits. Raises ValueError if the result is too large or
    not finite."""
    exact = Decimal(value)
    if not exact.is_finite():
        raise ValueError(_range_rule(precision, scale))
    number = exact.quantize(Decimal(1).scaleb(-scale, _CONTEXT), ROUND_HALF_UP, _WIDE)
    if not fits(number, precision, scale):
        raise ValueError(_range_rule(precision, scale))
    return plain(number)


def fits(number: Decimal, precision: int, scale: int) -> bool:
    """Return whether the number has at most `scale` digits after the point and `precision - scale` before it."""
    if not number.is_finite():
        return False
    if not number:
        return True
    # The magnitude bounds the quotient of the remainder, and a remainder that is not 0 is not rounded to 0.
    return -scale <= number.adjusted() < precision - scale and not _CONTEXT.remainder(number, _unit(scale))


@lru_cache(maxsize=128)
def _unit(scale: int) -> Decimal:
    """Return the smallest positive number with so many digits after the point."""
    return Decimal((0, (1,), -scale))


def plain(number: Decimal) -> Decimal:
    """Return the same number without trailing zeros and without a negative zero, so that equal numbers print
    equally."""
    return number.normalize(_CONTEXT) if number else Decimal(0)


def decimal_text(number: Decimal) -> str:
    """Return the number without an exponent and without redundant zeros after the point."""
    text = format(number, "f") if number else "0"
    return text.rstrip("0").removesuffix(".") if "." in text else text


def _range_rule(precision: int, scale: int) -> str:
    return f"must be a decimal number of at most {precision - scale} digits before the point and {scale} behind it"
