"""An authorization server by RFC 6749: the reference implementation of `OAuthProvider` for its suite."""

from datetime import timedelta
from urllib.parse import urlencode

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    AuthorizationRequest,
    AuthorizationRevoked,
    ConnectorContext,
    HttpRequest,
    OAuthTokens,
)


class Tokens(msgspec.Struct):
    access_token: str
    refresh_token: str = ""
    expires_in: int | None = None


class Rejection(msgspec.Struct):
    error: str = ""


class PlainOAuth:
    """Implements `OAuthProvider`."""

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context

    def authorization_url(self, request: AuthorizationRequest) -> str:
        query = {
            "response_type": "code",
            "client_id": "client",
            "redirect_uri": request.redirect_uri,
            "scope": "write" if request.role == "Destination" else "read",
            "state": request.state,
        }
        if request.code_challenge:
            query |= {"code_challenge": request.code_challenge, "code_challenge_method": "S256"}
        return f"https://auth.example/authorize?{urlencode(query)}"

    async def exchange(self, code: str, redirect_uri: str, code_verifier: str) -> OAuthTokens:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        return await self._tokens(form | ({"code_verifier": code_verifier} if code_verifier else {}))

    async def refresh(self, refresh_token: str) -> OAuthTokens:
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def account(self, tokens: OAuthTokens) -> str:
        return "account"

    def request(self, form: dict[str, str]) -> HttpRequest:
        return HttpRequest(
            method="POST",
            url="https://auth.example/token",
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )

    async def _tokens(self, form: dict[str, str]) -> OAuthTokens:
        response = await self._context.http.send(self.request(form))
        try:
            if response.status == 400 and msgspec.json.decode(response.body, type=Rejection).error == "invalid_grant":
                raise AuthorizationRevoked("the authorization was revoked")
            if response.status != 200:
                raise Unavailable(f"the authorization server responds with status {response.status}")
            tokens = msgspec.json.decode(response.body, type=Tokens)
        except msgspec.DecodeError:
            raise Unavailable("the response has no valid tokens") from None
        life = tokens.expires_in
        return OAuthTokens(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_at=None if life is None else self._context.clock.now() + timedelta(seconds=life),
        )
