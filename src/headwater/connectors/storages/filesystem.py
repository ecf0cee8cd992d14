"""Files of the server, below one folder.

Each folder on the way to a file is opened relative to the one before, and no symbolic link is followed: a path cannot
lead out of the root, not even if folders are exchanged while it is opened. Only regular files are read and replaced.

A file is written without a name if the file system can do so, so that nothing is left of it if the process is killed;
else with a temporary name in its folder, which begins with "." and ends with ".partial".
"""

import errno
import io
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.contract import ConnectorContext, FileMissing, InvalidFileName, StoredFile
from headwater.connectors.contract.context import ROOT_SETTING
from headwater.connectors.storages.paths import shown, split_name

if TYPE_CHECKING:
    from headwater.connectors.catalogue.file_storages import FileSystemSettings

LATENCY_SECONDS: Final = 0.05
"""Duration of each operation with `simulateHighIOLatency`."""

_NO_ROOT: Final = f"files of the server cannot be reached: the operator sets their folder with {ROOT_SETTING}"
_BUFFER_BYTES: Final = 256 * 1024
_MAX_PART_BYTES: Final = 255
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER_MODE: Final = 0o770
_FILE_MODE: Final = 0o660

_NO_NAMELESS_FILES: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
"""The errors of file systems and kernels without files that have no name, and of systems without /proc."""
_NOT_A_FILE: Final = frozenset({errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO})


def check_root(context: ConnectorContext) -> None:
    """Raise Unprocessable with ConnectorNotAvailable if the operator has set no root."""
    if context.filesystem_root is None:
        raise Unprocessable("ConnectorNotAvailable", _NO_ROOT, field="connector")


def _find_root(context: ConnectorContext) -> Path:
    if context.filesystem_root is None:
        raise Unavailable(_NO_ROOT)
    return context.filesystem_root


class FileSystem:
    """Implements `FileStorage`."""

    def __init__(self, settings: "FileSystemSettings", context: ConnectorContext) -> None:
        self._context = context
        self._latency_seconds = LATENCY_SECONDS if settings.simulate_high_io_latency else 0.0

    def absolute_path(self, name: str) -> str:
        parts = _parts(name)
        return str(_find_root(self._context).joinpath(*parts))

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        *folders, file = _parts(name)
        root = _find_root(self._context)
        self._wait()
        with ExitStack() as stack:
            with _translated(name, self._context):
                folder = _kept(stack, os.open(root, _FOLDER_FLAGS))
                for part in folders:
                    folder = _kept(stack, os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder))
                descriptor, status = _open_regular(stack, file, folder)
            raw = _Snapshot(descriptor, status.st_size, self._wait)
            yield StoredFile(
                stream=stack.enter_context(io.BufferedReader(raw, _BUFFER_BYTES)),
                size=status.st_size,
                updated_at=datetime.fromtimestamp(status.st_mtime, UTC),
                version=f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}",
            )

    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        *folders, file = _parts(name)
        root = _find_root(self._context)
        self._wait()
        with ExitStack() as stack:
            with _translated(name, self._context):
                folder = _kept(stack, _open_root(root))
                for part in folders:
                    folder = _kept(stack, _open_or_make(part, folder))
                _check_replaceable(file, folder)
                written = stack.enter_context(_WrittenFile(file, folder))
            raw = _Writer(written.descriptor, self._wait)
            stream = io.BufferedWriter(raw, _BUFFER_BYTES)
            try:
                yield stream
                stream.flush()
            finally:
                raw.discard()
                stream.close()
            with _translated(name, self._context):
                written.publish()

    def _wait(self) -> None:
        if self._latency_seconds:
            time.sleep(self._latency_seconds)


