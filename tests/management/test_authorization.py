"""The two steps of OAuth and the token that they end with, against a real authorization server."""

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from headwater.base.encryption import Keyring
from headwater.base.errors import BadRequest, HeadwaterError, Unavailable
from headwater.base.identifiers import Identifiers
from headwater.catalog import ApiKey, Caller, Catalog, Connection, open_catalog
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.connector import OAuthSupport, Role
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.sample_oauth_app import CONNECTOR
from headwater.connectors.sample_oauth_app.users import READABLE_SCHEMA
from headwater.management import applications
from headwater.management.authorization import (
    AUTHORIZATION_TOKEN_SECONDS,
    STATE_SECONDS,
    authorization_token,
    authorization_url,
)
from headwater.management.bootstrap import bootstrap
from headwater.management.connections import (
    CreateConnection,
    UpdateConnection,
    create_connection,
    delete_connection,
    update_connection,
)
from headwater.management.secrets import rotate, rotate_tokens
from headwater.management.workspaces import delete_workspace
from tests.harness import MovableClock, add_workspace
from tests.management.conftest import KEYRING, SECRET
from tests.management.unchanged import refused
from tests.oauthprovider import REDIRECT_URI, OAuthProvider, open_oauth_provider

APP = "sample-oauth-app"


@pytest.fixture
def provider() -> Iterator[OAuthProvider]:
    with open_oauth_provider() as provider:
        yield provider


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def environment(provider: OAuthProvider, clock: MovableClock) -> ConnectorEnvironment:
    return ConnectorEnvironment(addresses=ANY_ADDRESS, clock=clock, oauth_clients={APP: provider.client})


@pytest.fixture
async def catalog(url: str, clock: MovableClock) -> AsyncIterator[Catalog]:
    """The catalog with a second connector of the provider, whose redirect URIs are restricted."""
    other = msgspec.structs.replace(
        CONNECTOR, code="other-app", oauth=OAuthSupport(disallow_loopback_ip=True, disallow_localhost=True)
    )
    connectors = {**CONNECTORS, other.code: other}
    async with open_catalog(
        url, clock=clock, identifiers=Identifiers(), connectors=connectors, keyring=KEYRING
    ) as catalog:
        yield catalog


@pytest.fixture
async def workspace(catalog: Catalog) -> int:
    return (await bootstrap(catalog)).workspace.id


def caller(workspace: int | None, key: int = 1) -> Caller:
    made = ApiKey(id=key, workspace=workspace, name="", digest="", hint="", created_at=MovableClock().now())
    return Caller(made, workspace)


class Steps:
    """The steps that a user interface makes."""

    def __init__(self, catalog: Catalog, environment: ConnectorEnvironment, provider: OAuthProvider, workspace: int):
        self.catalog = catalog
        self.environment = environment
        self.provider = provider
        self.workspace = workspace

    async def page(self, role: str = "Source", *, pkce: bool = False, by: Caller | None = None, app: str = APP) -> str:
        by = by or caller(self.workspace)
        return await authorization_url(self.catalog, self.environment, by, app, role, REDIRECT_URI, pkce=pkce)

    async def token(self, code: str, state: str | None = None, by: Caller | None = None, **changes: Any) -> str:
        values = {"connector": APP, "redirect_uri": REDIRECT_URI, **changes}
        return await authorization_token(
            self.catalog, self.environment, by or caller(self.workspace), auth_code=code, state=state, **values
        )

    async def authorized(self, role: str = "Source", *, with_state: bool = True) -> str:
        """All steps: the token with which a connection is created."""
        granted = self.provider.consent(await self.page(role))
        return await self.token(granted["code"], granted["state"] if with_state else None)

    async def connection(self, auth_token: str, role: Role = "Source", workspace: int | None = None) -> Connection:
        request = CreateConnection(name="Shop", role=role, connector=APP, auth_token=auth_token)
        return await create_connection(self.catalog, workspace or self.workspace, request)

    async def users(self, connection: Connection) -> int:
        found, _ = await applications.users(
            self.catalog, connection.workspace, connection.id, READABLE_SCHEMA, "", self.environment
        )
        return len(found)


@pytest.fixture
def steps(catalog: Catalog, environment: ConnectorEnvironment, provider: OAuthProvider, workspace: int) -> Steps:
    return Steps(catalog, environment, provider, workspace)


