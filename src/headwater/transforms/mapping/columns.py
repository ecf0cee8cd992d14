"""Compiles the most frequent expressions to functions of columns, which take a fraction of the time of evaluators.

They give what the evaluators give for each record. Where an evaluator would fail, or count characters of large values,
they raise an exception, and may do so if it would not: all arguments are computed. Use the evaluators then.
"""

from collections.abc import Callable, Sequence
from typing import Any

from headwater.schemas import JsonType, Schema, StringType, Table, Type
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from headwater.transforms.mapping.conversions.containers import Conversion
from headwater.transforms.mapping.conversions.conversion import conversion
from headwater.transforms.mapping.errors import CannotEvaluate
from headwater.transforms.mapping.evaluation import SMALL_CHARACTERS
from headwater.transforms.mapping.functions.logic import compile_comparison
from headwater.transforms.mapping.functions.strings import TEXT_CHANGES, TextChange
from headwater.transforms.mapping.language.tree import (
    BOOLEAN,
    STRING,
    Call,
    Concatenation,
    Constant,
    Expression,
    PathReference,
)
from headwater.transforms.mapping.sizes import too_large

ColumnEvaluator = Callable[[Table], Sequence[Any]]
"""Computes the values of an expression for the records of a table. It does not change its arguments."""
_Typed = tuple[Type, ColumnEvaluator]


def compile_column(expression: Expression, schema: Schema, target: Type) -> ColumnEvaluator | None:
    """Return the valid expression with its values converted to the target; None if only evaluators can compute it."""
    if isinstance(expression, Call) and expression.name == "coalesce":
        return _coalesce([_compile(argument, schema) for argument in expression.arguments], target)
    typed = _compile(expression, schema)
    if typed is None:
        return None
    type, evaluate = typed
    convert = conversion(type, target)
    return evaluate if convert is None else _converted(evaluate, convert)


def _compile(expression: Expression, schema: Schema) -> _Typed | None:
    match expression:
        case Constant(value, type) if type is not None:
            return type, lambda table: [value] * table.count
        case PathReference((step,)) if not isinstance(schema.by_name[step.name].type, JsonType):
            return schema.by_name[step.name].type, lambda table: table.column(step.name)
        case Concatenation(parts):
            return _concatenation([_compile(part, schema) for part in parts])
        case Call(name, (argument,)) if name in TEXT_CHANGES:
            text = compile_column(argument, schema, STRING)
            return None if text is None else (STRING, _changed(text, TEXT_CHANGES[name]))
        case Call("eq" | "ne", (left, right)):
            return _equality(_compile(left, schema), _compile(right, schema), expected=expression.name == "eq")
        case _:
            return None


def _converted(evaluate: ColumnEvaluator, convert: Conversion) -> ColumnEvaluator:
    def evaluate_and_convert(table: Table) -> list[Any]:
        values = evaluate(table)
        if None in values:
            return [None if value is None else convert(value) for value in values]
        return list(map(convert, values))

    return evaluate_and_convert


def _concatenation(parts: list[_Typed | None]) -> _Typed | None:
    evaluators: list[ColumnEvaluator] = []
    for part in parts:
        if part is None or not isinstance(part[0], StringType):
            return None
        evaluators.append(part[1])

    def concatenate(table: Table) -> list[str]:
        columns = [_present(evaluate(table)) for evaluate in evaluators]
        texts = list(map("".join, zip(*columns, strict=True)))
        if max(map(len, texts), default=0) > MAX_RESULT_CHARACTERS:
            raise too_large("the concatenation")
        return texts

    return STRING, concatenate


def _present(texts: Sequence[str | None]) -> Sequence[str | None]:
    return [text or "" for text in texts] if None in texts else texts


def _changed(evaluate: ColumnEvaluator, change: TextChange) -> ColumnEvaluator:
    def evaluate_and_change(table: Table) -> list[str | None]:
        texts = evaluate(table)
        if None in texts:
            if any(text is not None and len(text) > SMALL_CHARACTERS for text in texts):
                raise CannotEvaluate("a text is large")
            return [None if text is None else change(text) for text in texts]
        if max(map(len, texts), default=0) > SMALL_CHARACTERS:
            raise CannotEvaluate("a text is large")
        return list(map(change, texts))

    return evaluate_and_change


def _equality(left: _Typed | None, right: _Typed | None, *, expected: bool) -> _Typed | None:
    if left is None or right is None:
        return None
    same = compile_comparison(left[0], right[0])
    evaluate_left, evaluate_right = left[1], right[1]

    def compare(table: Table) -> list[bool | None]:
        return [
            None if one is None or other is None else same(one, other) is expected
            for one, other in zip(evaluate_left(table), evaluate_right(table), strict=True)
        ]

    return BOOLEAN, compare


def _coalesce(branches: list[_Typed | None], target: Type) -> ColumnEvaluator | None:
    evaluators: list[ColumnEvaluator] = []
    for branch in branches:
        if (
            branch is None or conversion(branch[0], target) is not None
        ):  # the first value counts, also one that gives null
            return None
        evaluators.append(branch[1])

    def choose(table: Table) -> Sequence[Any]:
        chosen = evaluators[0](table)
        for evaluate in evaluators[1:]:
            if None not in chosen:
                break
            others = evaluate(table)
            chosen = [other if value is None else value for value, other in zip(chosen, others, strict=True)]
        return chosen

    return choose
