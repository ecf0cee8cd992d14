"""Authorization by OAuth 2: `OAuthProvider`, which a connector implements, and `AccessToken`, which its client uses.

A connector has the endpoints and their peculiarities. Keeping tokens, refreshing each once across processes, and
protecting `state` belong to the caller.
"""

from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

from headwater.base.errors import Unprocessable

OAuthRole = Literal["Source", "Destination"]
MAX_ACCOUNT_CHARACTERS: Final = 255
"""Maximum length of the identifier of an account."""


class OAuthClient(msgspec.Struct, frozen=True, kw_only=True):
    """The registration of this installation at a provider, from the deployment's configuration.

    `url` is the base URL of a provider whose address depends on the deployment, without a final slash; empty if the
    connector knows the endpoints. The printed form shows no secret.
    """

    id: str
    secret: str
    url: str = ""

    def __repr__(self) -> str:
        return f"OAuthClient(id={self.id!r}, url={self.url!r})"


class OAuthTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of an account.

    `refresh_token` is empty if the provider returns none; after a refresh, empty means that the old one remains valid.
    `expires_at` is in UTC; None if the provider does not state it. `url` is that of the server with the account's data,
    for providers that state one; after a refresh, empty means that the old one remains valid. The printed form shows no
    token.
    """

    access_token: str
    refresh_token: str = ""
    expires_at: datetime | None = None
    url: str = ""

    def __repr__(self) -> str:
        return f"OAuthTokens(expires_at={self.expires_at!r})"


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request that opens the provider's consent page.

    `state` is opaque. `code_challenge` is that of PKCE with S256; empty for none.
    """

    role: OAuthRole
    redirect_uri: str
    state: str
    code_challenge: str = ""


class AuthorizationRevoked(Unprocessable):
    """The provider rejects the code or the refresh token permanently: a user must authorize again."""

    def __init__(self, message: str) -> None:
        super().__init__("AuthorizationRevoked", message)


class OAuthProvider(Protocol):
    """The authorization server of an application."""

    def authorization_url(self, request: AuthorizationRequest) -> str:
        """Return the URL of the consent page. Computes only. Raises BadRequest for a redirect URI that is not
        allowed."""
        ...

    async def exchange(self, code: str, redirect_uri: str, code_verifier: str) -> OAuthTokens:
        """Return the tokens for an authorization code; `code_verifier` is empty without PKCE.

        Raises AuthorizationRevoked, Unavailable.
        """
        ...

    async def refresh(self, refresh_token: str) -> OAuthTokens:
        """Return new tokens. Raises AuthorizationRevoked; Unavailable, and then the old tokens remain valid."""
        ...

    async def account(self, tokens: OAuthTokens) -> str:
        """Return the identifier of the account that the tokens belong to, the same each time, of 1 to
        `MAX_ACCOUNT_CHARACTERS`. Raises Unavailable."""
        ...


class AccessToken(Protocol):
    """The access token of one OAuth account, refreshed when necessary."""

    async def current(self) -> str:
        """Return a token that is valid. Raises AuthorizationRevoked; Unavailable if it cannot be refreshed in time."""
        ...

    async def url(self) -> str:
        """Return the URL of the server with the account's data, as of the latest tokens; empty if the provider states
        none. Raises as `current`."""
        ...

    def reject(self, token: str) -> None:
        """Record that the application does not accept `token`, so that `current` returns another one."""
        ...
