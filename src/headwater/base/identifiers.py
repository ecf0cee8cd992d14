"""Generates identifiers and keys. All are random, so none reveals a number of objects or a time."""

import string
import uuid
from random import Random, SystemRandom

MAX_ID = 2**31 - 1
"""Identifiers are positive 32-bit integers, so that JSON can carry them as numbers."""

_BASE62 = string.ascii_uppercase + string.ascii_lowercase + string.digits


class Identifiers:
    """The generator of identifiers. It is passed to the parts that need it; tests may seed it."""

    def __init__(self, source: Random | None = None) -> None:
        self._source = source or SystemRandom()

    def identifier(self) -> int:
        """Return a candidate from 1 to 2^31 - 1. The catalog generates another one if the candidate exists."""
        return self._source.randint(1, MAX_ID)

    def event_write_key(self) -> str:
        """Return 32 base-62 characters. The key is public: web pages and apps contain it."""
        return self._base62(32)

    def public_key(self) -> str:
        """Return `pk_` and a random UUID: the event write key of a `client` connection."""
        return f"pk_{uuid.UUID(int=self._source.getrandbits(128), version=4)}"

    def api_key(self) -> str:
        """Return `api_` and 43 base-62 characters (more than 256 bits). The key is a secret."""
        return f"api_{self._base62(43)}"

    def nonce(self) -> bytes:
        """Return 16 random bytes."""
        return self._source.randbytes(16)

    def _base62(self, length: int) -> str:
        return "".join(self._source.choice(_BASE62) for _ in range(length))
