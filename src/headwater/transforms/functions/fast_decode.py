"""Fast decoding of results: a whole batch together, with a decoder that also checks most types.

It accepts a subset of the results that `result_decoder` accepts, and returns equal records. If it fails for a batch,
the batch is decoded record by record, which finds the cause. It never decides that a record is invalid.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headwater.schemas import MISSING, InvalidValue, Record
from headwater.schemas import types as t
from headwater.transforms.functions.result_decoder import NO_VALUE, Converter, ResultDecoder

FastDecoder = Callable[[bytes], list[Record]]
"""Decodes lines of JSON. Raises InvalidValue, or an error of msgspec, if a line is not in the simplest form."""

_INT64: Final = 2**63


def compile_fast_decoder(type: t.ObjectType, decoder: ResultDecoder) -> FastDecoder | None:
    """Return the decoder of batches, or None if the schema has values that must stay text."""
    if _keeps_text(type, decoder):
        return None
    later: list[tuple[str, Converter]] = []
    lines_decoder = msgspec.json.Decoder(_struct(type, decoder, later))

    def read(lines: bytes) -> list[Record]:
        records: list[Record] = msgspec.to_builtins(lines_decoder.decode_lines(lines))
        for name, read_value in later:
            for record in records:
                value = record.get(name, MISSING)
                if value is not MISSING:
                    converted = read_value(value)
                    if converted is NO_VALUE:
                        raise InvalidValue("must not be null", name)
                    record[name] = converted
        return records

    return read


def _struct(type: t.ObjectType, decoder: ResultDecoder, later: list[tuple[str, Converter]] | None) -> Any:
    """Return a class with the properties of the object. Properties of types that msgspec does not support are added to
    `later`. If that is None, such a type raises LookupError."""
    fields: list[tuple[str, Any, Any]] = []
    names: dict[str, str] = {}
    for index, property in enumerate(type):
        try:
            known = _known(property.type, decoder)
            annotation = known | None if property.nullable else known
        except LookupError:
            if later is None:
                raise
            annotation = Any
            later.append((property.name, decoder.compile_member(property.type, property.nullable)))
        field = f"f{index}"  # property names may be keywords of Python
        names[field] = property.name
        default = msgspec.NODEFAULT if decoder.requires(property) else UNSET
        fields.append((field, annotation | UnsetType if default is UNSET else annotation, default))
    fields.sort(key=lambda field: field[2] is UNSET)
    return msgspec.defstruct("Result", fields, rename=names, forbid_unknown_fields=True)


def _known(type: t.Type, decoder: ResultDecoder) -> Any:
    """Return the annotation of the type for msgspec. Raises LookupError if there is none."""
    match type:
        case t.StringType(values=tuple() as values):
            return Literal[values]
        case t.StringType(pattern=None, max_bytes=None, max_length=max_length):
            return str if max_length is None else Annotated[str, Meta(max_length=max_length)]
        case t.BooleanType():
            return bool
        case t.IntType(bit_size=64) if decoder.language == "JavaScript":
            raise LookupError
        case t.IntType():
            low, high = type.range
            if not -_INT64 <= low <= high < _INT64:
                raise LookupError
            return Annotated[int, Meta(ge=low, le=high)]
        case t.YearType():
            return Annotated[int, Meta(ge=1, le=9999)]
        case t.FloatType(bit_size=64, minimum=None, maximum=None):
            return float
        case t.ArrayType(min_elements=0, max_elements=max_elements, unique_elements=False) if (
            max_elements == t.MAX_ELEMENTS
        ):
            return list[_known(type.element_type, decoder)]  # type: ignore[misc]  # a type made at run time
        case t.MapType():
            return dict[str, _known(type.element_type, decoder)]  # type: ignore[misc]  # likewise
        case t.ObjectType():
            return _struct(type, decoder, None)
        case _:
            raise LookupError


def _keeps_text(type: t.Type, decoder: ResultDecoder) -> bool:
    match type:
        case t.ArrayType() | t.MapType():
            return _keeps_text(type.element_type, decoder)
        case t.ObjectType():
            return any(_keeps_text(property.type, decoder) for property in type)
        case _:
            return isinstance(type, t.JsonType) and not decoder.preserve_json
