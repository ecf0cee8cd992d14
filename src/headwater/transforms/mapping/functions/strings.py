"""The functions on text: lower, upper, initcap, trim, ltrim, rtrim, substring, len."""

import unicodedata
from collections.abc import Callable
from typing import Any, Final

from headwater.schemas import Type
from headwater.transforms.mapping.conversions.fromjson import measure_json
from headwater.transforms.mapping.conversions.texts import compile_text
from headwater.transforms.mapping.errors import CannotEvaluate
from headwater.transforms.mapping.evaluation import (
    SMALL_CHARACTERS,
    Function,
    Input,
    Scope,
    TypedExpression,
    charge,
    constant,
)
from headwater.transforms.mapping.language.tree import INT32, STRING, Call

_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"  # noqa: E501
"""Unicode's White_Space. `str.strip` would also remove the separators of ASCII, which do not belong to it."""
TextChange = Callable[[str], str]


def _text_function(change: TextChange) -> Function:
    """Return a function of one text."""

    def compile(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
        argument = scope.compile_argument(call, 0, STRING)

        def evaluate(given: Input) -> str | None:
            text = argument(given)
            if text is None:
                return None
            if (size := len(text)) > SMALL_CHARACTERS:
                charge(given, size)
            return change(text)

        return TypedExpression(STRING, evaluate)

    return Function(1, 1, compile)


def initcap(text: str) -> str:
    """Return the text with the first letter of each word in upper case, and the rest unchanged.

    A word begins with a letter that does not follow one. A combining mark belongs to the character before it.
    """
    pieces: list[str] = []
    inside = False
    for character in text:
        if character.isalpha():
            pieces.append(character if inside else character.upper())
            inside = True
        else:
            pieces.append(character)
            inside = inside and unicodedata.category(character)[0] == "M"
    return "".join(pieces)


def _substring(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    get_text = scope.compile_argument(call, 0, STRING)
    get_start = scope.compile_argument(call, 1, INT32)
    get_length = scope.compile_argument(call, 2, INT32) if len(call.arguments) == 3 else constant(2**31)

    def evaluate(given: Input) -> str | None:
        text = get_text(given)
        start = get_start(given)
        length = get_length(given)
        if text is None or start is None or length is None:
            return None
        if length < 0:
            raise CannotEvaluate("the length for substring is negative")
        first = max(start, 1) - 1
        piece: str = text[first : first + length]
        return piece

    return TypedExpression(STRING, evaluate)


def _len(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    argument = scope.compile(call.arguments[0])
    if argument.type is None:
        return TypedExpression(INT32, constant(0))
    evaluate_argument, measure = argument.evaluate, _measure(argument.type)

    def evaluate(given: Input) -> int:
        value = evaluate_argument(given)
        return 0 if value is None else measure(value)

    return TypedExpression(INT32, evaluate)


def _measure(type: Type) -> Callable[[Any], int]:
    match type.kind:
        case "string" | "uuid" | "ip" | "array" | "map" | "object":
            return len
        case "datetime":
            return lambda value: len("YYYY-MM-DDThh:mm:ssZ")
        case "json":
            return lambda value: measure_json(value.text.encode())
        case _:
            write = compile_text(type)
            return lambda value: len(write(value))


TEXT_CHANGES: Final[dict[str, TextChange]] = {
    "lower": str.lower,
    "upper": str.upper,
    "initcap": initcap,
    "trim": lambda text: text.strip(_SPACE),
    "ltrim": lambda text: text.lstrip(_SPACE),
    "rtrim": lambda text: text.rstrip(_SPACE),
}
"""The functions of one text."""
FUNCTIONS: Final = {
    **{name: _text_function(change) for name, change in TEXT_CHANGES.items()},
    "substring": Function(2, 3, _substring),
    "len": Function(1, 1, _len),
}
