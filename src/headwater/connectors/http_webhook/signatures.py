"""Signs requests by the symmetric scheme of the Standard Webhooks specification ("v1")."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64

_RULE: Final = f"must be {PREFIX} and the base64 of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes"


def decode_secret(secret: str) -> bytes:
    """Return the key of a signing secret. Raises ValueError, whose text is the broken rule and not the secret."""
    text = secret.removeprefix(PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # some tools omit the padding
    except (binascii.Error, ValueError):
        raise ValueError(_RULE) from None
    if not secret.startswith(PREFIX) or not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(_RULE)
    return key


def sign(keys: Sequence[bytes], id_: str, seconds: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: one signature for each key, in their order, separated by spaces.

    `seconds` is the time of the attempt since 1970. The id contains no full stop.
    """
    signed = b"%s.%d.%s" % (id_.encode(), seconds, body)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys)
