"""The conformance suite of `OAuthProvider`."""

from abc import ABC, abstractmethod
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    AuthorizationRequest,
    AuthorizationRevoked,
    HttpRequest,
    HttpResponse,
    OAuthProvider,
    TransportError,
    TransportFailure,
)
from tests.connectors.conformance.context import NOW, ScriptedHttp

REDIRECT = "https://headwater.example/oauth/callback"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
REQUEST = AuthorizationRequest(role="Destination", redirect_uri=REDIRECT, state="a+b/c=", code_challenge=CHALLENGE)


class OAuthConformance(ABC):
    """`make` returns a provider with a scripted client. `tokens` is the provider's response with these tokens, and
    `invalid_grant` its response to a code or a refresh token that is not valid."""

    @abstractmethod
    def make(self, http: ScriptedHttp) -> OAuthProvider: ...

    def tokens(self, access: str, refresh: str, seconds: int | None) -> HttpResponse:
        import msgspec

        body: dict[str, object] = {"access_token": access, "token_type": "bearer"}
        body |= {"refresh_token": refresh} if refresh else {}
        body |= {} if seconds is None else {"expires_in": seconds}
        return HttpResponse(status=200, headers={"content-type": "application/json"}, body=msgspec.json.encode(body))

    def invalid_grant(self) -> HttpResponse:
        return HttpResponse(status=400, body=b'{"error":"invalid_grant"}')

    def provider(self, response: HttpResponse | TransportError | None = None) -> tuple[OAuthProvider, ScriptedHttp]:
        reply = self.tokens("access-1", "refresh-1", 3_600) if response is None else response
        http = ScriptedHttp(lambda _: reply)
        return self.make(http), http

    async def test_the_authorization_url_has_the_parameters(self) -> None:
        provider, http = self.provider()
        parts = urlsplit(provider.authorization_url(REQUEST))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert parts.scheme == "https" and http.requests == []
        assert query["response_type"] == "code" and query["client_id"]
        assert (query["redirect_uri"], query["state"]) == (REDIRECT, "a+b/c=")
        assert (query["code_challenge"], query["code_challenge_method"]) == (CHALLENGE, "S256")

    async def test_no_challenge_without_pkce(self) -> None:
        provider, _ = self.provider()
        url = provider.authorization_url(AuthorizationRequest(role="Source", redirect_uri=REDIRECT, state="s"))
        assert "code_challenge" not in url

    async def test_a_code_is_exchanged_once_and_outside_the_url(self) -> None:
        provider, http = self.provider()
        tokens = await provider.exchange("the-code", REDIRECT, "the-verifier")
        assert (tokens.access_token, tokens.refresh_token) == ("access-1", "refresh-1")
        assert tokens.expires_at == NOW + timedelta(hours=1)
        [request] = http.requests
        self._check_secret_request(request, "the-code")
        assert b"the-verifier" in request.body

    async def test_a_refresh_keeps_or_replaces_the_refresh_token(self) -> None:
        for given in ("refresh-2", ""):
            provider, http = self.provider(self.tokens("access-2", given, 60))
            tokens = await provider.refresh("refresh-1")
            assert (tokens.access_token, tokens.refresh_token) == ("access-2", given)
            self._check_secret_request(http.requests[0], "refresh-1")

    async def test_a_token_without_an_expiry_has_none(self) -> None:
        provider, _ = self.provider(self.tokens("access-1", "", None))
        assert (await provider.refresh("r")).expires_at is None

    async def test_a_revoked_grant_is_an_error(self) -> None:
        provider, _ = self.provider(self.invalid_grant())
        with pytest.raises(AuthorizationRevoked):
            await provider.refresh("refresh-1")
        with pytest.raises(AuthorizationRevoked):
            await provider.exchange("code", REDIRECT, "")

    async def test_temporary_failures_revoke_nothing(self) -> None:
        for response in (
            HttpResponse(status=500),
            HttpResponse(status=429),
            HttpResponse(status=503, body=b'{"error":"invalid_grant"}'),
            HttpResponse(status=200, body=b"<html>"),
            HttpResponse(status=200, body=b"{}"),
            HttpResponse(status=400, body=b"nonsense"),
            TransportError(TransportFailure.TIMED_OUT, "late"),
        ):
            provider, http = self.provider(response)
            with pytest.raises(Unavailable):
                await provider.refresh("refresh-1")
            assert len(http.requests) == 1, "a rotated refresh token must not be used twice"

    async def test_tokens_are_not_printed(self) -> None:
        provider, _ = self.provider()
        tokens = await provider.refresh("r")
        assert "access-1" not in repr(tokens) and "refresh-1" not in f"{tokens}"

    def _check_secret_request(self, request: HttpRequest, secret: str) -> None:
        assert request.method == "POST" and secret.encode() in request.body
        assert secret not in request.url
