"""Turns a checked filter into a condition of SQL that keeps exactly the rows whose records the predicate passes.

A warehouse has one NULL for what is missing and what is null, and its properties are never both readOptional and
nullable, so the predicate's three states are two here. Negated operators hold for NULL, as they do in memory.

JSON is not compared in SQL: SQLite would round its numbers. A filter that asks for it is rendered as far as it can be,
and says so; the predicate then decides about the rows that are left.
"""

from collections.abc import Callable
from typing import Final, cast

from msgspec import Struct

from headwater.filters.literals import Scalar
from headwater.filters.operators import Operator
from headwater.filters.predicate import NEGATED
from headwater.filters.sql.dialect import TRUE, Dialect, Parameters, Symbol
from headwater.filters.validation import CheckedCondition, CheckedFilter
from headwater.schemas import ArrayType, JsonType, ObjectType, column_of, walk_objects

Columns = Callable[[str], str]
"""The SQL of the column that holds the property at a path."""

_BESIDE: Final = 50
"""How many conditions stand beside each other. SQLite counts a chain of them as that much nesting, and allows 1000."""

_SYMBOLS: Final[dict[Operator, Symbol]] = {
    "is": "=",
    "is less than": "<",
    "is less than or equal to": "<=",
    "is greater than": ">",
    "is greater than or equal to": ">=",
    "is before": "<",
    "is on or before": "<=",
    "is after": ">",
    "is on or after": ">=",
}


class Where(Struct, frozen=True):
    """A condition of SQL."""

    sql: str
    """To be put behind WHERE, or in parentheses among other conditions; never NULL for a row that it keeps."""
    parameters: dict[str, object]
    """The values of its placeholders, by name."""
    exact: bool
    """False when it also keeps rows that the filter does not, so that the predicate has to be asked about each."""


def quoted_column(path: str) -> str:
    """The column of a warehouse that holds the property at the path."""
    return f'"{column_of(path)}"'


def render(
    filter: CheckedFilter, dialect: Dialect, *, columns: Columns = quoted_column, prefix: str = "filter_"
) -> Where:
    """The filter in SQL. The names of its placeholders begin with the prefix."""
    parameters = Parameters(prefix)
    rendered = [_condition(condition, dialect, columns, parameters) for condition in filter.conditions]
    known = [sql for sql in rendered if sql is not None]
    exact = len(known) == len(rendered)
    if not exact and filter.logical == "or":
        return Where(TRUE, {}, exact=False)
    return Where(_join(known, f" {filter.logical.upper()} ") if known else TRUE, dict(parameters), exact)


def _condition(condition: CheckedCondition, dialect: Dialect, columns: Columns, parameters: Parameters) -> str | None:
    """The condition in SQL; None when it is about JSON."""
    path, type = ".".join(condition.path), condition.property.type
    if isinstance(type, JsonType):
        return None
    operator = NEGATED.get(condition.operator, condition.operator)
    negated = operator != condition.operator
    if isinstance(type, ArrayType) and isinstance(type.element_type, JsonType) and operator == "contains":
        return None
    if operator in ("is null", "exists", "is empty") and isinstance(type, ObjectType):
        present = [
            f"{columns(f'{path}.{below}')} IS NOT NULL"
            for below, property in walk_objects(type)
            if not isinstance(property.type, ObjectType)
        ]
        held = f"({_join(present, ' OR ')})"
        return held if (operator == "exists") is not negated else f"(NOT {held})"
    column = columns(path)
    if operator in ("is null", "exists"):
        return f"({column} IS {'NOT ' if (operator == 'exists') is not negated else ''}NULL)"
    if operator == "is empty":
        empty = f"({column} IS NULL OR {dialect.is_empty(column, type)})"
        return f"(NOT {empty})" if negated else empty
    positive = _positive(operator, column, condition, dialect, parameters)
    return f"({column} IS NULL OR NOT {positive})" if negated else positive


def _positive(
    operator: Operator, column: str, condition: CheckedCondition, dialect: Dialect, parameters: Parameters
) -> str:
    type, literals = condition.property.type, condition.literals
    match operator:
        case "is true" | "is false":
            return f"({column} IS {operator.removeprefix('is ').upper()})"
        case "is one of":
            return f"({dialect.one_of(column, type, literals, parameters)})"
        case "is between":
            low = dialect.compare(column, ">=", type, literals[0], parameters)
            return f"({low} AND {dialect.compare(column, '<=', type, literals[1], parameters)})"
        case "contains" if isinstance(type, ArrayType):
            return f"({dialect.array_contains(column, type, literals[0], parameters)})"
        case "contains":
            return f"({dialect.text_contains(column, _text(literals), parameters)})"
        case "starts with":
            return f"({dialect.starts_with(column, _text(literals), parameters)})"
        case "ends with":
            return f"({dialect.ends_with(column, _text(literals), parameters)})"
        case _:
            return f"({dialect.compare(column, _SYMBOLS[operator], type, literals[0], parameters)})"


def _text(literals: tuple[Scalar, ...]) -> str:
    return cast(str, literals[0])


def _join(parts: list[str], word: str) -> str:
    """The parts joined by the word, in groups of groups, so that no chain is long."""
    while len(parts) > _BESIDE:
        groups = [parts[start : start + _BESIDE] for start in range(0, len(parts), _BESIDE)]
        parts = [f"({word.join(group)})" for group in groups]
    return word.join(parts)
