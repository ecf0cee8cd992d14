"""Grants access to an application with OAuth 2: the URL of its consent page, and the exchange of the returned code.

Nothing is stored between the steps. `state` and the authorization token are sealed values that expire: `state` after 10
minutes, and it can be used once; the token after an hour.

| step | result |
| --- | --- |
| `authorization_url` | the consent page, with a `state`, and with PKCE if the caller will return it |
| `authorization_token` | the exchange of the code: the token that a connection is created with |
| `open_authorization_token` | the content of that token, for its workspace and connector alone |
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import BadRequest, NotFound, Unavailable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Caller, Catalog
from headwater.connectors.connector import Connector, Role
from headwater.connectors.contract import AuthorizationRequest, AuthorizationRevoked, OAuthProvider, OAuthTokens
from headwater.connectors.environment import ConnectorEnvironment
from headwater.management.connection_rules import find_connector, parse_role

STATE_SECONDS: Final = 600.0
AUTHORIZATION_TOKEN_SECONDS: Final = 3_600.0
EXCHANGE_SECONDS: Final = 30.0
"""Time limit of the exchange of a code."""
MAX_REDIRECT_URI_CHARACTERS: Final = 2_000
MAX_CODE_CHARACTERS: Final = 4_096
MAX_SEALED_CHARACTERS: Final = 64 * 1024

_VERIFIER_BYTES: Final = 48
"""64 characters of base64url: RFC 7636 wants 43 to 128."""
_LOCALHOST: Final = "localhost"

_Content = TypeVar("_Content", bound=msgspec.Struct)


class Authorization(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an authorization token. `role` is None if the exchange had no `state`."""

    account: str
    tokens: OAuthTokens
    authorized_at: datetime
    role: Role | None


class GrantedToken:
    """Implements `AccessToken` for an authorization whose account is not stored yet. It is not refreshed."""

    def __init__(self, tokens: OAuthTokens) -> None:
        self._tokens = tokens

    async def current(self) -> str:
        return self._tokens.access_token

    async def url(self) -> str:
        return self._tokens.url

    def reject(self, token: str) -> None:
        """Do nothing: the response is that of the rejected token."""


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """`workspace` is None for a caller without one; then `key` is the API key that must exchange the code."""

    workspace: int | None
    key: int
    connector: str
    role: Role
    redirect_uri: str
    verifier: str
    nonce: str
    expires_at: datetime


