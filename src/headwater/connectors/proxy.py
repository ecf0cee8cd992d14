"""An HTTP proxy for libraries that resolve names and connect by themselves.

A library that cannot be given an address can be given a proxy. The proxy resolves the host of each connection, checks
its addresses and connects to one of them, so that a name never leads to a forbidden address. It listens on 127.0.0.1,
serves one capability, and asks for a random password. TLS goes through it unread.
"""

import asyncio
import base64
import hmac
import secrets
from typing import Final
from urllib.parse import urlsplit

from headwater.base.errors import Unavailable
from headwater.connectors.addresses import WEB_PORTS, AddressPolicy
from headwater.connectors.background import BackgroundLoop
from headwater.connectors.resolving import resolve_allowed

CONNECT_SECONDS: Final = 5.0
HEAD_SECONDS: Final = 10.0

_START_SECONDS: Final = 10.0
_MAX_HEAD_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_USER: Final = "headwater"
_KEPT_OUT: Final = (b"proxy-", b"connection:", b"keep-alive:")


class GuardedProxy:
    """A proxy in a thread, from `__enter__` to `__exit__`.

    `failure` is the error of the last attempt to resolve and connect, None if it succeeded. Libraries only report that
    the proxy refused.
    """

    def __init__(self, addresses: AddressPolicy, workspace: int | None, ports: frozenset[int] = WEB_PORTS) -> None:
        """`workspace` is the one that the proxy serves; None for none."""
        self._addresses = addresses
        self._workspace = workspace
        self._ports = ports
        self._password = secrets.token_urlsafe(32)
        credentials = base64.b64encode(f"{_USER}:{self._password}".encode())
        self._authorization = b"Basic " + credentials
        self._loop = BackgroundLoop("guarded proxy")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.failure: Unavailable | None = None

    @property
    def url(self) -> str:
        """The URL with the password, for the library."""
        return f"http://{_USER}:{self._password}@127.0.0.1:{self._port}"

    @property
    def secret(self) -> str:
        """The password, which no error may contain."""
        return self._password

    def __enter__(self) -> "GuardedProxy":
        self._loop.__enter__()
        try:
            self._port = self._loop.run(self._listen(), _START_SECONDS)
        except BaseException:
            self._loop.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._loop.call(self._server.close)
        self._loop.__exit__()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK_BYTES)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of its own: the one that `start_server` makes of a coroutine logs its cancellation.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            await self._forward(head, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the library sees that the connection ended
        except asyncio.CancelledError:
            writer.transport.abort()  # closing would wait until everything is sent
            raise
        finally:
            writer.close()

    async def _forward(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = head[:-4].split(b"\r\n")
        if len(head) > _MAX_HEAD_BYTES or not self._is_authorized(lines):
            return _refuse(writer, b"407 Proxy Authentication Required")
        try:
            method, target, version = lines[0].split(b" ")
            host, port, path = _parse_target(method, target)
        except ValueError:
            return _refuse(writer, b"400 Bad Request")
        try:
            upstream_reader, upstream = await self._connect(host, port)
            self.failure = None
        except Unavailable as error:
            self.failure = error
            return _refuse(writer, b"502 Bad Gateway")
        try:
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                # One request for each connection: this proxy reads no second one.
                kept = [line for line in lines[1:] if not line.lower().startswith(_KEPT_OUT)]
                first = b" ".join((method, path, version))
                upstream.write(b"\r\n".join([first, *kept, b"connection: close", b"", b""]))
            await _exchange((reader, upstream), (upstream_reader, writer))
        except asyncio.CancelledError:
            upstream.transport.abort()
            raise
        finally:
            upstream.close()

    def _is_authorized(self, lines: list[bytes]) -> bool:
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"proxy-authorization":
                return hmac.compare_digest(value.strip(), self._authorization)
        return False

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await asyncio.to_thread(
            resolve_allowed, host, port, self._addresses, workspace=self._workspace, ports=self._ports
        )
        reason = "no connection was made in time"
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port, limit=_CHUNK_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                reason = error.strerror or type(error).__name__
        raise Unavailable(f"{host} port {port} was not connected to: {reason}")


def _parse_target(method: bytes, target: bytes) -> tuple[str, int, bytes]:
    """Return host, port and path. Raises ValueError."""
    text = target.decode("ascii")
    parts = urlsplit(f"//{text}" if method == b"CONNECT" else text)
    if parts.hostname is None or parts.scheme not in ("", "http"):
        raise ValueError(text)
    path = parts.path or "/"
    return parts.hostname, parts.port or 80, (f"{path}?{parts.query}" if parts.query else path).encode()


def _refuse(writer: asyncio.StreamWriter, status: bytes) -> None:
    writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


async def _exchange(*directions: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Copy both directions until the server ends, or the connection of either side is lost."""
    to_server, to_library = (asyncio.ensure_future(_copy(*direction)) for direction in directions)
    try:
        await asyncio.wait((to_server, to_library), return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in (to_server, to_library):
            task.cancel()
        await asyncio.gather(to_server, to_library, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
