"""Parses mapping expressions. Any other text is an InvalidExpression with the position of the first invalid character.
Parsing does not depend on schemas, or on the existing functions."""

import re
from typing import Final, TypeGuard

from headwater.transforms.mapping.errors import InvalidExpression
from headwater.transforms.mapping.language.literals import read_number, read_string
from headwater.transforms.mapping.language.tree import (
    BOOLEAN,
    KEYWORDS,
    STRING,
    Call,
    Concatenation,
    Constant,
    Expression,
    Part,
    PathReference,
    Step,
)

MAX_LENGTH: Final = 50_000
"""Maximum length of an expression, in code points."""
MAX_DEPTH: Final = 100
"""Maximum nesting of calls. Functions on expressions recurse, and this limit keeps them within the stack."""
MAX_STEPS: Final = 256
"""Maximum number of steps of a path: more than the nesting of any type or JSON value."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse(text: str) -> Expression:
    """Parse an expression. Raises InvalidExpression."""
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"an expression can have at most {MAX_LENGTH} characters", MAX_LENGTH)
    parser = _Parser(text)
    expression = parser.expression(0)
    if parser.position < len(text):
        raise parser.unexpected()
    return expression


def _is_string(part: Part | None) -> TypeGuard[Constant]:
    return isinstance(part, Constant) and isinstance(part.value, str)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self.position = 0

    def unexpected(self) -> InvalidExpression:
        """Return the error for the character at the position."""
        if self.position >= len(self._text):
            return InvalidExpression("the expression ends too early", self.position)
        character = self._text[self.position]
        shown = f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"
        return InvalidExpression(f"unexpected {shown}", self.position)

    def expression(self, depth: int) -> Expression:
        """Parse one or more parts, up to the first character that cannot begin one."""
        self._skip_space()
        start = self.position
        parts: list[Part] = []
        while (part := self._part(depth)) is not None:
            before = parts[-1] if parts else None
            if _is_string(part) and _is_string(before):
                parts[-1] = Constant(f"{before.value}{part.value}", STRING, before.offset)
            else:
                parts.append(part)
            self._skip_space()
        if not parts:
            if self.position >= len(self._text) and depth == 0:
                raise InvalidExpression("the expression is empty", 0)
            raise self.unexpected()
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts), start)

    def _part(self, depth: int) -> Part | None:
        start = self.position
        character = self._peek()
        if character in ("'", '"'):
            value, self.position = read_string(self._text, start)
            return Constant(value, STRING, start)
        if number := read_number(self._text, start):
            constant, self.position = number
            return constant
        if character == ".":
            self.position += 1
            return self._path(start, self._name())
        name = _NAME.match(self._text, start)
        if name is None:
            return None
        self.position = name.end()
        after = _SPACE.match(self._text, self.position)
        if after and self._text.startswith("(", after.end()):
            self.position = after.end() + 1
            return self._call(name[0], start, depth + 1)
        if name[0] in KEYWORDS:
            if self._peek() in (".", "[", "?"):
                raise InvalidExpression(
                    f"{name[0]} is a constant: write .{name[0]} for the property of that name", self.position
                )
            return Constant(KEYWORDS[name[0]], None if name[0] == "null" else BOOLEAN, start)
        return self._path(start, name[0])

    def _call(self, name: str, start: int, depth: int) -> Call:
        if depth > MAX_DEPTH:
            raise InvalidExpression(f"calls are nested deeper than {MAX_DEPTH} levels", start)
        arguments: list[Expression] = []
        self._skip_space()
        if self._peek() != ")":
            arguments.append(self.expression(depth))
            while self._peek() == ",":
                self.position += 1
                arguments.append(self.expression(depth))
        self._expect(")")
        return Call(name, tuple(arguments), start)

    def _path(self, start: int, first: str) -> PathReference:
        steps = [Step(first, self._question_mark(), start)]
        while (character := self._peek()) in (".", "["):
            at = self.position
            if len(steps) == MAX_STEPS:
                raise InvalidExpression(f"a path can have at most {MAX_STEPS} steps", at)
            self.position += 1
            name = self._name() if character == "." else self._key()
            steps.append(Step(name, self._question_mark(), at))
        return PathReference(tuple(steps), start)

    def _name(self) -> str:
        name = _NAME.match(self._text, self.position)
        if name is None:
            raise self.unexpected()
        self.position = name.end()
        return name[0]

    def _key(self) -> str:
        self._skip_space()
        if self._peek() not in ("'", '"'):
            if self.position < len(self._text):
                raise InvalidExpression("a key in brackets must be a string: elements have no index", self.position)
            raise self.unexpected()
        key, self.position = read_string(self._text, self.position)
        self._skip_space()
        self._expect("]")
        return key

    def _question_mark(self) -> bool:
        if self._peek() != "?":
            return False
        self.position += 1
        return True

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise self.unexpected()
        self.position += 1

    def _peek(self) -> str:
        return self._text[self.position : self.position + 1]

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self.position)
        if space:
            self.position = space.end()
