"""Checks of expressions before a mapping is saved: validity, and the properties that they read."""

from collections.abc import Iterable, Sequence

from headwater.schemas import ObjectType, Property, Schema, Type
from headwater.transforms.mapping.compiler import compile_expression
from headwater.transforms.mapping.errors import InvalidExpression
from headwater.transforms.mapping.mapping import check_length


def validate_expression(expression: str, properties: Sequence[Property], type: Type) -> str:
    """Return why the expression cannot give a value of the type from these properties; empty if it can.

    Raises InvalidType if two properties have the same name.
    """
    schema = ObjectType(tuple(properties)) if properties else None
    try:
        compile_expression(expression, schema, type)
    except InvalidExpression as error:
        return error.message
    return ""


def list_properties(expressions: Iterable[tuple[str, Type]], schema: Schema | None) -> list[str]:
    """Return the sorted paths of the properties that the expressions read. Each comes with the type of its result.

    Raises InvalidExpression for the first expression that is not valid, and InvalidMapping if they have more than
    MAX_EXPRESSIONS_CHARACTERS together.
    """
    paths: set[str] = set()
    given = list(expressions)
    check_length(expression for expression, _ in given)
    for expression, type in given:
        paths |= compile_expression(expression, schema, type)[1]
    return sorted(paths)
