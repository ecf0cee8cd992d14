"""String constants and number constants: parsing and printing.

Unescaped characters of a string are brought into Unicode's normalization form C, like all input of people. Escaped ones
stay unchanged. So printing escapes every string that is not in that form, and parsing gives the same string.
"""

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import Final

from headwater.base import scanner
from headwater.schemas.decimals import decimal_text, fits, plain
from headwater.transforms.mapping.errors import InvalidExpression
from headwater.transforms.mapping.language.tree import INT32, NUMBER, Constant

MAX_MARKS: Final = 100
"""Maximum number of consecutive combining marks. Normalising takes time quadratic in their number."""

_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_GLUED: Final = re.compile(r"[A-Za-z0-9_.]")


def read_string(text: str, start: int) -> tuple[str, int]:
    """Return the string whose opening quote is at `start`, and the offset after its closing quote."""
    return scanner.read_string(text, start, name="a string", error=InvalidExpression, convert=_normalised)


def _normalised(run: str, offset: int) -> str:
    if run.isascii():
        return run
    marks = 0
    for index, character in enumerate(run):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MAX_MARKS:
            raise InvalidExpression(f"more than {MAX_MARKS} combining marks follow each other", offset + index)
    return unicodedata.normalize("NFC", run)


def write_string(value: str) -> str:
    """Return a string constant with this value, in single quotes unless double quotes need fewer escapes."""
    quote = '"' if value.count("'") > value.count('"') else "'"
    is_normalized = unicodedata.is_normalized("NFC", value)
    characters = (
        character
        if character.isprintable() and character not in (quote, "\\") and (is_normalized or character.isascii())
        else scanner.escape(character)
        for character in value
    )
    return f"{quote}{''.join(characters)}{quote}"


def read_number(text: str, start: int) -> tuple[Constant, int] | None:
    """Return the number that begins at `start`, and the offset after it; None if there is none."""
    match = _NUMBER.match(text, start)
    if match is None:
        return None
    end = match.end()
    if _GLUED.match(text, end):
        raise InvalidExpression("a number must not be followed directly by a letter, digit, underscore or point", end)
    literal = match[0]
    if literal.lstrip("-").isdigit():
        digits = literal.lstrip("-").lstrip("0") or "0"
        if len(digits) <= 10:
            number = -int(digits) if literal.startswith("-") else int(digits)
            if -(2**31) <= number < 2**31:
                return Constant(number, INT32, start), end
    try:
        exact = Decimal(literal)
    except InvalidOperation:  # the exponent exceeds every limit
        exact = Decimal("NaN")
    if not fits(exact, NUMBER.precision, NUMBER.scale):
        raise InvalidExpression(
            f"a number can have at most {NUMBER.precision - NUMBER.scale} digits before the point and {NUMBER.scale} "
            "behind it",
            start,
        )
    return Constant(plain(exact), NUMBER, start), end


def write_number(value: int | Decimal) -> str:
    """Return a number constant with this value and type."""
    if isinstance(value, int):
        return str(value)
    text = decimal_text(value)
    if "." not in text and -(2**31) <= value < 2**31:
        return text + ".0"  # otherwise it would be read as a whole number of 32 bits
    return text
