"""The settings of connections on their way into the catalog and out of it: JSON, encrypted for one connection."""

from collections.abc import Mapping

import msgspec

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import Unavailable
from headwater.catalog.model import Connection


def seal_settings(keyring: Keyring | None, connection: Connection, settings: Mapping[str, object]) -> Connection:
    """The connection with these settings."""
    if keyring is None:
        raise RuntimeError("this process was given no keys to encrypt settings with")
    sealed = keyring.seal(msgspec.json.encode(settings), context=_context(connection))
    return msgspec.structs.replace(connection, sealed_settings=sealed)


def open_settings(keyring: Keyring | None, connection: Connection) -> dict[str, object]:
    """The settings of the connection; empty when it has none. Raises Unavailable."""
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
    # So that nobody who can write the database, but has no key, can have one connection use the settings of another.
    return f"settings of connection {connection.id} in workspace {connection.workspace}".encode()
