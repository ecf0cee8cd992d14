"""People's own JSON objects that travel inside typed messages, as plain Python values.

Not `json_format`: it refuses infinities, which only native callers can send, with an error that is no answer.
"""

from collections.abc import Iterable

from google.protobuf.struct_pb2 import Struct, Value


def object_of(struct: Struct) -> dict[str, object]:
    """The object that a `google.protobuf.Struct` is. Numbers are floats."""
    return {name: _value(value) for name, value in struct.fields.items()}


def _value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "struct_value":
            return object_of(value.struct_value)
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
