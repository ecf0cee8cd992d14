"""Compiles the conversion of values of one type to another, for pairs of types that `matrix` allows.

A conversion takes a value, never None, and returns one that conforms to the target. It returns None for JSON null if
the target is not json, and for the empty string if the target has no empty string. It raises InvalidValue, with the
path inside the value, for values that cannot be converted. It does not change the value, but the result may share parts
with it.
"""

from collections.abc import Callable
from typing import Any, Final

from headwater.schemas import DateTime, Json, compile_check
from headwater.schemas import types as t
from headwater.transforms.mapping.conversions import moments, numbers
from headwater.transforms.mapping.conversions.containers import (
    Conversion,
    Member,
    array_conversion,
    map_conversion,
    object_conversion,
    when_null,
)
from headwater.transforms.mapping.conversions.fromjson import from_json
from headwater.transforms.mapping.conversions.texts import json_text_of, text_check, text_of

_FROM_TEXT: Final[dict[str, Conversion]] = {
    "boolean": numbers.boolean_of_text,
    "datetime": moments.datetime_of_text,
    "date": moments.date_of_text,
    "time": moments.time_of_text,
    "year": numbers.year_of_text,
    "uuid": moments.uuid_of_text,
    "ip": moments.ip_of_text,
}
_WHOLE: Final[dict[str, Callable[[Any], int]]] = {"float": numbers.int_of_float, "decimal": numbers.int_of_decimal}
_BETWEEN_MOMENTS: Final[dict[tuple[str, str], Conversion]] = {
    ("date", "datetime"): DateTime.at,
    ("datetime", "date"): lambda moment: moment.date,
    ("datetime", "time"): lambda moment: moment.time,
}


def conversion(source: t.Type, target: t.Type) -> Conversion | None:
    """Return the conversion, or None if every value of the source is the same value of the target."""
    if source == target:
        return None
    match source, target:
        case t.JsonType(), _:
            return from_json(target)
        case _, t.JsonType():
            write = json_text_of(source)
            return lambda value: Json(write(value))
        case _, t.StringType():
            return _to_string(source, target)
        case t.StringType(), _:
            return _unless_empty(_from_text(target))
        case t.ArrayType(), t.ArrayType():
            return array_conversion(conversion(source.element_type, target.element_type), target)
        case t.MapType(), t.MapType():
            convert = conversion(source.element_type, target.element_type)
            return None if convert is None else map_conversion(convert)
        case t.MapType(), t.ObjectType():
            return object_conversion(
                [
                    Member(property.name, conversion(source.element_type, property.type), when_null(property))
                    for property in target
                ]
            )
        case t.ObjectType(), t.MapType():
            return object_conversion(
                [Member(property.name, conversion(property.type, target.element_type), "drop") for property in source]
            )
        case t.ObjectType(), t.ObjectType():
            return object_conversion(
                [
                    Member(here.name, conversion(there.type, here.type), "keep" if here.nullable else "refuse")
                    for here in target
                    if (there := source.get(here.name))
                ]
            )
        case _:
            return _BETWEEN_MOMENTS.get((source.kind, target.kind)) or _number(source, target)


# --- Scalars ------------------------------------------------------------------------------------------------------


def _to_string(source: t.Type, target: t.StringType) -> Conversion | None:
    finish = text_check(target)
    if isinstance(source, t.StringType):
        return finish
    write = text_of(source)
    return write if finish is None else lambda value: finish(write(value))


def _unless_empty(convert: Conversion) -> Conversion:
    return lambda text: convert(text) if text else None


def _from_text(target: t.Type) -> Conversion:
    match target:
        case t.IntType():
            return numbers.int_of_text(target)
        case t.FloatType():
            finish = numbers.to_float(target)
            return lambda text: finish(numbers.float_of_text(text))
        case t.DecimalType():
            return numbers.decimal_of_text(target)
        case _:
            return _FROM_TEXT[target.kind]


def _number(source: t.Type, target: t.Type) -> Conversion:
    """Convert between boolean, int, float, decimal and year."""
    match target:
        case t.FloatType():
            return numbers.to_float(target)
        case t.DecimalType():
            return numbers.decimal_of_float(target) if source.kind == "float" else numbers.decimal_of_number(target)
        case _ if target.kind == "boolean":
            return bool
    check = compile_check(target)
    whole = _WHOLE.get(source.kind, int)

    def convert(value: Any) -> int:
        number: int = whole(value)
        check(number)
        return number

    return convert
