"""Finds the keys that encrypt what connections keep secret, and makes one at the first start of an installation.

docs/decisions/0008-secrets.md says how they are replaced.
"""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from headwater.base.encryption import SHORTEST_SECRET, Keyring
from headwater.server.errors import StartupError
from headwater.server.settings import Settings, variable


def keyring(settings: Settings, *, make: bool = True) -> Keyring:
    """The keys: HEADWATER_SECRET_KEY, or else what the file in the data directory holds; and the older ones.

    Without a key of either kind one is made, unless `make` is false. Raises StartupError.
    """
    path = settings.secret_key_path
    if settings.secret_key is not None:
        older = (*settings.old_secret_keys, *((_read(path),) if path.exists() else ()))
        return Keyring(settings.secret_key, older)
    if not path.exists():
        if not make:
            raise StartupError(f"there is no secret key: set {variable('secret_key')}, or bring back {path}")
        write_once(path, secrets.token_urlsafe(32))
    return Keyring(_read(path), settings.old_secret_keys)


def _read(path: Path) -> str:
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"the secret key in {path} cannot be read: {error}") from None
    if len(secret) < SHORTEST_SECRET:
        raise StartupError(f"the secret key in {path} must have at least {SHORTEST_SECRET} characters")
    return secret


def write_once(path: Path, secret: str) -> None:
    """Write a secret that is there whole or not at all, and never in the place of another one: of several processes
    that do so at once the first one's stands. Mode 0600."""
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process has made one at the same moment
        os.link(unfinished, path)
    os.unlink(unfinished)
