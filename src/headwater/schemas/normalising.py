"""Compiles a schema into functions that check the values of connectors, and turn them into values of the schema.

Connectors return what their systems have: texts for numbers, floats for integers, datetimes of Python, JSON text for
objects. The table of accepted values is in docs/imports.md. Messages never contain the value, so that equal problems
are one error of a run.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.schemas import types as t
from headwater.schemas.constraints import compile_check
from headwater.schemas.decoding import key_component
from headwater.schemas.errors import InvalidValue
from headwater.schemas.json_value import JSON_NULL, Json
from headwater.schemas.normalising_scalars import (
    NOT_NULL,
    Normalise,
    check_unicode,
    compile_scalar,
    compile_string,
    unexpected,
)
from headwater.schemas.values import Record

_KEY: Final = re.compile(r'\["(?:[^"\\]|\\.)*"\]|\[[0-9]+\]')
"""An index or a key in a path; a key is a part of the value."""
_EMPTY_IS_NULL: Final = (t.DecimalType, t.DateTimeType, t.DateType, t.JsonType)

_decode_list: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def describe_problem(error: InvalidValue) -> str:
    """Return the message of a run for a value that cannot be normalised: it has the path and the problem, not the
    value."""
    path = _KEY.sub("[]", error.path)
    return f"property '{path}' {error.rule}" if path else f"the record {error.rule}"


def compile_normaliser(schema: t.Schema) -> Callable[[Mapping[str, Any]], Record]:
    """Return a function that normalises records of a connector. Attributes that the schema does not have are left
    out."""
    normalise: Callable[[Mapping[str, Any]], Record] = _object(schema)
    return normalise


def compile_property(property: t.Property) -> Normalise:
    """Return a function that normalises values of a property, None included."""
    type, nullable = property.type, property.nullable
    if isinstance(type, t.StringType):
        return compile_string(type, nullable)
    normalise = compile_value(type)
    empty_is_null = nullable and isinstance(type, _EMPTY_IS_NULL)

    def normalise_property(value: Any) -> Any:
        if value is None or (empty_is_null and (value == "" or value == b"")):
            if nullable:
                return None
            raise InvalidValue(NOT_NULL)
        return normalise(value)

    return normalise_property


def compile_value(type: t.Type) -> Normalise:
    """Return a function that normalises values of a type that are not None."""
    match type:
        case t.ObjectType():
            return _parsed(_object(type), _decode_any)
        case t.ArrayType():
            return _array(type)
        case t.MapType():
            return _map(type)
        case t.StringType():
            return compile_string(type, nullable=False)
        case _:
            return compile_scalar(type)


def _object(type: t.ObjectType) -> Normalise:
    fields = [(property.name, compile_property(property), property.read_optional) for property in type]

    def normalise(value: Any) -> Record:
        if not isinstance(value, Mapping):
            raise unexpected("an object", value)
        record: Record = {}
        for name, normalise_value, optional in fields:
            if name not in value:
                if optional:
                    continue
                raise InvalidValue("is missing", name)
            try:
                record[name] = normalise_value(value[name])
            except InvalidValue as error:
                raise error.under(name) from None
        return record

    return normalise


def _array(type: t.ArrayType) -> Normalise:
    normalise_element = _element(type.element_type)
    check = compile_check(type)

    def normalise(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise unexpected("a list", value)
        elements: list[Any] = []
        try:
            for element in value:
                elements.append(normalise_element(element))
        except InvalidValue as error:
            raise error.under(f"[{len(elements)}]") from None
        check(elements)
        return elements

    if isinstance(type.element_type, t.JsonType):
        return _parsed(normalise, lambda text: [Json(bytes(each).decode()) for each in _decode_list(text)])
    return _parsed(normalise, _decode_any)


def _map(type: t.MapType) -> Normalise:
    normalise_element = _element(type.element_type)

    def normalise(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise unexpected("a map", value)
        elements: dict[str, Any] = {}
        for key, element in value.items():
            if not isinstance(key, str):
                raise InvalidValue("has a key that is not text")
            try:
                check_unicode(key)
                if "\0" in key:
                    raise InvalidValue("has the NUL character in its key")
                elements[key] = normalise_element(element)
            except InvalidValue as error:
                raise error.under(key_component(key)) from None
        return elements

    if isinstance(type.element_type, t.JsonType):
        return _parsed(normalise, _decode_members_of_json)
    return _parsed(normalise, _decode_any)


def _element(type: t.Type) -> Normalise:
    """Return the normalisation of elements, which cannot be null. In JSON, null is a value."""
    normalise = compile_property(t.Property("element", type))
    if not isinstance(type, t.JsonType):
        return normalise
    return lambda value: JSON_NULL if value is None else normalise(value)


def _parsed(normalise: Normalise, decode: Callable[[str], Any]) -> Normalise:
    """Return a normalisation that accepts JSON text, too, as databases without nested types have it."""

    def parse_and_normalise(value: Any) -> Any:
        if isinstance(value, Json):
            value = value.text
        if isinstance(value, str | bytes):
            text = Json.parse(value).text if value else ""
            try:
                value = decode(text)
            except (msgspec.DecodeError, RecursionError):
                raise InvalidValue("is not JSON of the right form") from None
        return normalise(value)

    return parse_and_normalise


def _decode_members_of_json(text: str) -> Any:
    return {key: Json(bytes(raw).decode()) for key, raw in _decode_members(text).items()}
