"""Explains in JSON's terms why a body or an event cannot be decoded: msgspec's errors name Python's types.

This is the only module that reads the texts of msgspec's errors.
"""

import re
from typing import Final

import msgspec
from msgspec import Struct

from headwater.base.errors import BadRequest
from headwater.events.protocol import Rejection
from headwater.events.wire import IDS, MAX_TEXT_LENGTH, MEMBERS

_SYNTAX: Final = re.compile(r"^JSON is malformed: | \(byte \d+\)$")
_MISMATCH: Final = re.compile(
    r"(?:Expected `(?P<type>[^`]+)`(?: of length <= (?P<max_length>\d+))?)?"
    r"(?:.*?missing required field `(?P<missing>[^`]+)`)?.*?"
    r"(?: - at (?:`key` in )?`\$\.?(?P<path>[^`[]*)(?P<each>\[\.\.\.])?`)?"
)
_JSON_TYPES: Final = {
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "int | str": "an integer",
    "object": "an object",
    "str": "a string",
    "str | null": "a string or null",
}
_ID_MEMBERS: Final = frozenset(MEMBERS[field] for field in IDS)


class Mismatch(Struct, frozen=True):
    """The difference between a JSON value and its required type."""

    path: str
    """The value, from the root; empty for the root itself."""
    type: str | None
    """The type in msgspec's words; None if the value has the type and is out of its range."""
    max_length: int | None
    """Set if a text is too long."""
    is_element: bool
    """True if it is one of the values of an array or object at the path."""
    missing: str | None
    """The member that the object at the path should have."""


def read_mismatch(error: msgspec.ValidationError) -> Mismatch:
    """Read the text of an error."""
    match = _MISMATCH.fullmatch(str(error))
    assert match is not None, "every part is optional"
    max_length = match["max_length"]
    return Mismatch(
        path=match["path"] or "",
        type=match["type"],
        max_length=None if max_length is None else int(max_length),
        is_element=match["each"] is not None,
        missing=match["missing"],
    )


def explain_syntax(body: bytes, error: Exception) -> BadRequest:
    """Return the error for a body that failed with a UnicodeDecodeError, RecursionError, or msgspec's DecodeError."""
    if isinstance(error, UnicodeDecodeError):
        return BadRequest(f"the body is not UTF-8: byte {error.start} is wrong")
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deeply")
    if not body.strip():
        return BadRequest("the body is empty: it must be JSON")
    if "truncated" in str(error):
        return BadRequest("the body is not JSON: it ends too early")
    return BadRequest(f"the body is not JSON: {_SYNTAX.sub('', str(error))}")


def explain_track(error: msgspec.ValidationError, *, root: str = "the event") -> Rejection:
    """Return the rule of the track API that an event or a body breaks; `root` is the name of what was decoded."""
    mismatch = read_mismatch(error)
    path = mismatch.path
    if mismatch.max_length is not None:
        rule = f"is longer than {MAX_TEXT_LENGTH} characters"
    elif path in _ID_MEMBERS:
        rule = "must be a string, a number or null"
    elif path == "batch":
        rule = "must be an array of events"
    elif path:
        rule = "must be a string or null"
    elif mismatch.missing is not None:
        path, rule = mismatch.missing, "is required and must be an array of events"
    else:
        return Rejection("BadRequest", "", f"{root} must be a JSON object")
    return Rejection("BadRequest", path, f"{path} {rule}")


def explain_native(error: msgspec.ValidationError, *, root: str, parent: str = "") -> Rejection:
    """Return the rule of the native events API that a value breaks.

    `root` is the name of what was decoded, and `parent` its path, empty for an event or a body.
    """
    mismatch = read_mismatch(error)
    path = ".".join(part for part in (parent, mismatch.path) if part)
    if mismatch.max_length is not None:
        rule = f"is longer than {mismatch.max_length} characters"
    elif mismatch.type is None:
        rule = "is out of range"
    else:
        rule = f"must be {_JSON_TYPES.get(mismatch.type, mismatch.type)}"
    subject = f"each value of {path}" if mismatch.is_element else path or root
    return Rejection("BadRequest", path, f"{subject} {rule}")
