"""Types, schemas, filters and JSON objects: their messages, and their values in the domain.

Types are converted by their documented JSON, which both sides read. The bounds of numbers are an exception: in a
message they are JSON values, whose numbers are doubles. A bound that a double cannot hold is sent as text.

`json_format` is not used to read messages. It writes 5 as 5.0 for a JSON value, and rejects infinities, which only
native callers can send, with an error that is not one of this API.
"""

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value

from headwater.base.errors import BadRequest
from headwater.filters import Condition, ConditionOutcome, Filter
from headwater.schemas import InvalidType, Schema, read_schema, serialise
from headwater.v1 import filters_pb2
from headwater.v1 import schemas_pb2 as pb

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,3})?")


def type_message(schema: Schema) -> pb.DataType:
    """Return the schema as a message."""
    document = json.loads(serialise(schema), parse_int=_as_written, parse_float=_as_written)
    return json_format.ParseDict(document, pb.DataType())


def to_schema(message: pb.DataType) -> Schema | None:
    """Return the schema of a message. Raises InvalidType, which is a BadRequest."""
    return read_schema(_type_document(message))


def read_member_schema(request: Message, field: str, member: str) -> Schema | None:
    """Return the schema in a field of a request, which `member` names in messages. Raises BadRequest."""
    if not request.HasField(field):
        return None
    try:
        return to_schema(getattr(request, field))
    except InvalidType as error:
        raise BadRequest(f"{member}: {error.message}", field=f"{member}.{error.path}".rstrip(".")) from error


def _as_written(number: str) -> int | float | str:
    """Return a number of a document, as text if a double cannot hold it."""
    if Decimal(repr(float(number))) != Decimal(number):
        return number
    return int(number) if _INTEGER.fullmatch(number) else float(number)


def _type_document(message: pb.DataType) -> dict[str, object]:
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
    """Return a number, or None, which is rejected as a bound."""
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


def to_filter(message: filters_pb2.Filter) -> Filter:
    """Return the filter of a message, without validating it."""
    return Filter(
        message.logical,
        tuple(
            Condition(condition.property, condition.operator, tuple(condition.values) or None)
            for condition in message.conditions
        ),
    )


def filter_message(filter_: Filter) -> filters_pb2.Filter:
    """Return the filter as a message."""
    return filters_pb2.Filter(
        logical=filter_.logical, conditions=[condition_message(one) for one in filter_.conditions]
    )


def condition_message(condition: Condition) -> filters_pb2.FilterCondition:
    """Return the condition as a message."""
    return filters_pb2.FilterCondition(
        property=condition.property, operator=condition.operator, values=condition.values or ()
    )


def explanation_message(outcome: ConditionOutcome) -> filters_pb2.FilterConditionExplanation:
    """Return the result of a condition as a message."""
    return filters_pb2.FilterConditionExplanation(
        condition=condition_message(outcome.condition),
        result=outcome.result,
        decided=outcome.decided,
        value_json=outcome.value,
    )


def read_object(struct: Struct) -> dict[str, object]:
    """Return the object of a `google.protobuf.Struct`. Numbers are floats."""
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "struct_value":
            return read_object(value.struct_value)
        case "list_value":
            return _array(value.list_value.values)
        case "number_value":
            return value.number_value
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _array(values: Iterable[Value]) -> list[object]:
    return [_value(value) for value in values]
