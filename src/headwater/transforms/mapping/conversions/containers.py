"""Conversions of arrays, maps and objects, built from the conversions of their contents.

A value inside that becomes null is an error in an array, because positions matter. A map omits it. In an object, the
property decides.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from headwater.schemas import ArrayType, InvalidValue, Property, compile_check
from headwater.schemas.decoding import key_component

Conversion = Callable[[Any], Any]
"""Converts a value that is not None; see `conversion`."""

WhenNull = Literal["keep", "drop", "refuse"]


class Member(NamedTuple):
    """The conversion of one member of an object."""

    name: str
    convert: Conversion | None
    """None if the value stays unchanged."""
    when_null: WhenNull


def when_null(property: Property) -> WhenNull:
    """Return how to handle a null that is not an error."""
    return "keep" if property.nullable else "drop"


def array_conversion(convert: Conversion | None, target: ArrayType) -> Conversion:
    """Return the conversion of lists, given that of their elements."""
    check = compile_check(target)

    def convert_array(elements: list[Any]) -> list[Any]:
        converted = elements if convert is None else convert_elements(elements, convert)
        check(converted)
        return converted

    return convert_array


def convert_elements(elements: Iterable[Any], convert: Conversion) -> list[Any]:
    """Convert the elements. Raises InvalidValue with the index of one that cannot be converted, or becomes null."""
    converted: list[Any] = []
    try:
        for element in elements:
            result = convert(element)
            if result is None:
                raise InvalidValue("must not be null or empty")
            converted.append(result)
    except InvalidValue as error:
        raise error.under(f"[{len(converted)}]") from None
    return converted


def map_conversion(convert: Conversion) -> Conversion:
    """Return the conversion of dicts with any keys, given that of their elements."""

    def convert_map(elements: dict[str, Any]) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for key, element in elements.items():
            try:
                result = convert(element)
            except InvalidValue as error:
                raise error.under(key_component(key)) from None
            if result is not None:
                converted[key] = result
        return converted

    return convert_map


def object_conversion(members: list[Member]) -> Conversion:
    """Return the conversion of dicts to dicts that have only these members."""

    def convert_object(record: dict[str, Any]) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for name, convert, when in members:
            if name not in record:
                continue
            value = record[name]
            if value is not None and convert is not None:
                try:
                    value = convert(value)
                except InvalidValue as error:
                    raise error.under(name) from None
            if value is not None or when == "keep":
                converted[name] = value
            elif when == "refuse":
                raise InvalidValue("must not be null", name)
        return converted

    return convert_object
