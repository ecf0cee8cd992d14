"""Decodes error texts that a sandbox reports, with any characters."""

import json
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")


def decode_texts(line: str, type: type[_T]) -> _T:
    """Decode the JSON of a string or of a list of strings, with U+FFFD for each half of a surrogate pair.

    Raises msgspec.ValidationError if the line is not JSON, or not of the type.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise msgspec.ValidationError(str(error)) from None
    return msgspec.convert([_mended(text) for text in value] if isinstance(value, list) else _mended(value), type)


def _mended(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
