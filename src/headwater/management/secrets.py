"""The encrypted settings of all connections and the tokens of all OAuth accounts: whether they can be read, and
re-encryption with the current key."""

from collections.abc import Iterator

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import Unavailable
from headwater.catalog import Catalog, Connection


def unreadable(catalog: Catalog) -> list[Connection]:
    """Return the connections whose settings no given key opens."""
    return [connection for connection in _with_settings(catalog) if not _is_readable(catalog, connection)]


async def rotate(catalog: Catalog) -> tuple[int, int]:
    """Encrypt all settings that older keys encrypted with the current key: all or nothing.

    Return the number of re-encrypted settings and the number of all. Raises Unavailable, naming the connection or the
    OAuth account, if the settings or the tokens of one cannot be read.
    """
    await check_tokens(catalog)
    async with catalog.change() as change:
        everything = list(_with_settings(catalog))
        older = [connection for connection in everything if not _is_present(_keyring(catalog), connection)]
        for connection in older:
            change.update_connection(catalog.resealed(connection))
    return len(older), len(everything)


async def check_tokens(catalog: Catalog) -> None:
    """Raise Unavailable, naming the account, if the tokens of an OAuth account cannot be read."""
    if locked := await catalog.oauth_accounts.unreadable():
        raise Unavailable(f"the tokens of OAuth account {locked[0]} cannot be read: their key is not given")


async def rotate_tokens(catalog: Catalog) -> tuple[int, int]:
    """Encrypt the tokens of all OAuth accounts with the current key: all or nothing.

    Return the number of re-encrypted accounts and the number of all. Raises Unavailable, naming the account.
    """
    return await catalog.oauth_accounts.rotate()


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
