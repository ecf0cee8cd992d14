"""Files of databases, below the folder that the installation allows."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.base.errors import BadRequest, Unavailable, Unprocessable
from headwater.connectors.contract import ConnectorContext
from headwater.connectors.contract.context import ROOT_SETTING


def database_file(context: ConnectorContext, name: str) -> Path:
    """Return the path of an existing database file.

    `name` is relative to the folder; a leading "/" is ignored. Neither the file nor a folder on the way may be a
    symbolic link. Engines open files by name, so this is not safe against a user of the machine who exchanges folders;
    users of Headwater cannot make symbolic links. Raises BadRequest, and Unavailable if the installation allows no
    folder or the file is missing.
    """
    root = context.filesystem_root
    if root is None:
        raise Unavailable(f"files of the server cannot be reached: the operator sets their folder with {ROOT_SETTING}")
    parts = name.removeprefix("/").split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise BadRequest("the path must not be empty, and must not contain empty parts, . and ..", field="path")
    path = root
    try:
        for part in parts:
            path = path / part
            if stat.S_ISLNK(mode := path.lstat().st_mode):
                raise BadRequest("the path must not contain symbolic links", field="path")
    except (FileNotFoundError, NotADirectoryError):
        raise Unavailable(
            f"the database file {name[:200]!r} does not exist in {context.filesystem_folder}, "
            "the folder of files of the server"
        ) from None
    except OSError as error:
        raise Unavailable(f"the database file cannot be reached: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise BadRequest("the path is not the one of a file", field="path")
    return path


def file_identity(path: Path) -> tuple[int, int]:
    """Return a key of the file that a path leads to: another one means that the file was replaced."""
    try:
        status = path.lstat()
    except OSError as error:
        raise Unavailable(f"the database file cannot be reached: {error.strerror}") from error
    return status.st_dev, status.st_ino


@contextmanager
def checking_file() -> Iterator[None]:
    """Raise what is wrong with the file in the settings of a connection as Unprocessable with InvalidSettings."""
    try:
        yield
    except BadRequest as error:
        message = f"the file cannot be read: {error.message}"
        raise Unprocessable("InvalidSettings", message, field="settings.path") from error
