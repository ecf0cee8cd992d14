"""The access tokens of OAuth accounts, against a real authorization server: refreshed once, and never lost."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Interval, literal, update

from headwater.base.clock import Clock, SystemClock
from headwater.base.encryption import Keyring
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, OAuthAccount, access_tokens, open_catalog
from headwater.catalog.accounts import AccountTokens, OAuthAccounts, SealedTokens, seal_tokens
from headwater.catalog.migrations import SCHEMA
from headwater.catalog.tables import oauth_accounts
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.contract import AccessToken, AuthorizationRevoked, HttpRequest, OAuthTokens
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.oauth import exchange_code
from headwater.storage.database import open_engine
from tests.catalog.make import connection as make_connection
from tests.harness import NOW, MovableClock, add_workspace
from tests.oauthprovider import REDIRECT_URI, OAuthProvider, open_oauth_provider

APP = "sample-oauth-app"
SECRET = "a secret key for tests, of 32 characters"
KEYRING = Keyring(SECRET)


@dataclass
class Installation:
    """One process with a connection that has an account."""

    url: str
    provider: OAuthProvider
    clock: Any
    environment: ConnectorEnvironment
    catalog: Catalog
    connection: Connection

    @property
    def account(self) -> int:
        assert self.connection.oauth_account is not None
        return self.connection.oauth_account.id

    @property
    def token(self) -> AccessToken:
        token = self.catalog.access_token(self.connection, self.environment)
        assert token is not None
        return token

    async def stored(self) -> AccountTokens:
        tokens = await self.catalog.oauth_accounts.read(self.account)
        assert tokens is not None
        return tokens

    async def call(self) -> int:
        """Call the API of the application as a connector does; return the status."""
        async with self.environment.context(APP, self.connection.id, None, self.token) as context:
            url = f"{self.provider.url}/api/users?offset=0&limit=1"
            return (await context.http.send(HttpRequest(method="GET", url=url, authorize=True))).status


@pytest.fixture
def provider() -> Iterator[OAuthProvider]:
    with open_oauth_provider() as provider:
        yield provider


@pytest.fixture
def clock() -> Clock:
    return MovableClock()


@pytest.fixture
async def app(url: str, provider: OAuthProvider, clock: Clock) -> AsyncIterator[Installation]:
    async with open_installation(url, provider, clock) as installation:
        yield installation


@pytest.fixture(autouse=True)
def no_pause_before_a_grant_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "GRANT_RETRY_SECONDS", 0.0)


@asynccontextmanager
async def open_installation(url: str, provider: OAuthProvider, clock: Clock) -> AsyncIterator[Installation]:
    """Open a catalog with a connection whose account is authorized at the provider."""
    environment = ConnectorEnvironment(addresses=ANY_ADDRESS, clock=clock, oauth_clients={APP: provider.client})
    async with open_catalog(url, clock=clock, identifiers=Identifiers(), keyring=KEYRING) as catalog:
        tokens = await authorize(provider, environment)
        workspace = await add_workspace(catalog)
        async with catalog.change() as change:
            account = OAuthAccount(id=change.new_id(), code="shop-1", authorized_at=clock.now())
            change.add_oauth_account(workspace.id, APP, account, sealed(account, workspace.id, tokens, clock))
            connection = make_connection(
                change, workspace, connector=APP, strategy=None, event_write_keys=(), oauth_account=account
            )
            change.add_connection(connection)
        yield Installation(url, provider, clock, environment, catalog, connection)


def sealed(account: OAuthAccount, workspace: int, tokens: OAuthTokens, clock: Clock) -> SealedTokens:
    return SealedTokens(
        sealed=seal_tokens(KEYRING, account.id, workspace, APP, tokens),
        expires_at=tokens.expires_at,
        authorized_at=clock.now(),
    )


async def authorize_again(app: Installation) -> OAuthTokens:
    """Replace the tokens of the account, as an update of the connection does."""
    tokens = await authorize(app.provider, app.environment)
    account = app.connection.oauth_account
    assert account is not None
    async with app.catalog.change() as change:
        change.authorize_again(account, sealed(account, app.connection.workspace, tokens, app.clock))
    return tokens


async def authorize(provider: OAuthProvider, environment: ConnectorEnvironment) -> OAuthTokens:
    page = (
        f"{provider.url}/oauth/authorize?response_type=code&client_id={provider.client.id}&redirect_uri={REDIRECT_URI}"
    )
    code = provider.consent(f"{page}&scope=account")["code"]
    async with environment.context(APP, None, None) as context:
        return await exchange_code(context, f"{provider.url}/oauth/token", provider.client, code, REDIRECT_URI, "")


async def test_a_token_is_kept_and_refreshed_before_its_end(app: Installation) -> None:
    first = await app.token.current()
    app.clock.advance(3_600 - 301)
    assert await app.token.current() == first
    assert app.provider.refreshes == 0
    app.clock.advance(2)
    second = await app.token.current()
    assert second != first and app.provider.refreshes == 1
    assert await app.token.current() == second
    assert (await app.stored()).generation == 2


async def test_the_margin_of_short_lives_is_a_sixth(app: Installation) -> None:
    app.provider.behaviour.expires_in = 60
    app.clock.advance(3_600)
    token = await app.token.current()
    app.clock.advance(49)
    assert await app.token.current() == token
    app.clock.advance(2)
    assert await app.token.current() != token
    assert app.provider.refreshes == 2


async def test_a_token_that_ends_in_a_moment_is_not_refreshed_for_each_request(app: Installation) -> None:
    app.provider.behaviour.expires_in = 1
    app.clock.advance(3_600)
    for _ in range(20):
        await app.token.current()
        app.clock.advance(1)
    assert app.provider.refreshes == 4


async def test_a_token_without_an_end_is_refreshed_when_it_is_rejected_only(app: Installation) -> None:
    app.provider.behaviour.expires_in = None
    app.clock.advance(3_600)
    token = await app.token.current()
    app.clock.advance(10**6)
    assert await app.token.current() == token and app.provider.refreshes == 1
    app.provider.end_access_tokens()
    assert await app.call() == 200
    assert app.provider.refreshes == 2


@pytest.mark.parametrize("rotate", [False, True])
async def test_a_refresh_token_is_kept_or_replaced(app: Installation, rotate: bool) -> None:
    app.provider.behaviour.rotate = rotate
    app.provider.behaviour.reuse_ends_family = True
    before = (await app.stored()).refresh_token
    for _ in range(3):
        app.clock.advance(3_500)
        await app.token.current()
    assert ((await app.stored()).refresh_token == before) is not rotate
    assert app.provider.refreshes == 3 and await app.call() == 200


async def test_the_tasks_of_a_process_share_one_refresh(app: Installation) -> None:
    app.provider.behaviour.rotate = app.provider.behaviour.reuse_ends_family = True
    app.provider.behaviour.delay_seconds = 0.1
    app.clock.advance(3_600)
    found = await asyncio.gather(*(app.token.current() for _ in range(16)))
    assert len(set(found)) == 1 and app.provider.refreshes == 1


async def test_a_cancelled_caller_does_not_cancel_the_refresh(app: Installation) -> None:
    app.provider.behaviour.rotate = app.provider.behaviour.reuse_ends_family = True
    app.provider.behaviour.delay_seconds = 0.2
    app.clock.advance(3_600)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await app.token.current()
    await app.token.current()
    assert app.provider.refreshes == 1 and await app.call() == 200


async def test_a_second_process_takes_the_token_of_the_first(app: Installation) -> None:
    app.clock.advance(3_600)
    async with open_catalog(app.url, clock=app.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
        token = other.access_token(app.connection, app.environment)
        assert token is not None
        assert await token.current() == await app.token.current()
        app.clock.advance(3_600)
        found = await asyncio.gather(*(each.current() for each in (token, app.token) for _ in range(8)))
    assert len(set(found)) == 1 and app.provider.refreshes == 2


async def age_claims(app: Installation, seconds: float) -> None:
    """Make the claims end earlier on PostgreSQL, where they follow the time of the database, not a test's."""
    if app.url.startswith("sqlite"):
        return
    engine = open_engine(app.url, schema=SCHEMA)
    try:
        async with engine.begin() as connection:
            earlier = oauth_accounts.c.refreshing_until - literal(timedelta(seconds=seconds), Interval())
            await connection.execute(update(oauth_accounts).values(refreshing_until=earlier))
    finally:
        await engine.dispose()


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_wrong_clock_of_a_machine_ends_no_claim(app: Installation, hours: int) -> None:
    """On PostgreSQL. A SQLite file belongs to one machine."""
    if app.url.startswith("sqlite"):
        pytest.skip("the machines of an installation share PostgreSQL")
    wrong = MovableClock(datetime.now(UTC) + timedelta(hours=hours))
    tokens = await app.stored()
    async with open_catalog(app.url, clock=wrong, identifiers=Identifiers(), keyring=KEYRING) as other:
        assert await other.oauth_accounts.claim(tokens, "wrong", 120)
        assert not await app.catalog.oauth_accounts.claim(tokens, "right", 120)
        assert await other.oauth_accounts.release(tokens, "wrong")
        assert await app.catalog.oauth_accounts.claim(tokens, "right", 120)
        assert not await other.oauth_accounts.claim(tokens, "wrong", 120)


