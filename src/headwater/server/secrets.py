"""Finds the keys that encrypt the settings of connections, and generates one at the first start of an installation.

docs/decisions/0008-secrets.md describes how to replace them.
"""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from headwater.base.encryption import MIN_SECRET_CHARACTERS, Keyring
from headwater.catalog import Catalog
from headwater.server.errors import StartupError
from headwater.server.settings import Settings, variable


def keyring(settings: Settings, *, create: bool = True) -> Keyring:
    """Return the present key and the earlier keys.

    The present key is HEADWATER_SECRET_KEY, or else the key in the file of the data directory. Without either, a key is
    generated, unless `create` is false. Raises StartupError.
    """
    path = settings.secret_key_path
    if settings.secret_key is not None:
        older = (*settings.old_secret_keys, *((_read(path),) if path.exists() else ()))
        return Keyring(settings.secret_key, older)
    if not path.exists():
        if not create:
            raise StartupError(f"there is no secret key: set {variable('secret_key')}, or bring back {path}")
        write_once(path, secrets.token_urlsafe(32))
    return Keyring(_read(path), settings.old_secret_keys)


async def check_shared_database(
    settings: Settings, open_catalog: Callable[[str], AbstractAsyncContextManager[Catalog]]
) -> None:
    """Create the secret key of an installation whose database several machines may share.

    Raises StartupError if the database has an installation and this machine has no key: the other machines could not
    read the settings that a generated key encrypts. A lock makes one process at a time do this.
    """
    if settings.secret_key is not None or settings.database_url is None:
        return
    folder = os.open(settings.data_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if settings.secret_key_path.exists():
            return
        async with open_catalog(settings.database_url) as catalog:
            if catalog.workspaces():
                raise StartupError(
                    "the database belongs to an installation that has a secret key, and this machine has none: set "
                    f"{variable('secret_key')} to the same key, or copy it to {settings.secret_key_path}. If it is "
                    f"lost, set {variable('secret_key')} to a new one and enter the settings of connections again"
                )
        keyring(settings)
    finally:
        os.close(folder)


def _read(path: Path) -> str:
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"the secret key in {path} cannot be read: {error}") from None
    if len(secret) < MIN_SECRET_CHARACTERS:
        raise StartupError(f"the secret key in {path} must have at least {MIN_SECRET_CHARACTERS} characters")
    return secret


def write_once(path: Path, secret: str) -> None:
    """Write a secret atomically, with mode 0600. An existing secret is never replaced, so the first of several writers
    wins."""
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process has created one in the same moment
        os.link(unfinished, path)
    os.unlink(unfinished)
