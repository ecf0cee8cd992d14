"""Conditions on JSON values: how they are decoded, followed and compared.

Numbers are compared exactly, and only with values that are numbers themselves; texts by code point. Booleans, null,
arrays and objects are equal to nothing and in no order.
"""

import json
import operator
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

import msgspec

from headwater.filters.literals import JsonLiteral
from headwater.schemas import MISSING, Json, Missing, Path

Test = Callable[..., bool]
"""Takes what was found, MISSING when there is nothing, and the literals of the condition."""

_ALMOST_ENDLESS: Final = 10**17
"""An exponent that Decimal can hold, and that no literal has."""


def find(value: Json | Missing | None, inside: Path) -> Any:
    """What is at the path inside the JSON value, decoded; MISSING when there is nothing, or no value at all."""
    if value is None or value is MISSING:
        return MISSING
    here = decode(value.text)
    for component in inside:
        if type(here) is not dict or component not in here:
            return MISSING
        here = here[component]
    return here


# The conditions of a filter, and the filters of the pipelines that take the same event, ask for the same text one
# after another. A text remembers its hash, so asking again costs less than a dict lookup in what was decoded.
@lru_cache(maxsize=4)
def decode(text: str) -> Any:
    """The JSON value, with numbers as ints and Decimals. Not to be changed."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return _decode_anything(text)


def text_of(found: Any) -> str:
    """What `find` found, as JSON again: the digits of its numbers are kept."""
    try:
        return Json.of(found).text
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only write escaped
        return json.dumps(found, default=str, separators=(",", ":"))


def _decode_anything(text: str) -> Any:
    """What msgspec gives up at: integers of thousands of digits, lone surrogates. MISSING when it is not JSON."""
    try:
        return json.loads(text, parse_float=_number, parse_int=_number)
    except (ValueError, RecursionError):
        return MISSING


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of 19 digits or more: larger, or closer to zero, than any literal
        mantissa, _, exponent = text.lower().partition("e")
        number = Decimal(mantissa)
        sign, digits, _ = number.as_tuple()
        edge = -_ALMOST_ENDLESS if exponent.startswith("-") else _ALMOST_ENDLESS
        return Decimal((sign, (1,), edge)) if any(digits) else Decimal(0)


_decode: Final = msgspec.json.Decoder(float_hook=_number).decode


# --- Comparisons --------------------------------------------------------------------------------------------------


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, JsonLiteral], bool]:
    """Compares texts with texts and numbers with numbers. What is found may be true, and Python calls that an int."""

    def test(found: Any, literal: JsonLiteral) -> bool:
        kind = type(found)
        if kind is str:
            return compare(found, literal.text)
        return (kind is int or kind is Decimal) and literal.number is not None and compare(found, literal.number)

    return test


is_equal: Final = _comparison(operator.eq)
is_at_most: Final = _comparison(operator.le)
is_at_least: Final = _comparison(operator.ge)


def is_between(found: Any, low: JsonLiteral, high: JsonLiteral) -> bool:
    """Bounds included."""
    return is_at_least(found, low) and is_at_most(found, high)


class OneOf:
    """Whether what is found is equal to one of many, however many they are."""

    def __init__(self, literals: Iterable[JsonLiteral]) -> None:
        self._texts = frozenset(literal.text for literal in literals)
        self._numbers = frozenset(literal.number for literal in literals if literal.number is not None)

    def __call__(self, found: Any) -> bool:
        kind = type(found)
        return found in self._texts if kind is str else (kind is int or kind is Decimal) and found in self._numbers


def contains(found: Any, literal: JsonLiteral) -> bool:
    """A text that has the text in it, or an array with an element that is the literal."""
    if type(found) is str:
        return literal.text in found
    return type(found) is list and any(is_equal(element, literal) for element in found)


def starts_with(found: Any, literal: JsonLiteral) -> bool:
    return type(found) is str and found.startswith(literal.text)


def ends_with(found: Any, literal: JsonLiteral) -> bool:
    return type(found) is str and found.endswith(literal.text)


def is_empty(found: Any) -> bool:
    """Nothing, null, an empty text, array or object."""
    return found is MISSING or found is None or (type(found) in (str, list, dict) and not found)


def is_true(found: Any) -> bool:
    return found is True


def is_false(found: Any) -> bool:
    """Only JSON's false: a text or a null is not the opposite of true."""
    return found is False


def is_null(found: Any) -> bool:
    return found is None


def exists(found: Any) -> bool:
    return found is not MISSING


def is_before(found: Any, literal: JsonLiteral) -> bool:
    """JSON has no moments, so nothing is before or after another."""
    return False


TESTS: Final[dict[str, Test]] = {
    "is": is_equal,
    "is less than": _comparison(operator.lt),
    "is less than or equal to": is_at_most,
    "is greater than": _comparison(operator.gt),
    "is greater than or equal to": is_at_least,
    "is between": is_between,
    "contains": contains,
    "starts with": starts_with,
    "ends with": ends_with,
    "is before": is_before,
    "is on or before": is_before,
    "is after": is_before,
    "is on or after": is_before,
    "is true": is_true,
    "is false": is_false,
    "is empty": is_empty,
    "is null": is_null,
    "exists": exists,
}
"""By operator, save for `is one of`; the other operators are the negations of these."""
