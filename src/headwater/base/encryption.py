"""Encrypts secrets that must be read again, such as the credentials of a connection.

The cipher is AES-256-GCM. A record that was changed, cut or moved to another place cannot be opened. Each record names
the key that sealed it, so keys can be replaced while records of older keys exist:

    version (1 byte, 1) | key id (8 bytes) | nonce (12 bytes) | ciphertext and tag

docs/decisions/0008-secrets.md describes where keys come from and how they are replaced.
"""

import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MIN_SECRET_CHARACTERS: Final = 32
"""Minimum characters of a secret."""

_VERSION: Final = b"\x01"
_ID_SIZE: Final = 8
_NONCE_SIZE: Final = 12
_HEADER_SIZE: Final = len(_VERSION) + _ID_SIZE + _NONCE_SIZE


class SealError(Exception):
    """The record cannot be opened. The message contains no secret."""


class UnknownKey(SealError):
    """The record was sealed with a key that is not on the ring."""


class Keyring:
    """One current key, which seals and opens, and older keys, which only open. Its representation shows no key."""

    def __init__(self, present: str, older: Sequence[str] = ()) -> None:
        """Derive keys from secrets. Raises ValueError if a secret is shorter than `MIN_SECRET_CHARACTERS`."""
        secrets = (present, *older)
        if any(len(secret) < MIN_SECRET_CHARACTERS for secret in secrets):
            raise ValueError(f"a secret key must have at least {MIN_SECRET_CHARACTERS} characters")
        # The current key comes last: it wins if it is also listed among the older keys.
        self._ciphers = {_key_id(secret): AESGCM(_derive(secret, b"key", 32)) for secret in reversed(secrets)}
        self._present = _key_id(present)

    def seal(self, plain: bytes, *, context: bytes) -> bytes:
        """Return a record of `plain`. It can be opened only with the same `context`, which identifies its type and
        owner."""
        # Identifiers is not used because tests may seed it, and a repeated nonce reveals the plain text.
        nonce = os.urandom(_NONCE_SIZE)
        header = _VERSION + self._present + nonce
        return header + self._ciphers[self._present].encrypt(nonce, plain, header + context)

    def open(self, record: bytes, *, context: bytes) -> bytes:
        """Return the plain text. Raises UnknownKey, or SealError for an invalid record or another context."""
        key_id = parse_key_id(record)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKey(f"it was encrypted with the key {key_id.hex()}, which is not given")
        header, body = record[:_HEADER_SIZE], record[_HEADER_SIZE:]
        try:
            return cipher.decrypt(header[-_NONCE_SIZE:], body, header + context)
        except InvalidTag:
            raise SealError("it was changed after it was encrypted, or belongs to something else") from None

    def knows(self, record: bytes) -> bool:
        """Return whether a key on the ring sealed the record."""
        return parse_key_id(record) in self._ciphers

    def is_present(self, record: bytes) -> bool:
        """Return whether the current key sealed the record."""
        return parse_key_id(record) == self._present


def parse_key_id(record: bytes) -> bytes:
    """Return the id of the key that sealed the record. Raises SealError for an invalid record."""
    if record[:1] != _VERSION or len(record) < _HEADER_SIZE:
        raise SealError("it is not an encrypted record of a known version")
    return record[1 : 1 + _ID_SIZE]


def _key_id(secret: str) -> bytes:
    """Return an id that reveals nothing about the key."""
    return _derive(secret, b"key id", _ID_SIZE)


def _derive(secret: str, purpose: bytes, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=b"headwater " + purpose).derive(
        secret.encode("utf-8", "surrogateescape")  # the environment may contain bytes that are not text
    )
