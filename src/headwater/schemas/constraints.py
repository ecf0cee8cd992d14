"""Compiles the constraints of a type into a function that checks a Python value of the right class."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from headwater.schemas import types as t
from headwater.schemas.decimals import decimal_text, fits
from headwater.schemas.errors import InvalidValue
from headwater.schemas.floats import float_text
from headwater.schemas.patterns import compile_pattern

Check = Callable[[Any], None]
"""Raises InvalidValue with an empty path if a value breaks a constraint."""


def compile_check(type: t.Type) -> Check:
    """Return a check of the type's own constraints, without those of its elements or properties."""
    match type:
        case t.StringType():
            return _string(type)
        case t.IntType():
            low, high = type.range
            return _range(low, high, "an integer")
        case t.YearType():
            return _range(t.MIN_YEAR, t.MAX_YEAR, "a year")
        case t.FloatType():
            return _float(type)
        case t.DecimalType():
            return _decimal(type)
        case t.ArrayType():
            return _array(type)
        case _:
            return _nothing


def _nothing(value: Any) -> None:
    pass


def _string(type: t.StringType) -> Check:
    if type.values is not None:
        return _enumeration(type.values)
    checks: list[Check] = []
    if type.max_length is not None:
        checks.append(_length(type.max_length))
    if type.max_bytes is not None:
        checks.append(_bytes(type.max_bytes))
    if type.pattern is not None:
        checks.append(_pattern(type.pattern))
    match checks:
        case []:
            return _nothing
        case [check]:
            return check

    def check_all(value: str) -> None:
        for check in checks:
            check(value)

    return check_all


def _enumeration(values: tuple[str, ...]) -> Check:
    allowed = frozenset(values)
    shown = ", ".join(f'"{value}"' for value in values[:10]) + (", …" if len(values) > 10 else "")

    def check(value: str) -> None:
        if value not in allowed:
            raise InvalidValue(f"must be one of {shown}")

    return check


def _length(maximum: int) -> Check:
    def check(value: str) -> None:
        if len(value) > maximum:
            raise InvalidValue(f"must have at most {maximum} characters")

    return check


def _bytes(maximum: int) -> Check:
    def check(value: str) -> None:
        if len(value) * 4 > maximum and len(value.encode()) > maximum:
            raise InvalidValue(f"must have at most {maximum} bytes of UTF-8")

    return check


def _pattern(pattern: str) -> Check:
    search = compile_pattern(pattern).search

    def check(value: str) -> None:
        if search(value) is None:
            raise InvalidValue(f"must match the pattern {pattern}")

    return check


def _range(low: int, high: int, what: str) -> Check:
    def check(value: int) -> None:
        if not low <= value <= high:
            raise InvalidValue(f"must be {what} in the range {low} to {high}")

    return check


def _float(type: t.FloatType) -> Check:
    real = type.real
    low = -math.inf if type.minimum is None else type.minimum
    high = math.inf if type.maximum is None else type.maximum
    bounded = type.minimum is not None or type.maximum is not None
    limits = [
        f"at {word} {float_text(bound, type.bit_size)}"
        for word, bound in (("least", type.minimum), ("most", type.maximum))
        if bound is not None
    ]
    if not real and not bounded:
        return _nothing

    def check(value: float) -> None:
        if real and not math.isfinite(value):
            raise InvalidValue("must be a finite number")
        if bounded and not low <= value <= high:
            raise InvalidValue(f"must be {' and '.join(limits)}")

    return check


def _decimal(type: t.DecimalType) -> Check:
    precision, scale = type.precision, type.scale
    low, high = type.range

    def check(value: Decimal) -> None:
        if not fits(value, precision, scale):
            raise InvalidValue(f"must be a {type}")
        if not low <= value <= high:
            raise InvalidValue(f"must be in the range {decimal_text(low)} to {decimal_text(high)}")

    return check


def _array(type: t.ArrayType) -> Check:
    minimum, maximum, unique = type.min_elements, type.max_elements, type.unique_elements

    def check(value: list[Any]) -> None:
        if not minimum <= len(value) <= maximum:
            raise InvalidValue(f"must have {minimum} to {maximum} elements, and has {len(value)}")
        if unique and len(set(value)) != len(value):
            seen: set[Any] = set()
            for index, element in enumerate(value):
                if element in seen:
                    raise InvalidValue("is equal to an earlier element", f"[{index}]")
                seen.add(element)

    return check
