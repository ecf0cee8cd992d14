"""Access to HubSpot that a user grants by OAuth 2. A token is valid for 30 minutes, and a refresh keeps its refresh
token."""

from collections.abc import Mapping
from typing import Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import AuthorizationRequest, ConnectorContext, HttpRequest, OAuthTokens
from headwater.connectors.contract.oauth import OAuthRole
from headwater.connectors.hubspot.api import ACCOUNT_URL, ORIGIN, VERSION
from headwater.connectors.oauth import authorization_url, exchange_code, refresh_tokens, require_client

AUTHORIZATION_URL: Final = "https://app.hubspot.com/oauth/authorize"
TOKEN_URL: Final = f"{ORIGIN}/oauth/{VERSION.name}/token"
SCOPES: Final[Mapping[OAuthRole, tuple[str, ...]]] = {
    "Source": ("oauth", "crm.objects.contacts.read", "crm.schemas.contacts.read"),
    "Destination": (
        "oauth",
        "crm.objects.contacts.read",
        "crm.objects.contacts.write",
        "crm.schemas.contacts.read",
    ),
}
EVENT_SCOPES: Final = ("analytics.behavioral_events.send", "behavioral_events.event_definitions.read_write")
"""The scopes of custom events, which HubSpot leaves out for an account whose plan has none."""


class _Account(msgspec.Struct):
    portal_id: int = msgspec.field(name="portalId")


class HubSpotAuthorization:
    """Implements `OAuthProvider`. The account is the id of the HubSpot account."""

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context
        self._client = require_client(context)

    def authorization_url(self, request: AuthorizationRequest) -> str:
        others = {"optional_scope": " ".join(EVENT_SCOPES)} if request.role == "Destination" else {}
        return authorization_url(AUTHORIZATION_URL, self._client, request, SCOPES[request.role], others)

    async def exchange(self, code: str, redirect_uri: str, code_verifier: str) -> OAuthTokens:
        return await exchange_code(self._context, TOKEN_URL, self._client, code, redirect_uri, code_verifier)

    async def refresh(self, refresh_token: str) -> OAuthTokens:
        return await refresh_tokens(self._context, TOKEN_URL, self._client, refresh_token)

    async def account(self, tokens: OAuthTokens) -> str:
        headers = {"accept": "application/json", "authorization": f"Bearer {tokens.access_token}"}
        response = await self._context.http.send(HttpRequest(method="GET", url=ACCOUNT_URL, headers=headers))
        if response.status != 200:
            raise Unavailable(f"HubSpot does not name the account: status {response.status}")
        try:
            return str(msgspec.json.decode(response.body, type=_Account).portal_id)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable("HubSpot does not name the account") from None
