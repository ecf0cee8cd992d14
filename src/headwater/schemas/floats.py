"""Shortest decimal texts of binary floating point numbers, and rounding to 32 bits."""

import struct
from typing import Final

_FLOAT32: Final = struct.Struct("f")

JSON_EXPONENT: Final = 21
"""JSON has an exponent from this decimal exponent on."""
TEXT_EXPONENT: Final = 6
"""A conversion to text writes an exponent from this decimal exponent on."""


def to_float32(value: float) -> float:
    """Return the nearest 32-bit number, or an infinity if the value exceeds the largest one."""
    try:
        rounded: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded


def float_text(value: float, bit_size: int = 64, *, exponent_from: int = JSON_EXPONENT) -> str:
    """Return the fewest digits that give the same finite number of `bit_size` bits, as a JSON number.

    The text has an exponent, of two digits or more, if the decimal exponent is below -4 or at least `exponent_from`.
    """
    mantissa, _, exponent_text = (_shortest32(value) if bit_size == 32 else _scientific(repr(value))).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "").rstrip("0") or "0"
    exponent = int(exponent_text)
    if exponent < -4 or exponent >= exponent_from:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return f"{sign}{whole}.{fraction}" if fraction else sign + whole


def _shortest32(value: float) -> str:
    for digits in range(9):
        text = f"{value:.{digits}e}"
        if to_float32(float(text)) == value:
            break
    return text


def _scientific(shortest: str) -> str:
    """Return the output of `repr` with one digit before the point and an exponent."""
    sign = "-" if shortest.startswith("-") else ""
    mantissa, _, exponent = shortest.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return f"{sign}0e0"
    leading = len(whole) if whole != "0" else len(digits) - len(fraction)
    return f"{sign}{digits[0]}.{digits[1:]}e{leading - 1 + int(exponent or 0)}"
