"""Messages as JSON Schemas, by the proto3 JSON that the gateway reads and writes.

A message has two forms. **Sent by a client** every member may be null or absent, but for those that are required.
In a **response** a member without presence is always there, an empty list included. One with presence is absent when it
is not set, never null. A message that goes both ways gets a component for each, the one sent with the suffix Input.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from openapi.enums import Enums
from openapi.options import Options
from openapi.texts import Comments, Path

Schema = dict[str, Any]
Direction = Literal["sent", "answered"]

RAW = ".google.api.HttpBody"

_F = FieldDescriptorProto
_INTEGERS = {
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), ("int32", -(2**31), 2**31 - 1)),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), ("uint32", 0, 2**32 - 1)),
}
_LONG_INTEGERS = {
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), ("int64", "^-?[0-9]+$")),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), ("uint64", "^[0-9]+$")),
}
_WELL_KNOWN: dict[str, Schema] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    ".google.protobuf.Value": {},
}


@dataclass(frozen=True)
class Message:
    """A message with the place where its comments are found."""

    name: str
    """The name as a component: nested ones with a dot."""
    descriptor: DescriptorProto
    file: str
    path: Path


class Schemas:
    """Collects the components that operations refer to."""

    def __init__(self, files: list[FileDescriptorProto], comments: Comments, options: Options) -> None:
        self._comments = comments
        self.options = options
        self._enums = Enums(files, options)
        self._messages = {full_name: message for file in files for full_name, message in _messages(file)}
        self._used: dict[Direction, dict[str, Set[str]]] = {"sent": {}, "answered": {}}
        self._in_both: set[str] = set()

    def message(self, full_name: str) -> Message:
        """The message with this name, which begins with a dot."""
        return self._messages[full_name]

    def comment(self, message: Message, index: int) -> str:
        """Return the comment above a message's field."""
        return self._comments.of(message.file, (*message.path, 2, index))

    def reference(self, full_name: str, direction: Direction, without: Set[str] = frozenset()) -> Schema:
        """A reference to the component of a message, which is made now if there is none; `without` are the fields
        that stand elsewhere, in the path."""
        used = self._used[direction]
        if full_name not in used:
            used[full_name] = without
            for field in self._messages[full_name].descriptor.field:
                if field.type == _F.TYPE_MESSAGE:
                    self._value(field, direction)
        assert used[full_name] == without, f"{full_name} is the body of two calls with different paths"
        return {"$ref": f"#/components/schemas/{full_name}?{direction}"}

    def components(self) -> dict[str, Schema]:
        """All components that were referred to, by name."""
        self._in_both = set(self._used["sent"]) & set(self._used["answered"])
        made = {
            self._component_name(full_name, direction): self._object(full_name, direction, without)
            for direction, used in self._used.items()
            for full_name, without in used.items()
        }
        enums = self._enums.components()
        assert not made.keys() & enums.keys(), "a set of values has the name of a message"
        return {name: self.resolved(schema) for name, schema in sorted((made | enums).items())}

    def resolved(self, value: Any) -> Any:
        """The same with the final names of components in its references. To be called when all are known."""
        if isinstance(value, dict):
            if "$ref" in value and "?" in value["$ref"]:
                full_name, _, direction = value["$ref"].removeprefix("#/components/schemas/").partition("?")
                return {**value, "$ref": f"#/components/schemas/{self._component_name(full_name, direction)}"}
            return {key: self.resolved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.resolved(inner) for inner in value]
        return value

    def parameter(self, message: Message, name: str) -> tuple[str, bool, Schema]:
        """The JSON name of a field that stands in a path or query, whether it is required, and its schema."""
        index, field = next((i, f) for i, f in enumerate(message.descriptor.field) if f.name == name)
        assert field.type != _F.TYPE_MESSAGE, f"{message.name}.{name} cannot be a parameter"
        text = self.comment(message, index)
        value = self._ruled(field, "sent")
        if field.label == _F.LABEL_REPEATED:
            value = {"type": "array", "items": value}
        return field.json_name, self.options.is_required(field), {"description": text, **value}

    def _component_name(self, full_name: str, direction: str) -> str:
        suffix = "Input" if direction == "sent" and full_name in self._in_both else ""
        return self._messages[full_name].name + suffix

    def _object(self, full_name: str, direction: Direction, without: Set[str]) -> Schema:
        message = self._messages[full_name]
        properties: dict[str, Schema] = {}
        required = []
        for index, field in enumerate(message.descriptor.field):
            if field.name in without:
                continue
            text = self.comment(message, index)
            properties[field.json_name] = {"description": text, **self._member(field, direction)}
            if self.options.is_required(field) if direction == "sent" else not _has_presence(field):
                required.append(field.json_name)
        schema: Schema = {"type": "object", "description": self._comments.of(message.file, message.path)}
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        return schema

    def _member(self, field: FieldDescriptorProto, direction: Direction) -> Schema:
        value = self._ruled(field, direction)
        if field.label == _F.LABEL_REPEATED and "additionalProperties" not in value:
            value = {"type": "array", "items": value}
        return _nullable(value) if direction == "sent" and not self.options.is_required(field) else value

    def _ruled(self, field: FieldDescriptorProto, direction: Direction) -> Schema:
        """The schema of one value of the field with its rules, of a map's whole."""
        value = self._value(field, direction)
        if field.type in _INTEGERS:
            return value | self.options.integer_rules(field)
        if field.type != _F.TYPE_STRING:
            return value
        if values := self.options.values(field):
            return self._enums.reference(values)
        return value | self.options.string_rules(field, answered=direction == "answered")

    def _value(self, field: FieldDescriptorProto, direction: Direction) -> Schema:
        """The schema of one value of the field, of a map's whole."""
        if field.type in _INTEGERS:
            name, least, greatest = _INTEGERS[field.type]
            return {"type": "integer", "format": name, "minimum": least, "maximum": greatest}
        if field.type in _LONG_INTEGERS:
            name, pattern = _LONG_INTEGERS[field.type]
            return {"type": "string", "format": name, "pattern": pattern}
        match field.type:
            case _F.TYPE_STRING:
                return {"type": "string"}
            case _F.TYPE_BOOL:
                return {"type": "boolean"}
            case _F.TYPE_DOUBLE | _F.TYPE_FLOAT:
                return {"type": "number", "format": "double"}
            case _F.TYPE_BYTES:
                return {"type": "string", "contentEncoding": "base64"}
            case _F.TYPE_MESSAGE:
                return self._message_value(field.type_name, direction)
        raise ValueError(f"{field.name}: this generator does not know fields of type {field.type}")

    def _message_value(self, full_name: str, direction: Direction) -> Schema:
        if full_name.startswith(".google."):
            return dict(_WELL_KNOWN[full_name])
        descriptor = self._messages[full_name].descriptor
        if descriptor.options.map_entry:
            return {"type": "object", "additionalProperties": self._value(descriptor.field[1], direction)}
        return self.reference(full_name, direction)


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, Message]]:
    def walk(descriptors: Any, outer: str, path: Path) -> Iterator[tuple[str, Message]]:
        for index, descriptor in enumerate(descriptors):
            name, here = f"{outer}{descriptor.name}", (*path, index)
            yield f".{file.package}.{name}", Message(name, descriptor, file.name, here)
            yield from walk(descriptor.nested_type, f"{name}.", (*here, 3))

    return walk(file.message_type, "", (4,))


def _has_presence(field: FieldDescriptorProto) -> bool:
    if field.label == _F.LABEL_REPEATED:
        return False
    return field.proto3_optional or field.type == _F.TYPE_MESSAGE


def _nullable(value: Schema) -> Schema:
    if not value:
        return value
    if "$ref" in value:
        return {"anyOf": [value, {"type": "null"}]}
    return {**value, "type": [value["type"], "null"]}
