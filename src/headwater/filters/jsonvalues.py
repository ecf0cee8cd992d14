"""Conditions on JSON values: decoding, lookups and comparisons.

Numbers are compared exactly, and only with literals that are numbers. Texts are compared by code point. Booleans, null,
arrays and objects equal no literal and have no order.
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
"""Takes the value, or MISSING if there is none, and the literals of the condition."""

_MAX_EXPONENT: Final = 10**17
"""An exponent that Decimal supports and that no literal has."""


def find(value: Json | Missing | None, inside: Path) -> Any:
    """Return the decoded value at the path inside the JSON value; MISSING if there is none, or no JSON value."""
    if value is None or value is MISSING:
        return MISSING
    here = decode(value.text)
    for component in inside:
        if type(here) is not dict or component not in here:
            return MISSING
        here = here[component]
    return here


# The conditions of a filter, and the filters of several pipelines, decode the same text of one event in sequence. A
# text caches its hash, so a repeated call costs less than a lookup in the decoded dict.
@lru_cache(maxsize=4)
def decode(text: str) -> Any:
    """Return the JSON value, with numbers as ints and Decimals. Do not change it."""
    try:
        return _decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return _decode_anything(text)


def encode_found(found: Any) -> str:
    """Return the result of `find` as JSON. Numbers keep their digits."""
    try:
        return Json.of(found).text
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only represent escaped
        return json.dumps(found, default=str, separators=(",", ":"))


def _decode_anything(text: str) -> Any:
    """Decode JSON that msgspec rejects: integers of thousands of digits, lone surrogates. Returns MISSING if it is not
    JSON."""
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
        edge = -_MAX_EXPONENT if exponent.startswith("-") else _MAX_EXPONENT
        return Decimal((sign, (1,), edge)) if any(digits) else Decimal(0)


_decode: Final = msgspec.json.Decoder(float_hook=_number).decode


# --- Comparisons --------------------------------------------------------------------------------------------------


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, JsonLiteral], bool]:
    """Return a test that compares texts with texts and numbers with numbers. It excludes booleans, which are ints in
    Python."""

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
    """Both bounds are included."""
    return is_at_least(found, low) and is_at_most(found, high)


class OneOf:
    """Tests whether a value equals one of the literals, in time independent of their number."""

    def __init__(self, literals: Iterable[JsonLiteral]) -> None:
        self._texts = frozenset(literal.text for literal in literals)
        self._numbers = frozenset(literal.number for literal in literals if literal.number is not None)

    def __call__(self, found: Any) -> bool:
        kind = type(found)
        return found in self._texts if kind is str else (kind is int or kind is Decimal) and found in self._numbers


def contains(found: Any, literal: JsonLiteral) -> bool:
    """Return whether a text contains the text, or an array has an element that equals the literal."""
    if type(found) is str:
        return literal.text in found
    return type(found) is list and any(is_equal(element, literal) for element in found)


def starts_with(found: Any, literal: JsonLiteral) -> bool:
    return type(found) is str and found.startswith(literal.text)


def ends_with(found: Any, literal: JsonLiteral) -> bool:
    return type(found) is str and found.endswith(literal.text)


def is_empty(found: Any) -> bool:
    """Return whether it is missing, null, or an empty text, array or object."""
    return found is MISSING or found is None or (type(found) in (str, list, dict) and not found)


def is_true(found: Any) -> bool:
    return found is True


def is_false(found: Any) -> bool:
    """Return whether it is JSON's false: a text or a null is not the opposite of true."""
    return found is False


def is_null(found: Any) -> bool:
    return found is None


def exists(found: Any) -> bool:
    return found is not MISSING


def is_before(found: Any, literal: JsonLiteral) -> bool:
    """Return false: JSON has no points in time, so no value is before or after another."""
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
"""The tests by operator, except for `is one of`. The other operators are negations of these."""
