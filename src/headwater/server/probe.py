"""Sends one small HTTP request to Envoy's public port, or to an internal unix socket. It is no general HTTP client."""

import asyncio
from pathlib import Path


async def request(
    method: str, path: str, address: tuple[str, int] | Path, timeout_seconds: float = 5.0
) -> tuple[int, str]:
    """Return the status and body of a response. Raises OSError, or its subclass TimeoutError without a response in
    time."""
    async with asyncio.timeout(timeout_seconds):
        if isinstance(address, Path):
            reader, writer = await asyncio.open_unix_connection(str(address))
        else:
            reader, writer = await asyncio.open_connection(*address)
        try:
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            writer.write(head.encode("ascii"))
            response = await reader.read(1 << 20)
            while chunk := await reader.read(1 << 20):
                response += chunk
        finally:
            writer.close()
    status_line, _, rest = response.partition(b"\r\n")
    try:
        status = int(status_line.split(b" ", 2)[1])
    except (IndexError, ValueError):
        raise ConnectionError("the response is not HTTP") from None
    return status, rest.partition(b"\r\n\r\n")[2].decode(errors="replace")
