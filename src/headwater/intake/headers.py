"""Reads the request headers that the intake uses: the key in `Authorization`, and `Content-Type`."""

import base64
import binascii
import re
from typing import Final

from headwater.base.errors import BadRequest, Unauthorized

_JSON: Final = re.compile(r'(application/json|text/plain)(\s*;\s*charset\s*=\s*("utf-?8"|utf-?8))?\s*;?', re.IGNORECASE)
"""Web pages send text/plain, because browsers send a preflight request for other types."""


def parse_write_key(authorization: str | None) -> str | None:
    """Return the write key; None without a header, or with a header without a key, so that the body may contain it.

    Basic has the key as the user, with an empty password. Some clients follow the documentation's example literally and
    send the key without base64. Raises Unauthorized for another scheme, or none.
    """
    if not authorization or not authorization.strip():
        return None
    scheme, _, value = authorization.strip().partition(" ")
    value = value.strip()
    match scheme.lower():
        case "bearer":
            return value or None
        case "basic":
            return _user(value) or None
        case _:
            raise Unauthorized("the Authorization header must be 'Basic' with the write key as user, or 'Bearer'")


def parse_bearer_token(authorization: str | None) -> str | None:
    """Return the token of a `Bearer` header; None without a header. Raises BadRequest for any other header."""
    if not authorization or not authorization.strip():
        return None
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise BadRequest(
            "the Authorization header must be 'Bearer' and an event write key or an API key", field="authorization"
        )
    return token.strip()


def _user(value: str) -> str:
    try:
        decoded = base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return value.removesuffix(":")
    user, colon, _ = decoded.partition(":")
    return user.strip() if colon else value


def check_is_json(content_type: str) -> None:
    """Raise BadRequest unless the header is absent or names JSON or text in UTF-8."""
    if content_type.strip() and not _JSON.fullmatch(content_type.strip()):
        raise BadRequest("the Content-Type must be application/json or text/plain, in UTF-8", field="content-type")
