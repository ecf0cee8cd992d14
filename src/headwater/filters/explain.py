"""Explains why a filter accepts or rejects a record: the result of each condition, and the value of its property."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from headwater.filters import jsonvalues
from headwater.filters.model import Condition
from headwater.filters.predicate import compile_condition
from headwater.filters.validation import CheckedCondition, CheckedFilter
from headwater.schemas import MISSING, Codec, Json, ObjectType, Property, Value, value_at

MAX_SHOWN: Final = 1_000
"""Maximum length of a value in the explanation, in code points. A longer value is cut and ends with an ellipsis, so it
is not valid JSON."""

_NAME: Final = "value"


class ConditionOutcome(Struct, frozen=True):
    """The result of one condition."""

    condition: Condition
    """The condition with its values in normal form."""
    result: bool | None
    """Whether the condition holds; None if an earlier condition already decided."""
    decided: bool
    """Whether this condition decided the result. Exactly one condition of a filter did."""
    value: str | None
    """The value of the property in the record, as JSON; None if it was missing."""


class Explanation(Struct, frozen=True):
    """The result of a filter for a record."""

    matched: bool
    conditions: tuple[ConditionOutcome, ...]


def explain(filter: CheckedFilter, record: Mapping[str, Value]) -> Explanation:
    """Explain the result of the filter for a record that conforms to its schema.

    The deciding condition is the first that fails under `and`, or the first that holds under `or`. If there is none, it
    is the last.
    """
    decisive = filter.logical == "or"
    results: list[bool] = []
    for condition in filter.conditions:
        results.append(compile_condition(condition)(record))
        if results[-1] is decisive:
            break
    last = len(results) - 1
    outcomes = [
        ConditionOutcome(
            condition.normal,
            results[index] if index <= last else None,
            decided=index == last,
            value=_shown(condition, record),
        )
        for index, condition in enumerate(filter.conditions)
    ]
    return Explanation(results[last], tuple(outcomes))


def _shown(condition: CheckedCondition, record: Mapping[str, Value]) -> str | None:
    value = value_at(record, condition.path)
    if value is MISSING:
        return None
    if condition.inside:
        found = jsonvalues.find(value if isinstance(value, Json) else None, condition.inside)
        return None if found is MISSING else _cut(jsonvalues.encode_found(found))
    if isinstance(value, Json):
        return _cut(value.text)
    codec = Codec(ObjectType((Property(_NAME, condition.property.type, nullable=True),)))
    member = codec.encode({_NAME: value}).decode()
    return _cut(member.removeprefix(f'{{"{_NAME}":').removesuffix("}"))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
