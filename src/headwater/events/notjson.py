"""Explains why a body cannot be decoded, with one reason."""

import re
from typing import Final

from headwater.base.errors import BadRequest

_DECODERS_WORDS: Final = re.compile(r"^JSON is malformed: | \(byte \d+\)$")


def not_json(body: bytes, error: Exception) -> BadRequest:
    """The error for a body that failed with a UnicodeDecodeError, a RecursionError, or a DecodeError of msgspec."""
    if isinstance(error, UnicodeDecodeError):
        return BadRequest(f"the body is not UTF-8: byte {error.start} is wrong")
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deeply")
    if not body.strip():
        return BadRequest("the body is empty: it must be JSON")
    if "truncated" in str(error):
        return BadRequest("the body is not JSON: it ends too early")
    return BadRequest(f"the body is not JSON: {_DECODERS_WORDS.sub('', str(error))}")
