"""Sends one small HTTP request to Envoy's public port, or to an internal unix socket. It is no general HTTP client."""

import asyncio
import ssl
from pathlib import Path


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def request(
    method: str, path: str, address: tuple[str, int] | Path, timeout_seconds: float = 5.0, *, tls: bool = False
) -> tuple[int, str]:
    """Return the status and body of a response. Raises OSError, or its subclass TimeoutError without a response in
    time.

    With `tls` the certificate is not checked: it is that of the public port, for another name than that of the address.
    """
    async with asyncio.timeout(timeout_seconds):
        if isinstance(address, Path):
            reader, writer = await asyncio.open_unix_connection(str(address))
        else:
            reader, writer = await asyncio.open_connection(*address, ssl=_unchecked() if tls else None)
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
