"""Filters: validated against a schema, compiled into a predicate, read and written as text.

    filter = parse_json(text)                            JSON text -> Filter, or None for null
    filter = parse_text('age is between 18 and 30')      text -> Filter, or InvalidFilterText with the position
    print_text(filter), document(filter)                 the same filter as text, and as a JSON value

    checked = check_filter(filter, schema, role="Source", target="User")     or InvalidFilter: the condition and why
    checked.normal                                       the filter to store and to show
    checked.paths                                        the properties that it uses
    passes = compile_filter(checked)                     compile it once and keep it; passes(record) for each record
    explain(checked, record)                             the result of each condition, and the value of its property

Records are those of the codec of the schema (`headwater.schemas.values`). An event is a record of `EVENT_SCHEMA` with
`properties` and `traits` as `Json`. That text is decoded when a condition needs it, and only once for equal texts.

A missing property and a null one fail every operator except the negated ones and `is empty`. `is null` and `exists`
distinguish the two. Texts are compared by code point, numbers exactly, points in time to the nanosecond.
"""

from headwater.filters.errors import InvalidFilter, InvalidFilterText, UnknownProperty
from headwater.filters.explain import ConditionOutcome, Explanation, explain
from headwater.filters.literals import MAX_VALUE_LENGTH
from headwater.filters.model import (
    MAX_CONDITIONS,
    MAX_VALUES,
    Condition,
    Filter,
    document,
    parse_json,
    read_document,
)
from headwater.filters.operators import OPERATORS, Operator, Role, Target
from headwater.filters.predicate import Predicate, compile_filter
from headwater.filters.text import parse_text, print_text
from headwater.filters.validation import CheckedFilter, check_filter

__all__ = [
    "MAX_CONDITIONS", "MAX_VALUES", "MAX_VALUE_LENGTH", "OPERATORS",
    "CheckedFilter", "Condition", "ConditionOutcome", "Explanation", "Filter", "InvalidFilter", "InvalidFilterText",
    "Operator", "Predicate", "Role", "Target", "UnknownProperty",
    "check_filter", "compile_filter", "document", "explain", "parse_json", "parse_text", "print_text",
    "read_document",
]  # fmt: skip
