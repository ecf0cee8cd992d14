"""Equality of two values of a type. It is Python's, except for JSON: 1 equals 1.0, and the order of members is
ignored."""

import json
import operator
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from headwater.schemas import ArrayType, Json, JsonType, MapType, ObjectType, Type

Same = Callable[[Any, Any], bool]


def compile_equality(type: Type) -> Same:
    """Return the comparison of two values, neither of them None."""
    match type:
        case JsonType():
            return same_json
        case ArrayType():
            return _arrays(compile_equality(type.element_type))
        case MapType():
            same_element = compile_equality(type.element_type)
            return lambda one, other: (
                one.keys() == other.keys() and all(same_element(element, other[key]) for key, element in one.items())
            )
        case ObjectType():
            return _objects({property.name: compile_equality(property.type) for property in type})
        case _:
            return operator.eq


def same_json(one: Json, other: Json) -> bool:
    """Return whether the texts have the same JSON value."""
    return one.text == other.text or _same(_decode(one.text), _decode(other.text))


def _arrays(same: Same) -> Same:
    return lambda one, other: len(one) == len(other) and all(map(same, one, other))


def _objects(same: dict[str, Same]) -> Same:
    def same_object(one: dict[str, Any], other: dict[str, Any]) -> bool:
        if one.keys() != other.keys():
            return False
        for name, value in one.items():
            against = other[name]
            if value is None or against is None:
                if value is not against:
                    return False
            elif not same[name](value, against):
                return False
        return True

    return same_object


def _same(one: object, other: object) -> bool:
    if one.__class__ is not other.__class__:
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _number(text: str) -> object:
    try:
        return Decimal(text)
    except InvalidOperation:  # the exponent exceeds every limit: equal only to the same text
        return text.encode()


_decode: Final = json.JSONDecoder(parse_float=_number, parse_int=_number).decode
