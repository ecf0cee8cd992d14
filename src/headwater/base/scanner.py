r"""Reads a text token by token: the base of the parsers of filters and of mapping expressions.

Both languages have the same strings: `"…"` or `'…'`, with the escapes \a \b \f \n \r \t \v \\ \' \" \uXXXX \UXXXXXXXX.
"""

import re
from collections.abc import Callable
from typing import Final

_PLAIN: Final = {quote: re.compile(rf"[^{quote}\\\0\ud800-\udfff]+") for quote in "'\""}
_HEXADECIMAL: Final = re.compile(r"u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})")
_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"',
}  # fmt: skip
_LETTERS: Final = {character: letter for letter, character in _ESCAPES.items()}

MakeError = Callable[[str, int], Exception]
"""Makes the exception for a broken rule at an offset of the text."""


class Scanner:
    """A position in a text. `space` matches white space between tokens, also none."""

    def __init__(self, text: str, space: re.Pattern[str]) -> None:
        self.text = text
        self.position = 0
        self._match_space = space.match

    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def peek(self) -> str:
        """Return the next character, or "" at the end."""
        return self.text[self.position : self.position + 1]

    def skip(self, character: str) -> bool:
        """Move after this character. Return false and stay if another one is next."""
        if self.text.startswith(character, self.position):
            self.position += 1
            return True
        return False

    def skip_space(self) -> None:
        if space := self._match_space(self.text, self.position):
            self.position = space.end()

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Return the token at the position and move after it. Return None and stay if the pattern does not match."""
        match = pattern.match(self.text, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[0]


def read_string(
    text: str, start: int, *, name: str, error: MakeError, convert: Callable[[str, int], str] | None = None
) -> tuple[str, int]:
    """Return the string whose opening quote is at `start`, and the offset after its closing quote.

    `name` names the string in messages ("a value"). `convert` converts each run of unescaped characters, given with its
    offset. Raises `error` for a string without an end, an invalid escape, NUL or a lone surrogate.
    """
    quote = text[start]
    position = start + 1
    pieces: list[str] = []
    while True:
        if run := _PLAIN[quote].match(text, position):
            pieces.append(run[0] if convert is None else convert(run[0], position))
            position = run.end()
        if position >= len(text):
            raise error(f"{name} has no closing quote", start)
        if text[position] == quote:
            return "".join(pieces), position + 1
        if text[position] != "\\":
            raise error(f"{name} cannot contain NUL or lone surrogates", position)
        piece, position = _read_escape(text, position, error)
        pieces.append(piece)


def _read_escape(text: str, start: int, error: MakeError) -> tuple[str, int]:
    letter = text[start + 1 : start + 2]
    if letter in _ESCAPES:
        return _ESCAPES[letter], start + 2
    digits = _HEXADECIMAL.match(text, start + 1)
    if digits is None:
        raise error("a backslash must be followed by one of a b f n r t v \\ ' \", uXXXX or UXXXXXXXX", start)
    code = int(digits[1] or digits[2], 16)
    if code == 0 or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise error("the escape is NUL or not a Unicode character", start)
    return chr(code), digits.end()


def escape(character: str) -> str:
    """Return the escape of a character in a string."""
    if letter := _LETTERS.get(character):
        return f"\\{letter}"
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