@pytest.mark.parametrize(
    ("connector", "role", "status", "code", "field"),
    [
        ("", "Source", 404, "NotFound", "connector"),
        ("fax", "?", 404, "NotFound", "connector"),
        ("hubspot", "", 400, "BadRequest", "role"),
        ("hubspot", "source", 400, "BadRequest", "role"),
        ("hubspot", "Source", 400, "BadRequest", "connector"),
        (APP, "?", 400, "BadRequest", "role"),
    ],
)
async def test_the_documented_errors_of_the_page(
    steps: Steps, connector: str, role: str, status: int, code: str, field: str
) -> None:
    async with refused(steps.catalog, status, code, field):
        await steps.page(role, app=connector)


@pytest.mark.parametrize(
    ("connector", "auth_code", "status", "code", "field"),
    [
        ("", "", 400, "BadRequest", "connector"),
        ("fax", "", 400, "BadRequest", "authCode"),
        ("fax", "x", 422, "ConnectorNotExist", "connector"),
        ("hubspot", "x", 400, "BadRequest", "connector"),
        (APP, "x" * 5_000, 400, "BadRequest", "authCode"),
        (APP, "unknown", 503, "ServiceUnavailable", None),
    ],
)
async def test_the_documented_errors_of_the_token(
    steps: Steps, connector: str, auth_code: str, status: int, code: str, field: str | None
) -> None:
    async with refused(steps.catalog, status, code, field):
        await steps.token(auth_code, connector=connector)


@pytest.mark.parametrize("connector", [code for code, each in CONNECTORS.items() if each.oauth is None])
async def test_no_other_connector_has_it(steps: Steps, connector: str) -> None:
    async with refused(steps.catalog, 400, "BadRequest", "connector"):
        await steps.page(app=connector)
    async with refused(steps.catalog, 400, "BadRequest", "connector"):
        await steps.token("x", connector=connector)


async def test_without_a_client_it_is_unavailable(steps: Steps) -> None:
    steps.environment = ConnectorEnvironment(addresses=ANY_ADDRESS)
    for call in (steps.page(), steps.token("x")):
        with pytest.raises(Unavailable, match="OAuth is not configured"):
            await call


@pytest.mark.parametrize(
    ("uri", "allowed", "is_allowed"),
    [
        ("https://example.com/granted", (), True),
        ("https://example.com:8443/granted?x=1", (), True),
        ("http://127.0.0.1:8080/granted", (), True),
        ("http://[::1]/granted", (), True),
        ("http://localhost/granted", (), True),
        ("https://example.com/granted", ("https://example.com/granted",), True),
        ("https://example.com/granted/", ("https://example.com/granted",), False),
        ("https://evil.example/", ("https://example.com/granted",), False),
        ("", (), False),
        ("http://example.com/granted", (), False),
        ("http://127.0.0.1.example.com/", (), False),
        ("https://user@example.com/", (), False),
        ("https://example.com/#fragment", (), False),
        ("https://example.com/#", (), False),
        ("https:///granted", (), False),
        ("https://example.com:port/", (), False),
        ("/granted", (), False),
        ("x", (), False),
        ("javascript:alert(1)", (), False),
        ("https://example.com/a b", (), False),
        ("https://example.com\\@evil.example/", (), False),
        ("https://éxample.com/", (), False),
        ("https://example.com/\n", (), False),
        ("https://example.com/" + "x" * 2_000, (), False),
    ],
)
async def test_redirect_uris(steps: Steps, uri: str, allowed: tuple[str, ...], is_allowed: bool) -> None:
    call = authorization_url(
        steps.catalog, steps.environment, caller(1), APP, "Source", uri, allowed_redirect_uris=allowed
    )
    if is_allowed:
        assert parse_qs(urlsplit(await call).query)["redirect_uri"] == [uri]
        return
    with pytest.raises(BadRequest) as caught:
        await call
    assert caught.value.field == "redirectURI"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost"])
async def test_a_provider_may_refuse_this_machine(steps: Steps, host: str) -> None:
    with pytest.raises(BadRequest, match="the application refuses it"):
        await authorization_url(
            steps.catalog,
            steps.environment,
            caller(1),
            "other-app",
            "Source",
            f"https://{host}/granted",
        )


