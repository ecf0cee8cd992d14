"""The shares that processes have of the rate limits of accounts, so that together they stay within each limit.

A process that sends holds a leased row for each limit. In the time of a limit, its window, it may send its burst and
its amount. All amounts and bursts of a limit together are at most the total. The amount is free when the lease
ends, and the burst a window later, because it may have been sent at the end.
"""

from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from msgspec import Struct
from sqlalchemy import Connection, and_, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from headwater.base.clock import Clock
from headwater.state.tables import rate_shares
from headwater.storage.database import as_unavailable
from headwater.storage.leases import lease_time
from headwater.storage.sessions import Sessions

LEASE_SECONDS: Final = 15.0
"""Time after the last renewal of a share at which others can have it."""
MIN_FREE: Final = 0.1
"""The part of a limit that is left for amounts: a process whose burst would leave less waits for the end of another."""
_WHAT: Final = "the state store's database"
_c: Final = rate_shares.c
_Result = TypeVar("_Result")


class RateShare(Struct, frozen=True, kw_only=True):
    """The share that a process holds. `is_live` is False after the end of its lease, while its burst is still taken.
    `is_seen` states that the courier knows it."""

    key: str
    holder: str
    burst: float
    amount: float
    wanted: float
    is_seen: bool
    is_live: bool


class WantedShare(Struct, frozen=True, kw_only=True):
    """The share that a process asks for.

    `total` is what may pass in `window_seconds`, and `wanted` what the process could use, which others take into
    account. `amount` is the most that it takes.
    """

    key: str
    holder: str
    window_seconds: float
    total: float
    burst: float
    amount: float
    wanted: float
    can_wait: bool = True
    """Whether it may get no share while the bursts of others take nearly everything."""


class GrantedShare(Struct, frozen=True, kw_only=True):
    """The amount that a process has. `was_held` is False if it had none before, or has lost it; `is_alone` states that
    no other process has sent in the last window."""

    amount: float
    was_held: bool
    is_alone: bool


class RateShares:
    """The shares in the state store. Every method raises Unavailable while the database is unavailable."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def read(self, key: str | None = None) -> list[RateShare]:
        """Return the shares of a limit, or of all, whose amount or burst is taken."""
        now = lease_time(self._sessions.engine, self._clock)
        query = select(rate_shares, (_c.lease_until > now).label("is_live")).where(_c.lease_until + _c.duration > now)
        if key is not None:
            query = query.where(_c.key == key)
        async with as_unavailable(_WHAT), self._sessions.open() as session:
            rows = await session.run(lambda connection: connection.execute(query).all())
        return [
            RateShare(
                key=row.key,
                holder=row.holder,
                burst=row.burst,
                amount=row.amount,
                wanted=row.wanted,
                is_seen=row.is_seen,
                is_live=row.is_live,
            )
            for row in rows
        ]

    async def renew(self, share: WantedShare) -> GrantedShare:
        """Take a share, or renew it for `LEASE_SECONDS`. It gets what others have left, at most `share.amount`.

        It keeps what it has, although another process has registered since: that one begins when it gets an amount.
        """

        def work(connection: Connection) -> GrantedShare:
            now = self._begin(connection, share.key)
            rows = connection.execute(select(rate_shares).where(_c.key == share.key)).all()
            taken = [row for row in rows if row.lease_until + row.duration > now]
            others = [row for row in taken if row.holder != share.holder]
            was_held = len(others) < len(taken)
            free = share.total - share.burst - sum(row.burst for row in others)
            if share.can_wait and not was_held and free < share.total * MIN_FREE:
                connection.rollback()
                return GrantedShare(amount=0.0, was_held=False, is_alone=False)
            free -= sum(row.amount for row in others if row.lease_until > now)
            held = max(
                (row.amount for row in taken if row.holder == share.holder and row.lease_until > now), default=0.0
            )
            amount = min(share.amount, max(free, held))
            connection.execute(delete(rate_shares).where(_c.lease_until + _c.duration <= now))
            _upsert(connection, share, amount, now)
            connection.commit()
            return GrantedShare(amount=amount, was_held=was_held, is_alone=not others)

        return await self._write(work)

    async def acknowledge(self, shares: Collection[RateShare]) -> None:
        """Mark shares as seen by the courier."""
        keys = [(share.key, share.holder) for share in shares]

        def work(connection: Connection) -> None:
            seen = update(rate_shares).where(tuple_(_c.key, _c.holder).in_(keys))
            connection.execute(seen.values(is_seen=True))
            connection.commit()

        await self._write(work)

    async def release(self, holder: str, keys: Collection[str]) -> None:
        """End the leases of a process: its amounts are free."""

        def work(connection: Connection) -> None:
            now = lease_time(self._sessions.engine, self._clock)
            own = (_c.holder == holder, _c.key.in_(keys), _c.lease_until > now)
            connection.execute(update(rate_shares).where(*own).values(lease_until=now, amount=0.0, wanted=0.0))
            connection.commit()

        await self._write(work)

    async def remove(self, holder: str, keys: Collection[str]) -> None:
        """Delete the shares of a process that continues to send, with the whole limit, and those that have ended."""

        def work(connection: Connection) -> None:
            now = lease_time(self._sessions.engine, self._clock)
            own = and_(_c.holder == holder, _c.key.in_(keys))
            connection.execute(delete(rate_shares).where(or_(own, _c.lease_until + _c.duration <= now)))
            connection.commit()

        await self._write(work)

    async def _write(self, work: Callable[[Connection], _Result]) -> _Result:
        async with as_unavailable(_WHAT), self._sessions.open() as session:
            return await session.run(work)

    def _begin(self, connection: Connection, key: str) -> int:
        """Begin a transaction that excludes others of the same limit. Return the time of leases in it."""
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
        return int(connection.execute(select(lease_time(self._sessions.engine, self._clock))).scalar_one())


def _upsert(connection: Connection, share: WantedShare, amount: float, now: int) -> None:
    values = {
        "lease_until": now + int(LEASE_SECONDS * 1e6),
        "duration": int(share.window_seconds * 1e6),
        "burst": share.burst,
        "amount": amount,
        "wanted": share.wanted,
    }
    insert: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(rate_shares)
    row = insert.values(key=share.key, holder=share.holder, is_seen=False, **values)
    connection.execute(row.on_conflict_do_update(index_elements=["key", "holder"], set_=values))
