"""Compiles a checked filter into a Python function that is about as fast as code written by hand.

The function is generated source. Measured against code written by hand, closures reach 0.7 of its speed and generated
code 0.95 or more. The source contains fixed words, property names, which the schema guarantees to be identifiers, and
names of literals. It never contains a value from a user.

A record is a mapping of the codec's values (`headwater.schemas.values`). The function uses only `get` and `in`, so a
mapping that computes its values on demand works too. A missing property has no key, and null is None.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from headwater.filters import jsonvalues
from headwater.filters.literals import Scalar
from headwater.filters.operators import Operator
from headwater.filters.validation import CheckedCondition, CheckedFilter
from headwater.schemas import MISSING, ArrayType, JsonType, Path

Predicate = Callable[[Mapping[str, Any]], bool]
"""Returns whether a record passes."""

NEGATED: Final[dict[Operator, Operator]] = {
    "is not": "is",
    "is not between": "is between",
    "does not contain": "contains",
    "is not one of": "is one of",
    "is not empty": "is empty",
    "is not null": "is null",
    "does not exist": "exists",
}
"""Each operator that negates another one, also for missing and null values."""

_SYMBOLS: Final[dict[Operator, str]] = {
    "is": "==",
    "is less than": "<",
    "is less than or equal to": "<=",
    "is greater than": ">",
    "is greater than or equal to": ">=",
    "is before": "<",
    "is on or before": "<=",
    "is after": ">",
    "is on or after": ">=",
}


def compile_filter(filter: CheckedFilter) -> Predicate:
    """Return the filter as a function of a record. Conditions are evaluated in order, up to the first that decides."""
    return _Source(f" {filter.logical} ", filter.conditions).compile()


def compile_condition(condition: CheckedCondition) -> Predicate:
    """Return one condition as a function of a record."""
    return _Source("", (condition,)).compile()


class _Source:
    """The source of the function, and the constants that it names."""

    def __init__(self, joined_by: str, conditions: tuple[CheckedCondition, ...]) -> None:
        self._constants: dict[str, object] = {"MISSING": MISSING, "find": jsonvalues.find}
        self.text = f"def predicate(record):\n return {joined_by.join(map(self._condition, conditions))}"

    def compile(self) -> Predicate:
        exec(compile(self.text, "<filter>", "exec"), self._constants)
        predicate: Predicate = self._constants["predicate"]  # type: ignore[assignment]  # the function that the source defines
        return predicate

    def _name(self, constant: object) -> str:
        name = f"c{len(self._constants)}"
        self._constants[name] = constant
        return name

    def _condition(self, condition: CheckedCondition) -> str:
        operator = NEGATED.get(condition.operator)
        if operator is None:
            return self._positive(condition, condition.operator)
        return f"(not {self._positive(condition, operator)})"

    def _positive(self, condition: CheckedCondition, operator: Operator) -> str:
        if operator == "exists" and not condition.inside:
            return _presence(condition.path)
        type = condition.property.type
        if isinstance(type, JsonType):
            return self._json(condition, operator)
        if operator == "is null":
            return f"({_value(condition.path, default='MISSING')} is None)"
        value = _value(condition.path)
        literals = condition.literals
        if isinstance(type, ArrayType) and isinstance(type.element_type, JsonType) and operator == "contains":
            return f"((v := {value}) is not None and {self._name(_any_is(literals[0]))}(v))"
        return self._scalar(value, operator, literals)

    def _scalar(self, value: str, operator: Operator, literals: tuple[Scalar, ...]) -> str:
        given = f"(v := {value}) is not None"
        match operator:
            case "is":
                return f"({value} == {self._name(literals[0])})"
            case "is between":
                return f"({given} and {self._name(literals[0])} <= v <= {self._name(literals[1])})"
            case "is one of":
                return f"({value} in {self._name(frozenset(literals))})"
            case "contains":
                return f"({given} and {self._name(literals[0])} in v)"
            case "starts with":
                return f"({given} and v.startswith({self._name(literals[0])}))"
            case "ends with":
                return f"({given} and v.endswith({self._name(literals[0])}))"
            case "is true":
                return f"({value} is True)"
            case "is false":
                return f"({value} is False)"
            case "is empty":
                return f"(not {value})"
            case _:
                return f"({given} and v {_SYMBOLS[operator]} {self._name(literals[0])})"

    def _json(self, condition: CheckedCondition, operator: Operator) -> str:
        value = _value(condition.path, default="MISSING")
        if operator == "is null" and not condition.inside:
            return f"((v := {value}) is None or find(v, ()) is None)"
        if operator == "is one of":
            one_of = jsonvalues.OneOf(condition.literals)  # type: ignore[arg-type]  # of a JSON property
            return f"{self._name(one_of)}(find({value}, {self._name(condition.inside)}))"
        test = self._name(jsonvalues.TESTS[operator])
        arguments = ", ".join([f"find({value}, {self._name(condition.inside)})", *map(self._name, condition.literals)])
        return f"{test}({arguments})"


def _value(path: Path, default: str = "None") -> str:
    """Return an expression for the value at the path. It gives the default if the value, or an object on the way, is
    missing, or if an object on the way is null."""
    fallback = "" if default == "None" else f", {default}"
    if len(path) == 1:
        return f"record.get({path[0]!r}{fallback})"
    return f"(o.get({path[-1]!r}{fallback}) if {_parent(path)} else {default})"


def _presence(path: Path) -> str:
    """Return an expression that is true if there is a value, null or not, at the path."""
    if len(path) == 1:
        return f"({path[0]!r} in record)"
    return f"({_parent(path)} and {path[-1]!r} in o)"


def _parent(path: Path) -> str:
    """Return an expression that assigns the parent object of the last property to `o`, and is false if there is
    none."""
    steps = [f"(o := {'o' if index else 'record'}.get({name!r})) is not None" for index, name in enumerate(path[:-1])]
    return " and ".join(steps)


def _any_is(literal: Scalar) -> Callable[[list[Any]], bool]:
    def any_is(elements: list[Any]) -> bool:
        return any(jsonvalues.is_equal(jsonvalues.find(element, ()), literal) for element in elements)  # type: ignore[arg-type]  # of a JSON array

    return any_is
