"""The functions that compare and choose: and, or, not, eq, ne, if, coalesce.

Logic has three values, as in SQL: a null operand gives null, unless the other operands decide.
"""

from collections.abc import Callable
from typing import Any, Final

from headwater.schemas import FloatType, InvalidValue, JsonType, Type, to_float32
from headwater.transforms.mapping.conversions.containers import Conversion
from headwater.transforms.mapping.conversions.conversion import conversion
from headwater.transforms.mapping.conversions.matrix import find_mismatch
from headwater.transforms.mapping.errors import InvalidExpression
from headwater.transforms.mapping.evaluation import (
    JSON,
    Evaluator,
    Function,
    Input,
    Scope,
    TypedExpression,
    constant,
    with_conversion,
)
from headwater.transforms.mapping.functions.equality import compile_equality
from headwater.transforms.mapping.language.tree import BOOLEAN, Call, Expression, PathReference

_NUMBERS: Final = frozenset(("int", "float", "decimal", "year"))
Same = Callable[[Any, Any], bool]


def _compile_logical(decisive: bool) -> Callable[[Scope, Call, Type | None], TypedExpression]:
    """Compile `and`, which a false decides, or `or`, which a true decides."""

    def compile(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
        arguments = [scope.compile_argument(call, index, BOOLEAN) for index in range(len(call.arguments))]

        def evaluate(given: Input) -> bool | None:
            result: bool | None = not decisive
            for argument in arguments:
                value = argument(given)
                if value is None:
                    result = None
                elif value == decisive:
                    return decisive
            return result

        return TypedExpression(BOOLEAN, evaluate)

    return compile


def _not(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    argument = scope.compile_argument(call, 0, BOOLEAN)

    def evaluate(given: Input) -> bool | None:
        value: bool | None = argument(given)
        return None if value is None else not value

    return TypedExpression(BOOLEAN, evaluate)


def _equal(expected: bool) -> Callable[[Scope, Call, Type | None], TypedExpression]:
    """Compile eq or ne."""

    def compile(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
        left, right = (scope.compile(argument) for argument in call.arguments)
        if left.type is None or right.type is None:
            return TypedExpression(BOOLEAN, constant(None))
        reason = scope.memoize(find_mismatch, left.type, right.type) or scope.memoize(
            find_mismatch, right.type, left.type
        )
        if reason is not None:
            raise InvalidExpression(f"{call.name} cannot compare its arguments: {reason}", call.offset)
        same = scope.memoize(compile_comparison, left.type, right.type)
        evaluate_left, evaluate_right = left.evaluate, right.evaluate
        if isinstance(call.arguments[0], PathReference) and isinstance(left.type, JsonType) and right.type != left.type:
            evaluate_left, convert = scope.compile_branch(call.arguments[0], right.type)
            same = _comparison_after(convert, scope.memoize(compile_equality, right.type))

        def evaluate(given: Input) -> bool | None:
            one = evaluate_left(given)
            other = evaluate_right(given)
            if one is None or other is None:
                return None
            return same(one, other) is expected

        return TypedExpression(BOOLEAN, evaluate)

    return compile


def compile_comparison(left: Type, right: Type) -> Same:
    """Compare numbers as numbers, whatever their types, and everything else after conversion to the right type."""
    if left.kind in _NUMBERS and right.kind in _NUMBERS:
        return _number_comparison(left, right)
    return _comparison_after(conversion(left, right), compile_equality(right))


def _comparison_after(convert: Conversion | None, equal: Same) -> Same:
    """Convert the left value to the type of the right one; they are not equal if it cannot be converted."""
    if convert is None:
        return equal

    def same(one: Any, other: Any) -> bool:
        try:
            value = convert(one)
        except InvalidValue:
            return False
        return value is not None and equal(value, other)

    return same


def _number_comparison(left: Type, right: Type) -> Same:
    """Compare exactly, as Python does. But a decimal and a float are equal if the decimal rounds to the float."""
    floats = [type for type in (left, right) if isinstance(type, FloatType)]
    if len(floats) == 2 and left != right:
        return lambda one, other: to_float32(one) == to_float32(other)
    if len(floats) == 1 and "decimal" in (left.kind, right.kind):
        near: Callable[[Any], float] = to_float32 if floats[0].bit_size == 32 else float
        return lambda one, other: near(float(one)) == near(float(other))
    return lambda one, other: one == other


def _if(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    condition = scope.compile_argument(call, 0, BOOLEAN)
    type, branches = _compile_branches(scope, call.arguments[1:], target)
    evaluators = [with_conversion(evaluate, convert) for evaluate, convert in branches]
    chosen = evaluators[0]
    otherwise = evaluators[1] if len(evaluators) == 2 else constant(None)
    return TypedExpression(type, lambda given: chosen(given) if condition(given) else otherwise(given))


def _coalesce(scope: Scope, call: Call, target: Type | None) -> TypedExpression:
    type, branches = _compile_branches(scope, call.arguments, target)

    def evaluate(given: Input) -> Any:
        for evaluate_branch, convert in branches:
            value = evaluate_branch(given)
            if value is not None:
                return value if convert is None else convert(value)
        return None

    return TypedExpression(type, evaluate)


def _compile_branches(
    scope: Scope, expressions: tuple[Expression, ...], target: Type | None
) -> tuple[Type | None, list[tuple[Evaluator, Conversion | None]]]:
    """Return the possible values of the call, and their common type. That is the target, or else the type that they
    share, or else json, which everything converts to."""
    if target is not None:
        return target, [scope.compile_branch(expression, target) for expression in expressions]
    typed = [scope.compile(expression) for expression in expressions]
    types = [each.type for each in typed if each.type is not None]
    if not types:
        return None, [(each.evaluate, None) for each in typed]
    common = types[0] if all(type == types[0] for type in types) else JSON
    return common, [
        (each.evaluate, None if each.type is None else scope.memoize(conversion, each.type, common)) for each in typed
    ]


FUNCTIONS: Final = {
    "and": Function(2, None, _compile_logical(False)),
    "or": Function(2, None, _compile_logical(True)),
    "not": Function(1, 1, _not),
    "eq": Function(2, 2, _equal(True)),
    "ne": Function(2, 2, _equal(False)),
    "if": Function(2, 3, _if),
    "coalesce": Function(1, None, _coalesce),
}
