"""HTTP for connectors: requests and responses as values, and the client that exchanges them.

A connector never opens a connection by itself. Its client has limits and checks addresses. It retries nothing, because
only the caller knows whether a repetition is safe.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from headwater.base.errors import Unavailable

DEFAULT_MAX_RESPONSE_BYTES: Final = 32 * 1024
"""Enough for every response to a delivery. A request that reads data asks for more."""
DEFAULT_TIMEOUT_SECONDS: Final = 30.0


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    `url` is absolute, http or https, without user and password. `headers` have names in lower case; the client sets
    `host`, `content-length`, `transfer-encoding` and `connection`. `timeout_seconds` is for the whole exchange. A
    response body over `max_response_bytes`, after decompression, is an error, or with `may_cut_response` is cut there.
    With `authorize` the client adds the
    access token of the connection's OAuth account, which the connector never sees.
    """

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    authorize: bool = False
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES
    may_cut_response: bool = False


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One response, with any status. `headers` have names in lower case; a repeated one is joined by ", ".

    `body` is decompressed. It is untrusted. With `is_cut` it is only the beginning.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    is_cut: bool = False


class TransportFailure(StrEnum):
    """The cause of a missing response."""

    ADDRESS_FORBIDDEN = "AddressForbidden"
    """The URL or the address that its name resolves to is one that this installation does not connect to."""
    CONNECT_FAILED = "ConnectFailed"
    """The name was not resolved, or the connection was not established in time."""
    TLS_FAILED = "TlsFailed"
    TIMED_OUT = "TimedOut"
    DISCONNECTED = "Disconnected"
    """The connection ended before the response was complete."""
    INVALID_RESPONSE = "InvalidResponse"
    """The response is not HTTP, or its body cannot be decompressed."""
    RESPONSE_TOO_LARGE = "ResponseTooLarge"
    NO_ACCESS_TOKEN = "NoAccessToken"
    """The access token of the OAuth account has expired, and cannot be refreshed at the moment."""
    AUTHORIZATION_REVOKED = "AuthorizationRevoked"
    """A user must authorize the connection again."""


_NOT_SENT: Final = frozenset(
    {
        TransportFailure.ADDRESS_FORBIDDEN,
        TransportFailure.CONNECT_FAILED,
        TransportFailure.TLS_FAILED,
        TransportFailure.NO_ACCESS_TOKEN,
        TransportFailure.AUTHORIZATION_REVOKED,
    }
)


class TransportError(Unavailable):
    """The exchange has no usable response. The message contains neither the URL's query nor any secret."""

    def __init__(self, failure: TransportFailure, message: str) -> None:
        super().__init__(message)
        self.failure = failure

    @property
    def may_have_arrived(self) -> bool:
        """Return whether the other side may have acted on the request."""
        return self.failure not in _NOT_SENT


class HttpClient(Protocol):
    """Exchanges requests and responses."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send the request once, and return the response whatever its status is. Redirects are not followed.

        Raises TransportError; BadRequest for a request that is not valid; PayloadTooLarge for a body over the limit.
        """
        ...