async def test_the_page_has_the_state_and_no_challenge_unless_it_is_asked_for(steps: Steps) -> None:
    pages = [parse_qs(urlsplit(await steps.page(pkce=pkce)).query) for pkce in (False, False, True)]
    assert len({page["state"][0] for page in pages}) == 3
    assert ["code_challenge" in page for page in pages] == [False, False, True]
    assert pages[2]["code_challenge_method"] == ["S256"]
    assert all(SECRET not in str(page) and "verifier" not in str(page) for page in pages)


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("role", ["Source", "Destination"])
async def test_a_connection_is_created_with_the_token(steps: Steps, role: Role, with_state: bool) -> None:
    made = await steps.connection(await steps.authorized(role, with_state=with_state), role)
    assert made.oauth_account is not None and made.oauth_account.code == "shop-1"
    assert steps.catalog.connection(steps.workspace, made.id) == made
    if role == "Source":
        assert await steps.users(made) == 3
        assert steps.provider.refreshes == 0


async def test_pkce_needs_the_state(steps: Steps) -> None:
    granted = steps.provider.consent(await steps.page(pkce=True))
    with pytest.raises(Unavailable):
        await steps.token(granted["code"])
    assert await steps.token(granted["code"], granted["state"])
    *_, form = steps.provider.requests
    assert 43 <= len(form["code_verifier"]) <= 128


async def test_a_state_that_is_not_valid(
    steps: Steps, catalog: Catalog, environment: ConnectorEnvironment, clock: MovableClock
) -> None:
    stranger = (await add_workspace(catalog, "Stranger")).id
    granted = steps.provider.consent(await steps.page())
    code, state = granted["code"], granted["state"]
    changed = [
        state[:position] + ("A" if state[position] != "A" else "B") + state[position + 1 :]
        for position in range(0, len(state), 7)
    ]
    token = await steps.authorized()
    for wrong in (*changed, "", "state", state[:-1], state + "A", f" {state}", state + "=", "é", "x" * 100_000, token):
        async with refused(catalog, 400, "BadRequest", "state"):
            await steps.token(code, wrong)
    for difference, field in (
        ({"by": caller(stranger)}, "state"),
        ({"connector": "other-app"}, "state"),
        ({"redirect_uri": "https://example.com/other"}, "redirectURI"),
    ):
        async with refused(catalog, 400, "BadRequest", field):
            await steps.token(code, state, **difference)
    clock.advance(STATE_SECONDS)
    async with refused(catalog, 400, "BadRequest", "state"):
        await steps.token(code, state)
    clock.advance(-1)
    assert await steps.token(code, state), "no failure before has used it up"
    del environment


async def test_a_state_can_be_used_once(steps: Steps, clock: MovableClock) -> None:
    granted = steps.provider.consent(await steps.page())
    steps.provider.behaviour.status = 500
    with pytest.raises(Unavailable):
        await steps.token(granted["code"], granted["state"])
    steps.provider.behaviour.status = 0
    await steps.token(granted["code"], granted["state"])
    async with refused(steps.catalog, 400, "BadRequest", "state"):
        await steps.token(granted["code"], granted["state"])
    another = steps.provider.consent(await steps.page())
    async with refused(steps.catalog, 400, "BadRequest", "state"):
        await steps.token(another["code"], granted["state"])
    with pytest.raises(Unavailable, match="rejects the authorization code"):
        await steps.token("wrong", another["state"])
    async with refused(steps.catalog, 400, "BadRequest", "state"):
        await steps.token(another["code"], another["state"])
    clock.advance(STATE_SECONDS + 1)
    await steps.authorized()
    assert await _count(steps.catalog, "oauth_states") == 1, "those that have expired are removed"


async def test_a_state_without_a_workspace_is_for_the_key_that_it_was_made_for(steps: Steps) -> None:
    granted = steps.provider.consent(await steps.page(by=caller(None, key=7)))
    async with refused(steps.catalog, 400, "BadRequest", "state"):
        await steps.token(granted["code"], granted["state"], by=caller(steps.workspace, key=8))
    assert await steps.token(granted["code"], granted["state"], by=caller(steps.workspace, key=7))


