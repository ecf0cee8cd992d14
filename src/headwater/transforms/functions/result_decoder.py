"""Compiles a schema into a function that builds a record from the decoded JSON result of a user function.

Results are checked only here: a sandbox may return anything, and every record that is built conforms to the schema.
Messages use the native type names of the language, and the purpose decides about nulls.
"""

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.schemas import (
    JSON_NULL,
    DateTime,
    InvalidValue,
    Json,
    Time,
    canonical_ip,
    canonical_uuid,
    compile_check,
    parse_decimal,
    to_float32,
)
from headwater.schemas import types as t
from headwater.transforms.functions.contract import Language, Purpose
from headwater.transforms.functions.native import javascript_name, python_name

Converter = Callable[[Any], Any]
"""Converts a decoded value to a value of a kind. Raises InvalidValue."""

_MAX_DIGITS: Final = 24
"""Characters of a 64-bit integer that are read. The first digits of a longer number are already out of range."""
_NOT_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


@dataclass(frozen=True, slots=True)
class ResultDecoder:
    """Compiles decoders for results of functions with these attributes."""

    language: Language
    preserve_json: bool
    purpose: Purpose

    def shape(self, type: t.Type) -> Any:
        """Return the type that msgspec decodes the JSON of a value to. Values of kind json stay text, so that no digit
        is lost."""
        if not self._has_text(type):
            return Any
        match type:
            case t.ArrayType():
                return list[self.shape(type.element_type)]  # type: ignore[misc]  # a type made at run time
            case t.MapType():
                return dict[str, self.shape(type.element_type)]  # type: ignore[misc]  # likewise
            case t.ObjectType():
                return dict[str, Raw]
            case _:
                return Raw

    def requires(self, property: t.Property) -> bool:
        """Return whether a result must have the property."""
        if self.purpose == "Create":
            return property.create_required
        return self.purpose == "Update" and property.update_required

    def compile(self, type: t.Type) -> Converter:
        """Return a reader for values of the type, which are never None: the container handles None."""
        match type:
            case t.ObjectType():
                return self._object(type)
            case t.ArrayType():
                return self._array(type)
            case t.MapType():
                return self._map(type)
            case t.JsonType() if not self.preserve_json:
                return _read_json
            case _:
                return self._scalar(type)

    def _has_text(self, type: t.Type) -> bool:
        match type:
            case t.ArrayType() | t.MapType():
                return self._has_text(type.element_type)
            case t.ObjectType():
                return any(self._has_text(property.type) for property in type)
            case _:
                return isinstance(type, t.JsonType) and not self.preserve_json

    def _name(self, type: t.Type) -> str:
        name = javascript_name if self.language == "JavaScript" else python_name
        return name(type, self.preserve_json)

    def _unlike(self, type: t.Type) -> InvalidValue:
        return InvalidValue(f"is not of type {self._name(type)}")

    def _object(self, type: t.ObjectType) -> Converter:
        fields = {property.name: self.compile_member(property.type, property.nullable) for property in type}
        required = [property.name for property in type if self.requires(property)]
        drop_null = self.purpose == "Import"
        unlike = self._unlike(type)

        def read(members: Any) -> dict[str, Any]:
            if members.__class__ is not dict:
                raise unlike
            record: dict[str, Any] = {}
            for name, member in members.items():
                try:
                    value = fields[name](member)
                except KeyError:
                    raise InvalidValue("does not exist in the schema", name[:60]) from None
                except InvalidValue as error:
                    raise error.under(name) from None
                if value is NO_VALUE:
                    if drop_null:
                        continue
                    raise InvalidValue("must not be null", name)
                record[name] = value
            for name in required:
                if name not in record:
                    raise InvalidValue("is required", name)
            return record

        return read

    def compile_member(self, type: t.Type, nullable: bool) -> Converter:
        """Return a reader for the value of a property, or its text. It returns NO_VALUE for a null that the schema does
        not allow."""
        read_value = self.compile(type)
        is_json = isinstance(type, t.JsonType) and not self.preserve_json
        null = None if nullable else JSON_NULL if is_json else NO_VALUE
        decode = None if is_json else msgspec.json.Decoder(self.shape(type)).decode

        def read(member: Any) -> Any:
            if member is None:
                return null
            if member.__class__ is Raw:
                if bytes(member) == b"null":
                    return null
                if decode is not None:
                    try:
                        member = decode(member)
                    except msgspec.ValidationError:
                        member = msgspec.json.decode(member)
            return read_value(member)

        return read

    def _array(self, type: t.ArrayType) -> Converter:
        read_element = self.compile_member(type.element_type, False)
        check = compile_check(type)
        unlike = self._unlike(type)

        def read(elements: Any) -> list[Any]:
            if elements.__class__ is not list:
                raise unlike
            values: list[Any] = []
            try:
                for element in elements:
                    value = read_element(element)
                    if value is NO_VALUE:
                        raise InvalidValue("must not be null")
                    values.append(value)
            except InvalidValue as error:
                raise error.under(f"[{len(values)}]") from None
            check(values)
            return values

        return read

    def _map(self, type: t.MapType) -> Converter:
        read_element = self.compile_member(type.element_type, False)
        unlike = self._unlike(type)

        def read(elements: Any) -> dict[str, Any]:
            if elements.__class__ is not dict:
                raise unlike
            values: dict[str, Any] = {}
            for key, element in elements.items():
                try:
                    if not key.isascii() and _has_surrogates(key):
                        raise InvalidValue("must not have lone surrogates in its key")
                    value = read_element(element)
                    if value is NO_VALUE:
                        raise InvalidValue("must not be null")
                    values[key] = value
                except InvalidValue as error:
                    raise error.under(f"[{json.dumps(key[:60])}]") from None
            return values

        return read

    def _scalar(self, type: t.Type) -> Converter:
        classes, convert = self._conversion(type)
        unlike, check = self._unlike(type), compile_check(type)

        def read(value: Any) -> Any:
            if value.__class__ not in classes:
                raise unlike
            try:
                value = convert(value)
            except (ValueError, OverflowError) as error:
                raise InvalidValue(str(error)) from None
            check(value)
            return value

        def read_as_it_is(value: Any) -> Any:
            if value.__class__ not in classes:
                raise unlike
            check(value)
            return value

        return read_as_it_is if convert is _identity else read

    def _conversion(self, type: t.Type) -> tuple[tuple[type, ...], Converter]:
        """Return the possible classes of the decoded value, and its converter. The ValueError of the converter has the
        rule."""
        from_javascript = self.language == "JavaScript"
        match type:
            case t.StringType():
                return (str,), _text
            case t.BooleanType():
                return (bool,), _identity
            case t.IntType(bit_size=64) if from_javascript:
                return (str,), _bigint
            case t.IntType() | t.YearType():
                return ((int, float), int) if from_javascript else ((int,), _identity)
            case t.FloatType():
                return (float, int, str) if from_javascript else (
                    float,
                    int,
                ), _float32 if type.bit_size == 32 else _float
            case t.DecimalType():
                return (str,), lambda text: parse_decimal(text, type.precision, type.scale)
            case t.DateTimeType():
                return (str,), DateTime.parse if from_javascript else _python_datetime
            case t.DateType():
                return (str,), _date
            case t.TimeType():
                return (str,), Time.parse
            case t.UuidType():
                return (str,), _uuid
            case t.IpType():
                return (str,), canonical_ip
            case t.JsonType():
                return (str,), _preserved
            case _:
                raise AssertionError(type)


