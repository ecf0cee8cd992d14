"""The text of scalar values, and the JSON text of all values."""

import math
from collections.abc import Callable
from datetime import date
from typing import Any, Final

import msgspec

from headwater.base.json_depth import is_deeper
from headwater.schemas import (
    JSON_NULL,
    MAX_JSON_DEPTH,
    TEXT_EXPONENT,
    InvalidValue,
    compile_check,
    decimal_text,
    float_text,
    unwrap_elements,
)
from headwater.schemas import types as t

ToText = Callable[[Any], str]
"""Returns the text of a value that is not None."""

_encode: Final = msgspec.json.Encoder().encode


def compile_text(type: t.Type) -> ToText:
    """Return the conversion of values of a scalar type, except json, to strings."""
    match type.kind:
        case "string" | "uuid" | "ip":
            return _identity
        case "boolean":
            return _boolean
        case "date":
            return date.isoformat
        case "decimal":
            return decimal_text
        case "float":
            return _float(type.bit_size if isinstance(type, t.FloatType) else 64)
        case _:
            return str


def compile_json_text(type: t.Type) -> ToText:
    """Return the conversion of values of any type to JSON text: integers and decimals as numbers with all their digits.

    Raises InvalidValue if the JSON is nested too deep.
    """
    write = _json_text(type)
    if not _holds_json(type):
        return write

    return lambda value: check_depth(write(value))


def check_depth(text: str) -> str:
    """Return JSON text. Raises InvalidValue if it is nested too deep."""
    if is_deeper(text, MAX_JSON_DEPTH):
        raise InvalidValue(f"is nested deeper than {MAX_JSON_DEPTH} levels")
    return text


def quote_json(text: str) -> str:
    """Return the text as a JSON string."""
    return _encode(text).decode()


def compile_text_check(target: t.StringType) -> Callable[[str], str | None] | None:
    """Return a check of a text against the constraints of its type; None if there are none."""
    if target == t.StringType():
        return None
    check = compile_check(target)

    def finish(text: str) -> str | None:
        try:
            check(text)
        except InvalidValue:
            if text:
                raise
            return None  # only enumerations and patterns reject the empty string, which then stands for null
        return text

    return finish


def _identity(value: str) -> str:
    return value


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _float(bit_size: int) -> ToText:
    def write(value: float) -> str:
        return (
            float_text(value, bit_size, exponent_from=TEXT_EXPONENT) if math.isfinite(value) else name_not_finite(value)
        )

    return write


def name_not_finite(value: float) -> str:
    """Return the name of NaN or an infinity."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


# --- JSON ---------------------------------------------------------------------------------------------------------


def _json_text(type: t.Type) -> ToText:
    match type:
        case t.JsonType():
            return lambda value: value.text
        case t.FloatType():
            return _json_float(type.bit_size)
        case t.ArrayType():
            return _json_array(_json_text(type.element_type))
        case t.MapType():
            return _json_map(_json_text(type.element_type))
        case t.ObjectType():
            return _json_object([(property.name, _json_text(property.type)) for property in type])
    match type.kind:
        case "string":
            return quote_json
        case "uuid" | "ip":
            return lambda value: f'"{value}"'
        case "datetime" | "time":
            return lambda value: f'"{value.json_text}"'
        case "date":
            return lambda value: f'"{value.isoformat()}"'
        case _:
            return compile_text(type)


def _json_float(bit_size: int) -> ToText:
    def write(value: float) -> str:
        return float_text(value, bit_size) if math.isfinite(value) else f'"{name_not_finite(value)}"'

    return write


def _json_array(write: ToText) -> ToText:
    return lambda elements: f"[{','.join(map(write, elements))}]"


def _json_map(write: ToText) -> ToText:
    def write_map(elements: dict[str, Any]) -> str:
        return "{" + ",".join(f"{quote_json(key)}:{write(element)}" for key, element in elements.items()) + "}"

    return write_map


def _json_object(members: list[tuple[str, ToText]]) -> ToText:
    def write_object(record: dict[str, Any]) -> str:
        texts: list[str] = []
        for name, write in members:
            if name in record:
                value = record[name]
                texts.append(f'"{name}":{JSON_NULL.text if value is None else write(value)}')
        return "{" + ",".join(texts) + "}"

    return write_object


def _holds_json(type: t.Type) -> bool:
    inside = unwrap_elements(type)
    if isinstance(inside, t.ObjectType):
        return any(_holds_json(property.type) for property in inside)
    return isinstance(inside, t.JsonType) and inside is not type