async def test_the_token_is_useless_elsewhere_and_ends(steps: Steps, catalog: Catalog, clock: MovableClock) -> None:
    stranger = (await add_workspace(catalog, "Stranger")).id
    token = await steps.authorized()
    assert not any(secret in token for secret in steps.provider.secrets)
    changed = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(0, len(token), 11)]
    for wrong in (*changed, "x", token[:-1], token + "A", "é", "x" * 100_000):
        async with refused(catalog, 400, "BadRequest", "authToken"):
            await steps.connection(wrong)
    async with refused(catalog, 400, "BadRequest", "authToken"):
        await steps.connection(token, workspace=stranger)
    async with refused(catalog, 400, "BadRequest", "authToken"):
        request = CreateConnection(name="Shop", role="Source", connector="other-app", auth_token=token)
        await create_connection(catalog, steps.workspace, request)
    async with refused(catalog, 400, "BadRequest", "authToken"):
        await steps.connection(token, "Destination")
    clock.advance(AUTHORIZATION_TOKEN_SECONDS)
    async with refused(catalog, 400, "BadRequest", "authToken"):
        await steps.connection(token)
    clock.advance(-1)
    assert await steps.connection(token)


async def test_a_token_is_needed_where_there_is_oauth_and_refused_elsewhere(steps: Steps) -> None:
    async with refused(steps.catalog, 400, "BadRequest", "authToken"):
        await steps.connection("")
    async with refused(steps.catalog, 400, "BadRequest", "authToken"):
        request = CreateConnection(name="x", role="Source", connector="dummy", auth_token=await steps.authorized())
        await create_connection(steps.catalog, steps.workspace, request)


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (200, b"<html>"), (200, b"{}"), (429, b""), (400, b'{"error":"invalid_client"}')]
)
async def test_a_provider_that_fails_is_unavailable(steps: Steps, status: int, body: bytes) -> None:
    granted = steps.provider.consent(await steps.page())
    steps.provider.behaviour.status, steps.provider.behaviour.body = status, body
    with pytest.raises(Unavailable):
        await steps.token(granted["code"])


async def test_connections_with_one_account_share_it_until_the_last_is_deleted(steps: Steps) -> None:
    one = await steps.connection(await steps.authorized())
    token = await steps.authorized("Destination")
    other = await steps.connection(token, "Destination")
    assert one.oauth_account is not None and other.oauth_account is not None
    assert one.oauth_account.id == other.oauth_account.id
    steps.provider.behaviour.account = "shop-2"
    third = await steps.connection(await steps.authorized())
    assert third.oauth_account is not None and third.oauth_account.id != one.oauth_account.id
    accounts = steps.catalog.oauth_accounts
    await delete_connection(steps.catalog, steps.workspace, one.id)
    assert await accounts.read(one.oauth_account.id) is not None
    await delete_connection(steps.catalog, steps.workspace, other.id)
    assert await accounts.read(one.oauth_account.id) is None
    assert await _count(steps.catalog, "oauth_accounts") == 1
    assert await steps.users(third) == 3


async def test_the_workspaces_of_one_account_are_separate(steps: Steps) -> None:
    stranger = (await add_workspace(steps.catalog, "Stranger")).id
    one = await steps.connection(await steps.authorized())
    granted = steps.provider.consent(await steps.page(by=caller(stranger)))
    token = await steps.token(granted["code"], granted["state"], by=caller(stranger))
    other = await steps.connection(token, workspace=stranger)
    assert one.oauth_account is not None and other.oauth_account is not None
    assert one.oauth_account.id != other.oauth_account.id
    await delete_connection(steps.catalog, steps.workspace, one.id)
    assert await steps.users(other) == 3


async def test_a_workspace_takes_its_accounts_with_it(steps: Steps) -> None:
    stranger = (await add_workspace(steps.catalog, "Stranger")).id
    for workspace in (steps.workspace, stranger):
        granted = steps.provider.consent(await steps.page(by=caller(workspace)))
        token = await steps.token(granted["code"], granted["state"], by=caller(workspace))
        await steps.connection(token, workspace=workspace)
    await delete_workspace(steps.catalog, stranger)
    assert await _count(steps.catalog, "oauth_accounts") == await _count(steps.catalog, "connection_accounts") == 1


async def test_a_state_of_another_version_is_not_valid(steps: Steps) -> None:
    sealed = KEYRING.seal(b'{"workspace": 1}', context=b"oauth state")
    async with refused(steps.catalog, 400, "BadRequest", "state"):
        await steps.token("x", base64.urlsafe_b64encode(sealed).decode().rstrip("="))


