"""Sizes of values in characters, for the limit `MAX_RESULT_CHARACTERS` on results of mappings.

The size of a text is its length, that of a json value the length of its JSON, that of any other scalar
`SCALAR_CHARACTERS`. Arrays, maps and objects have the size of their contents, plus `SCALAR_CHARACTERS` for each element
or member, plus the keys of maps.
"""

from collections.abc import Callable
from typing import Any, Final

from headwater.schemas import types as t
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from headwater.transforms.mapping.errors import CannotEvaluate

SCALAR_CHARACTERS: Final = 8
"""Size of a number, a boolean, a date, a time, a UUID or an IP address."""

Size = Callable[[Any], int]
"""Returns the size of a value that is not None."""


def compile_size(type: t.Type) -> Size:
    """Return a function that measures values of the type."""
    match type:
        case t.StringType():
            return len
        case t.JsonType():
            return lambda value: len(value.text)
        case t.ArrayType():
            return _sequence(type.element_type)
        case t.MapType():
            measure_values = _sequence(type.element_type)
            return lambda value: sum(map(len, value)) + measure_values(value.values())
        case t.ObjectType():
            return _object({property.name: compile_size(property.type) for property in type})
        case _:
            return lambda value: SCALAR_CHARACTERS


def find_max_size(type: t.Type) -> int | None:
    """Return the maximum size of a value of the type, None if the type alone does not bound it."""
    match type:
        case t.StringType(values=tuple() as values):
            return max(map(len, values))
        case t.StringType():
            return type.max_length
        case t.JsonType() | t.ArrayType() | t.MapType() | t.ObjectType():
            return None
        case _:
            return SCALAR_CHARACTERS


def too_large(what: str) -> CannotEvaluate:
    """Return the error for a part of a result that exceeds the maximum size of the whole."""
    return CannotEvaluate(f"{what} is larger than {MAX_RESULT_CHARACTERS} characters")


def _sequence(element: t.Type) -> Size:
    if find_max_size(element) == SCALAR_CHARACTERS and not isinstance(element, t.StringType):
        return lambda values: 2 * SCALAR_CHARACTERS * len(values)
    measure_element = compile_size(element)
    return lambda values: SCALAR_CHARACTERS * len(values) + sum(map(measure_element, values))


def _object(members: dict[str, Size]) -> Size:
    def measure_object(record: dict[str, Any]) -> int:
        size = SCALAR_CHARACTERS * len(record)
        for name, value in record.items():
            if value is not None:
                size += members[name](value)
        return size

    return measure_object
