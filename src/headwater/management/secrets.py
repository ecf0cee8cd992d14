"""The encrypted settings of all connections: whether they can be read, and re-encryption with the current key."""

from collections.abc import Iterator

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import Unavailable
from headwater.catalog import Catalog, Connection


def unreadable(catalog: Catalog) -> list[Connection]:
    """Return the connections whose settings no given key opens."""
    return [connection for connection in _with_settings(catalog) if not _is_readable(catalog, connection)]


async def rotate(catalog: Catalog) -> tuple[int, int]:
    """Encrypt everything that older keys encrypted with the current key: all or nothing.

    Return the number of re-encrypted settings and the number of all. Raises Unavailable, naming the connection, if the
    settings of one cannot be read.
    """
    async with catalog.change() as change:
        everything = list(_with_settings(catalog))
        older = [connection for connection in everything if not _is_present(_keyring(catalog), connection)]
        for connection in older:
            change.update_connection(catalog.resealed(connection))
    return len(older), len(everything)


def _with_settings(catalog: Catalog) -> Iterator[Connection]:
    for workspace in catalog.workspaces():
        for connection in catalog.connections(workspace.id):
            if connection.sealed_settings is not None:
                yield connection


def _is_present(keyring: Keyring, connection: Connection) -> bool:
    try:
        return keyring.is_present(connection.sealed_settings or b"")
    except SealError:
        return False  # reading it reports the reason


def _is_readable(catalog: Catalog, connection: Connection) -> bool:
    try:
        catalog.check_readable(connection)
    except Unavailable:
        return False
    return True


def _keyring(catalog: Catalog) -> Keyring:
    if catalog.keyring is None:
        raise RuntimeError("this process was given no keys")
    return catalog.keyring
