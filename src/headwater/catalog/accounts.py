"""The tokens of OAuth accounts: encrypted, refreshed by one process at a time, and never deleted by a failure.

Tokens change every hour, so they are outside the catalog's view and its version. Each replacement of the tokens of an
account increments its `generation`. All writes are compare-and-swap on it:

| method | condition of its write |
| --- | --- |
| `claim` | the generation is the one that was read, and no other process has a claim that is still valid |
| `store` | the generation is the one that was read, and the claim is the caller's |
| `release`, `fail` | the same as `store` |

A claim is one short transaction, not a lock that is held during a request. It expires by the clock of the database, so
a process that dies with it holds up no one for longer, and the clocks of machines need not agree.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy
from sqlalchemy import Row, Select, Update, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from headwater.base.clock import Clock
from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import Unavailable
from headwater.catalog import tables
from headwater.connectors.contract import OAuthTokens
from headwater.storage.database import as_unavailable
from headwater.storage.leases import lease_moment
from headwater.storage.sessions import Sessions

MAX_FAILURE_CHARACTERS: Final = 255

_Result = TypeVar("_Result")
_rows: Final = tables.oauth_accounts
_states: Final = tables.oauth_states


class SealedTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The encrypted tokens of an account, and the time at which a user authorized them."""

    sealed: bytes
    expires_at: datetime | None
    authorized_at: datetime


