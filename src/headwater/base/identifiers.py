"""Makes identifiers and keys. All of them are random: none tells how many there are or when one was made."""

import string
import uuid
from random import Random, SystemRandom

MAX_ID = 2**31 - 1
"""Identifiers are positive 32-bit integers, so that JSON carries them as numbers."""

_BASE62 = string.ascii_uppercase + string.ascii_lowercase + string.digits


class Identifiers:
    """The one generator of identifiers, passed in; tests may give it a seeded source."""

    def __init__(self, source: Random | None = None) -> None:
        self._source = source or SystemRandom()

    def identifier(self) -> int:
        """A candidate identifier in [1, 2^31 - 1]; the catalog draws again when it is taken."""
        return self._source.randint(1, MAX_ID)

    def event_write_key(self) -> str:
        """32 base-62 characters. Public by nature: it ships inside web pages and apps."""
        return self._base62(32)

    def public_key(self) -> str:
        """The event write key of a `client` connection: `pk_` and a random UUID."""
        return f"pk_{uuid.UUID(int=self._source.getrandbits(128), version=4)}"

    def api_key(self) -> str:
        """`api_` and 43 base-62 characters, over 256 bits. A secret."""
        return f"api_{self._base62(43)}"

    def nonce(self) -> bytes:
        """16 random bytes."""
        return self._source.randbytes(16)

    def _base62(self, length: int) -> str:
        return "".join(self._source.choice(_BASE62) for _ in range(length))
