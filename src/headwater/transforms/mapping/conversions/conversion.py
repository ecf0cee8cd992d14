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
from headwater.transforms.mapping.conversions import datetimes, numbers
from headwater.transforms.mapping.conversions.containers import (
    Conversion,
    Member,
    array_conversion,
    map_conversion,
    object_conversion,
    when_null,
)
from headwater.transforms.mapping.conversions.fromjson import from_json
from headwater.transforms.mapping.conversions.texts import compile_json_text, compile_text, compile_text_check

_FROM_TEXT: Final[dict[str, Conversion]] = {
    "boolean": numbers.text_to_boolean,
    "datetime": datetimes.text_to_datetime,
    "date": datetimes.text_to_date,
    "time": datetimes.text_to_time,
    "year": numbers.text_to_year,
    "uuid": datetimes.text_to_uuid,
    "ip": datetimes.text_to_ip,
}
_WHOLE: Final[dict[str, Callable[[Any], int]]] = {"float": numbers.float_to_int, "decimal": numbers.decimal_to_int}
_BETWEEN_DATETIMES: Final[dict[tuple[str, str], Conversion]] = {
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
        case t.StringType(), t.JsonType():
            return Json.of
        case _, t.JsonType():
            write = compile_json_text(source)
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
            return _BETWEEN_DATETIMES.get((source.kind, target.kind)) or _number(source, target)


# --- Scalars ------------------------------------------------------------------------------------------------------


def _to_string(source: t.Type, target: t.StringType) -> Conversion | None:
    finish = compile_text_check(target)
    if isinstance(source, t.StringType):
        return finish
    write = compile_text(source)
    return write if finish is None else lambda value: finish(write(value))


def _unless_empty(convert: Conversion) -> Conversion:
    return lambda text: convert(text) if text else None


def _from_text(target: t.Type) -> Conversion:
    match target:
        case t.IntType():
            return numbers.text_to_int(target)
        case t.FloatType():
            finish = numbers.to_float(target)
            return lambda text: finish(numbers.text_to_float(text))
        case t.DecimalType():
            return numbers.text_to_decimal(target)
        case _:
            return _FROM_TEXT[target.kind]


def _number(source: t.Type, target: t.Type) -> Conversion:
    """Convert between boolean, int, float, decimal and year."""
    match target:
        case t.FloatType():
            return numbers.to_float(target)
        case t.DecimalType():
            return numbers.float_to_decimal(target) if source.kind == "float" else numbers.number_to_decimal(target)
        case _ if target.kind == "boolean":
            return bool
    check = compile_check(target)
    whole = _WHOLE.get(source.kind, int)

    def convert(value: Any) -> int:
        number: int = whole(value)
        check(number)
        return number

    return convert
