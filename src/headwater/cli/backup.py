"""`headwater backup` and `headwater restore`: copies of a data directory, also while the server runs.

A backup is the state that a power failure at one moment would have left (`headwater.storage.snapshots`), and every
start continues from such a state. The file `backup.json` is written last: a folder without it is not a backup.

A restore writes `restoring` into the data directory first and removes it last. With this file the server does not
start, and a restore begins from the start.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from msgspec import Struct

from headwater.base.errors import UnusableDatabase
from headwater.cli.progress import ProgressView, draw_bar
from headwater.server import preflight
from headwater.server.errors import StartupError
from headwater.server.settings import Settings, variable
from headwater.state.deduplication.folders import OpenFile, open_files
from headwater.storage.snapshots import copy_snapshot, open_snapshots, size, sync

DESCRIPTION: Final = "backup.json"
LEDGER: Final = "ledger"
FORMAT: Final = 1
COPY_BYTES: Final = 1 << 20
_IGNORED: Final = frozenset({"lock", "run", "scratch", "stdout.txt", "stderr.txt", "lost+found", preflight.RESTORING})
"""Names in a data directory that are no data."""


class Description(Struct, frozen=True):
    """The content of `backup.json`."""

    format: int
    version: str
    """The version of Headwater."""
    created_at: str
    files: dict[str, int]
    """The sizes of all files by path."""


def run_backup(settings: Settings, arguments: argparse.Namespace) -> None:
    """Copy the data directory to a folder. Raises StartupError with one line if there is no backup."""
    folder = Path(arguments.folder)
    if not settings.data_dir.is_dir():
        raise StartupError(f"there is no installation in {settings.data_dir}: change HEADWATER_DATA_DIR")
    os.umask(0o077)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StartupError(f"{folder} is not empty: a backup needs a folder of its own")
        sizes = _copy_all(settings, folder)
        text = msgspec.json.encode(
            Description(FORMAT, version("headwater"), datetime.now(UTC).isoformat(timespec="seconds"), sizes)
        )
        unfinished = folder / f"{DESCRIPTION}.unfinished"
        unfinished.write_bytes(msgspec.json.format(text) + b"\n")
        sync(unfinished)
        unfinished.rename(folder / DESCRIPTION)
        sync(folder)
    except UnusableDatabase as error:
        raise StartupError(f"there is no backup: {error}") from error
    except OSError as error:
        raise StartupError(f"there is no backup: {error.filename or folder}: {error.strerror}") from error
    print(f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, are in {folder}")
    if settings.database_url is not None:
        print("PostgreSQL is not in it: back it up with pg_dump before each `headwater backup`")


def run_restore(settings: Settings, arguments: argparse.Namespace) -> None:
    """Copy a backup to an empty data directory. Raises StartupError with one line if nothing can be restored."""
    folder, data_dir = Path(arguments.folder), settings.data_dir
    os.umask(0o077)
    description = _read_description(folder)
    if data_dir.is_dir() and not (data_dir / preflight.RESTORING).exists():
        _require_empty(data_dir)
    lock = preflight.claim_data_dir(settings, restores=True)
    try:
        marker = data_dir / preflight.RESTORING
        if not marker.exists():
            _require_empty(data_dir)
        marker.write_text(f"{folder.absolute()}\n")
        sync(data_dir)
        for path in data_dir.iterdir():
            if path.name not in _IGNORED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with _Progress(sum(description.files.values())) as progress:
            for name in description.files:
                target = data_dir / name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with (folder / name).open("rb") as source:
                    _copy(source, target, description.files[name], progress)
        for each in {data_dir / name for name in description.files}:
            sync(each.parent)
        marker.unlink()
        sync(data_dir)
    except OSError as error:
        raise StartupError(
            f"the restore has not ended: {error.filename or data_dir}: {error.strerror}. Run it again"
        ) from error
    finally:
        os.close(lock)
    print(f"{len(description.files)} files of {description.created_at} are in {data_dir}")


class _Progress:
    """Shows how many of all bytes are copied."""

    def __init__(self, total: int) -> None:
        self._view = ProgressView(sys.stderr)
        self._total = total
        self._done = 0

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._view.close()

    def add(self, copied: int) -> None:
        self._done += copied
        share = min(1.0, self._done / max(1, self._total))
        self._view.show(f"{draw_bar(share)}  {self._done / 1e6:.1f} MB", is_last=False)


def _copy_all(settings: Settings, folder: Path) -> dict[str, int]:
    """Copy everything and return the sizes by path."""
    databases = [path for path in _databases(settings) if path.exists()]
    with ExitStack() as stack:
        messages: list[OpenFile] = []

        def open_messages() -> None:
            if settings.database_url is None:
                messages.extend(open_files(settings.data_dir / LEDGER, stack))

        snapshots = stack.enter_context(open_snapshots(databases, open_messages)) if databases else []
        total = sum(map(size, snapshots)) + sum(each.size for each in messages)
        progress = stack.enter_context(_Progress(total))
        sizes = {}
        for path, snapshot in zip(databases, snapshots, strict=True):
            copy_snapshot(snapshot, folder / path.name, progress.add)
            sizes[path.name] = (folder / path.name).stat().st_size
        for each in messages:
            (folder / LEDGER).mkdir(mode=0o700, exist_ok=True)
            sizes[f"{LEDGER}/{each.name}"] = _copy(each.file, folder / LEDGER / each.name, each.size, progress)
        for path in _other_files(settings):
            target = folder / path.relative_to(settings.data_dir)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("rb") as file:
                length = os.fstat(file.fileno()).st_size
                sizes[str(path.relative_to(settings.data_dir))] = _copy(file, target, length, progress)
    for each_folder in {(folder / name).parent for name in sizes}:
        sync(each_folder)
    return sizes


def _databases(settings: Settings) -> list[Path]:
    """Return the files of the stores that are in the data directory. A worker locks them in this order."""
    log = [] if settings.nats_url is not None else [settings.log_path]
    if settings.database_url is not None:
        return log
    return [
        settings.state_path,
        settings.delivery_path,
        settings.warehouse_path,
        settings.courier_path,
        settings.operations_path,
        settings.runs_path,
        settings.catalog_path,
        *log,
    ]


def _other_files(settings: Settings) -> Iterator[Path]:
    marks = [settings.data_dir / preflight.MOVED] if settings.database_url is None else []
    for path in (settings.secret_key_path, settings.api_key_path, *marks):
        if path.exists():
            yield path
    if settings.applications_dir.is_dir():
        yield from (path for path in sorted(settings.applications_dir.rglob("*")) if path.is_file())


def _copy(source: BinaryIO, target: Path, length: int, progress: _Progress) -> int:
    """Copy the first bytes of a file to a new one, and sync it. Return their number."""
    remaining = length
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        while remaining and (some := source.read(min(COPY_BYTES, remaining))):
            copy.write(some)
            remaining -= len(some)
            progress.add(len(some))
        copy.flush()
        os.fsync(copy.fileno())
    return length - remaining


def _read_description(folder: Path) -> Description:
    """Return the description of a complete backup. Raises StartupError for anything else."""
    path = folder / DESCRIPTION
    try:
        description = msgspec.json.decode(path.read_bytes(), type=Description)
    except FileNotFoundError:
        raise StartupError(f"{folder} is not a complete backup: it has no {DESCRIPTION}") from None
    except (OSError, msgspec.DecodeError) as error:
        raise StartupError(f"{path} cannot be read: {error}") from None
    if description.format != FORMAT:
        raise StartupError(f"{folder} is a backup of a later version, {description.version}: install that version")
    for name, length in description.files.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StartupError(f"{path} names a file outside of the backup: {name}")
        found = -1
        with suppress(OSError):
            found = (folder / name).stat().st_size
        if found != length:
            state = "is missing" if found < 0 else f"has {found} bytes instead of {length}"
            raise StartupError(f"the backup is damaged: {folder / name} {state}. Nothing was changed")
    return description


def _require_empty(data_dir: Path) -> None:
    """Raise StartupError if the data directory has data."""
    found = sorted(path.name for path in data_dir.iterdir() if path.name not in _IGNORED)
    if found:
        raise StartupError(
            f"the data directory {data_dir} is not empty ({found[0]}): nothing was changed. Restore into an empty one, "
            f"with {variable('data_dir')} or --data-dir"
        )