class _NoValue:
    """The type of `NO_VALUE`."""


NO_VALUE: Final = _NoValue()
"""The result of a member's reader for a null that the schema does not allow."""


def _identity(value: Any) -> Any:
    return value


def _text(value: str) -> str:
    if not value.isascii() and _has_surrogates(value):
        raise ValueError("must not contain lone surrogates")
    return value


def _bigint(text: str) -> int:
    return int(text[:_MAX_DIGITS])


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _float(value: float | int | str) -> float:
    if isinstance(value, str):
        return _NOT_FINITE[value] if value in _NOT_FINITE else _raise("must be a number")
    return float(value)


def _float32(value: float | int | str) -> float:
    number = _float(value)
    rounded = to_float32(number)
    return rounded if abs(rounded) != float("inf") or rounded == number else _raise("must be a float(32)")


def _raise(rule: str) -> Any:
    raise ValueError(rule)


def _python_datetime(text: str) -> DateTime:
    """Parse Python's ISO format. A datetime without a zone is in UTC."""
    has_zone = text[19:].find("+") >= 0 or text[19:].find("-") >= 0
    return DateTime.parse(text if has_zone else f"{text}Z")


def _date(text: str) -> date:
    if len(text) != 10:
        raise ValueError("must be a date as YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a date as YYYY-MM-DD") from None


def _uuid(text: str) -> str:
    with suppress(ValueError):
        return canonical_uuid(text)
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ValueError("must be a UUID") from None


def _preserved(text: str) -> Json:
    try:
        return Json.parse(_text(text))
    except InvalidValue as error:
        raise ValueError(error.rule) from None


def _read_json(value: Any) -> Json:
    if isinstance(value, Raw):
        text: str | bytes = bytes(value)
    else:  # part of a record that is not JSON as a whole, because it contains a number that JSON does not have
        try:
            text = json.dumps(value, allow_nan=False)
        except ValueError:
            raise InvalidValue("must be JSON, which has neither NaN nor infinities") from None
    try:
        return Json.parse(text)
    except InvalidValue as error:
        if isinstance(error.__cause__, msgspec.DecodeError):  # valid JSON except for escapes of half a surrogate pair
            raise InvalidValue("must not contain lone surrogates") from None
        raise
