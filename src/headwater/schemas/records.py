"""Reads the stored attributes of profiles quickly: records and rows of a schema from JSON that an encoder has written.

Members that the schema does not have are ignored, and any property may be missing. A text of one decode holds most
values; the strict reader of `decoding` reads a text that does not fit, and names the property at fault.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw

from headwater.schemas import types as t
from headwater.schemas.constraints import compile_check
from headwater.schemas.datetimes import DateTime, Time
from headwater.schemas.decoding import Decoder, compile_decoder
from headwater.schemas.errors import InvalidValue
from headwater.schemas.json_value import Json
from headwater.schemas.types import Schema
from headwater.schemas.values import MISSING, Missing, Record, Value

_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_NULL: Final = b"null"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_USUAL_LENGTHS: Final = tuple(len(f"2024-03-05T10:00:00{fraction}Z") for fraction in ("", ".500", ".500000"))


class RecordReader:
    """Reads the records of a schema. Safe to share between threads."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._names = tuple(property.name for property in schema)
        plans = [_plan(property.type) for property in schema]
        fields: list[tuple[str, Any, Any]] = []
        for index, (property, (kind, _)) in enumerate(zip(schema, plans, strict=True)):
            fields.append((f"field{index}", kind | None if property.nullable else kind, MISSING))
        names = {f"field{index}": name for index, name in enumerate(self._names)}
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Members", fields, rename=names, gc=False)).decode
        self._conversions = [
            (index, convert, property.nullable and kind is Raw)
            for index, (property, (kind, convert)) in enumerate(zip(schema, plans, strict=True))
            if convert is not None
        ]
        self._has_floats = any(isinstance(property.type, t.FloatType) for property in schema)

    def row(self, text: bytes) -> tuple[Value | Missing, ...]:
        """Return the values of the properties, in the order of the schema; MISSING for missing ones.

        Raises InvalidValue with the path of a value that does not conform.
        """
        values = self._values(text)
        return values if isinstance(values, tuple) else tuple(values)

    def rows(self, texts: Sequence[bytes]) -> list[tuple[Value | Missing, ...]]:
        """Return the row of each text, as `row` does, in three quarters of the time. Raises InvalidValue for one that
        does not conform."""
        if not texts or (self._has_floats and any(b"-0" in text for text in texts)):
            return [self.row(text) for text in texts]
        try:
            rows = list(map(msgspec.structs.astuple, map(self._decode, texts)))
            if not self._conversions:
                return rows
            columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
            for index, convert, is_nullable in self._conversions:
                columns[index] = [
                    value
                    if value is MISSING or value is None
                    else None
                    if is_nullable and value == _NULL
                    else convert(value)
                    for value in columns[index]
                ]
            return list(zip(*columns, strict=True))
        except (msgspec.DecodeError, ValueError, InvalidValue):
            return [self.row(text) for text in texts]

    def record(self, text: bytes) -> Record:
        """Return the record. Raises InvalidValue with the path of a value that does not conform."""
        return {
            name: value
            for name, value in zip(self._names, self._values(text), strict=True)
            if value is not MISSING
        }  # fmt: skip

    def _values(self, text: bytes) -> Sequence[Any]:
        if self._has_floats and b"-0" in text:  # msgspec's decoder loses the sign of -0
            return self._read_strictly(text)
        try:
            values = msgspec.structs.astuple(self._decode(text))
            if not self._conversions:
                return values
            converted = list(values)
            for index, convert, is_nullable in self._conversions:
                value = converted[index]
                if value is MISSING or value is None:
                    continue
                converted[index] = None if is_nullable and value == _NULL else convert(value)
        except (msgspec.DecodeError, ValueError, InvalidValue):
            return self._read_strictly(text)
        return converted

    @cached_property
    def _strict(self) -> list[tuple[str, Decoder, bool]]:
        return [(property.name, _strict_reader(property.type), property.nullable) for property in self.schema]

    def _read_strictly(self, text: bytes) -> list[Any]:
        try:
            members = _members(text)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise InvalidValue("must be an object") from error
        values: list[Any] = []
        for name, read, is_nullable in self._strict:
            raw = members.get(name)
            if raw is None:
                values.append(MISSING)
            elif is_nullable and raw == _NULL:
                values.append(None)
            else:
                try:
                    values.append(read(raw))
                except InvalidValue as error:
                    raise error.under(name) from None
        return values


def _plan(type: t.Type) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return the type that msgspec decodes, and the conversion of what it returns; None if there is none."""
    match type:
        case t.StringType():
            return str, None if type == t.StringType() else _checked(type)
        case t.BooleanType():
            return bool, None
        case t.IntType() if type.bit_size < 64:
            low, high = type.range
            return Annotated[int, Meta(ge=low, le=high)], None
        case t.YearType():
            return Annotated[int, Meta(ge=t.MIN_YEAR, le=t.MAX_YEAR)], None
        case t.FloatType(bit_size=64):
            return float, None if type == t.FloatType(64) else _checked(type)
        case t.DateTimeType():
            return str, _read_datetime
        case t.DateType():
            return date, None
        case t.TimeType():
            return str, Time.parse
        case t.JsonType():
            return Raw, _read_json
        case t.ObjectType():
            return Raw, _object_reader(type)
        case _:
            return Raw, compile_decoder(type)


def _checked(type: t.Type) -> Callable[[Any], Any]:
    check = compile_check(type)

    def read(value: Any) -> Any:
        check(value)
        return value

    return read


def _read_datetime(text: str) -> DateTime:
    """Return the point in time. The usual forms take a third of the time of `DateTime.parse`."""
    if len(text) in _USUAL_LENGTHS and text[-1] == "Z" and text[10] == "T":
        since = datetime.fromisoformat(text) - _EPOCH
        return DateTime(((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000)
    return DateTime.parse(text)


def _read_json(raw: Raw) -> Json:
    return Json(bytes(raw).decode())


def _object_reader(type: t.ObjectType) -> Callable[[Raw], Record]:
    reader = RecordReader(type)
    return lambda raw: reader.record(bytes(raw))


def _strict_reader(type: t.Type) -> Decoder:
    return _object_reader(type) if isinstance(type, t.ObjectType) else compile_decoder(type)