class AccountTokens(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of an account as of one generation. The printed form shows no token.

    `forced` is true if they replaced a token that the application rejected. `failure` is empty unless the provider
    rejects the refresh token permanently.
    """

    id: int
    workspace: int
    connector: str
    generation: int
    access_token: str
    refresh_token: str
    url: str
    expires_at: datetime | None
    refreshed_at: datetime
    forced: bool
    failure: str

    def __repr__(self) -> str:
        return f"AccountTokens(id={self.id}, generation={self.generation}, expires_at={self.expires_at!r})"


class _Document(msgspec.Struct, frozen=True, array_like=True):
    access_token: str
    refresh_token: str
    url: str = ""


def seal_tokens(keyring: Keyring | None, account: int, workspace: int, connector: str, tokens: OAuthTokens) -> bytes:
    """Return the tokens, encrypted so that they can be opened for this account alone."""
    document = _Document(tokens.access_token, tokens.refresh_token, tokens.url)
    return _keyring(keyring).seal(msgspec.json.encode(document), context=_context(account, workspace, connector))


class OAuthAccounts:
    """The accounts of the catalog's database. All methods raise Unavailable."""

    def __init__(self, sessions: Sessions, keyring: Keyring | None, clock: Clock) -> None:
        self._sessions = sessions
        self._keyring = keyring
        self._clock = clock

    async def read(self, id_: int) -> AccountTokens | None:
        """Return the tokens of an account; None if it was deleted."""
        row = await self._run(lambda connection: connection.execute(select(_rows).where(_rows.c.id == id_)).first())
        return None if row is None else self._opened(row)

    async def claim(self, tokens: AccountTokens, owner: str, seconds: float) -> bool:
        """Claim the refresh of this generation for some time. Return whether the caller has it."""
        engine = self._sessions.engine
        is_free = or_(_rows.c.refreshing_until.is_(None), _rows.c.refreshing_until < lease_moment(engine, self._clock))
        statement = _update(tokens).where(is_free, _rows.c.failure.is_(None))
        until = lease_moment(engine, self._clock, seconds)
        return await self._updated(statement.values(refreshing_until=until, refreshing_by=owner))

    async def release(self, tokens: AccountTokens, owner: str) -> bool:
        """Give up the claim: the tokens remain those of this generation."""
        return await self._updated(_claimed(tokens, owner).values(refreshing_until=None, refreshing_by=None))

    async def store(self, old: AccountTokens, new: OAuthTokens, owner: str, *, forced: bool) -> bool:
        """Replace the tokens and end the claim. A response without a refresh token leaves the old one valid, and one
        without a URL the old URL.

        Return whether the claim was still the caller's.
        """
        kept = msgspec.structs.replace(
            new, refresh_token=new.refresh_token or old.refresh_token, url=new.url or old.url
        )
        values = {
            "sealed_tokens": seal_tokens(self._keyring, old.id, old.workspace, old.connector, kept),
            "expires_at": new.expires_at,
            "generation": old.generation + 1,
            "refreshed_at": self._clock.now(),
            "forced": forced,
            "refreshing_until": None,
            "refreshing_by": None,
        }
        return await self._updated(_claimed(old, owner).values(values))

    async def fail(self, tokens: AccountTokens, owner: str, failure: str) -> bool:
        """Record that the provider rejects the refresh token, and end the claim. The tokens are kept."""
        values = {
            "failed_at": self._clock.now(),
            "failure": failure[:MAX_FAILURE_CHARACTERS],
            "refreshing_until": None,
            "refreshing_by": None,
        }
        return await self._updated(_claimed(tokens, owner).values(values))

    async def use_state(self, digest: str, expires_at: datetime) -> bool:
        """Record that a state was used. Return whether this is the first time. Those that have expired are removed."""
        now = self._clock.now()

        def work(connection: sqlalchemy.Connection) -> bool:
            connection.execute(delete(_states).where(_states.c.expires_at < now))
            try:
                connection.execute(insert(_states).values(digest=digest, expires_at=expires_at))
            except IntegrityError:
                connection.rollback()
                return False
            connection.commit()
            return True

        return await self._run(work)

    async def free_state(self, digest: str) -> None:
        """Let a state be used again, because its exchange failed for another reason."""
        await self._updated(delete(_states).where(_states.c.digest == digest))

    async def unreadable(self) -> list[int]:
        """Return the accounts whose tokens no given key opens."""
        return [row.id for row in await self._all() if not self._is_readable(row)]

    async def rotate(self) -> tuple[int, int]:
        """Encrypt all tokens with the present key. Return the number of re-encrypted accounts, and of all.

        An account that is refreshed meanwhile is encrypted by its refresh. Raises Unavailable, naming the account, if
        the tokens of one cannot be read; then no tokens change.
        """
        everything = await self._all()
        keyring = _keyring(self._keyring)
        older = [row for row in everything if not keyring.is_present(row.sealed_tokens)]
        resealed = [
            (row, keyring.seal(self._plain(row), context=_context(row.id, row.workspace, row.connector)))
            for row in older
        ]

        def work(connection: sqlalchemy.Connection) -> None:
            for row, sealed in resealed:
                same = (_rows.c.id == row.id, _rows.c.sealed_tokens == row.sealed_tokens)
                connection.execute(update(_rows).where(*same).values(sealed_tokens=sealed))
            connection.commit()

        if resealed:
            await self._run(work)
        return len(older), len(everything)

    async def _all(self) -> list[Row[Any]]:
        query: Select[Any] = select(_rows.c.id, _rows.c.workspace, _rows.c.connector, _rows.c.sealed_tokens)
        return await self._run(lambda connection: list(connection.execute(query.order_by(_rows.c.id)).all()))

    def _is_readable(self, row: Row[Any]) -> bool:
        try:
            self._plain(row)
        except Unavailable:
            return False
        return True

    def _opened(self, row: Row[Any]) -> AccountTokens:
        document = msgspec.json.decode(self._plain(row), type=_Document)
        return AccountTokens(
            id=row.id,
            workspace=row.workspace,
            connector=row.connector,
            generation=row.generation,
            access_token=document.access_token,
            refresh_token=document.refresh_token,
            url=document.url,
            expires_at=row.expires_at,
            refreshed_at=row.refreshed_at,
            forced=row.forced,
            failure=row.failure or "",
        )

    def _plain(self, row: Row[Any]) -> bytes:
        try:
            context = _context(row.id, row.workspace, row.connector)
            return _keyring(self._keyring).open(row.sealed_tokens, context=context)
        except SealError as error:
            raise Unavailable(f"the tokens of OAuth account {row.id} cannot be read: {error}") from error

    async def _updated(self, statement: Any) -> bool:
        def work(connection: sqlalchemy.Connection) -> bool:
            count = connection.execute(statement).rowcount
            connection.commit()
            return bool(count)

        return await self._run(work)

    async def _run(self, work: Callable[[sqlalchemy.Connection], _Result]) -> _Result:
        async with as_unavailable("the catalog's database"), self._sessions.open() as session:
            return await session.run(work)


def _update(tokens: AccountTokens) -> Update:
    return update(_rows).where(_rows.c.id == tokens.id, _rows.c.generation == tokens.generation)


def _claimed(tokens: AccountTokens, owner: str) -> Update:
    return _update(tokens).where(_rows.c.refreshing_by == owner)


def _keyring(keyring: Keyring | None) -> Keyring:
    if keyring is None:
        raise RuntimeError("this process was given no keys to read tokens with")
    return keyring


def _context(account: int, workspace: int, connector: str) -> bytes:
    return f"tokens of OAuth account {account} of connector {connector} in workspace {workspace}".encode()
