"""Checks a filter against a schema and parses its values. The result can be compiled, rendered and explained.

The first broken rule is reported, in this order: logical, conditions; then for each condition path, property, operator,
number of values, each value.
"""

from msgspec import Struct

from headwater.filters.errors import InvalidFilter, UnknownProperty, quoted
from headwater.filters.literals import Scalar, read_value
from headwater.filters.model import Condition, Filter, check_counts
from headwater.filters.operators import (
    Logical,
    Operator,
    Role,
    Target,
    check_arity,
    find_violation,
    is_logical,
    is_operator,
)
from headwater.schemas import InvalidPath, JsonType, Path, Property, Schema, parse_path, resolve


class CheckedCondition(Struct, frozen=True):
    """A condition that fits its schema."""

    property: Property
    path: Path
    """The path of the property."""
    inside: Path
    """The rest of the path, inside the JSON value, if the property is one; often empty."""
    operator: Operator
    literals: tuple[Scalar, ...]
    """The values, each of the Python class of the property's kind or its elements'."""
    normal: Condition
    """The condition with its values in normal form."""


class CheckedFilter(Struct, frozen=True):
    """A filter that fits its schema. Compiling and rendering it cannot fail."""

    logical: Logical
    conditions: tuple[CheckedCondition, ...]

    @property
    def normal(self) -> Filter:
        """Return the filter to store and to show: equal values have equal texts."""
        return Filter(self.logical, tuple(condition.normal for condition in self.conditions))

    @property
    def paths(self) -> list[str]:
        """Return the sorted paths of the properties that are used, without the parts inside JSON values."""
        return sorted({".".join(condition.path) for condition in self.conditions})


def check_filter(filter: Filter, schema: Schema, *, role: Role, target: Target) -> CheckedFilter:
    """Return the filter with its parsed values. Role and target are the pipeline's, and restrict the allowed
    properties.

    Raises InvalidFilter, and UnknownProperty for a property that the schema does not have.
    """
    logical = filter.logical
    if not is_logical(logical):
        raise InvalidFilter('must be "and" or "or"', "logical")
    if not filter.conditions:
        raise InvalidFilter("must have at least one element", "conditions")
    check_counts(filter)
    checked = (_check(index, condition, schema, role, target) for index, condition in enumerate(filter.conditions))
    return CheckedFilter(logical, tuple(checked))


def _check(index: int, condition: Condition, schema: Schema, role: Role, target: Target) -> CheckedCondition:
    def invalid(rule: str, member: str) -> InvalidFilter:
        field = f"conditions[{index}].{member}"
        return InvalidFilter(
            rule, field, condition=index, property=condition.property, operator=quoted(condition.operator)
        )

    try:
        components = parse_path(condition.property)
    except InvalidPath as error:
        raise invalid(error.rule, "property") from error
    property, path, inside = _locate(index, condition, components, schema)
    operator = condition.operator
    if not is_operator(operator):
        raise invalid("is not an operator", "operator")
    rule = find_violation(operator, property, inside=bool(inside), role=role, target=target)
    if rule is not None:
        raise invalid(rule, "operator")
    values = condition.values or ()
    rule = check_arity(operator, len(values))
    if rule is not None:
        raise invalid(rule, "values")
    literals: list[Scalar] = []
    texts: list[str] = []
    for number, value in enumerate(values):
        try:
            literal, text = read_value(property.type, value)
        except ValueError as error:
            raise invalid(str(error), f"values[{number}]") from error
        literals.append(literal)
        texts.append(text)
    normal = Condition(condition.property, operator, tuple(texts))
    return CheckedCondition(property, path, inside, operator, tuple(literals), normal)


def _locate(index: int, condition: Condition, components: Path, schema: Schema) -> tuple[Property, Path, Path]:
    """Return the property, its path, and the rest of the path, which is inside a JSON value."""
    found, missing = resolve(schema, components)
    if missing is None and found is not None:
        return found, components, ()
    reached = (missing or "").count(".")
    if found is not None and isinstance(found.type, JsonType):
        return found, components[:reached], components[reached:]
    parent = f": its parent is of kind {found.type.kind}" if found is not None and found.type.kind != "object" else ""
    shown = quoted(missing or "")
    rule = f"names a property that does not exist, {shown}{parent}"
    raise UnknownProperty(rule, index, condition.property, quoted(condition.operator), missing or "")
