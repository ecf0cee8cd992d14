"""The access tokens of OAuth accounts in one process: kept in memory, and refreshed once across all processes.

A token is refreshed when less than 5 minutes or a sixth of its life remain, or when the application has rejected it.
One task of the process asks the database for a claim on the refresh; the process with the claim asks the provider.
Others go on with the old token while it is valid, and then wait for the next generation.

| failure | reaction |
| --- | --- |
| the provider cannot be reached | the old token is used until its end; retries back off |
| the provider rejects the refresh token | read the account again: another process may have replaced the token |
| it rejects the same one after 2 s again | the account has failed: a user must authorize again |
| the database fails after the response | the write is repeated for a minute |
| the process dies before the write | the claim ends, and the next refresh has the old refresh token |

No failure deletes tokens.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from headwater.base.clock import Clock
from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.catalog.accounts import AccountTokens, OAuthAccounts
from headwater.connectors.connector import Connector
from headwater.connectors.contract import AuthorizationRevoked, OAuthTokens
from headwater.connectors.environment import ConnectorEnvironment

CLAIM_SECONDS: Final = 120.0
"""Time after which the claim of a process that died ends. Longer than all requests and pauses of one refresh."""
REFRESH_SECONDS: Final = 30.0
"""Time limit of one request to the provider."""
MAX_MARGIN_SECONDS: Final = 300.0
MARGIN_SHARE: Final = 6
"""A token is refreshed when this fraction of its life remains, at most `MAX_MARGIN_SECONDS`."""
MIN_AGE_SECONDS: Final = 5.0
"""A token is used for this time even if it ends earlier: the provider is not asked again for each request."""
RECHECK_SECONDS: Final = 60.0
"""Maximum age of what is known of an account: a user may have authorized again in another process."""
REJECTED_PAUSE_SECONDS: Final = 300.0
"""Minimum time between two refreshes of a token that the application rejects."""
GRANT_RETRY_SECONDS: Final = 2.0
INITIAL_POLL_SECONDS: Final = 0.2
MAX_POLL_SECONDS: Final = 2.0
MAX_WAIT_SECONDS: Final = 150.0
"""Maximum time that a caller waits for a refresh by another process. Longer than a claim."""
MAX_STORE_SECONDS: Final = 60.0
INITIAL_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


class AccessTokens:
    """The access tokens of one process: one for each account that it has used."""

    def __init__(
        self, accounts: OAuthAccounts, connectors: Mapping[str, Connector], clock: Clock, identifiers: Identifiers
    ) -> None:
        self._accounts = accounts
        self._connectors = connectors
        self._clock = clock
        self._owner = identifiers.nonce().hex()
        self._found: dict[int, AccountAccessToken] = {}

    def find(self, account: int, environment: ConnectorEnvironment) -> "AccountAccessToken":
        """Return the access token of an account. `environment` is that of the process."""
        found = self._found.get(account)
        if found is None:
            found = self._found[account] = AccountAccessToken(
                account, self._accounts, self._connectors, environment, self._clock, self._owner
            )
        return found

    async def close(self) -> None:
        """Stop all refreshes. A claim remains until its end, because the provider may have replaced the tokens."""
        await asyncio.gather(*(token.close() for token in self._found.values()))


class AccountAccessToken:
    """Implements `AccessToken` for all connections with one account."""

    def __init__(
        self,
        account: int,
        accounts: OAuthAccounts,
        connectors: Mapping[str, Connector],
        environment: ConnectorEnvironment,
        clock: Clock,
        owner: str,
    ) -> None:
        self._account = account
        self._accounts = accounts
        self._connectors = connectors
        self._environment = environment
        self._clock = clock
        self._owner = owner
        self._known: AccountTokens | None = None
        self._rejected = ""
        """The last access token that the application has rejected."""
        self._renewal: asyncio.Task[AccountTokens] | None = None
        self._failures = 0
        self._next_try = 0.0
        """The time of the next refresh after a failure."""
        self._recheck_at = 0.0
        """The time at which the account is read again."""
        self._wait_until = 0.0
        """The time until which a token that is due, but valid, is used without another look."""

    async def current(self) -> str:
        return (await self._current()).access_token

    async def url(self) -> str:
        return (await self._current()).url

    def reject(self, token: str) -> None:
        if self._known is None or self._known.access_token == token:
            self._rejected = token

    async def close(self) -> None:
        """Stop the refresh that is under way, if any."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _current(self) -> AccountTokens:
        known = self._known
        if known is not None and self._is_current(known):
            return known
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(_retrieve)
        return await asyncio.shield(self._renewal)

    async def _renew(self) -> AccountTokens:
        """Return tokens that can be used: those of the database, or refreshed ones."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + MAX_WAIT_SECONDS, INITIAL_POLL_SECONDS
        while True:
            tokens = await self._read()
            if not self._is_due(tokens):
                self._failures = 0
                self._recheck_at = loop.time() + RECHECK_SECONDS
                return tokens
            if self._is_rejected_again(tokens):
                return tokens
            if not tokens.refresh_token or tokens.failure:
                return self._unrefreshable(tokens)
            if self._is_waiting():
                return self._usable_or_unavailable(tokens, "the access token cannot be refreshed at the moment")
            if await self._accounts.claim(tokens, self._owner, CLAIM_SECONDS):
                pause = INITIAL_POLL_SECONDS
                if await self._refresh(tokens):
                    continue
                return self._usable_or_unavailable(tokens, "the access token cannot be refreshed at the moment")
            if self._is_usable(tokens):  # another process refreshes it
                self._wait_until = loop.time() + MAX_POLL_SECONDS
                return tokens
            if loop.time() + pause > deadline:
                raise Unavailable("another process does not complete the refresh of the access token")
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_POLL_SECONDS)

    async def _read(self) -> AccountTokens:
        """Return the tokens of the database; the known ones while it does not respond, if they are valid."""
        try:
            tokens = await self._accounts.read(self._account)
        except Unavailable:
            if self._known is None or self._is_due(self._known):
                raise
            return self._known
        if tokens is None:
            raise AuthorizationRevoked("the OAuth account was deleted with its last connection")
        self._known = tokens
        return tokens

    async def _refresh(self, tokens: AccountTokens) -> bool:
        """Refresh the tokens with the claim. Return whether the account must be read again; if not, back off."""
        forced = self._is_rejected(tokens)
        try:
            new = await self._ask(tokens)
        except AuthorizationRevoked as error:
            await self._fail(tokens, error)
            return True
        except Unavailable as error:
            self._back_off()
            _log.warning(
                "an access token cannot be refreshed", account=self._account, reason=error.message, tries=self._failures
            )
            await self._accounts.release(tokens, self._owner)
            return False
        self._failures = 0
        await self._store(tokens, new, forced=forced)
        return True

    async def _ask(self, tokens: AccountTokens) -> OAuthTokens:
        """Ask the provider for new tokens; twice if it rejects the refresh token, which it may have just replaced."""
        try:
            return await self._ask_once(tokens)
        except AuthorizationRevoked:
            if await self._is_replaced(tokens):
                raise
            await asyncio.sleep(GRANT_RETRY_SECONDS)
            return await self._ask_once(tokens)

    async def _ask_once(self, tokens: AccountTokens) -> OAuthTokens:
        connector = self._connectors.get(tokens.connector)
        make = None if connector is None else connector.engine.oauth
        if make is None:
            raise Unavailable(f"connector {tokens.connector} cannot be reached by this version")
        async with self._environment.context(tokens.connector, None, None) as context:
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    return await make(None, context).refresh(tokens.refresh_token)
            except TimeoutError:
                raise Unavailable(f"the provider did not respond within {REFRESH_SECONDS:g} seconds") from None

    async def _is_replaced(self, tokens: AccountTokens) -> bool:
        latest = await self._accounts.read(self._account)
        return latest is None or latest.generation != tokens.generation

    async def _fail(self, tokens: AccountTokens, error: AuthorizationRevoked) -> None:
        if await self._accounts.fail(tokens, self._owner, error.message):
            _log.warning(
                "the authorization of an OAuth account has ended: a user must authorize again",
                account=self._account,
                connector=tokens.connector,
                reason=error.message,
            )

    async def _store(self, old: AccountTokens, new: OAuthTokens, *, forced: bool) -> None:
        """Write the new tokens, again and again: the provider may not accept the old ones any more."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + MAX_STORE_SECONDS, INITIAL_POLL_SECONDS
        while True:
            try:
                await self._accounts.store(old, new, self._owner, forced=forced)
                return
            except Unavailable:
                if loop.time() + pause > deadline:
                    _log.error("refreshed tokens of an OAuth account could not be stored", account=self._account)
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_POLL_SECONDS)

    def _unrefreshable(self, tokens: AccountTokens) -> AccountTokens:
        if self._is_usable(tokens):
            self._wait_until = asyncio.get_running_loop().time() + RECHECK_SECONDS
            return tokens
        reason = tokens.failure or "the access token has ended, and the application gave no refresh token"
        raise AuthorizationRevoked(f"a user must authorize again: {reason}")

    def _usable_or_unavailable(self, tokens: AccountTokens, message: str) -> AccountTokens:
        if self._is_usable(tokens):
            self._wait_until = self._next_try
            return tokens
        wait = self._next_try - asyncio.get_running_loop().time()
        raise Unavailable(message, retry_after=max(1, round(wait)))

    def _back_off(self) -> None:
        seconds = min(INITIAL_BACKOFF_SECONDS * 2 ** min(self._failures, 10), MAX_BACKOFF_SECONDS)
        self._failures += 1
        self._next_try = asyncio.get_running_loop().time() + seconds

    def _is_current(self, known: AccountTokens) -> bool:
        """Return whether the known token can be used without reading the account."""
        now = asyncio.get_running_loop().time()
        if self._is_due(known):
            return self._is_usable(known) and now < self._wait_until
        return now < self._recheck_at

    def _is_waiting(self) -> bool:
        return self._failures > 0 and asyncio.get_running_loop().time() < self._next_try

    def _is_rejected(self, tokens: AccountTokens) -> bool:
        return tokens.access_token == self._rejected

    def _is_rejected_again(self, tokens: AccountTokens) -> bool:
        """Return whether the application rejects a token that a forced refresh has just brought: it is sent, so that
        the rejection is the destination's failure, and not refreshed for a while."""
        age = (self._clock.now() - tokens.refreshed_at).total_seconds()
        return self._is_rejected(tokens) and tokens.forced and age < REJECTED_PAUSE_SECONDS and not self._is_old(tokens)

    def _is_due(self, tokens: AccountTokens) -> bool:
        return self._is_rejected(tokens) or self._is_old(tokens)

    def _is_old(self, tokens: AccountTokens) -> bool:
        now = self._clock.now()
        if tokens.expires_at is None or 0 <= (now - tokens.refreshed_at).total_seconds() < MIN_AGE_SECONDS:
            return False
        life = (tokens.expires_at - tokens.refreshed_at).total_seconds()
        left = (tokens.expires_at - now).total_seconds()
        return left <= min(max(life, 0.0) / MARGIN_SHARE, MAX_MARGIN_SECONDS)

    def _is_usable(self, tokens: AccountTokens) -> bool:
        if self._is_rejected(tokens):
            return False
        return tokens.expires_at is None or tokens.expires_at > self._clock.now()


def _retrieve(task: "asyncio.Task[AccountTokens]") -> None:
    """Mark the error of a refresh as seen: its callers may have been cancelled."""
    if not task.cancelled():
        task.exception()
