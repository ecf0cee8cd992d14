"""Prints mapping expressions in one canonical form, which `parse` reads into an equal tree."""

from headwater.schemas import is_property_name
from headwater.transforms.mapping.language.literals import write_number, write_string
from headwater.transforms.mapping.language.tree import (
    KEYWORDS,
    Call,
    Concatenation,
    Constant,
    Expression,
    PathReference,
)


def print_expression(expression: Expression) -> str:
    """Return the text of the expression."""
    match expression:
        case Constant():
            return _constant(expression)
        case PathReference():
            return _path(expression)
        case Call():
            return f"{expression.name}({', '.join(map(print_expression, expression.arguments))})"
        case Concatenation():
            return " ".join(map(print_expression, expression.parts))


def path_text(path: PathReference, length: int | None = None) -> str:
    """Return the first `length` steps of the path, by default all, as an expression."""
    return _path(PathReference(path.steps[:length]))


def _constant(constant: Constant) -> str:
    match constant.value:
        case None:
            return "null"
        case bool():
            return "true" if constant.value else "false"
        case str():
            return write_string(constant.value)
        case _:
            return write_number(constant.value)


def _path(path: PathReference) -> str:
    pieces: list[str] = []
    for index, step in enumerate(path.steps):
        if index == 0:
            pieces.append("." + step.name if step.name in KEYWORDS else step.name)
        else:
            pieces.append("." + step.name if is_property_name(step.name) else f"[{write_string(step.name)}]")
        if step.optional:
            pieces.append("?")
    return "".join(pieces)
