"""Puts right what SDKs write and JSON does not have, so that one such value does not cost the other events of a batch.

Python writes the bare words NaN, Infinity and -Infinity, which become null, as they do in JavaScript. JavaScript and
Python alike write half of a surrogate pair, which is left of a text that was cut inside an emoji; it becomes U+FFFD,
the character that Unicode has for it. Nothing else is changed.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

_T = TypeVar("_T")

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|-?\bInfinity\b|\bNaN\b', re.DOTALL)
"""A string as a whole, since words in it are its own, or a word. A string without an end is one too: to start again
behind each of its quotes would take time that grows with the square of its length."""
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""A pair, half of one, or any other escape."""


def well_formed(body: bytes) -> bytes:
    """The body with these values put right; the very same when it has none of them, whatever else is wrong with it."""
    return _TOKEN.sub(_token, body)


def decode_well_formed(decoder: Callable[[bytes], _T], body: bytes) -> _T:
    """What `decoder` makes of the body, put right where it must be. Raises what the decoder raises."""
    try:
        return decoder(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        corrected = well_formed(body)
        if corrected == body:
            raise
        return decoder(corrected)


def _token(match: re.Match[bytes]) -> bytes:
    token = match[0]
    if not token.startswith(b'"'):
        return b"null"
    return _ESCAPE.sub(_escape, token) if b"\\u" in token else token


def _escape(match: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if match[1] else match[0]
