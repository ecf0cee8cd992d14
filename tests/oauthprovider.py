"""A real authorization server with an API behind it, on a port of this machine: the provider of the sample OAuth app.

The grants are those of authlib. `Behaviour` makes the server rotate refresh tokens, fail and be slow.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import flask
import httpx
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from werkzeug.serving import make_server

from headwater.connectors.contract import OAuthClient

CLIENT_ID: Final = "headwater-in-tests"
CLIENT_SECRET: Final = "client-secret-of-the-tests"
REDIRECT_URI: Final = "https://example.com/granted"


@dataclass
class Behaviour:
    """The behaviour of the server, which a test may change at any time.

    `status` and `body` replace the response of the token endpoint, before the request has any effect. With `rotate`,
    a refresh returns another refresh token and ends the old one; with `reuse_ends_family` a repetition of an old one
    ends all tokens of the authorization. `expires_in` None leaves the member out.
    """

    rotate: bool = False
    reuse_ends_family: bool = False
    with_refresh_token: bool = True
    delay_seconds: float = 0.0
    status: int = 0
    body: bytes = b""
    expires_in: int | None = 3_600
    account: str = "shop-1"
    rejects_access_tokens: bool = False
    users: int = 3


class _Client(ClientMixin):  # type: ignore[misc]
    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return REDIRECT_URI

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri.startswith(("https://example.com/", "http://127.0.0.1"))

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_post"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("authorization_code", "refresh_token")


@dataclass
class Code:
    """An authorization code."""

    code: str
    redirect_uri: str
    scope: str
    account: str
    family: int
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass
class Grant(TokenMixin):  # type: ignore[misc]
    """An access token with its refresh token. `family` is the same for all that come from one consent."""

    access_token: str
    refresh_token: str
    scope: str
    account: str
    family: int
    expires_at: float
    is_spent: bool = False

    def check_client(self, client: object) -> bool:
        return True

    def get_scope(self) -> str:
        return self.scope


@dataclass
class OAuthProvider:
    """The state of the server."""

    url: str
    behaviour: Behaviour = field(default_factory=Behaviour)
    codes: dict[str, Code] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)
    """The families whose tokens are not valid any more."""
    requests: list[Mapping[str, str]] = field(default_factory=list)
    """The forms of the token endpoint, as they came."""
    events: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def client(self) -> OAuthClient:
        return OAuthClient(id=CLIENT_ID, secret=CLIENT_SECRET, url=self.url)

    @property
    def refreshes(self) -> int:
        """The number of refreshes that the server received."""
        return sum(form.get("grant_type") == "refresh_token" for form in self.requests)

    @property
    def secrets(self) -> set[str]:
        """All codes and tokens that the server has issued, and the secret of the client."""
        tokens = {token for grant in self.grants for token in (grant.access_token, grant.refresh_token) if token}
        return {CLIENT_SECRET, *tokens, *(form["code"] for form in self.requests if "code" in form)}

    def consent(self, authorization_url: str) -> dict[str, str]:
        """Open the consent page, agree, and return the parameters of the redirect."""
        response = httpx.get(authorization_url)
        assert response.status_code == 302, response.text
        return dict(parse_qsl(urlsplit(response.headers["location"]).query))

    def end_access_tokens(self) -> None:
        """Let the API reject all access tokens that were issued so far."""
        for grant in self.grants:
            grant.expires_at = 0.0

    def find_grant(self, authorization: str) -> Grant | None:
        """Return the grant with a valid access token."""
        token = authorization.removeprefix("Bearer ")
        for grant in self.grants:
            if grant.access_token == token and grant.expires_at > time.time() and grant.family not in self.ended:
                return None if self.behaviour.rejects_access_tokens else grant
        return None


@contextmanager
def open_oauth_provider() -> Iterator[OAuthProvider]:
    """Serve in a thread until the block ends."""
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # http on this machine
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = flask.Flask("tests.oauthprovider")
    app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
    server = make_server("127.0.0.1", 0, app, threaded=True)
    provider = OAuthProvider(f"http://127.0.0.1:{server.port}")
    _add_authorization(app, provider)
    _add_api(app, provider)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _add_authorization(app: flask.Flask, provider: OAuthProvider) -> None:
    def save_token(token: dict[str, Any], request: Any) -> None:
        if provider.behaviour.expires_in is None:
            token.pop("expires_in", None)
        else:
            token["expires_in"] = provider.behaviour.expires_in
        granted: Code | Grant = request.user
        provider.grants.append(
            Grant(
                access_token=token["access_token"],
                refresh_token=token.get("refresh_token", ""),
                scope=granted.scope,
                account=granted.account,
                family=granted.family,
                expires_at=time.time() + (provider.behaviour.expires_in or 3_600),
            )
        )

    server = AuthorizationServer(app, query_client=lambda id_: _Client() if id_ == CLIENT_ID else None)
    server._save_token = save_token
    server.register_grant(_code_grant(provider), [CodeChallenge(required=False)])
    server.register_grant(_refresh_grant(provider))

    @app.get("/oauth/authorize")
    def authorize() -> Any:
        with provider.lock:
            user = provider.behaviour.account
            return server.create_authorization_response(grant_user=user, grant=server.get_consent_grant(end_user=user))

    @app.post("/oauth/token")
    def token() -> Any:
        behaviour = provider.behaviour
        with provider.lock:
            provider.requests.append(flask.request.form.to_dict())
        time.sleep(behaviour.delay_seconds)
        if behaviour.status:
            return flask.Response(behaviour.body, status=behaviour.status, content_type="application/json")
        with provider.lock:
            return server.create_token_response()


def _code_grant(provider: OAuthProvider) -> type[AuthorizationCodeGrant]:
    class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

        def save_authorization_code(self, code: str, request: Any) -> None:
            payload = request.payload
            provider.codes[code] = Code(
                code=code,
                redirect_uri=payload.redirect_uri,
                scope=payload.scope,
                account=request.user,
                family=len(provider.grants) + len(provider.codes),
                code_challenge=payload.data.get("code_challenge"),
                code_challenge_method=payload.data.get("code_challenge_method"),
            )

        def query_authorization_code(self, code: str, client: object) -> Code | None:
            return provider.codes.get(code)

        def delete_authorization_code(self, authorization_code: Code) -> None:
            del provider.codes[authorization_code.code]

        def authenticate_user(self, authorization_code: Code) -> Code:
            return authorization_code

        def generate_token(self, *args: Any, **kwargs: Any) -> Any:
            kwargs["include_refresh_token"] = provider.behaviour.with_refresh_token
            return super().generate_token(*args, **kwargs)

    return CodeGrant


def _refresh_grant(provider: OAuthProvider) -> type[RefreshTokenGrant]:
    class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

        def authenticate_refresh_token(self, refresh_token: str) -> Grant | None:
            for grant in provider.grants:
                if grant.refresh_token != refresh_token or grant.family in provider.ended:
                    continue
                if not grant.is_spent:
                    return grant
                if provider.behaviour.reuse_ends_family:
                    provider.ended.add(grant.family)
            return None

        def authenticate_user(self, refresh_token: Grant) -> Grant:
            return refresh_token

        def issue_token(self, user: Grant, refresh_token: Grant) -> Any:
            return self.generate_token(
                user=user, scope=refresh_token.scope, include_refresh_token=provider.behaviour.rotate
            )

        def revoke_old_credential(self, refresh_token: Grant) -> None:
            refresh_token.is_spent = provider.behaviour.rotate

    return RefreshGrant


def _add_api(app: flask.Flask, provider: OAuthProvider) -> None:
    def allowed() -> Grant:
        authorization = flask.request.headers.get("authorization", "")
        grant = provider.find_grant(authorization)
        if grant is None:
            flask.abort(flask.Response(f"not valid: {authorization}", status=401))
        return grant

    @app.get("/api/account")
    def account() -> Any:
        return {"id": allowed().account}

    @app.get("/api/users")
    def users() -> Any:
        allowed()
        first, limit = (int(flask.request.args[name]) for name in ("offset", "limit"))
        numbers = range(first, min(first + limit, provider.behaviour.users))
        return {
            "users": [
                {"id": f"u{number}", "email": f"u{number}@example.com", "updatedAt": "2026-05-04T12:00:00Z"}
                for number in numbers
            ]
        }

    @app.post("/api/events")
    def events() -> Any:
        allowed()
        with provider.lock:
            provider.events.append(flask.request.get_data())
        return {}
