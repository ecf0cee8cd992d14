"""Filters as they are written, and their JSON form. Whether one fits a schema is for `validation` to say."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from headwater.filters.errors import InvalidFilter

MAX_CONDITIONS: Final = 5_000
"""Conditions of a filter."""
MAX_VALUES: Final = 10_000
"""Values of all conditions of a filter together. SQLite takes time quadratic in the number of named parameters: half a
second for these, and it refuses more than 32,766."""
CONDITIONS_RULE: Final = f"must have at most {MAX_CONDITIONS} conditions"
VALUES_RULE: Final = f"must have at most {MAX_VALUES} values in all conditions together"


class Condition(Struct, frozen=True, forbid_unknown_fields=True):
    """Compares one property with zero or more values."""

    property: str
    """A property path. Below a property of kind json it goes on inside the JSON value: `properties.cart.total`."""
    operator: str
    """One of `OPERATORS`."""
    values: tuple[str, ...] | None = None
    """What the property is compared with, as text whatever its kind. None, never empty, when there is nothing."""

    def __post_init__(self) -> None:
        if self.values is not None and not self.values:
            # Absent and empty are the same in every list of this API, and protobuf could not tell them apart.
            msgspec.structs.force_setattr(self, "values", None)


class Filter(Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions that all have to hold, or one of which is enough. No filter at all, None, lets everything pass."""

    logical: str
    """`and` or `or`."""
    conditions: tuple[Condition, ...]
    """At least one. They are looked at in their order, up to the first that decides."""


def check_counts(filter: Filter) -> None:
    """Raises InvalidFilter for a filter with more than MAX_CONDITIONS or MAX_VALUES."""
    if len(filter.conditions) > MAX_CONDITIONS:
        raise InvalidFilter(CONDITIONS_RULE, "conditions")
    if sum(len(condition.values or ()) for condition in filter.conditions) > MAX_VALUES:
        raise InvalidFilter(VALUES_RULE, "conditions")


def parse_json(text: str | bytes) -> Filter | None:
    """The filter that the JSON text describes, None for `null`. Raises InvalidFilter; the schema is not looked at."""
    try:
        return read_document(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidFilter(f"must be JSON in UTF-8: {error}") from error


def read_document(document: object) -> Filter | None:
    """The filter that a decoded JSON value describes, None for None. Raises InvalidFilter."""
    if document is None:
        return None
    try:
        return msgspec.convert(document, Filter)
    except msgspec.ValidationError as error:
        raise _not_of_this_form(str(error)) from error


def _not_of_this_form(message: str) -> InvalidFilter:
    """msgspec's words, "Expected `str`, got `int` - at `$.logical`", with the field where ours has it."""
    rule, _, place = message.partition(" - at `$")
    field = place.rstrip("`").removeprefix(".")
    return InvalidFilter(f"is not of the form of a filter: {rule[:1].lower()}{rule[1:]}", field)


def document(filter: Filter) -> dict[str, Any]:
    """The filter as a JSON value. `values` is left out where there are none."""
    conditions: list[dict[str, Any]] = []
    for condition in filter.conditions:
        members: dict[str, Any] = {"property": condition.property, "operator": condition.operator}
        conditions.append(members if condition.values is None else members | {"values": list(condition.values)})
    return {"logical": filter.logical, "conditions": conditions}
