"""Compiles a schema into a function that turns a record into JSON for a user function.

It passes only the properties of the schema. Values without a JSON form are passed as texts, which the adapters in the
sandboxes convert.
"""

import math
from collections.abc import Callable
from typing import Any, Final

from msgspec import Raw

from headwater.schemas import (
    DateTime,
    Json,
    Time,
    decimal_text,
)
from headwater.schemas import types as t
from headwater.transforms.functions.contract import Language

Encoder = Callable[[Any], Any]

_NOT_FINITE: Final = {"JavaScript": '"{}"', "Python": "{}"}
"""The forms of numbers that JSON does not have. Python's own decoder reads them."""


def compile_encoder(type: t.Type, language: Language, preserve_json: bool) -> Encoder | None:
    """Return a function that turns a value into an object that msgspec encodes for the language's adapter, or None if
    values need no conversion."""
    match type:
        case t.ObjectType():
            return _object(type, language, preserve_json)
        case t.ArrayType():
            return _array(compile_encoder(type.element_type, language, preserve_json))
        case t.MapType():
            return _map(compile_encoder(type.element_type, language, preserve_json))
        case t.IntType(bit_size=64) if language == "JavaScript":
            return str
        case t.FloatType(real=False):
            return _float(language)
        case t.DecimalType():
            return decimal_text
        case t.DateTimeType():
            return str if language == "JavaScript" else _python_datetime
        case t.DateType():
            return str
        case t.TimeType():
            return str if language == "JavaScript" else _python_time
        case t.JsonType():
            return _json_text if preserve_json else _json
        case _:
            return None


def _array(write: Encoder | None) -> Encoder | None:
    return None if write is None else lambda values: [write(value) for value in values]


def _map(write: Encoder | None) -> Encoder | None:
    return None if write is None else lambda values: {key: write(value) for key, value in values.items()}


def _object(type: t.ObjectType, language: Language, preserve_json: bool) -> Encoder:
    names = [property.name for property in type]
    every = frozenset(names)
    writers: list[tuple[str, Encoder]] = []
    for property in type:
        write_value = compile_encoder(property.type, language, preserve_json)
        if write_value is not None:
            writers.append((property.name, write_value))

    def write_all(record: dict[str, Any]) -> dict[str, Any]:
        return record if record.keys() == every else {name: record[name] for name in names if name in record}

    def write(record: dict[str, Any]) -> dict[str, Any]:
        document = record.copy() if record.keys() == every else {name: record[name] for name in names if name in record}
        for name, write_value in writers:
            value = document.get(name)
            if value is not None:
                document[name] = write_value(value)
        return document

    return write if writers else write_all


def _float(language: Language) -> Encoder:
    form = _NOT_FINITE[language]

    def write(value: float) -> Any:
        if math.isfinite(value):
            return value
        name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return Raw(form.format(name).encode())

    return write


def _python_datetime(value: DateTime) -> str:
    return value.to_datetime().replace(tzinfo=None).isoformat()


def _python_time(value: Time) -> str:
    text = str(value)
    return text[:15].ljust(15, "0") if "." in text else text


def _json_text(value: Json) -> str:
    return value.text


def _json(value: Json) -> Raw:
    return Raw(value.text.encode())
