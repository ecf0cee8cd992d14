"""Filters on the event schema as SQL over the columns of the events.

A condition on a property that has a column is rendered as that condition. The predicate decides any other. If all
events that meet it have a text in common, it is also rendered as a search of the document for that text. The document
is never parsed in SQL. Parsing takes longer than searching, and PostgreSQL's JSON does not support `\u0000`, which
documents may contain.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, cast

from msgspec import Struct
from msgspec.structs import replace

from headwater.filters import CheckedFilter
from headwater.filters.literals import JsonLiteral, Scalar
from headwater.filters.operators import Operator
from headwater.filters.predicate import NEGATED
from headwater.filters.validation import CheckedCondition
from headwater.schemas import DateTime, JsonType, StringType
from headwater.warehouse.contract import EventQuery
from headwater.warehouse.drivers.postgresql.database import Parameters

Symbol = Literal["=", "<", "<=", ">", ">="]
Columns: TypeAlias = Mapping[str, str]
"""The columns of properties of the event schema."""

COLUMNS: Final[Columns] = {
    "connectionId": "connection",
    "anonymousId": "anonymous_id",
    "event": "event",
    "receivedAt": "received_at",
    "timestamp": "timestamp",
    "type": "type",
    "userId": "user_id",
}
OLD_COLUMNS: Final[Columns] = {name: COLUMNS[name] for name in ("connectionId", "receivedAt", "timestamp")}
"""The columns of the events of an earlier version."""
COUNTED_COLUMNS: Final[Columns] = {name: COLUMNS[name] for name in ("connectionId", "event", "type")}
"""The columns of the counts."""
EQUALITY_COLUMNS: Final[Mapping[str, str]] = {
    "anonymousId": "anonymous_id",
    "connectionId": "connections",
    "event": "event",
    "type": "type",
    "userId": "user_id",
}
"""The members of queries that require a property to have a value."""

MAX_NEEDLES: Final = 8
"""Maximum number of texts that a document is searched for because of one condition."""
MAX_SEARCHES: Final = 20
"""Maximum number of conditions of a filter for which documents are searched."""
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
_FALSE: Final = "FALSE"
_MAX_SIDE_BY_SIDE: Final = 50
"""Maximum number of conditions in one chain of AND or OR."""


class Where(Struct, frozen=True):
    """A condition of SQL that is never NULL for a row that it keeps."""

    sql: str
    exact: bool
    """False if it also keeps rows that do not pass the filter, so that the predicate must decide about each."""


def render(filter: CheckedFilter, columns: Columns, parameters: Parameters, *, documents: bool = True) -> Where | None:
    """Return the filter as SQL, or None if SQL can decide nothing.

    Without `documents`, conditions on the document are left out. Appends the values to `parameters`.
    """
    count = len(parameters)
    rendered: list[Where | None] = []
    searches = MAX_SEARCHES if documents else 0
    for condition in filter.conditions:
        where = _condition(condition, columns, parameters, documents=searches > 0)
        searches -= where is not None and not where.exact
        rendered.append(where)
    exact = all(where is not None and where.exact for where in rendered)
    known = [where.sql for where in rendered if where is not None]
    if not known or (filter.logical == "or" and len(known) < len(rendered)):
        del parameters[count:]  # PostgreSQL rejects values without a placeholder
        return None
    return Where(f"({_join(known, f' {filter.logical.upper()} ')})", exact)


def _condition(condition: CheckedCondition, columns: Columns, parameters: Parameters, documents: bool) -> Where | None:
    column = columns.get(condition.path[0]) if len(condition.path) == 1 else None
    if column is None:
        sought = _sought(condition) if documents else None
        return None if sought is None else Where(_contains_one(sought, parameters), exact=False)
    return Where(_on_column(column, condition, parameters), exact=True)


def without_equalities(query: EventQuery) -> EventQuery:
    """Return an equal query that moves required equalities of its filter to its own members.

    Then an index or the counts can serve them.
    """
    if query.filter is None or (query.filter.logical == "or" and len(query.filter.conditions) > 1):
        return query
    required: dict[str, Any] = {}
    others: list[CheckedCondition] = []
    for condition in query.filter.conditions:
        column = EQUALITY_COLUMNS.get(condition.path[0]) if len(condition.path) == 1 else None
        if column is None or condition.operator != "is" or column in required or getattr(query, column) is not None:
            others.append(condition)
        else:
            value = condition.literals[0]
            required[column] = (value,) if column == "connections" else value
    if not required:
        return query
    return replace(query, **required, filter=CheckedFilter("and", tuple(others)) if others else None)


# --- Conditions on a column ---------------------------------------------------------------------------------------


def _on_column(column: str, condition: CheckedCondition, parameters: Parameters) -> str:
    operator = NEGATED.get(condition.operator, condition.operator)
    negated = operator != condition.operator
    if operator == "exists":
        return f"({column} IS {'' if negated else 'NOT '}NULL)"
    if operator == "is empty":
        return f"(coalesce({column}, '') {'<>' if negated else '='} '')"
    positive = _positive(column, operator, condition, parameters)
    # Not with OR: thousands of ORs take PostgreSQL ten seconds to plan.
    return f"({positive} IS NOT TRUE)" if negated else positive


def _positive(column: str, operator: Operator, condition: CheckedCondition, parameters: Parameters) -> str:
    literals = condition.literals
    match operator:
        case "is between":
            low, high = literals
            return f"({_compare(column, '>=', low, parameters)} AND {_compare(column, '<=', high, parameters)})"
        case "is one of":
            return _render_membership(column, literals, parameters)
        case "contains":
            return f"(position({_text(literals, parameters)} IN {column}) > 0)"
        case "starts with":
            return f"starts_with({column}, {_text(literals, parameters)})"
        case "ends with":
            length = len(cast(str, literals[0]))
            return f"(right({column}, {length}) = {_text(literals, parameters)})"
        case _:
            return f"({_compare(column, _SYMBOLS[operator], literals[0], parameters)})"


def _compare(column: str, symbol: Symbol, value: Scalar, parameters: Parameters) -> str:
    if isinstance(value, DateTime):
        comparison = _to_microseconds(symbol, value)
        if comparison is None:
            return _FALSE
        symbol, value = comparison
    return f"{column} {symbol} {parameters.add(value)}::{'text' if isinstance(value, str) else 'bigint'}"


def _render_membership(column: str, values: tuple[Scalar, ...], parameters: Parameters) -> str:
    stored: list[Any] = []
    for value in values:
        if isinstance(value, DateTime):
            comparison = _to_microseconds("=", value)
            if comparison is not None:
                stored.append(comparison[1])
        else:
            stored.append(value)
    kind = "text" if isinstance(values[0], str) else "bigint"
    return f"({column} = ANY({parameters.add(stored)}::{kind}[]))"


def _text(literals: tuple[Scalar, ...], parameters: Parameters) -> str:
    return f"{parameters.add(literals[0])}::text"


def _to_microseconds(symbol: Symbol, value: DateTime) -> tuple[Symbol, int] | None:
    """Return an equivalent comparison of whole microseconds; None for a `=` that never holds."""
    microseconds, rest = divmod(value.nanoseconds, 1000)
    if not rest:
        return symbol, microseconds
    if symbol == "=":
        return None
    return ("<=" if symbol in ("<", "<=") else ">"), microseconds


# --- Texts that a document must have ------------------------------------------------------------------------------


def _sought(condition: CheckedCondition) -> list[str] | None:
    """Return texts of which every document that meets the condition has at least one; None when there are none."""
    operator = condition.operator
    if operator in NEGATED or operator == "is empty":
        return None
    texts = _sought_values(condition)
    if texts is None:
        texts = [f'"{(*condition.path, *condition.inside)[-1]}"']
        return texts if _is_written_plainly(texts[0][1:-1]) else None
    return texts


def _sought_values(condition: CheckedCondition) -> list[str] | None:
    type, operator = condition.property.type, condition.operator
    if operator not in ("is", "is one of", "contains", "starts with", "ends with"):
        return None
    if not isinstance(type, StringType | JsonType) or len(condition.literals) > MAX_NEEDLES:
        return None
    texts: list[str] = []
    for literal in condition.literals:
        if isinstance(literal, JsonLiteral):
            if literal.number is not None and operator not in ("starts with", "ends with"):
                return None  # an equal number may be written differently
            texts.append(literal.text)
        else:
            texts.append(cast(str, literal))
    return texts if all(map(_is_written_plainly, texts)) else None


def _is_written_plainly(text: str) -> bool:
    r"""Return whether JSON has no other way to write the text than with `\u`."""
    return bool(text) and not any(character in '"\\/' or character < " " or character == "\x7f" for character in text)


def _contains_one(texts: list[str], parameters: Parameters) -> str:
    found = [f"position({parameters.add(text)}::text IN document) > 0" for text in texts]
    escape = parameters.add("\\u")
    return f"({' OR '.join(found)} OR position({escape}::text IN document) > 0)"


def _join(parts: list[str], word: str) -> str:
    """Join the parts in groups of groups, so that no chain is long."""
    while len(parts) > _MAX_SIDE_BY_SIDE:
        groups = [parts[start : start + _MAX_SIDE_BY_SIDE] for start in range(0, len(parts), _MAX_SIDE_BY_SIDE)]
        parts = [f"({word.join(group)})" for group in groups]
    return word.join(parts)
