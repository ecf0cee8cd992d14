"""What the compiler makes of an expression, and what functions may ask of the compiler."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from msgspec import Raw, Struct

from headwater.schemas import JsonType, Record, Type
from headwater.transforms.mapping.conversions.containers import Conversion
from headwater.transforms.mapping.errors import CannotEvaluate
from headwater.transforms.mapping.language.tree import Call, Expression


class Input(Struct):
    """A record while its expressions are evaluated, and what they have decoded of it."""

    record: Record
    decoded: dict[tuple[str, ...], dict[str, Raw]]
    """The members of JSON objects, by the path to them."""
    characters_read: int = 0
    """Characters of large texts and JSON values that expressions have worked on; see `charge`."""


Evaluator = Callable[[Input], Any]
"""Computes the value of an expression for a record; what is missing is None as well. Raises CannotEvaluate, or
InvalidValue when a result does not fit."""

JSON: Final = JsonType()


@dataclass(frozen=True, slots=True)
class Typed:
    """A compiled expression."""

    type: Type | None
    """Of its values. None when they are always null."""
    evaluate: Evaluator
    constant: bool = False
    """Whether it is a constant in the text, whose value does not depend on the record."""


_T = TypeVar("_T")


class Scope(Protocol):
    """The part of the compiler that functions use. All of it raises InvalidExpression."""

    def typed(self, expression: Expression, target: Type | None = None) -> Typed:
        """The compiled expression. Where the language leaves its type open, it is the target if there is one."""
        ...

    def alternative(self, expression: Expression, target: Type) -> tuple[Evaluator, Conversion | None]:
        """The expression as it is, and the conversion of its values to the target."""
        ...

    def toward(self, expression: Expression, target: Type) -> Evaluator:
        """The expression with its values converted to the target."""
        ...

    def shared(self, make: Callable[..., _T], *types: Type) -> _T:
        """What `make` makes of the types, made once: a type may have thousands of properties, and a mapping thousands
        of expressions of it."""
        ...

    def argument(self, call: Call, index: int, target: Type) -> Evaluator:
        """An argument of the call, converted to the target. What cannot be is CannotEvaluate: the result of a function
        is not what is wrong then."""
        ...


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the language."""

    least: int
    """How many arguments it takes at least."""
    most: int | None
    """How many it takes at most; None when there is no limit."""
    compile: Callable[[Scope, Call, Type | None], Typed]
    """Compiles a call that has the right number of arguments, toward a target type if there is one."""


MAX_READ_CHARACTERS: Final = 8 << 20
"""Characters that all expressions of a mapping may work on for one record: bounds the time that a record takes. A text
counts as often as a function is applied to it, a JSON value as often as it is converted or compared."""
SMALL_CHARACTERS: Final = 1_000
"""Values up to this size do not count; the number of expressions bounds what they cost."""


def charge(given: Input, characters: int) -> None:
    """Count a value that an expression works on. Raises CannotEvaluate above MAX_READ_CHARACTERS."""
    if characters > SMALL_CHARACTERS:
        given.characters_read += characters
        if given.characters_read > MAX_READ_CHARACTERS:
            raise CannotEvaluate(
                f"the mapping works on more than {MAX_READ_CHARACTERS} characters: it uses large values too often"
            )


def always(value: Any) -> Evaluator:
    """Gives the value whatever the record."""
    return lambda given: value


def converted(evaluate: Evaluator, convert: Conversion | None) -> Evaluator:
    """Evaluates, and converts what is not None."""
    if convert is None:
        return evaluate

    def evaluate_and_convert(given: Input) -> Any:
        value = evaluate(given)
        return None if value is None else convert(value)

    return evaluate_and_convert
