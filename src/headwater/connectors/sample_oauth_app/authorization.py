"""Access to the sample OAuth app."""

from collections.abc import Mapping
from typing import Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    MAX_ACCOUNT_CHARACTERS,
    AuthorizationRequest,
    ConnectorContext,
    HttpRequest,
    OAuthTokens,
)
from headwater.connectors.contract.oauth import OAuthRole
from headwater.connectors.oauth import authorization_url, exchange_code, refresh_tokens, require_client

SCOPES: Final[Mapping[OAuthRole, tuple[str, ...]]] = {
    "Source": ("account", "users:read"),
    "Destination": ("account", "events:write"),
}


class _Account(msgspec.Struct):
    id: str


class SampleAuthorization:
    """Implements `OAuthProvider`."""

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context
        self._client = require_client(context)

    def authorization_url(self, request: AuthorizationRequest) -> str:
        return authorization_url(f"{self._client.url}/oauth/authorize", self._client, request, SCOPES[request.role])

    async def exchange(self, code: str, redirect_uri: str, code_verifier: str) -> OAuthTokens:
        return await exchange_code(self._context, self._endpoint, self._client, code, redirect_uri, code_verifier)

    async def refresh(self, refresh_token: str) -> OAuthTokens:
        return await refresh_tokens(self._context, self._endpoint, self._client, refresh_token)

    async def account(self, tokens: OAuthTokens) -> str:
        request = HttpRequest(
            method="GET",
            url=f"{self._client.url}/api/account",
            headers={"authorization": f"Bearer {tokens.access_token}"},
        )
        response = await self._context.http.send(request)
        if response.status != 200:
            raise Unavailable(f"the application does not name the account: status {response.status}")
        try:
            account = msgspec.json.decode(response.body, type=_Account).id
        except (msgspec.DecodeError, UnicodeDecodeError):
            account = ""
        if not 0 < len(account) <= MAX_ACCOUNT_CHARACTERS or "\0" in account:
            raise Unavailable("the application does not name the account")
        return account

    @property
    def _endpoint(self) -> str:
        return f"{self._client.url}/oauth/token"
