"""Files of an SFTP server, on an event loop of their own.

A name is a path from the root of the server. The key of the server must be that of the settings: the check of new
settings stores it if they have none, and a server with another key is refused later. A file is written to a temporary
name, beginning with "." and ending with ".partial", and then renamed. A process that is killed leaves the temporary
file: a later run that writes to its folder deletes it.
"""

import io
import re
import secrets
import stat
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import asyncssh
from msgspec.structs import replace

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.connectors.addresses import SFTP_PORTS
from headwater.connectors.background import BackgroundLoop
from headwater.connectors.contract import ConnectorContext, FileMissing, InvalidFileName, StoredFile
from headwater.connectors.resolving import resolve_allowed
from headwater.connectors.settings import invalid
from headwater.connectors.storages.paths import shown, split_name

if TYPE_CHECKING:
    from headwater.connectors.catalogue.file_storages import SftpSettings

CONNECT_SECONDS: Final = 5.0
LOGIN_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 60.0
"""Time limit of one operation, such as reading or writing `CHUNK_BYTES`."""
KEEP_ALIVE_SECONDS: Final = 15.0
CHUNK_BYTES: Final = 1024 * 1024
STALE_SECONDS: Final = 3_600
"""Age of the last write of a temporary file from which on its process is dead: a write has `REQUEST_SECONDS`."""
MAX_SEARCHED_NAMES: Final = 10_000
"""Number of names of a folder in which temporary files are searched for."""

_BUFFER_BYTES: Final = 256 * 1024
_MAX_REASON_CHARACTERS: Final = 300
_TEMPORARY: Final = re.compile(r"\..{0,100}\.[0-9a-f]{16}\.partial", re.DOTALL)
_Result = TypeVar("_Result")


