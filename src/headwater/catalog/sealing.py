"""Encrypts the settings of connections for storage and decrypts them: JSON, sealed for one connection."""

from collections.abc import Mapping

import msgspec

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import Unavailable
from headwater.catalog.model import Connection


def seal_settings(keyring: Keyring | None, connection: Connection, settings: Mapping[str, object]) -> Connection:
    """Return the connection with these settings."""
    if keyring is None:
        raise RuntimeError("this process was given no keys to encrypt settings with")
    sealed = keyring.seal(msgspec.json.encode(settings), context=_context(connection))
    return msgspec.structs.replace(connection, sealed_settings=sealed)


def open_settings(keyring: Keyring | None, connection: Connection) -> dict[str, object]:
    """Return the settings of the connection; empty if it has none. Raises Unavailable."""
    if connection.sealed_settings is None:
        return {}
    if keyring is None:
        raise RuntimeError("this process was given no keys to read settings with")
    try:
        plain = keyring.open(connection.sealed_settings, context=_context(connection))
    except SealError as error:
        raise Unavailable(f"the settings of connection {connection.id} cannot be read: {error}") from error
    settings: dict[str, object] = msgspec.json.decode(plain)
    return settings


def _context(connection: Connection) -> bytes:
    # With write access to the database but no key, settings cannot be moved to another connection.
    return f"settings of connection {connection.id} in workspace {connection.workspace}".encode()
