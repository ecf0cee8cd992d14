"""The encrypted settings of all connections as a whole: whether they can be read, and under which key they lie."""

from collections.abc import Iterator

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import Unavailable
from headwater.catalog import Catalog, Connection


def unreadable(catalog: Catalog) -> list[Connection]:
    """The connections whose settings no given key opens."""
    return [connection for connection in _with_settings(catalog) if not _is_readable(catalog, connection)]


async def rotate(catalog: Catalog) -> tuple[int, int]:
    """Encrypt what older keys have encrypted with the present key. All of it, or none.

    Answers how many settings were encrypted anew, and of how many. Raises Unavailable, naming the connection, when the
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
        return False  # reading it will say what is wrong with it


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