async def test_an_older_authorization_never_replaces_a_newer_one(steps: Steps, clock: MovableClock) -> None:
    """A token may be used again within its hour, when a refresh has long replaced the refresh token in it."""
    steps.provider.behaviour.rotate = True
    token = await steps.authorized()
    made = await steps.connection(token)
    assert made.oauth_account is not None
    clock.advance(3_500)
    assert await steps.users(made) == 3
    assert steps.provider.refreshes == 1
    again = await steps.connection(token)
    assert again.oauth_account == made.oauth_account
    tokens = await steps.catalog.oauth_accounts.read(made.oauth_account.id)
    assert tokens is not None and tokens.generation == 2
    await steps.connection(await steps.authorized())
    tokens = await steps.catalog.oauth_accounts.read(made.oauth_account.id)
    assert tokens is not None and tokens.generation == 3


async def test_an_update_authorizes_again(steps: Steps, clock: MovableClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.catalog.access_tokens.GRANT_RETRY_SECONDS", 0.0)
    made = await steps.connection(await steps.authorized())
    steps.provider.ended = {grant.family for grant in steps.provider.grants}
    clock.advance(3_600)
    for _ in range(2):
        with pytest.raises(Unavailable, match="a user must authorize again"):
            await steps.users(made)
    assert steps.provider.refreshes == 2, "once more after a pause, and then never again"
    request = UpdateConnection(name="Shop", auth_token=await steps.authorized())
    await update_connection(steps.catalog, steps.workspace, made.id, request)
    assert await steps.users(made) == 3
    steps.provider.behaviour.account = "shop-2"
    wrong = UpdateConnection(name="Shop", auth_token=await steps.authorized())
    async with refused(steps.catalog, 400, "BadRequest", "authToken"):
        await update_connection(steps.catalog, steps.workspace, made.id, wrong)
    with pytest.raises(HeadwaterError):
        await update_connection(steps.catalog, steps.workspace, made.id, UpdateConnection(name="Shop", auth_token="x"))


async def test_a_new_authorization_changes_all_connections_with_the_account(
    steps: Steps, clock: MovableClock, url: str
) -> None:
    """Each process notices it: what failed because of the old authorization is tried again."""
    one, other = [await steps.connection(await steps.authorized()) for _ in range(2)]
    clock.advance(10)
    token = await steps.authorized()
    async with open_catalog(url, clock=clock, identifiers=Identifiers()) as process:
        before = [process.connection(steps.workspace, each.id) for each in (one, other)]
        await update_connection(steps.catalog, steps.workspace, one.id, UpdateConnection(name="Shop", auth_token=token))
        version = steps.catalog._view.version
        await update_connection(steps.catalog, steps.workspace, one.id, UpdateConnection(name="Shop", auth_token=token))
        assert steps.catalog._view.version == version, "the same authorization changes nothing"
        await process.refresh()
        after = [process.connection(steps.workspace, each.id) for each in (one, other)]
        assert after == [steps.catalog.connection(steps.workspace, each.id) for each in (one, other)]
    accounts = [each.oauth_account for each in (*before, *after) if each is not None and each.oauth_account is not None]
    assert len({account.id for account in accounts}) == 1
    assert [account.authorized_at == clock.now() for account in accounts] == [False, False, True, True]


async def test_the_tokens_move_to_a_new_key(steps: Steps, url: str, clock: MovableClock) -> None:
    made = await steps.connection(await steps.authorized())
    assert made.oauth_account is not None
    before = await steps.catalog.oauth_accounts.read(made.oauth_account.id)
    new = "the key of this year, 32 characters"

    def opened(keyring: Keyring) -> Any:
        return open_catalog(url, clock=clock, identifiers=Identifiers(), keyring=keyring)

    async with opened(Keyring(new)) as without:
        assert await without.oauth_accounts.unreadable() == [made.oauth_account.id]
        for call in (rotate, rotate_tokens):
            with pytest.raises(Unavailable, match=f"OAuth account {made.oauth_account.id}"):
                await call(without)
    async with opened(Keyring(new, [SECRET])) as moving:
        assert await rotate_tokens(moving) == (1, 1)
        assert await rotate_tokens(moving) == (0, 1)
    async with opened(Keyring(new)) as after:
        assert await after.oauth_accounts.unreadable() == []
        assert await after.oauth_accounts.read(made.oauth_account.id) == before


async def _count(catalog: Catalog, table: str) -> int:
    from sqlalchemy import text

    async with catalog._sessions.open() as session:
        query = text(f"SELECT count(*) FROM {table}")
        return int(await session.run(lambda connection: connection.execute(query).scalar_one()))
