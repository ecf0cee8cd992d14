"""Compiled expressions, and the interface of the compiler for functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from msgspec import Raw, Struct

from headwater.schemas import JsonType, Record, Type
from headwater.transforms.mapping.conversions.containers import Conversion
from headwater.transforms.mapping.errors import CannotEvaluate
from headwater.transforms.mapping.language.tree import Call, Expression


class Input(Struct):
    """A record during the evaluation of its expressions, with the JSON that they have decoded."""

    record: Record
    decoded: dict[tuple[str, ...], dict[str, Raw]]
    """The members of JSON objects, by the path to them."""
    characters_read: int = 0
    """Characters of large texts and JSON values that expressions have processed; see `charge`."""


Evaluator = Callable[[Input], Any]
"""Computes the value of an expression for a record; a missing value is None too. Raises CannotEvaluate, or InvalidValue
if a result does not fit."""

JSON: Final = JsonType()


@dataclass(frozen=True, slots=True)
class TypedExpression:
    """A compiled expression."""

    type: Type | None
    """The type of the values. None if they are always null."""
    evaluate: Evaluator
    constant: bool = False
    """Whether it is a constant in the text, whose value does not depend on the record."""


_T = TypeVar("_T")


class Scope(Protocol):
    """The part of the compiler that functions use. All methods raise InvalidExpression."""

    def compile(self, expression: Expression, target: Type | None = None) -> TypedExpression:
        """Return the compiled expression. Its type is the target, if there is one and the language leaves the type
        open."""
        ...

    def compile_branch(self, expression: Expression, target: Type) -> tuple[Evaluator, Conversion | None]:
        """Return the expression without conversion, and the conversion of its values to the target."""
        ...

    def compile_to(self, expression: Expression, target: Type) -> Evaluator:
        """Return the expression with its values converted to the target."""
        ...

    def memoize(self, make: Callable[..., _T], *types: Type) -> _T:
        """Return the result of `make` for the types, computed once. A type may have thousands of properties, and a
        mapping thousands of expressions of that type."""
        ...

    def compile_argument(self, call: Call, index: int, target: Type) -> Evaluator:
        """Return an argument of the call, converted to the target. A value that cannot be converted raises
        CannotEvaluate, because the result of the function is not the invalid value."""
        ...


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the language."""

    minimum: int
    """Minimum number of arguments."""
    maximum: int | None
    """Maximum number of arguments; None if there is no limit."""
    compile: Callable[[Scope, Call, Type | None], TypedExpression]
    """Compiles a call with a valid number of arguments, with a target type if there is one."""


MAX_READ_CHARACTERS: Final = 8 << 20
"""Maximum number of characters that all expressions of a mapping may process for one record. It bounds the time of a
record. A text counts for each function applied to it, a JSON value for each conversion or comparison."""
SMALL_CHARACTERS: Final = 1_000
"""Values up to this size do not count; the number of expressions bounds their cost."""


def charge(given: Input, characters: int) -> None:
    """Count a value that an expression processes. Raises CannotEvaluate above MAX_READ_CHARACTERS."""
    if characters > SMALL_CHARACTERS:
        given.characters_read += characters
        if given.characters_read > MAX_READ_CHARACTERS:
            raise CannotEvaluate(
                f"the mapping works on more than {MAX_READ_CHARACTERS} characters: it uses large values too often"
            )


def constant(value: Any) -> Evaluator:
    """Return an evaluator of this value for every record."""
    return lambda given: value


def with_conversion(evaluate: Evaluator, convert: Conversion | None) -> Evaluator:
    """Return an evaluator that converts values that are not None."""
    if convert is None:
        return evaluate

    def evaluate_and_convert(given: Input) -> Any:
        value = evaluate(given)
        return None if value is None else convert(value)

    return evaluate_and_convert
