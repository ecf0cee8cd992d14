"""The settings of connections in the catalog: JSON, encrypted for one connection.

The connector's declaration decides what is stored and how it is read back; everything is encrypted, not only secrets.
"""

import msgspec

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import Unavailable, Unprocessable
from headwater.catalog.model import Connection
from headwater.connectors.settings import Settings


def seal_settings(keyring: Keyring | None, connection: Connection, settings: Settings) -> Connection:
    """Return the connection with these settings."""
    return _sealed(keyring, connection, msgspec.json.encode(settings.document()))


def reseal_settings(keyring: Keyring | None, connection: Connection) -> Connection:
    """Return the connection with its settings, as they are, encrypted with the present key. Raises Unavailable."""
    return _sealed(keyring, connection, _opened(keyring, connection))


def open_settings(keyring: Keyring | None, connection: Connection, declared: type[Settings]) -> Settings:
    """Return the settings of a connection that has some. Raises Unavailable.

    Settings that an earlier version has stored get the defaults of fields that it did not have.
    """
    document = msgspec.json.decode(_opened(keyring, connection))
    try:
        return declared.read(document)
    except Unprocessable as error:
        raise Unavailable(
            f"the settings of connection {connection.id} do not fit connector {connection.connector}: {error.message}"
        ) from error


def check_readable(keyring: Keyring | None, connection: Connection) -> None:
    """Raise Unavailable unless a key opens the settings of the connection."""
    _opened(keyring, connection)


def _sealed(keyring: Keyring | None, connection: Connection, plain: bytes) -> Connection:
    if keyring is None:
        raise RuntimeError("this process was given no keys to encrypt settings with")
    return msgspec.structs.replace(connection, sealed_settings=keyring.seal(plain, context=_context(connection)))


def _opened(keyring: Keyring | None, connection: Connection) -> bytes:
    if keyring is None:
        raise RuntimeError("this process was given no keys to read settings with")
    try:
        return keyring.open(connection.sealed_settings or b"", context=_context(connection))
    except SealError as error:
        raise Unavailable(f"the settings of connection {connection.id} cannot be read: {error}") from error


def _context(connection: Connection) -> bytes:
    # A person who can write the database but has no key must not make one connection use the settings of another.
    return f"settings of connection {connection.id} in workspace {connection.workspace}".encode()
