"""Repairs values of SDKs that JSON does not allow, so that one of them does not reject the other events of a batch.

Python writes the bare words NaN, Infinity and -Infinity, which become null, as in JavaScript. JavaScript and Python
write half of a surrogate pair if a text was cut inside an emoji; it becomes U+FFFD, Unicode's replacement character.
All else is unchanged. An identifier with such a half is rejected: two different ones could become equal, and two
messages, or two people, would count as one.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from headwater.events.protocol import Rejection
from headwater.events.raw import ABSENT
from headwater.events.wire import IDS, MEMBERS

_T = TypeVar("_T")

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|-?\bInfinity\b|\bNaN\b', re.DOTALL)
"""A string as a whole, because words in it do not count, or a word.

A string without an end matches too: a restart at each of its quotes would take time quadratic in its length.
"""
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
"""A surrogate pair, half of one, or any other escape."""

_REPLACEMENT: Final = rb"\ufffd"
_OTHER_REPLACEMENT: Final = rb"\ufffe"


def well_formed(body: bytes) -> bytes:
    """Return the body with these values repaired, or the same object if it has none of them."""
    return _TOKEN.sub(_token, body)


def decode_well_formed(decoder: Callable[[bytes], _T], body: bytes) -> tuple[_T, _T | None]:
    """Decode the body, repaired if necessary. Raises the errors of the decoder.

    The second value is the same body decoded with another character instead of each unpaired surrogate: a text that
    differs had one. It is None if the body has none.
    """
    try:
        return decoder(body), None
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        corrected = well_formed(body)
        if corrected == body:
            raise
        value = decoder(corrected)
        other = _TOKEN.sub(_other_token, body)
        return value, None if other == corrected else decoder(other)


def _token(match: re.Match[bytes], replacement: bytes = _REPLACEMENT) -> bytes:
    token = match[0]
    if not token.startswith(b'"'):
        return b"null"
    return _ESCAPE.sub(lambda escape: replacement if escape[1] else escape[0], token) if b"\\u" in token else token


_other_token: Final = partial(_token, replacement=_OTHER_REPLACEMENT)

_SURROGATE_RULE: Final = "contains an unpaired surrogate"

_Ids: Final = msgspec.defstruct("_Ids", [(field, Raw, ABSENT) for field in IDS], rename="camel")
_decode_ids: Final = msgspec.json.Decoder(_Ids).decode


def reject_unpaired_surrogates(events: list[Raw], counterparts: list[Raw]) -> dict[int, Rejection]:
    """Return a rejection for each event that has such an identifier, by its number.

    `counterparts` are the same events with another character instead of each unpaired surrogate.
    """
    rejected: dict[int, Rejection] = {}
    for index, (event, counterpart) in enumerate(zip(events, counterparts, strict=True)):
        if bytes(event) != bytes(counterpart) and (field := _different_id(event, counterpart)) is not None:
            rejected[index] = Rejection("BadRequest", MEMBERS[field], f"{MEMBERS[field]} {_SURROGATE_RULE}")
    return rejected


def _different_id(event: Raw, counterpart: Raw) -> str | None:
    try:
        ids, others = _decode_ids(event), _decode_ids(counterpart)
    except msgspec.ValidationError:  # it is not an object, and is rejected for that
        return None
    return next((field for field in IDS if bytes(getattr(ids, field)) != bytes(getattr(others, field))), None)
