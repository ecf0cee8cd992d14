"""Renames the properties that an expression reads."""

from collections.abc import Callable
from dataclasses import replace

from headwater.transforms.mapping.language.parser import parse
from headwater.transforms.mapping.language.printer import print_expression
from headwater.transforms.mapping.language.tree import Call, Concatenation, Constant, Expression, Part, PathReference


def rename_properties(text: str, rename: Callable[[tuple[str, ...]], tuple[str, ...]]) -> str:
    """Return the expression with the paths of its properties renamed; the same text if none of them changes.

    `rename` returns as many names as it gets. Raises InvalidExpression if the text is not an expression.
    """
    before = parse(text)
    after = _rename(before, rename)
    return text if after == before else print_expression(after)


def _rename(expression: Expression, rename: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Expression:
    if isinstance(expression, Concatenation):
        return replace(expression, parts=tuple(_rename_part(part, rename) for part in expression.parts))
    return _rename_part(expression, rename)


def _rename_part(part: Part, rename: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Part:
    match part:
        case Constant():
            return part
        case PathReference():
            names = rename(tuple(step.name for step in part.steps))
            steps = (replace(step, name=name) for step, name in zip(part.steps, names, strict=True))
            return replace(part, steps=tuple(steps))
        case Call():
            return replace(part, arguments=tuple(_rename(argument, rename) for argument in part.arguments))
