"""The comments of the protos: for people as descriptions, for programs as the rules that are written in a fixed form.

The forms are those in which this API's comments are written ("Required.", "from 1 to 60 characters", "Possible
values: ..."). A rule in other words stays a description, which is less, but never wrong.
"""

import re
from collections.abc import Iterable, Iterator

from google.protobuf import descriptor_pb2

Path = tuple[int, ...]

_IGNORED = re.compile(r"^ *buf:lint:ignore.*\n?", re.MULTILINE)
_SNAKE = re.compile(r"\b[a-z]+(?:_[a-z0-9]+)+\b")
_REQUIRED = re.compile(r"\bRequired[.,]")
_CHARACTERS = re.compile(r"from (\d+) to (\d+) characters")
_AT_MOST_CHARACTERS = re.compile(r"at most (\d+) characters")
_RANGE = re.compile(r"from (-?\d+) to (\d+)\b(?! characters)")
_NOT_NEGATIVE = re.compile(r"\b0 or more\b")
_VALUES = re.compile(r'Possible values: (?P<values>(?:"[^"]*"|[^".])*)')
_PARENTHESES = re.compile(r"\([^)]*\)")


class Comments:
    """All comments of a set of files, by file and path of the thing in it."""

    def __init__(self, files: list[descriptor_pb2.FileDescriptorProto]) -> None:
        self._texts = {
            (file.name, tuple(location.path)): location.leading_comments
            for file in files
            for location in file.source_code_info.location
        }
        # Comments name fields as the protos do; REST callers know their JSON names.
        self._json_names = {field.name: field.json_name for file in files for field in _fields(file.message_type)}

    def of(self, file: str, path: Path) -> str:
        """The comment as one paragraph a blank line, fields under their JSON names; empty where there is none."""
        text = _IGNORED.sub("", self._texts.get((file, path), ""))
        paragraphs = re.split(r"\n\s*\n", text.strip())
        text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        return _SNAKE.sub(lambda match: self._json_names.get(match[0], match[0]), text)


def _fields(messages: Iterable[descriptor_pb2.DescriptorProto]) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    for message in messages:
        yield from message.field
        yield from _fields(message.nested_type)


def is_required(text: str) -> bool:
    """Whether the value must be given whatever else is; not "Required when ..."."""
    return _REQUIRED.search(text) is not None


def string_rules(text: str) -> dict[str, int]:
    """The bounds of a string's length."""
    if found := _CHARACTERS.search(text):
        return {"minLength": int(found[1]), "maxLength": int(found[2])}
    found = _AT_MOST_CHARACTERS.search(text)
    return {"maxLength": int(found[1])} if found else {}


def integer_rules(text: str) -> dict[str, int]:
    """The bounds of a whole number."""
    if found := _RANGE.search(text):
        return {"minimum": int(found[1]), "maximum": int(found[2])}
    return {"minimum": 0} if _NOT_NEGATIVE.search(text) else {}


def possible_values(text: str) -> list[str]:
    """The vocabulary of a string; empty when it is open."""
    found = _VALUES.search(_PARENTHESES.sub("", text))
    return re.findall(r'"([^"]*)"', found["values"]) if found else []
