"""Finds the key in an `Authorization` header, in every form in which SDKs put it there."""

import base64
import binascii

from headwater.base.errors import BadRequest, Unauthorized


def write_key_of(authorization: str | None) -> str | None:
    """The write key; None when there is no header, or no key in it, so that the body may.

    Basic carries it as the user with an empty password; where the documentation's example was followed to the letter,
    it stands there without base64. Raises Unauthorized for another scheme, or none.
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


def bearer_token_of(authorization: str | None) -> str | None:
    """What `Bearer` carries; None when there is no header. Raises BadRequest for anything else."""
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