async def test_the_old_token_is_used_while_another_process_refreshes(app: Installation) -> None:
    first = await app.token.current()
    app.clock.advance(3_400)
    claimed = await app.stored()
    assert await app.catalog.oauth_accounts.claim(claimed, "another", 120)
    assert not await app.catalog.oauth_accounts.claim(claimed, "a third", 120)
    assert await app.token.current() == first and app.provider.refreshes == 0
    app.clock.advance(121)
    await age_claims(app, 121)
    app.token._wait_until = 0.0  # type: ignore[attr-defined]
    assert await app.token.current() != first, "the claim has ended"
    assert not await app.catalog.oauth_accounts.store(claimed, OAuthTokens(access_token="x"), "another", forced=False)


async def test_the_url_of_an_account_is_kept_and_replaced_with_its_tokens(app: Installation) -> None:
    assert await app.token.url() == ""
    accounts = app.catalog.oauth_accounts
    for given, expected in (("https://one.example", "https://one.example"), ("", "https://one.example"), ("x", "x")):
        tokens = await app.stored()
        assert await accounts.claim(tokens, "a process", 120)
        assert await accounts.store(tokens, OAuthTokens(access_token="t", url=given), "a process", forced=False)
        async with open_catalog(app.url, clock=app.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
            token = other.access_token(app.connection, app.environment)
            assert token is not None
            assert (await app.stored()).url == await token.url() == expected


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (503, b'{"error":"invalid_grant"}'), (200, b"<html>"), (200, b"{}"), (429, b"")]
)
async def test_a_provider_that_fails_costs_nothing_until_the_end_of_the_token(
    app: Installation, status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await app.token.current()
    before = await app.stored()
    app.provider.behaviour.status, app.provider.behaviour.body = status, body
    app.clock.advance(3_400)
    assert [await app.token.current() for _ in range(5)] == [first] * 5
    assert app.provider.refreshes == 1, "it backs off"
    app.clock.advance(300)
    with pytest.raises(Unavailable):
        await app.token.current()
    assert app.provider.refreshes == 1
    assert await app.stored() == before, "nothing was deleted"
    app.provider.behaviour.status = 0
    monkeypatch.setattr(access_tokens, "INITIAL_BACKOFF_SECONDS", 0.0)
    app.token._next_try = 0.0  # type: ignore[attr-defined]
    assert await app.token.current() != first
    assert await app.call() == 200


async def test_a_provider_that_hangs_is_left_alone(app: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_tokens, "REFRESH_SECONDS", 0.05)
    app.provider.behaviour.delay_seconds = 0.3
    app.clock.advance(3_600)
    with pytest.raises(Unavailable):
        await app.token.current()


async def test_a_revoked_authorization_fails_once_and_keeps_the_tokens(app: Installation) -> None:
    first = await app.token.current()
    before = await app.stored()
    app.provider.ended = {grant.family for grant in app.provider.grants}
    app.clock.advance(3_400)
    assert await app.token.current() == first, "it serves until its end"
    app.clock.advance(300)
    for _ in range(3):
        with pytest.raises(AuthorizationRevoked, match="a user must authorize again"):
            await app.token.current()
    assert app.provider.refreshes == 2, "one repetition, because another process may have replaced the token"
    after = await app.stored()
    assert after.failure and after.refresh_token == before.refresh_token and after.access_token == first


async def test_an_invalid_grant_because_of_another_process_is_no_failure(
    app: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has refreshed and written, although this one had claimed: its clock is two minutes ahead."""
    app.provider.behaviour.rotate = app.provider.behaviour.reuse_ends_family = True
    app.clock.advance(3_600)
    claim = OAuthAccounts.claim

    async def overtaken(self: OAuthAccounts, tokens: AccountTokens, owner: str, seconds: float) -> bool:
        monkeypatch.setattr(OAuthAccounts, "claim", claim)
        assert await claim(self, tokens, owner, -1)
        async with open_catalog(app.url, clock=app.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
            token = other.access_token(app.connection, app.environment)
            assert token is not None
            await token.current()
        app.provider.behaviour.reuse_ends_family = False
        return True

    monkeypatch.setattr(OAuthAccounts, "claim", overtaken)
    await app.token.current()
    assert not (await app.stored()).failure and await app.call() == 200


async def test_an_account_without_a_refresh_token_ends_with_its_access_token(app: Installation) -> None:
    app.provider.behaviour.with_refresh_token = False
    app.clock.advance(1)
    tokens = await authorize_again(app)
    assert await app.token.current() == tokens.access_token
    app.clock.advance(3_590)
    assert await app.token.current() == tokens.access_token
    app.clock.advance(20)
    with pytest.raises(AuthorizationRevoked, match="gave no refresh token"):
        await app.token.current()
    assert app.provider.refreshes == 0


async def test_sixteen_rejected_requests_force_one_refresh(app: Installation) -> None:
    app.provider.behaviour.rotate = app.provider.behaviour.reuse_ends_family = True
    await app.token.current()
    app.provider.end_access_tokens()
    assert await asyncio.gather(*(app.call() for _ in range(16))) == [200] * 16
    assert app.provider.refreshes == 1 and (await app.stored()).forced


async def test_a_token_that_is_rejected_again_is_not_refreshed_for_a_while(app: Installation) -> None:
    app.provider.behaviour.rejects_access_tokens = True
    assert [await app.call() for _ in range(5)] == [401] * 5
    assert app.provider.refreshes == 1
    app.clock.advance(301)
    assert [await app.call() for _ in range(5)] == [401] * 5
    assert app.provider.refreshes == 2


async def test_a_rejected_token_is_replaced_by_that_of_another_process(app: Installation) -> None:
    await app.token.current()
    async with open_catalog(app.url, clock=app.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
        token = other.access_token(app.connection, app.environment)
        assert token is not None
        token.reject(await token.current())
        app.provider.end_access_tokens()
        newer = await token.current()
    assert await app.call() == 200
    assert await app.token.current() == newer and app.provider.refreshes == 1


async def test_the_account_of_a_deleted_connection_has_no_token(app: Installation) -> None:
    async with app.catalog.change() as change:
        change.remove_connection(app.connection)
    app.clock.advance(3_600)
    with pytest.raises(AuthorizationRevoked, match="deleted"):
        await app.token.current()


async def test_tokens_are_written_again_after_an_outage_of_the_database(
    app: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.provider.behaviour.rotate = app.provider.behaviour.reuse_ends_family = True
    app.clock.advance(3_600)
    store, tries = OAuthAccounts.store, 0

    async def failing(self: OAuthAccounts, *arguments: Any, **named: Any) -> bool:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("the catalog's database does not respond")
        return await store(self, *arguments, **named)

    monkeypatch.setattr(OAuthAccounts, "store", failing)
    await app.token.current()
    assert tries == 3 and app.provider.refreshes == 1 and await app.call() == 200


async def test_a_valid_token_needs_no_database_and_a_new_authorization_is_noticed(
    app: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await app.token.current()
    read = OAuthAccounts.read
    monkeypatch.setattr(access_tokens, "RECHECK_SECONDS", 0.0)
    assert await app.token.current() == first

    async def failing(*_: Any) -> AccountTokens:
        raise Unavailable("the catalog's database does not respond")

    monkeypatch.setattr(OAuthAccounts, "read", failing)
    app.token._recheck_at = 0.0  # type: ignore[attr-defined]
    assert await app.token.current() == first, "it is valid without the database"
    app.clock.advance(3_600)
    with pytest.raises(Unavailable):
        await app.token.current()
    app.clock.advance(-3_590)
    monkeypatch.setattr(OAuthAccounts, "read", read)
    tokens = await authorize_again(app)
    assert await app.token.current() == tokens.access_token and app.provider.refreshes == 0


async def test_one_look_at_a_refresh_of_another_process_is_enough_for_a_while(
    app: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await app.token.current()
    app.clock.advance(3_400)
    assert await app.catalog.oauth_accounts.claim(await app.stored(), "another", 120)
    claims, claim = 0, OAuthAccounts.claim

    async def counted(self: OAuthAccounts, tokens: AccountTokens, owner: str, seconds: float) -> bool:
        nonlocal claims
        claims += 1
        return await claim(self, tokens, owner, seconds)

    monkeypatch.setattr(OAuthAccounts, "claim", counted)
    assert [await app.token.current() for _ in range(50)] == [first] * 50
    assert claims == 1


async def test_a_closing_process_stops_its_refreshes(app: Installation) -> None:
    app.provider.behaviour.delay_seconds = 1.0
    app.clock.advance(3_600)
    waiting = asyncio.create_task(app.token.current())
    while not app.provider.refreshes:
        await asyncio.sleep(0.01)
    await app.catalog.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_tokens_are_not_printed() -> None:
    tokens = AccountTokens(
        id=1,
        workspace=1,
        connector=APP,
        generation=1,
        access_token="access-1",
        refresh_token="refresh-1",
        url="",
        expires_at=None,
        refreshed_at=NOW,
        forced=False,
        failure="",
    )
    assert "access-1" not in f"{tokens}" and "refresh-1" not in repr(tokens)


async def test_tokens_cannot_be_moved_to_another_account(app: Installation) -> None:
    from sqlalchemy import text

    async with app.catalog._sessions.open() as session:
        statement = text("UPDATE oauth_accounts SET connector = 'other-app'")

        def work(connection: Any) -> None:
            connection.execute(statement)
            connection.commit()

        await session.run(work)
    with pytest.raises(Unavailable, match=f"OAuth account {app.account} cannot be read"):
        await app.catalog.oauth_accounts.read(app.account)


# --- Several processes


async def start(app: Installation, *, tasks: int = 16, dies: bool = False, shift_seconds: float) -> Any:
    given = {
        "url": app.url,
        "key": SECRET,
        "workspace": app.connection.workspace,
        "connection": app.connection.id,
        "client_id": app.provider.client.id,
        "client_secret": app.provider.client.secret,
        "client_url": app.provider.url,
        "tasks": tasks,
        "dies": dies,
        "shift_seconds": shift_seconds,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.catalog.refreshing",
        json.dumps(given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(["", *sys.path])},
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    if line != b"ready\n":
        assert process.stderr is not None
        raise AssertionError((await process.stderr.read()).decode())
    return process


async def finish(process: Any) -> tuple[int, list[str]]:
    output, errors = await asyncio.wait_for(process.communicate(b"\n"), 60)
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode, json.loads(output) if output else []


@pytest.mark.process
async def test_two_processes_with_sixteen_tasks_refresh_once(url: str, provider: OAuthProvider) -> None:
    provider.behaviour.delay_seconds = 0.3
    async with open_installation(url, provider, SystemClock()) as app:
        provider.behaviour.rotate = provider.behaviour.reuse_ends_family = True
        processes = [await start(app, shift_seconds=3_600) for _ in range(2)]
        results = await asyncio.gather(*map(finish, processes))
        assert len({token for _, tokens in results for token in tokens}) == 1
        assert [len(tokens) for _, tokens in results] == [16, 16]
        assert provider.refreshes == 1 and not provider.ended


@pytest.mark.process
@pytest.mark.parametrize("rotate", [False, True])
async def test_a_process_that_dies_between_the_response_and_the_write(
    url: str, provider: OAuthProvider, rotate: bool
) -> None:
    """A provider without rotation gives tokens again. With rotation nothing but a new authorization helps."""
    async with open_installation(url, provider, SystemClock()) as app:
        provider.behaviour.rotate = provider.behaviour.reuse_ends_family = rotate
        before = await app.stored()
        code, _ = await finish(await start(app, tasks=1, dies=True, shift_seconds=3_600))
        assert code == -signal.SIGKILL and provider.refreshes == 1
        assert await app.stored() == before
        clock = MovableClock(SystemClock().now() + timedelta(seconds=3_600 + 121))
        await age_claims(app, 121)
        async with open_catalog(url, clock=clock, identifiers=Identifiers(), keyring=KEYRING) as restarted:
            token = restarted.access_token(app.connection, msgspec.structs.replace(app.environment, clock=clock))
            assert token is not None
            if rotate:
                with pytest.raises(AuthorizationRevoked, match="a user must authorize again"):
                    await token.current()
                after = await app.stored()
                assert after.failure and after.refresh_token == before.refresh_token
            else:
                assert await token.current() != before.access_token
                assert (await app.stored()).generation == 2
