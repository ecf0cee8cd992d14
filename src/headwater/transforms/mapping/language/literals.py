"""String constants and number constants: parsing and printing.

Unescaped characters of a string are brought into Unicode's normalization form C, like all input of people. Escaped ones
stay unchanged. So printing escapes every string that is not in that form, and parsing gives the same string.
"""

import re
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import Final

from headwater.schemas.decimals import decimal_text, fits, plain
from headwater.transforms.mapping.errors import InvalidExpression
from headwater.transforms.mapping.language.tree import INT32, NUMBER, Constant

MAX_MARKS: Final = 100
"""Maximum number of consecutive combining marks. Normalising takes time quadratic in their number."""

_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_GLUED: Final = re.compile(r"[A-Za-z0-9_.]")
_PLAIN: Final = {quote: re.compile(rf"[^{quote}\\\0\ud800-\udfff]+") for quote in "'\""}
_HEXADECIMAL: Final = re.compile(r"u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})")
_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_ESCAPED: Final = {character: f"\\{letter}" for letter, character in _ESCAPES.items() if character not in "'\""}


def read_string(text: str, start: int) -> tuple[str, int]:
    """Return the string whose opening quote is at `start`, and the offset after its closing quote."""
    quote = text[start]
    position = start + 1
    pieces: list[str] = []
    while True:
        if plain_run := _PLAIN[quote].match(text, position):
            pieces.append(_normalised(plain_run[0], position))
            position = plain_run.end()
        if position >= len(text):
            raise InvalidExpression("a string has no closing quote", start)
        if text[position] == quote:
            return "".join(pieces), position + 1
        if text[position] != "\\":
            raise InvalidExpression("a string cannot contain NUL or lone surrogates", position)
        piece, position = _escape(text, position)
        pieces.append(piece)


def _escape(text: str, start: int) -> tuple[str, int]:
    letter = text[start + 1 : start + 2]
    if letter in _ESCAPES:
        return _ESCAPES[letter], start + 2
    digits = _HEXADECIMAL.match(text, start + 1)
    if digits is None:
        raise InvalidExpression(
            "a backslash must be followed by one of a b f n r t v \\ ' \", uXXXX or UXXXXXXXX", start
        )
    code = int(digits[1] or digits[2], 16)
    if code == 0 or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise InvalidExpression("the escape is NUL or not a Unicode character", start)
    return chr(code), digits.end()


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
    as_it_is = unicodedata.is_normalized("NFC", value)
    pieces = [quote]
    for character in value:
        if character in _ESCAPED:
            pieces.append(_ESCAPED[character])
        elif character == quote:
            pieces.append("\\" + character)
        elif (as_it_is or character.isascii()) and character.isprintable():
            pieces.append(character)
        else:
            code = ord(character)
            pieces.append(f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
    pieces.append(quote)
    return "".join(pieces)


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
