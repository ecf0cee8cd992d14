"""Access to a Salesforce account.

The response with the tokens names the server of the account. It has no end of the access token, which is refreshed
when the server rejects it. Both can change with a refresh.
"""

import re
from typing import Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import AuthorizationRequest, ConnectorContext, HttpRequest, OAuthTokens
from headwater.connectors.oauth import authorization_url, exchange_code, refresh_tokens, require_client

LOGIN: Final = "https://login.salesforce.com"
SCOPES: Final = ("api", "refresh_token", "openid")
"""The scopes of both roles, because their connections share an account."""

_SERVER: Final = re.compile(
    r"https://[a-z0-9][a-z0-9.-]{0,200}\.(salesforce\.com|salesforce\.mil|cloudforce\.com|force\.com|sfcrmproducts\.cn)/?",
    re.IGNORECASE,
)
"""The servers that tokens are sent to."""
_ORGANIZATION: Final = re.compile(r"00D[A-Za-z0-9]{12}([A-Za-z0-9]{3})?")


class _UserInfo(msgspec.Struct):
    organization_id: str


class SalesforceAuthorization:
    """Implements `OAuthProvider`. The account is the organization, of which all users have the same limits."""

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context
        self._client = require_client(context)
        self._login = self._client.url or LOGIN

    def authorization_url(self, request: AuthorizationRequest) -> str:
        return authorization_url(f"{self._login}/services/oauth2/authorize", self._client, request, SCOPES)

    async def exchange(self, code: str, redirect_uri: str, code_verifier: str) -> OAuthTokens:
        tokens = await exchange_code(self._context, self._endpoint, self._client, code, redirect_uri, code_verifier)
        if not tokens.url:
            raise Unavailable("the authorization server does not name the server of the account")
        return _checked(tokens)

    async def refresh(self, refresh_token: str) -> OAuthTokens:
        return _checked(await refresh_tokens(self._context, self._endpoint, self._client, refresh_token))

    async def account(self, tokens: OAuthTokens) -> str:
        request = HttpRequest(
            method="GET",
            url=f"{self._login}/services/oauth2/userinfo",
            headers={"authorization": f"Bearer {tokens.access_token}", "accept": "application/json"},
        )
        response = await self._context.http.send(request)
        if response.status != 200:
            raise Unavailable(f"Salesforce does not name the organization: status {response.status}")
        try:
            organization = msgspec.json.decode(response.body, type=_UserInfo).organization_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            organization = ""
        if not _ORGANIZATION.fullmatch(organization):
            raise Unavailable("Salesforce does not name the organization")
        return organization

    @property
    def _endpoint(self) -> str:
        return f"{self._login}/services/oauth2/token"


def _checked(tokens: OAuthTokens) -> OAuthTokens:
    """Return tokens whose URL is an origin of Salesforce. Raises Unavailable."""
    if tokens.url and not _SERVER.fullmatch(tokens.url):
        raise Unavailable("the authorization server names a server that does not belong to Salesforce")
    return msgspec.structs.replace(tokens, url=tokens.url.rstrip("/"))
