"""Types and schemas as messages and as the domain has them. The documented JSON, which both read, is the way."""

from google.protobuf import json_format

from headwater.schemas import Schema, parse_schema, serialise
from headwater.v1 import schemas_pb2 as pb


def type_message(schema: Schema) -> pb.Type:
    """The schema as a message."""
    return json_format.Parse(serialise(schema), pb.Type())


def schema_of(message: pb.Type) -> Schema | None:
    """The schema that a message says. Raises InvalidType, which is a BadRequest."""
    return parse_schema(json_format.MessageToJson(message, indent=None))
