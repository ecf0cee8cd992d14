"""Parses mapping expressions. Any other text is an InvalidExpression with the position of the first invalid character.
Parsing does not depend on schemas, or on the existing functions."""

import re
from typing import Final, TypeGuard

from headwater.base.scanner import Scanner
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
    if not parser.at_end():
        raise parser.unexpected()
    return expression


def _is_string(part: Part | None) -> TypeGuard[Constant]:
    return isinstance(part, Constant) and isinstance(part.value, str)


class _Parser(Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text, _SPACE)

    def unexpected(self) -> InvalidExpression:
        """Return the error for the character at the position."""
        if self.at_end():
            return InvalidExpression("the expression ends too early", self.position)
        character = self.text[self.position]
        shown = f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"
        return InvalidExpression(f"unexpected {shown}", self.position)

    def expression(self, depth: int) -> Expression:
        """Parse one or more parts, up to the first character that cannot begin one."""
        self.skip_space()
        start = self.position
        parts: list[Part] = []
        while (part := self._part(depth)) is not None:
            before = parts[-1] if parts else None
            if _is_string(part) and _is_string(before):
                parts[-1] = Constant(f"{before.value}{part.value}", STRING, before.offset)
            else:
                parts.append(part)
            self.skip_space()
        if not parts:
            if self.at_end() and depth == 0:
                raise InvalidExpression("the expression is empty", 0)
            raise self.unexpected()
        return parts[0] if len(parts) == 1 else Concatenation(tuple(parts), start)

    def _part(self, depth: int) -> Part | None:
        start = self.position
        character = self.peek()
        if character in ("'", '"'):
            value, self.position = read_string(self.text, start)
            return Constant(value, STRING, start)
        if number := read_number(self.text, start):
            constant, self.position = number
            return constant
        if character == ".":
            self.position += 1
            return self._path(start, self._name())
        name = _NAME.match(self.text, start)
        if name is None:
            return None
        self.position = name.end()
        after = _SPACE.match(self.text, self.position)
        if after and self.text.startswith("(", after.end()):
            self.position = after.end() + 1
            return self._call(name[0], start, depth + 1)
        if name[0] in KEYWORDS:
            if self.peek() in (".", "[", "?"):
                raise InvalidExpression(
                    f"{name[0]} is a constant: write .{name[0]} for the property of that name", self.position
                )
            return Constant(KEYWORDS[name[0]], None if name[0] == "null" else BOOLEAN, start)
        return self._path(start, name[0])

    def _call(self, name: str, start: int, depth: int) -> Call:
        if depth > MAX_DEPTH:
            raise InvalidExpression(f"calls are nested deeper than {MAX_DEPTH} levels", start)
        arguments: list[Expression] = []
        self.skip_space()
        if self.peek() != ")":
            arguments.append(self.expression(depth))
            while self.skip(","):
                arguments.append(self.expression(depth))
        self._expect(")")
        return Call(name, tuple(arguments), start)

    def _path(self, start: int, first: str) -> PathReference:
        steps = [Step(first, self.skip("?"), start)]
        while (character := self.peek()) in (".", "["):
            at = self.position
            if len(steps) == MAX_STEPS:
                raise InvalidExpression(f"a path can have at most {MAX_STEPS} steps", at)
            self.position += 1
            name = self._name() if character == "." else self._key()
            steps.append(Step(name, self.skip("?"), at))
        return PathReference(tuple(steps), start)

    def _name(self) -> str:
        name = self.take(_NAME)
        if name is None:
            raise self.unexpected()
        return name

    def _key(self) -> str:
        self.skip_space()
        if self.peek() not in ("'", '"'):
            if not self.at_end():
                raise InvalidExpression("a key in brackets must be a string: elements have no index", self.position)
            raise self.unexpected()
        key, self.position = read_string(self.text, self.position)
        self.skip_space()
        self._expect("]")
        return key

    def _expect(self, character: str) -> None:
        if not self.skip(character):
            raise self.unexpected()
