"""The decoder's complaints in the words of JSON: it speaks of Python's types."""

import re
from typing import Final

import msgspec

from headwater.events.rejection import Rejection

_COMPLAINT: Final = re.compile(
    r"(?:Expected `(?P<type>[^`]+)`(?: of length <= (?P<longest>\d+))?)?.*?"
    r"(?: - at (?:`key` in )?`\$\.?(?P<path>[^`[]*)(?P<each>\[\.\.\.])?`)?"
)
_TYPES: Final = {
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "int | str": "an integer",
    "object": "an object",
    "str": "a string",
    "str | null": "a string or null",
}


def explain(error: msgspec.ValidationError, *, root: str, parent: str = "") -> Rejection:
    """What is wrong with a value that could not be decoded.

    `root` is what people call what was decoded, and `parent` its path, empty for an event or a body.
    """
    complaint = _COMPLAINT.fullmatch(str(error))
    assert complaint is not None
    path = ".".join(part for part in (parent, complaint["path"]) if part)
    types = complaint["type"]
    if complaint["longest"]:
        rule = f"is longer than {complaint['longest']} characters"
    else:
        rule = "is out of range" if types is None else f"must be {_TYPES.get(types, types)}"
    subject = f"each value of {path}" if complaint["each"] else path or root
    return Rejection("BadRequest", path, f"{subject} {rule}")
