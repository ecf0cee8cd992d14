"""The requests and responses of RFC 6749, which nearly all providers have in common, for implementations of
`OAuthProvider`.

Secrets are sent in bodies, never in URLs, and no request is repeated: a provider that rotates refresh tokens treats a
repetition as theft.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import (
    AuthorizationRequest,
    AuthorizationRevoked,
    ConnectorContext,
    HttpRequest,
    HttpResponse,
    OAuthClient,
    OAuthTokens,
    TransportError,
    TransportFailure,
)

MAX_LIFE: Final = timedelta(days=3650)
"""Longer lives of tokens are shortened to this."""

REVOKED: Final = frozenset({"invalid_grant", "BAD_AUTH_CODE", "BAD_REFRESH_TOKEN"})
"""The errors of codes and refresh tokens that are not valid: that of RFC 6749, and those of HubSpot in `status`."""

_TOKEN: Final = re.compile(r"[!-~]{1,8192}")
_ERROR: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class _Answer(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str = "bearer"
    refresh_token: str | None = None
    expires_in: int | float | str | None = None
    instance_url: str | None = None


class _Rejection(msgspec.Struct, frozen=True):
    error: str = ""
    status: str | int = ""


def require_client(context: ConnectorContext) -> OAuthClient:
    """Return the registration at the provider. Raises Unavailable if this installation has none."""
    if context.oauth_client is None:
        raise Unavailable("this installation has no OAuth client for the connector")
    return context.oauth_client


async def find_account_url(context: ConnectorContext) -> str:
    """Return the URL of the server with the data of the connection's account. Raises Unavailable."""
    if context.account_url is None:
        raise TransportError(TransportFailure.AUTHORIZATION_REVOKED, "the connection has no OAuth account")
    try:
        url = await context.account_url()
    except AuthorizationRevoked as error:
        raise TransportError(TransportFailure.AUTHORIZATION_REVOKED, error.message) from error
    if not url:
        raise TransportError(
            TransportFailure.AUTHORIZATION_REVOKED, "the account has no URL: a user must authorize again"
        )
    return url


def authorization_url(
    endpoint: str,
    client: OAuthClient,
    request: AuthorizationRequest,
    scopes: Sequence[str],
    others: Mapping[str, str] | None = None,
) -> str:
    """Return the URL of the consent page at `endpoint`; `others` are parameters of this provider."""
    query = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": request.redirect_uri,
        "scope": " ".join(scopes),
        "state": request.state,
        **(others or {}),
    }
    if request.code_challenge:
        query |= {"code_challenge": request.code_challenge, "code_challenge_method": "S256"}
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"


async def exchange_code(
    context: ConnectorContext, endpoint: str, client: OAuthClient, code: str, redirect_uri: str, code_verifier: str
) -> OAuthTokens:
    """Exchange an authorization code. Raises AuthorizationRevoked, Unavailable."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    if code_verifier:
        form["code_verifier"] = code_verifier
    return await _ask(context, endpoint, client, form)


async def refresh_tokens(
    context: ConnectorContext, endpoint: str, client: OAuthClient, refresh_token: str
) -> OAuthTokens:
    """Exchange a refresh token. Raises AuthorizationRevoked, Unavailable."""
    return await _ask(context, endpoint, client, {"grant_type": "refresh_token", "refresh_token": refresh_token})


async def _ask(context: ConnectorContext, endpoint: str, client: OAuthClient, form: Mapping[str, str]) -> OAuthTokens:
    fields = {**form, "client_id": client.id, "client_secret": client.secret}
    request = HttpRequest(
        method="POST",
        url=endpoint,
        headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
        body=urlencode(fields).encode(),
    )
    return read_tokens(await context.http.send(request), context.clock.now())


def read_tokens(response: HttpResponse, now: datetime) -> OAuthTokens:
    """Return the tokens of a response of the token endpoint.

    Raises AuthorizationRevoked only for an error of `REVOKED`; Unavailable for anything else, with no text of the
    provider except the code of its error.
    """
    if response.status != 200:
        error = _error(response)
        if response.status in (400, 401) and error in REVOKED:
            raise AuthorizationRevoked("the application does not accept the authorization any more")
        cause = f" and the error {error}" if error else ""
        raise Unavailable(f"the authorization server responds with status {response.status}{cause}")
    try:
        answer = msgspec.json.decode(response.body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("the response of the authorization server has no tokens") from None
    refresh_token = answer.refresh_token or ""
    if not _TOKEN.fullmatch(answer.access_token) or (refresh_token and not _TOKEN.fullmatch(refresh_token)):
        raise Unavailable("a token of the authorization server has characters or a length that cannot be sent")
    if answer.token_type.lower() != "bearer":
        raise Unavailable("the tokens of the authorization server are not bearer tokens")
    life = _life(answer.expires_in)
    return OAuthTokens(
        access_token=answer.access_token,
        refresh_token=refresh_token,
        expires_at=None if life is None else now + life,
        url=answer.instance_url or "",
    )


def _error(response: HttpResponse) -> str:
    try:
        rejection = msgspec.json.decode(response.body, type=_Rejection)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    error = rejection.error or str(rejection.status)
    return error if _ERROR.fullmatch(error) else ""


def _life(value: int | float | str | None) -> timedelta | None:
    """Return the time for which a token is valid; None if the response states none. Some providers send text."""
    try:
        seconds = float(value or 0)
    except ValueError:
        raise Unavailable("the authorization server states no valid life of its token") from None
    return timedelta(seconds=min(seconds, MAX_LIFE.total_seconds())) if seconds > 0 else None
