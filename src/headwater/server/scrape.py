"""The metrics port: one page that merges the pages of all processes.

It serves only GET /metrics, one request per connection, without authentication: by default it listens on the loopback
address. It needs no library, because the supervisor serves it and should stay small.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from headwater.server.errors import StartupError
from headwater.server.probe import request
from headwater.server.settings import Settings, variable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_TIMEOUT_SECONDS = 5.0
COLLECT_TIMEOUT_SECONDS = 2.0
MAX_REQUEST_BYTES = 16 << 10

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ", re.MULTILINE)

Page = Callable[[], Awaitable[bytes]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def handler(page: Page) -> Handler:
    """Return a handler of GET /metrics for `asyncio.start_server`."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.match(rb"GET /metrics(\?\S*)? HTTP/1", head) is not None
                status, body = (
                    (b"200 OK", await page()) if found else (b"404 Not Found", b"there is only GET /metrics\n")
                )
                writer.write(
                    b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                    % (status, CONTENT_TYPE.encode(), len(body), body)
                )
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has disconnected, is slow, or does not speak HTTP (TimeoutError is an OSError)
        finally:
            writer.close()

    return respond


@asynccontextmanager
async def metrics_port(settings: Settings, processes: Iterable[str]) -> AsyncIterator[None]:
    """Serve the metrics port, if there is one, until the end of the block. Raises StartupError if the port is taken."""
    if settings.metrics_port is None:
        yield
        return

    async def page() -> bytes:
        return await _collect({name: settings.metrics_socket(name) for name in processes})

    try:
        server = await asyncio.start_server(
            handler(page), settings.metrics_host, settings.metrics_port, limit=MAX_REQUEST_BYTES
        )
    except OSError as error:
        raise StartupError(
            f"the metrics port {settings.metrics_port} on {settings.metrics_host} cannot be used "
            f"({error.strerror}); choose another: {variable('metrics_port')}={settings.metrics_port + 1}"
        ) from None
    try:
        yield
    finally:
        server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)


async def _collect(sockets: Mapping[str, Path]) -> bytes:
    pages = await asyncio.gather(*(_read_page(socket) for socket in sockets.values()))
    up = ["# HELP headwater_up Whether the process served its metrics.\n# TYPE headwater_up gauge\n"]
    up += [f'headwater_up{{process="{name}"}} {int(page != "")}\n' for name, page in zip(sockets, pages, strict=True)]
    return ("".join(up) + merge_pages(dict(zip(sockets, pages, strict=True)))).encode()


async def _read_page(socket: Path) -> str:
    """Return the page of a process; empty if the process does not respond."""
    try:
        status, text = await request("GET", "/metrics", socket, COLLECT_TIMEOUT_SECONDS)
    except OSError:
        return ""
    return text if status == 200 else ""


def merge_pages(pages: Mapping[str, str]) -> str:
    """Return one page out of several, with each metric described once and each sample labelled with its process."""
    families: dict[str, list[str]] = {}
    for process, page in pages.items():
        label = f'process="{process}"'
        for block in re.split(r"^(?=# HELP )", page, flags=re.MULTILINE):
            lines = block.splitlines()
            if len(lines) < 2 or not lines[0].startswith("# HELP "):
                continue
            family = families.setdefault(lines[0].split(" ", 3)[2], lines[:2])
            family += [_SAMPLE.sub(lambda found, label=label: _labelled(found, label), line) for line in lines[2:]]
    return "".join(f"{line}\n" for family in families.values() for line in family)


def _labelled(found: "re.Match[str]", label: str) -> str:
    labels = f"{label},{found[2]}" if found[2] else label
    return f"{found[1]}{{{labels}}} "