class _SealedAuthorization(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    access_token: str
    refresh_token: str
    expires_at: datetime | None
    authorized_at: datetime
    role: Role | None
    url: str = ""


async def authorization_url(
    catalog: Catalog,
    environment: ConnectorEnvironment,
    caller: Caller,
    connector: str,
    role: str,
    redirect_uri: str,
    *,
    allowed_redirect_uris: tuple[str, ...] = (),
    pkce: bool = False,
) -> str:
    """Return the URL of the page where a user grants access.

    `allowed_redirect_uris` are those of the installation; empty means any. With `pkce` the code can be exchanged only
    with the `state` of the URL. Raises NotFound for an unknown connector; BadRequest; Unavailable without an OAuth
    client.
    """
    found = catalog.connectors.get(connector)
    if found is None:
        raise NotFound(f'connector "{connector}" does not exist', field="connector")
    parsed = parse_role(role)
    if found.oauth is None:
        raise BadRequest(f"connector {found.code} does not support OAuth", field="connector")
    if found.capabilities(parsed) is None:
        raise BadRequest(f"connector {found.code} cannot be a {parsed.lower()}", field="role")
    _check_redirect_uri(found, redirect_uri, allowed_redirect_uris)
    identifiers = Identifiers()
    verifier = _encoded(b"".join(identifiers.nonce() for _ in range(_VERIFIER_BYTES // 16))) if pkce else ""
    state = _State(
        workspace=caller.workspace,
        key=caller.key.id,
        connector=found.code,
        role=parsed,
        redirect_uri=redirect_uri,
        verifier=verifier,
        nonce=identifiers.nonce().hex(),
        expires_at=environment.clock.now() + timedelta(seconds=STATE_SECONDS),
    )
    async with _provider(found, environment) as provider:
        return provider.authorization_url(
            AuthorizationRequest(
                role=parsed,
                redirect_uri=redirect_uri,
                state=_seal(catalog, state, b"oauth state"),
                code_challenge=_encoded(sha256(verifier.encode()).digest()) if pkce else "",
            )
        )


async def authorization_token(
    catalog: Catalog,
    environment: ConnectorEnvironment,
    caller: Caller,
    connector: str,
    redirect_uri: str,
    auth_code: str,
    state: str | None = None,
) -> str:
    """Exchange a code, and return the token with which a connection is created.

    Raises BadRequest; Unprocessable with ConnectorNotExist; Unavailable if the application rejects the code or does not
    respond.
    """
    workspace = caller.require_workspace()
    if not connector:
        raise BadRequest("connector is required", field="connector")
    if not auth_code:
        raise BadRequest("authCode is required", field="authCode")
    if len(auth_code) > MAX_CODE_CHARACTERS:
        raise BadRequest(f"authCode has more than {MAX_CODE_CHARACTERS} characters", field="authCode")
    found = find_connector(catalog, connector)
    if found.oauth is None:
        raise BadRequest(f"connector {found.code} does not support authorization", field="connector")
    if not redirect_uri:
        raise BadRequest("redirectURI is required", field="redirectURI")
    opened = None
    if state is not None:
        opened = _open_state(catalog, environment, caller, found, redirect_uri, state)
    async with _provider(found, environment) as provider, _used_once(catalog, opened):
        verifier = "" if opened is None else opened.verifier
        authorization = await _exchange(provider, environment, auth_code, redirect_uri, verifier)
    if opened is not None:
        authorization = msgspec.structs.replace(authorization, role=opened.role)
    return _seal(catalog, authorization, _token_context(workspace, found))


def open_authorization_token(
    catalog: Catalog, workspace: int, connector: Connector, role: Role, token: str, now: datetime
) -> Authorization:
    """Return the content of an authorization token. Raises BadRequest if it is not valid here, or not any more."""
    try:
        opened = _open(catalog, token, _token_context(workspace, connector), _SealedAuthorization)
    except SealError:
        raise BadRequest("authorization token is not valid", field="authToken") from None
    if now >= opened.authorized_at + timedelta(seconds=AUTHORIZATION_TOKEN_SECONDS):
        raise BadRequest("authorization token has expired: authorize again", field="authToken")
    if opened.role not in (None, role):
        raise BadRequest("authorization token is not valid: it is for the other role", field="authToken")
    return Authorization(
        account=opened.account,
        tokens=OAuthTokens(
            access_token=opened.access_token,
            refresh_token=opened.refresh_token,
            expires_at=opened.expires_at,
            url=opened.url,
        ),
        authorized_at=opened.authorized_at,
        role=opened.role,
    )


def _check_redirect_uri(connector: Connector, uri: str, allowed: tuple[str, ...]) -> None:
    if not uri:
        raise BadRequest("redirectURI is required", field="redirectURI")
    rule = _redirect_rule(connector, uri)
    if rule is None and allowed and uri not in allowed:
        rule = "is not on the list of redirect URIs that this installation allows"
    if rule is not None:
        raise BadRequest(f"redirectURI {rule}", field="redirectURI")


def _redirect_rule(connector: Connector, uri: str) -> str | None:
    """Return the rule that a redirect URI breaks; None if it breaks none."""
    if len(uri) > MAX_REDIRECT_URI_CHARACTERS:
        return f"has more than {MAX_REDIRECT_URI_CHARACTERS} characters"
    if not uri.isascii() or not uri.isprintable() or " " in uri or "\\" in uri:
        return "contains characters that must be percent-encoded"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if not host or parts.scheme not in ("http", "https"):
        return "must be an absolute URL with https, or with http on this machine"
    if parts.username is not None or parts.password is not None or "#" in uri:
        return "must not contain a user, a password or a fragment"
    is_loopback = _is_loopback(host)
    if parts.scheme == "http" and host != _LOCALHOST and not is_loopback:
        return "must use https unless it leads to this machine"
    assert connector.oauth is not None
    if is_loopback and connector.oauth.disallow_loopback_ip:
        return "must not lead to 127.0.0.1: the application refuses it"
    if host == _LOCALHOST and connector.oauth.disallow_localhost:
        return "must not lead to localhost: the application refuses it"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def _provider(connector: Connector, environment: ConnectorEnvironment) -> AsyncIterator[OAuthProvider]:
    make = connector.engine.oauth
    if make is None or connector.code not in environment.oauth_clients:
        raise Unavailable(
            f"OAuth is not configured: this installation has no client id and secret for connector {connector.code}"
        )
    async with environment.context(connector.code, None, None) as context:
        yield make(None, context)


async def _exchange(
    provider: OAuthProvider, environment: ConnectorEnvironment, code: str, redirect_uri: str, verifier: str
) -> _SealedAuthorization:
    try:
        async with asyncio.timeout(EXCHANGE_SECONDS):
            tokens = await provider.exchange(code, redirect_uri, verifier)
            # Taken before the next request: an authorization that begins meanwhile is later.
            authorized_at = environment.clock.now()
            account = await provider.account(tokens)
    except TimeoutError:
        raise Unavailable(f"the application did not respond within {EXCHANGE_SECONDS:g} seconds") from None
    except AuthorizationRevoked:
        raise _CodeRejected("the application rejects the authorization code: authorize again") from None
    return _SealedAuthorization(
        account=account,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_at=tokens.expires_at,
        authorized_at=authorized_at,
        role=None,
        url=tokens.url,
    )


class _CodeRejected(Unavailable):
    """The provider does not accept the code; a repetition has no other result."""


@asynccontextmanager
async def _used_once(catalog: Catalog, state: _State | None) -> AsyncIterator[None]:
    """Use up the state. It can be used again if the exchange fails without a decision of the provider."""
    if state is None:
        yield
        return
    digest = sha256(state.nonce.encode()).hexdigest()
    if not await catalog.oauth_accounts.use_state(digest, state.expires_at):
        raise BadRequest("state was used before: authorize again", field="state")
    try:
        yield
    except _CodeRejected:
        raise
    except Unavailable:
        await catalog.oauth_accounts.free_state(digest)
        raise


def _open_state(
    catalog: Catalog,
    environment: ConnectorEnvironment,
    caller: Caller,
    connector: Connector,
    redirect_uri: str,
    sealed: str,
) -> _State:
    try:
        state = _open(catalog, sealed, b"oauth state", _State)
    except SealError:
        raise BadRequest("state is not valid", field="state") from None
    if state.workspace not in (None, caller.workspace) or (state.workspace is None and state.key != caller.key.id):
        raise BadRequest("state is not valid in this workspace", field="state")
    if state.connector != connector.code:
        raise BadRequest("state is not valid for this connector", field="state")
    if environment.clock.now() >= state.expires_at:
        raise BadRequest("state has expired: authorize again", field="state")
    if state.redirect_uri != redirect_uri:
        raise BadRequest("redirectURI is not the one that the authorization began with", field="redirectURI")
    return state


def _token_context(workspace: int, connector: Connector) -> bytes:
    return f"oauth authorization of connector {connector.code} in workspace {workspace}".encode()


def _seal(catalog: Catalog, content: msgspec.Struct, context: bytes) -> str:
    return _encoded(_keyring(catalog).seal(msgspec.json.encode(content), context=context))


def _open(catalog: Catalog, text: str, context: bytes, type_: type[_Content]) -> _Content:
    """Return the content of a sealed text. Raises SealError."""
    if len(text) > MAX_SEALED_CHARACTERS or not text.isascii():
        raise SealError("it is not a sealed text")
    try:
        record = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SealError("it is not a sealed text") from None
    if _encoded(record) != text:
        raise SealError("it is not a sealed text")
    plain = _keyring(catalog).open(record, context=context)
    try:
        return msgspec.json.decode(plain, type=type_)
    except msgspec.DecodeError:
        raise SealError("another version of this program has sealed it") from None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _keyring(catalog: Catalog) -> Keyring:
    if catalog.keyring is None:
        raise RuntimeError("this process was given no keys")
    return catalog.keyring
