"""Filters as requests contain them, and their JSON form. `validation` checks them against a schema."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from headwater.filters.errors import InvalidFilter

MAX_CONDITIONS: Final = 5_000
"""Conditions of a filter."""
MAX_VALUES: Final = 10_000
"""Values of all conditions of a filter together. SQLite takes time quadratic in the number of named parameters: half a
second for these, and it rejects more than 32,766."""
CONDITIONS_RULE: Final = f"must have at most {MAX_CONDITIONS} conditions"
VALUES_RULE: Final = f"must have at most {MAX_VALUES} values in all conditions together"


class Condition(Struct, frozen=True, forbid_unknown_fields=True):
    """Compares one property with zero or more values."""

    property: str
    """A property path. Below a property of kind json it continues inside the JSON value: `properties.cart.total`."""
    operator: str
    """One of `OPERATORS`."""
    values: tuple[str, ...] | None = None
    """The operands, as text for every kind. None, never empty, if there are none."""

    def __post_init__(self) -> None:
        if self.values is not None and not self.values:
            # Absent and empty are equivalent in every list of this API, because protobuf does not distinguish them.
            msgspec.structs.force_setattr(self, "values", None)


class Filter(Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions joined by `and` or `or`. A missing filter, None, accepts every record."""

    logical: str
    """`and` or `or`."""
    conditions: tuple[Condition, ...]
    """At least one. They are evaluated in order, up to the first that decides."""


def check_counts(filter: Filter) -> None:
    """Raise InvalidFilter for a filter with more than MAX_CONDITIONS or MAX_VALUES."""
    if len(filter.conditions) > MAX_CONDITIONS:
        raise InvalidFilter(CONDITIONS_RULE, "conditions")
    if sum(len(condition.values or ()) for condition in filter.conditions) > MAX_VALUES:
        raise InvalidFilter(VALUES_RULE, "conditions")


def parse_json(text: str | bytes) -> Filter | None:
    """Parse a filter, None for `null`. Raises InvalidFilter. Checks no schema."""
    try:
        return read_document(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidFilter(f"must be JSON in UTF-8: {error}") from error


def read_document(document: object) -> Filter | None:
    """Return the filter in a decoded JSON value, None for None. Raises InvalidFilter."""
    if document is None:
        return None
    try:
        return msgspec.convert(document, Filter)
    except msgspec.ValidationError as error:
        raise _convert_error(str(error)) from error


def _convert_error(message: str) -> InvalidFilter:
    """Convert an error text of msgspec, "Expected `str`, got `int` - at `$.logical`", to an error with `field`."""
    rule, _, place = message.partition(" - at `$")
    field = place.rstrip("`").removeprefix(".")
    return InvalidFilter(f"is not of the form of a filter: {rule[:1].lower()}{rule[1:]}", field)


def document(filter: Filter) -> dict[str, Any]:
    """Return the filter as a JSON value. `values` is left out if there are none."""
    conditions: list[dict[str, Any]] = []
    for condition in filter.conditions:
        members: dict[str, Any] = {"property": condition.property, "operator": condition.operator}
        conditions.append(members if condition.values is None else members | {"values": list(condition.values)})
    return {"logical": filter.logical, "conditions": conditions}
