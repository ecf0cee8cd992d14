"""Says why a filter takes a record or does not: what each condition came to, and the value that it saw."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from headwater.filters import jsonvalues
from headwater.filters.model import Condition
from headwater.filters.predicate import compile_condition
from headwater.filters.validation import CheckedCondition, CheckedFilter
from headwater.schemas import MISSING, Codec, Json, ObjectType, Property, Value, value_at

MAX_SHOWN: Final = 1_000
"""How much of a value is shown, in code points. What is cut ends with an ellipsis and is no JSON any more."""

_NAME: Final = "value"


class ConditionOutcome(Struct, frozen=True):
    """What one condition came to."""

    condition: Condition
    """The condition, its values as they are shown."""
    result: bool | None
    """Whether it holds; None when a condition before it had decided already."""
    decided: bool
    """Whether it decided the filter. Exactly one condition did."""
    value: str | None
    """What the property was in the record, as JSON; None when it was missing."""


class Explanation(Struct, frozen=True):
    """What a filter did with a record."""

    matched: bool
    conditions: tuple[ConditionOutcome, ...]


def explain(filter: CheckedFilter, record: Mapping[str, Value]) -> Explanation:
    """What the filter does with a record that conforms to its schema.

    The condition that decides is the first that fails under `and` and the first that holds under `or`; where there is
    none, the last.
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
        return None if found is MISSING else _cut(jsonvalues.text_of(found))
    if isinstance(value, Json):
        return _cut(value.text)
    codec = Codec(ObjectType((Property(_NAME, condition.property.type, nullable=True),)))
    member = codec.encode({_NAME: value}).decode()
    return _cut(member.removeprefix(f'{{"{_NAME}":').removesuffix("}"))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
