"""Conversions to boolean, int, float, decimal and year. Only floats are rounded."""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from headwater.schemas import DecimalType, FloatType, IntType, InvalidValue, compile_check, parse_decimal, to_float32
from headwater.schemas.decimals import from_float

_TRUE: Final = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES"))
_FALSE: Final = frozenset(("false", "False", "FALSE", "no", "No", "NO"))
_DIGITS: Final = re.compile(r"[0-9]+")
_SIGNED: Final = re.compile(r"[+-]?[0-9]+")
_REAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_YEAR: Final = re.compile(r"[1-9][0-9]{0,3}")
_NOT_REAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MAX_DIGITS: Final = 20
"""More than any int has: longer texts are always out of range."""


def text_to_boolean(text: str) -> bool:
    """Parse the words for true and false."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidValue("must be one of true, True, TRUE, yes, Yes, YES, false, False, FALSE, no, No, NO")


_FEW_DIGITS: Final = 18
"""Number of digits up to which the text of an integer needs no check of its length."""


def text_to_int(target: IntType) -> Callable[[str], int]:
    """Return a parser of digits, with a sign unless the target is unsigned."""
    syntax = _DIGITS if target.unsigned else _SIGNED
    check = compile_check(target)

    def convert(text: str) -> int:
        if len(text) <= _FEW_DIGITS and text.isdecimal() and text.isascii():
            number = int(text)
            check(number)
            return number
        if not syntax.fullmatch(text):
            raise InvalidValue("must be the digits of an integer")
        digits = text.lstrip("+-").lstrip("0")
        if len(digits) > _MAX_DIGITS:
            digits = "9" * _MAX_DIGITS  # out of every range
        number = -int(digits or 0) if text[0] == "-" else int(digits or 0)
        check(number)
        return number

    return convert


def float_to_int(value: float) -> int:
    """Round half away from zero."""
    if not math.isfinite(value):
        raise InvalidValue("must be a finite number")
    whole = int(value)
    if abs(value - whole) >= 0.5:  # exact: both are floats of the same magnitude
        whole += 1 if value > 0 else -1
    return whole


def decimal_to_int(value: Decimal) -> int:
    """Return the same number, which must be whole."""
    whole = int(value)
    if whole != value:
        raise InvalidValue("must be a whole number")
    return whole


def text_to_float(text: str) -> float:
    """Parse a decimal number, or NaN, Infinity or -Infinity."""
    if _REAL.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise InvalidValue("is out of the range of a float")
        return value
    value = _NOT_REAL.get(text, 0.0)
    if value == 0.0:
        raise InvalidValue("must be a number")
    return value


def to_float(target: FloatType) -> Callable[[Any], float]:
    """Return a conversion of any number, rounded to the size of the target and checked."""
    check = compile_check(target)
    if target.bit_size == 64:

        def convert(value: Any) -> float:
            number = float(value)
            check(number)
            return number

        return convert

    def convert32(value: Any) -> float:
        exact = float(value)
        number = to_float32(exact)
        if math.isinf(number) and not math.isinf(exact):
            raise InvalidValue("is out of the range of a float(32)")
        check(number)
        return number

    return convert32


def text_to_decimal(target: DecimalType) -> Callable[[str], Decimal]:
    """Return a parser that keeps the exact number."""
    check = compile_check(target)
    precision, scale = target.precision, target.scale

    def convert(text: str) -> Decimal:
        try:
            number = parse_decimal(text, precision, scale)
        except ValueError as error:
            raise InvalidValue(str(error)) from None
        check(number)
        return number

    return convert


def float_to_decimal(target: DecimalType) -> Callable[[float], Decimal]:
    """Return a conversion that rounds half away from zero to the scale of the target."""
    check = compile_check(target)
    precision, scale = target.precision, target.scale

    def convert(value: float) -> Decimal:
        try:
            number = from_float(value, precision, scale)
        except ValueError as error:
            raise InvalidValue(str(error)) from None
        check(number)
        return number

    return convert


def number_to_decimal(target: DecimalType) -> Callable[[int | Decimal], Decimal]:
    """Return a conversion to the same number."""
    check = compile_check(target)

    def convert(value: int | Decimal) -> Decimal:
        number = Decimal(value)
        check(number)
        return number

    return convert


def text_to_year(text: str) -> int:
    """Parse one to four digits, the first of them not zero."""
    if not _YEAR.fullmatch(text):
        raise InvalidValue("must be a year in the range 1 to 9999")
    return int(text)
