"""A client of the API over HTTP, on Python's own library, so that a command starts without delay.

It follows no redirects and uses no proxies, because each call carries an API key.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from headwater.cli.errors import ApiError, NoServer, UsageError
from headwater.cli.tables import printable

TIMEOUT_SECONDS: Final = 60.0
"""Time limit of each step of a call."""
PAGE_ITEMS: Final = 1_000
"""Maximum number of items in a page of a list."""
MAX_ERROR_CHARACTERS: Final = 2_000

Query = Mapping[str, str | int | bool | Sequence[str] | None]
"""Query parameters. A value of None is left out, and one of a sequence is repeated."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body can be read while it arrives. Close it, or use it as a context manager."""

    connection: http.client.HTTPConnection
    socket: socket.socket
    message: http.client.HTTPResponse

    def __enter__(self) -> "Response":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. A thread that reads the body sees its end."""
        with suppress(OSError):  # the other end has closed it
            self.socket.shutdown(socket.SHUT_RDWR)
        self.message.close()
        self.connection.close()


@dataclass(frozen=True, slots=True)
class Client:
    """Calls one server. `workspace` is the workspace of the calls, for a key of every workspace."""

    url: str
    api_key: str | None
    workspace: int | None = None
    timeout_seconds: float = TIMEOUT_SECONDS
    certificate: Path | None = None
    """The certificate of the server of this machine, which has another name than its address there; None: the
    certificate must be valid for the host of the URL."""

    def call(self, method: str, path: str, query: Query | None = None, body: bytes | None = None) -> bytes:
        """Return the body of a response. Raises ApiError for an error of the server, and NoServer without a
        response."""
        with self.open(method, path, query, body) as response:
            try:
                return response.message.read()
            except (OSError, http.client.HTTPException) as error:
                raise self._no_server(error) from None

    def read(self, path: str, query: Query | None = None) -> Any:
        """Return the decoded body of a GET call."""
        return json.loads(self.call("GET", path, query))

    def send(self, method: str, path: str, document: object) -> bytes:
        """Return the body of a call with a JSON document."""
        return self.call(method, path, body=json.dumps(document).encode())

    def items(self, path: str, member: str, query: Query | None = None, limit: int | None = None) -> Iterator[bytes]:
        """Yield the items of a list as the JSON texts that the server returned, page by page, at most `limit`."""
        left, token = limit, ""
        while left is None or left > 0:
            size = PAGE_ITEMS if left is None else min(left, PAGE_ITEMS)
            page = self.call("GET", path, {**(query or {}), "limit": size, "pageToken": token or None})
            members = msgspec.json.decode(page, type=dict[str, msgspec.Raw])
            found = msgspec.json.decode(members[member], type=list[msgspec.Raw])
            yield from map(bytes, found)
            if left is not None:
                left -= len(found)
            token = msgspec.json.decode(members["nextPageToken"], type=str) if "nextPageToken" in members else ""
            if not token or not found:
                return

    def open(self, method: str, path: str, query: Query | None = None, body: bytes | None = None) -> Response:
        """Return a response before its body has arrived. Raises as `call`."""
        headers = {"Accept": "application/json, text/event-stream", "User-Agent": "headwater-cli"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        if self.workspace is not None:
            headers["Headwater-Workspace"] = str(self.workspace)
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(method, self._target(path, query), body, headers)
            opened: socket.socket = connection.sock
            response = Response(connection, opened, connection.getresponse())
            if response.message.status >= 300:
                with response:
                    raise _read_error(response.message.status, response.message.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._no_server(error) from None
        return response

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = None if self.certificate is None else _accept_only(self.certificate)
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.timeout_seconds, context=context
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout_seconds)

    def _target(self, path: str, query: Query | None) -> str:
        pairs: list[tuple[str, str]] = []
        for name, value in (query or {}).items():
            if isinstance(value, bool):
                pairs.append((name, "true" if value else "false"))
            elif isinstance(value, str | int):
                pairs.append((name, str(value)))
            elif value is not None:
                pairs += [(name, each) for each in value]
        target = urlsplit(self.url).path.rstrip("/") + path
        return f"{target}?{urlencode(pairs)}" if pairs else target

    def _no_server(self, error: Exception) -> NoServer:
        match error:
            case ConnectionRefusedError():
                reason = "nothing listens there"
            case socket.gaierror():
                reason = "its host name is not known"
            case ssl.SSLCertVerificationError():
                reason = f"its certificate is not valid: {error.verify_message}"
            case ssl.SSLError():
                reason = "TLS failed: is it http://?"
            case TimeoutError():
                reason = f"it did not respond within {self.timeout_seconds:.0f} seconds"
            case http.client.HTTPException():
                reason = "its response is not HTTP, or was cut short"
            case _:
                reason = str(error) or type(error).__name__
        return NoServer(
            f"no response from {self.url}: {printable(reason)}. Start `headwater serve`, or set HEADWATER_URL"
        )


def _accept_only(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        raise UsageError(f"{certificate} cannot be read as a certificate: {error.strerror or error}") from None
    return context


def check_url(text: str, source: str) -> str:
    """Return the address of a server without a final slash. Raises UsageError, naming the source of the text."""
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise UsageError(f"{source} must be http://host:8080 or https://host")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{source} must not contain a user or a password: set HEADWATER_API_KEY instead")
    return text.rstrip("/")


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def _read_error(status: int, body: bytes) -> ApiError:
    try:
        error = json.loads(body)["error"]
        code, message, field = str(error["code"]), str(error["message"]), str(error.get("field", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body[:MAX_ERROR_CHARACTERS].decode(errors="replace").strip().partition("\n")[0]
        code, message, field = f"HTTP {status}", text or "the response has no error of Headwater", ""
    return ApiError(status, printable(code), printable(message), printable(field))