class _Snapshot(io.RawIOBase):
    """Reads a file as long as it was when it was opened: bytes that are appended later are not part of it."""

    def __init__(self, descriptor: int, size: int, wait: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._size = size
        self._wait = wait
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("the position is negative")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = memoryview(buffer).cast("B")[: max(self._size - self._position, 0)]
        if not wanted:
            return 0
        self._wait()
        try:
            count = os.preadv(self._descriptor, [wanted], self._position)
        except OSError as error:
            raise Unavailable(f"the file cannot be read: {error.strerror}") from error
        if not count:
            raise Unavailable("the file became shorter while it was read")
        self._position += count
        return count


class _Writer(io.RawIOBase):
    def __init__(self, descriptor: int, wait: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._wait = wait
        self._is_discarding = False

    def discard(self) -> None:
        """Ignore further content: a buffer above is flushed when it is closed, also after a failure."""
        self._is_discarding = True

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self._is_discarding:
            return memoryview(content).nbytes
        self._wait()
        try:
            return os.write(self._descriptor, content)
        except OSError as error:
            raise Unavailable(f"the file cannot be written: {error.strerror}") from error


class _WrittenFile:
    """A file that has its name when it is published, and is deleted if it is not."""

    def __init__(self, name: str, folder: int) -> None:
        self._name = name
        self._folder = folder
        self._temporary = ""
        self.descriptor = self._open()

    def _open(self) -> int:
        try:
            return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE, dir_fd=self._folder)
        except OSError as error:
            if error.errno not in _NO_NAMELESS_FILES:
                raise
        temporary = self._new_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, _FILE_MODE, dir_fd=self._folder)
        self._temporary = temporary
        return descriptor

    def _new_name(self) -> str:
        start = self._name.encode()[:200].decode(errors="ignore")
        return f".{start}.{secrets.token_hex(8)}.partial"

    def publish(self) -> None:
        """Replace the file of that name. Content and name are on the disk afterwards."""
        os.fsync(self.descriptor)
        if not self._temporary:
            # A file without a name can get one, but cannot replace another.
            temporary, source = self._new_name(), f"/proc/self/fd/{self.descriptor}"
            os.link(source, temporary, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=True)
            self._temporary = temporary
        os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._temporary = ""
        os.fsync(self._folder)

    def __enter__(self) -> "_WrittenFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
        if self._temporary:
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)


def _parts(name: str) -> tuple[str, ...]:
    parts = split_name(name)
    if any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise InvalidFileName(f"a name in the path is longer than {_MAX_PART_BYTES} bytes", field="path")
    return parts


def _kept(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _open_root(root: Path) -> int:
    """Open the root for writing. Its last folder is made if it is missing: it can be that of one workspace."""
    try:
        with suppress(FileExistsError):
            root.mkdir(_FOLDER_MODE)
        return os.open(root, _FOLDER_FLAGS)
    except FileNotFoundError as error:
        raise Unavailable(f"the folder of {ROOT_SETTING} does not exist") from error


def _open_or_make(name: str, folder: int) -> int:
    try:
        return os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
            os.fsync(folder)
        return os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)


def _open_regular(stack: ExitStack, name: str, folder: int) -> tuple[int, os.stat_result]:
    # Opening a device can have an effect, and opening a pipe waits: both are found before. The second check is for
    # files that are exchanged in between.
    _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), name)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = _kept(stack, os.open(name, flags, dir_fd=folder))
    status = os.fstat(descriptor)
    _check_regular(status, name)
    return descriptor, status


def _check_replaceable(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), name)


def _check_regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InvalidFileName(f"{shown(name)} is {kind}", field="path")


@contextmanager
def _translated(name: str, context: ConnectorContext) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        text = f"{shown(name)} does not exist in {context.filesystem_folder}, the folder of files of the server"
        raise FileMissing(text, field="path") from error
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            text = f"{shown(name)} is not below a folder, or has a symbolic link in its path"
            raise InvalidFileName(text, field="path") from error
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidFileName("the path is too long for the file system", field="path") from error
        raise Unavailable(f"{shown(name)} cannot be opened or written: {error.strerror}") from error
