"""Copies a folder of RocksDB that a process writes.

Its files are immutable, or only appended to, and the manifest lists those that belong together. So all files are opened
while nothing is saved, which takes milliseconds, and copied afterwards up to the size that they had: a merge may delete
them meanwhile. The manifest tells whether a merge ended while they were opened; then they are opened again.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from headwater.base.errors import UnusableDatabase

MAX_ATTEMPTS: Final = 100
_IGNORED: Final = ("LOCK", "LOG")
"""Beginnings of the names of files without data."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file to copy: its name, and the size that it had."""

    name: str
    file: BinaryIO
    size: int


def open_files(folder: Path, stack: ExitStack) -> list[OpenFile]:
    """Open the files of a folder, which stay open until the end of the stack; none if there is no folder.

    Call it while no process saves messages. Raises UnusableDatabase if the files change all the time.
    """
    if not (folder / "CURRENT").exists():
        return []
    for _ in range(MAX_ATTEMPTS):
        attempt = ExitStack()
        with attempt:
            before = _manifest(folder)
            try:
                found = [
                    _open(path, attempt) for path in sorted(folder.iterdir()) if not path.name.startswith(_IGNORED)
                ]
            except FileNotFoundError:  # deleted by a merge
                continue
            if before is not None and _manifest(folder) == before:
                stack.push(attempt.pop_all())
                return found
    raise UnusableDatabase(f"{folder} changes all the time: try again later")


def _open(path: Path, stack: ExitStack) -> OpenFile:
    file = stack.enter_context(path.open("rb"))
    return OpenFile(path.name, file, os.fstat(file.fileno()).st_size)


def _manifest(folder: Path) -> tuple[str, int] | None:
    """Return the name and the size of the manifest; None while it is being replaced."""
    try:
        name = (folder / "CURRENT").read_text().strip()
        return name, (folder / name).stat().st_size
    except FileNotFoundError:
        return None
