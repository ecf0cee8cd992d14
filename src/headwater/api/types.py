"""Types and schemas as messages and as the domain has them. The documented JSON, which both read, is the way.

The bounds of numbers are the exception. In a message they are values of JSON, whose numbers are doubles: a bound that a
double cannot hold travels as text, and is read as the number that it says.
"""

import json
import re
from decimal import Decimal
from typing import Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

from headwater.schemas import Schema, read_schema, serialise
from headwater.v1 import schemas_pb2 as pb

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,3})?")


def type_message(schema: Schema) -> pb.Type:
    """The schema as a message."""
    document = json.loads(serialise(schema), parse_int=_as_written, parse_float=_as_written)
    return json_format.ParseDict(document, pb.Type())


def schema_of(message: pb.Type) -> Schema | None:
    """The schema that a message says. Raises InvalidType, which is a BadRequest."""
    return read_schema(_type_document(message))


def _as_written(number: str) -> int | float | str:
    """A number of a document, as text if a double would be another one."""
    if Decimal(repr(float(number))) != Decimal(number):
        return number
    return int(number) if _INTEGER.fullmatch(number) else float(number)


# Not `json_format`: it writes 5 as 5.0 where any value of JSON may stand, and refuses infinities with an error that is
# no answer.


def _type_document(message: pb.Type) -> dict[str, object]:
    document: dict[str, object] = {}
    for field, value in message.ListFields():
        match field.name:
            case "properties":
                document["properties"] = [_property_document(property_) for property_ in value]
            case "element_type":
                document["elementType"] = _type_document(value)
            case "minimum" | "maximum":
                if value.WhichOneof("kind") != "null_value":
                    document[field.json_name] = _bound(value)
            case "values":
                document["values"] = list(value)
            case _:
                document[field.json_name] = value
    return document


def _property_document(message: pb.Property) -> dict[str, object]:
    return {
        field.json_name: _type_document(value) if field.name == "type" else value
        for field, value in message.ListFields()
    }


def _bound(value: Value) -> object:
    """A number, or something that is none and is refused as a bound."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number if abs(number) < float("inf") else None
        case "string_value" if _INTEGER.fullmatch(value.string_value):
            return int(value.string_value)
        case "string_value" if _NUMBER.fullmatch(value.string_value):
            return Decimal(value.string_value)
        case _:
            return None
