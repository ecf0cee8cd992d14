"""The options of fields, methods and error reasons: what is required, the rules of values, and the errors.

The classes of the options are made of the request itself, so that the generated code is not needed to generate it.
"""

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_PACKAGE = "headwater.options.v1"
_BEHAVIOR = "google.api.field_behavior"
_REQUIRED = 2
"""The number of google.api.FieldBehavior.REQUIRED."""

_KEYWORDS = {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern", "format": "format"}
_RANGE = ("minimum", "maximum")


class Options:
    """Reads the options of descriptors."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        """`files` are all files of the request, each after those that it imports."""
        self._pool = descriptor_pool.DescriptorPool()
        for file in files:
            self._pool.Add(file)

    def is_required(self, field: descriptor_pb2.FieldDescriptorProto) -> bool:
        """Whether the field must be given, whatever the others are."""
        return _REQUIRED in self._extension(field.options, "FieldOptions", _BEHAVIOR)

    def string_rules(self, field: descriptor_pb2.FieldDescriptorProto, *, answered: bool) -> dict[str, Any]:
        """Return the rules of a string as JSON Schema, but for its values. A response has no rules of length."""
        rules = self._rules(field)
        if answered:
            return {}
        return {_KEYWORDS[name]: getattr(rules, name) for name in _KEYWORDS if rules.HasField(name)}

    def values(self, field: descriptor_pb2.FieldDescriptorProto) -> list[str]:
        """Return all valid values of a string; an empty list if every string is valid."""
        return list(self._rules(field).values)

    def integer_rules(self, field: descriptor_pb2.FieldDescriptorProto) -> dict[str, int]:
        """Return the range of an integer as JSON Schema."""
        rules = self._rules(field)
        return {name: getattr(rules, name) for name in _RANGE if rules.HasField(name)}

    def reasons(self, method: descriptor_pb2.MethodDescriptorProto) -> list[str]:
        """Return the reasons of status 422."""
        return list(self._extension(method.options, "MethodOptions", f"{_PACKAGE}.errors").reasons)

    def error_codes(self, enum: descriptor_pb2.EnumDescriptorProto) -> list[str]:
        """Return the codes of an enum of error reasons."""
        errors = (self._extension(value.options, "EnumValueOptions", f"{_PACKAGE}.error") for value in enum.value)
        return [error.code for error in errors if error.code]

    def _rules(self, field: descriptor_pb2.FieldDescriptorProto) -> Any:
        return self._extension(field.options, "FieldOptions", f"{_PACKAGE}.rules")

    def _extension(self, options: Message, name: str, extension: str) -> Any:
        class_ = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"google.protobuf.{name}"))
        return class_.FromString(options.SerializeToString()).Extensions[self._pool.FindExtensionByName(extension)]
