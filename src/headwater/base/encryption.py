"""Encrypts what is secret and must be read again, such as the credentials of a connection.

AES-256 in Galois/Counter Mode: what was changed, cut, or moved to where it does not belong is not opened. A record says
which key sealed it, so keys can be replaced while records of older ones are still around:

    version (1 byte, 1) | key id (8 bytes) | nonce (12 bytes) | ciphertext and tag

docs/decisions/0008-secrets.md says where the keys come from and how they are replaced.
"""

import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SHORTEST_SECRET: Final = 32
"""In characters."""

_VERSION: Final = b"\x01"
_ID_SIZE: Final = 8
_NONCE_SIZE: Final = 12
_HEADER_SIZE: Final = len(_VERSION) + _ID_SIZE + _NONCE_SIZE


class SealError(Exception):
    """A record cannot be opened. The message tells nothing that is secret."""


class UnknownKey(SealError):
    """It was sealed with a key that is not on the ring."""


class Keyring:
    """One present key, which seals, and older ones, which only open. Its representation shows none of them."""

    def __init__(self, present: str, older: Sequence[str] = ()) -> None:
        """Keys are made of secrets: any texts of `SHORTEST_SECRET` characters or more. Raises ValueError."""
        secrets = (present, *older)
        if any(len(secret) < SHORTEST_SECRET for secret in secrets):
            raise ValueError(f"a secret key must have at least {SHORTEST_SECRET} characters")
        # The present key comes last: it wins when it is listed among the older ones too.
        self._ciphers = {_key_id(secret): AESGCM(_derive(secret, b"key", 32)) for secret in reversed(secrets)}
        self._present = _key_id(present)

    def seal(self, plain: bytes, *, context: bytes) -> bytes:
        """A record of `plain`. It can be opened only with the same `context`, which says what it is and whose."""
        # Not from an Identifiers, whose source a test may fix: a nonce that comes twice gives the plain text away.
        nonce = os.urandom(_NONCE_SIZE)
        header = _VERSION + self._present + nonce
        return header + self._ciphers[self._present].encrypt(nonce, plain, header + context)

    def open(self, record: bytes, *, context: bytes) -> bytes:
        """What was sealed. Raises UnknownKey, or SealError for what is no record or belongs somewhere else."""
        key_id = key_id_of(record)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKey(f"it was encrypted with the key {key_id.hex()}, which is not given")
        header, body = record[:_HEADER_SIZE], record[_HEADER_SIZE:]
        try:
            return cipher.decrypt(header[-_NONCE_SIZE:], body, header + context)
        except InvalidTag:
            raise SealError("it was changed after it was encrypted, or belongs to something else") from None

    def knows(self, record: bytes) -> bool:
        """Whether a key on the ring sealed the record."""
        return key_id_of(record) in self._ciphers

    def is_present(self, record: bytes) -> bool:
        """Whether the present key sealed the record."""
        return key_id_of(record) == self._present


def key_id_of(record: bytes) -> bytes:
    """Which key sealed the record. Raises SealError for what is no record."""
    if record[:1] != _VERSION or len(record) < _HEADER_SIZE:
        raise SealError("it is not an encrypted record of a known version")
    return record[1 : 1 + _ID_SIZE]


def _key_id(secret: str) -> bytes:
    """Names the key without giving anything of it away."""
    return _derive(secret, b"key id", _ID_SIZE)


def _derive(secret: str, purpose: bytes, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=b"headwater " + purpose).derive(
        secret.encode("utf-8", "surrogateescape")  # the environment may hold bytes that are no text
    )
