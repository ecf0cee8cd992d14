"""The comments of the protos as descriptions."""

import re
from collections.abc import Iterable, Iterator

from google.protobuf import descriptor_pb2

Path = tuple[int, ...]

_SNAKE = re.compile(r"\b[a-z]+(?:_[a-z0-9]+)+\b")


class Comments:
    """All comments of a set of files, by file and path of the thing in it."""

    def __init__(self, files: list[descriptor_pb2.FileDescriptorProto]) -> None:
        self._texts = {
            (file.name, tuple(location.path)): location.leading_comments
            for file in files
            for location in file.source_code_info.location
        }
        # Comments have the names of fields; REST callers know their JSON names.
        self._json_names = {field.name: field.json_name for file in files for field in _fields(file.message_type)}

    def of(self, file: str, path: Path) -> str:
        """Return the comment, one line a paragraph, with JSON names; empty where there is none."""
        paragraphs = re.split(r"\n\s*\n", self._texts.get((file, path), "").strip())
        text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        return _SNAKE.sub(lambda match: self._json_names.get(match[0], match[0]), text)


def _fields(messages: Iterable[descriptor_pb2.DescriptorProto]) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    for message in messages:
        yield from message.field
        yield from _fields(message.nested_type)