class Sftp:
    """Implements `FileStorage`."""

    def __init__(self, settings: "SftpSettings", context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    def absolute_path(self, name: str) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"sftp://{host}:{self._settings.port}{_path(name)}"

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        path = _path(name)
        with self._connected(name) as session, ExitStack() as stack:
            _check_regular(session.run(session.sftp.stat(path)), name)
            file = session.run(session.open(path, "rb"))
            stack.callback(session.try_to, file.close)
            status = session.run(file.stat())
            size = status.size or 0
            raw = _Reader(session, file, size)
            yield StoredFile(
                stream=stack.enter_context(io.BufferedReader(raw, _BUFFER_BYTES)),
                size=size,
                updated_at=None if status.mtime is None else datetime.fromtimestamp(status.mtime, UTC),
                version=f"{status.mtime}-{size}",
            )

    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        path = _path(name)
        folder, _, file_name = path.rpartition("/")
        temporary_folder = self._temporary_folder() or folder
        temporary = f"{temporary_folder}/.{file_name[:100]}.{secrets.token_hex(8)}.partial"
        with self._connected(name) as session:
            session.make_folders(folder)
            session.make_folders(temporary_folder)
            with suppress(FileMissing):
                _check_regular(session.run(session.sftp.stat(path)), name)
            file = session.run(session.open(temporary, "xb"))
            is_published = False
            try:
                session.try_to(lambda: session.remove_stale(temporary_folder, file))
                raw = _Writer(session, file)
                stream = io.BufferedWriter(raw, CHUNK_BYTES)
                try:
                    yield stream
                    stream.flush()
                finally:
                    raw.discard()
                    stream.close()
                session.publish(file, temporary, path)
                is_published = True
            finally:
                if not is_published:
                    session.try_to(file.close)
                    session.try_to(lambda: session.sftp.remove(temporary))

    def _temporary_folder(self) -> str:
        path: str = getattr(self._settings, "temp_path", "").rstrip("/")
        return "" if not path else "/" + "/".join(split_name(path))

    @contextmanager
    def _connected(self, name: str) -> Iterator["_Session"]:
        with BackgroundLoop("SFTP") as loop:
            session = _Session(loop, self._settings, self._context, name)
            session.connect(_trusted_keys(self._settings))
            try:
                yield session
            finally:
                session.close()


def check_settings(settings: "SftpSettings", context: ConnectorContext) -> "SftpSettings":
    """Connect with the settings, and return them with the key of the server.

    Raises Unprocessable with InvalidSettings if the server has another key or rejects the user, and Unavailable.
    """
    with BackgroundLoop("SFTP") as loop:
        session = _Session(loop, settings, context, "")
        try:
            key = session.connect(_trusted_keys(settings), is_check=True)
        finally:
            session.close()
    return settings if settings.host_public_key else replace(settings, host_public_key=key)


class _Client(asyncssh.SSHClient):
    """Accepts the first key of a server if the settings have none, and remembers it."""

    def __init__(self, accepts_any: bool) -> None:
        self._accepts_any = accepts_any
        self.key = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.key = key.export_public_key("openssh").decode().strip()
        return self._accepts_any


class _Session:
    """One connection, and the translation of its errors."""

    sftp: asyncssh.SFTPClient

    def __init__(self, loop: BackgroundLoop, settings: "SftpSettings", context: ConnectorContext, name: str) -> None:
        self._loop = loop
        self._settings = settings
        self._context = context
        self._name = name
        self._connection: asyncssh.SSHClientConnection | None = None

    def connect(self, trusted: list[asyncssh.SSHKey], *, is_check: bool = False) -> str:
        """Connect, and return the server's key if none was trusted before.

        Raises Unavailable; with `is_check` Unprocessable with InvalidSettings for settings that the server rejects.
        """
        if not trusted and not is_check:
            raise Unavailable("the settings have no key of the server: save them again to store it")
        settings = self._settings
        addresses = resolve_allowed(
            settings.host,
            settings.port,
            self._context.addresses,
            workspace=self._context.workspace,
            ports=SFTP_PORTS,
        )
        client = _Client(accepts_any=is_check and not trusted)
        try:
            self._loop.run(self._open(addresses, trusted, client), REQUEST_SECONDS)
        except asyncssh.HostKeyNotVerifiable as error:
            text = "is not the key of the server"
            if is_check:
                raise invalid("settings.hostPublicKey", text) from error
            raise Unavailable(f"hostPublicKey of the settings {text}, which may have changed") from error
        except asyncssh.PermissionDenied as error:
            if is_check:
                raise invalid("settings.password", "or username is rejected by the server") from error
            raise Unavailable("the server rejects the user name or the password") from error
        except (asyncssh.Error, OSError) as error:
            raise self._translated(error) from error
        except ValueError as error:
            text = "has a character that SSH does not allow"
            if is_check:
                raise invalid("settings.username", text) from error
            raise Unavailable(f"username of the settings {text}") from error
        return client.key

    async def _open(self, addresses: list[str], trusted: list[asyncssh.SSHKey], client: _Client) -> None:
        failed: OSError = TimeoutError()
        for address in addresses:
            try:
                self._connection = await self._connect_to(address, trusted, client)
                break
            except OSError as error:
                failed = error
        else:
            raise failed
        self.sftp = await self._connection.start_sftp_client()

    async def _connect_to(
        self, address: str, trusted: list[asyncssh.SSHKey], client: _Client
    ) -> asyncssh.SSHClientConnection:
        """Connect with the settings alone: no configuration, keys or agent of the server's user."""
        return await asyncssh.connect(
            address,
            self._settings.port,
            client_factory=lambda: client,
            username=self._settings.username,
            password=self._settings.password,
            known_hosts=(trusted, [], []),
            config=None,
            client_keys=None,
            agent_path=None,
            gss_host=None,
            preferred_auth="password,keyboard-interactive",
            connect_timeout=CONNECT_SECONDS,
            login_timeout=LOGIN_SECONDS,
            keepalive_interval=KEEP_ALIVE_SECONDS,
        )

    def run(self, operation: Coroutine[Any, Any, _Result]) -> _Result:
        """Return the result of an operation. Raises FileMissing, InvalidFileName, Unavailable."""
        try:
            return self._loop.run(operation, REQUEST_SECONDS)
        except (asyncssh.Error, OSError) as error:
            raise self._translated(error) from error

    async def open(self, path: str, mode: str) -> asyncssh.SFTPClientFile:
        return await self.sftp.open(path, mode)

    def try_to(self, operation: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run an operation whose failure changes nothing."""
        with suppress(asyncssh.Error, OSError):
            self._loop.run(operation(), REQUEST_SECONDS)

    def make_folders(self, folder: str) -> None:
        """Make a folder and those above it, if they are missing."""
        if folder:
            self.run(self.sftp.makedirs(folder, exist_ok=True))

    async def remove_stale(self, folder: str, file: asyncssh.SFTPClientFile) -> None:
        """Delete the temporary files of dead processes in a folder. The time of the server is that of a new file."""
        now = (await file.stat()).mtime
        searched = 0
        async for entry in self.sftp.scandir(folder or "/"):
            searched += 1
            if now is None or searched > MAX_SEARCHED_NAMES:
                return
            name, changed = str(entry.filename), entry.attrs.mtime
            if _TEMPORARY.fullmatch(name) and changed is not None and now - changed > STALE_SECONDS:
                await self.sftp.remove(f"{folder}/{name}")

    def publish(self, file: asyncssh.SFTPClientFile, temporary: str, path: str) -> None:
        """Complete a file, and give it its name."""
        with suppress(asyncssh.SFTPOpUnsupported):
            self._loop.run(file.fsync(), REQUEST_SECONDS)
        self.run(file.close())
        try:
            self._loop.run(self.sftp.posix_rename(temporary, path), REQUEST_SECONDS)
        except asyncssh.SFTPOpUnsupported:
            self.run(self.sftp.rename(temporary, path))  # fails if there is a file of that name
        except (asyncssh.Error, OSError) as error:
            raise self._translated(error) from error

    def close(self) -> None:
        connection = self._connection
        if connection is not None:
            self._loop.call(connection.abort)
            self.try_to(connection.wait_closed)

    def _translated(self, error: Exception) -> HeadwaterError:
        match error:
            case asyncssh.SFTPNoSuchFile() | asyncssh.SFTPNoSuchPath():
                return FileMissing(f"{shown(self._name)} does not exist", field="path")
            case asyncssh.SFTPNotADirectory() | asyncssh.SFTPFileIsADirectory() | asyncssh.SFTPInvalidFilename():
                return InvalidFileName(f"{shown(self._name)} is not a path of a file", field="path")
            case TimeoutError():
                return Unavailable(f"{self._settings.host} did not respond in time")
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        return Unavailable(self._context.redact(f"{self._settings.host}: {str(reason)[:_MAX_REASON_CHARACTERS]}"))


class _Reader(io.RawIOBase):
    """Reads a file as long as it was when it was opened."""

    def __init__(self, session: _Session, file: asyncssh.SFTPClientFile, size: int) -> None:
        self._session = session
        self._file: Any = file  # annotated as a file of text
        self._size = size
        self._position = 0
        self._chunk = memoryview(b"")

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
        self._chunk = memoryview(b"")
        return self._position

    def readinto(self, buffer: Any) -> int:
        if not self._chunk:
            wanted = min(CHUNK_BYTES, self._size - self._position)
            if wanted <= 0:
                return 0
            content: bytes = self._session.run(self._file.read(wanted, self._position))
            if not content:
                raise Unavailable("the file became shorter while it was read")
            self._chunk = memoryview(content)
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._chunk))
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        self._position += count
        return count


class _Writer(io.RawIOBase):
    def __init__(self, session: _Session, file: asyncssh.SFTPClientFile) -> None:
        self._session = session
        self._file = file
        self._position = 0
        self._is_discarding = False

    def writable(self) -> bool:
        return True

    def discard(self) -> None:
        """Ignore further content: a buffer above is flushed when it is closed, also after a failure."""
        self._is_discarding = True

    def write(self, content: Any) -> int:
        chunk = bytes(memoryview(content).cast("B")[:CHUNK_BYTES])
        if not self._is_discarding:
            self._session.run(self._file.write(chunk, self._position))
            self._position += len(chunk)
        return len(chunk)


def _path(name: str) -> str:
    parts = split_name(name)
    if parts[0].startswith("~"):
        raise InvalidFileName('the path begins with "~": paths begin at the root of the server', field="path")
    return "/" + "/".join(parts)


def _check_regular(status: asyncssh.SFTPAttrs, name: str) -> None:
    if status.permissions is not None and not stat.S_ISREG(status.permissions):
        kind = "a folder" if stat.S_ISDIR(status.permissions) else "not a regular file"
        raise InvalidFileName(f"{shown(name)} is {kind}", field="path")


def _trusted_keys(settings: "SftpSettings") -> list[asyncssh.SSHKey]:
    """Return the keys of the settings: lines of a public key, or of a known_hosts file."""
    return [_key(line) for line in settings.host_public_key.splitlines() if line.strip()]


def _key(line: str) -> asyncssh.SSHKey:
    words = line.split()
    for start in range(min(2, len(words))):  # a line of a known_hosts file begins with the host
        with suppress(asyncssh.KeyImportError, ValueError):
            return asyncssh.import_public_key(" ".join(words[start : start + 2]))
    raise invalid("settings.hostPublicKey", 'must be a public key, such as "ssh-ed25519 AAAA…"')
