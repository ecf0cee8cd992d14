"""Shares the rate limits of accounts between processes: the courier, and the runs that read or write users.

A process that begins registers in the state store, and sends when the courier has seen it. Each renews its share, and
takes what it can use: it lowers its meter before it gives a part back, and raises it after it got one. So together they
stay within the limit at any time. An account without runs has no rows: the courier has the whole limit, and reads
the empty table.
"""

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Final

import msgspec

from headwater.base.clock import Clock
from headwater.base.errors import Unavailable
from headwater.catalog import Connection
from headwater.connectors.contract import RateLimit
from headwater.connectors.settings import Settings
from headwater.delivery.rates import AccountRates, Meter
from headwater.state.rateshares import LEASE_SECONDS, RateShare, RateShares, WantedShare

MIN_WANTED: Final = 0.05
"""The part of a limit that a process without work asks for, so that it can begin without a wait."""
GROWTH: Final = 1.25
"""The amount that a process asks for, relative to what it used, if it never had to wait."""
MEMORY: Final = 0.8
"""The part of the amount asked for before below which the next one is not."""
_encode: Final = msgspec.json.Encoder().encode


def identify_account(connection: Connection, settings: Settings | None) -> str:
    """Return the identity of an account as a digest: connections of a connector with the same secrets, or with one
    OAuth account, belong to one."""
    secrets = () if settings is None else settings.secrets()
    if not secrets and connection.oauth_account is not None:
        secrets = ("account", connection.oauth_account.code)
    identity = "\0".join((connection.connector, *(secrets or (str(connection.id),))))
    return sha256(identity.encode()).hexdigest()


def find_key(account: str, limit: RateLimit) -> str:
    """Return the key of a limit of an account."""
    return sha256(account.encode() + _encode(limit)).hexdigest()[:32]


def allot(own: float, others: Iterable[float], total: float) -> float:
    """Return the fair part of a total for a process that wants `own`.

    Processes that want less than an equal part get it, and the others share the rest equally. If all of them want less
    than the total, each gets an equal part of what is left, too.
    """
    wanted = sorted((own, *others))
    for index, each in enumerate(wanted):
        equal = total / (len(wanted) - index)
        if each > equal:
            return min(own, equal)
        total -= each
    return own + total / len(wanted)


class SharedLimit:
    """A limit of an account, of which this process has a share."""

    def __init__(self, key: str, holder: str, limit: RateLimit, meter: Meter, burst: int) -> None:
        """`burst` is taken from the limit for this process. The meter passes the whole limit; call `stop` for none."""
        self.key = key
        self.holder = holder
        self.meter = meter
        self._limit = limit
        is_fixed = limit.window == "Fixed"
        self.total = float(limit.count if is_fixed else limit.count + limit.burst)
        self.burst = 0 if is_fixed else min(burst, self.total / 2)
        self._whole = float(limit.count)
        self.amount = self._whole
        """The amount that the meter passes."""
        self._has_whole = True
        """Whether the meter passes the whole limit, without a row in the store."""
        self._has_started = True
        self._wanted = 0.0
        self._planned_at = -math.inf

    def stop(self) -> None:
        """Let nothing pass until a share was granted."""
        self.meter.stop()
        self.amount = 0.0
        self._has_whole = self._has_started = False

    def restore(self, now: float) -> None:
        """Let the whole limit pass: no other process uses it."""
        self.meter.share(self._whole, now)
        self.amount = self._whole
        self._has_whole = self._has_started = True

    async def renew(
        self, store: RateShares, others: Sequence[RateShare], now: float, *, is_allowed: bool = True, can_wait: bool
    ) -> None:
        """Take the share that is fair among these others, as far as it is free. `now` is the time of the meter. Without
        `is_allowed` the process registers, and its amount is 0. Raises Unavailable."""
        wanted = self._want(now)
        free = self.total - self.burst - sum(each.burst for each in others)
        fair = max(allot(wanted, (each.wanted for each in others if each.is_live), free), 0.0)
        amount = fair if is_allowed else 0.0
        if amount < self.amount:
            self._pass(amount, now)
        granted = await store.renew(
            WantedShare(
                key=self.key,
                holder=self.holder,
                window_seconds=self._limit.seconds,
                total=self.total,
                burst=self.burst,
                amount=amount,
                wanted=wanted,
                can_wait=can_wait,
            )
        )
        if not granted.was_held and not self._has_whole:
            self.stop()
        self._has_whole = False
        if granted.amount != self.amount:
            self._pass(granted.amount, now, is_alone=granted.is_alone and not self._has_started)

    def _pass(self, amount: float, now: float, *, is_alone: bool = False) -> None:
        self.meter.share(amount, now, is_alone=is_alone)
        self.amount = amount
        self._has_started = self._has_started or amount > 0

    def _want(self, now: float) -> float:
        """Return the amount that this process could use, by what it used since the last call."""
        if self.meter.is_limiting or not self._has_started:
            wanted = self.total
        else:
            rate = self.meter.used / max(now - self._planned_at, 1.0)
            wanted = max(GROWTH * rate * self._limit.seconds, MEMORY * self._wanted, MIN_WANTED * self.total)
        self.meter.used, self.meter.is_limiting, self._planned_at = 0.0, False, now
        self._wanted = min(wanted, self.total)
        return self._wanted


class CourierShares:
    """The accounts of the courier. It has the whole limit of those that no run uses.

    It must look at the store regularly. If it could not for `LEASE_SECONDS`, it sends nothing to accounts with limits,
    because a run begins without it then.
    """

    def __init__(self, store: RateShares | None, clock: Clock) -> None:
        """Without a store, no other process uses the accounts."""
        self._store = store
        self._clock = clock
        self._accounts: dict[str, AccountRates] = {}
        self._limits: dict[str, SharedLimit] = {}
        """The limits of the accounts by key."""
        self._held: set[str] = set()
        """The keys of limits of which the store has a share of this process."""
        self._used: frozenset[str] = frozenset()
        """The keys of limits that others use, at the last look."""
        self._holder = "courier"
        self._valid_until = -math.inf

    def begin(self, epoch: int) -> None:
        """Begin as another holder: an earlier courier may have sent what is in the store."""
        self._holder = f"courier {epoch}"
        self._held.clear()
        self._valid_until = -math.inf
        for limit in self._limits.values():
            limit.holder = self._holder

    def account(self, identity: str) -> AccountRates:
        """Return the rates of an account."""
        if (account := self._accounts.get(identity)) is None:
            account = AccountRates(self._is_valid, partial(self._add, identity))
            self._accounts[identity] = account
        return account

    async def look(self) -> None:
        """Share the limits that runs use, and take back those that they used. Raises Unavailable."""
        if self._store is None:
            return
        began = time.monotonic()
        found: dict[str, list[RateShare]] = {}
        for share in await self._store.read():
            if share.holder != self._holder:
                found.setdefault(share.key, []).append(share)
        self._used = frozenset(found)
        for key in self._used & self._limits.keys():
            self._held.add(key)
            await self._limits[key].renew(self._store, found[key], self._now(), can_wait=False)
        if left := self._held - self._used:
            await self._store.remove(self._holder, left)
            for key in left:
                self._limits[key].restore(self._now())
            self._held -= left
        if unseen := [share for shares in found.values() for share in shares if not share.is_seen]:
            await self._store.acknowledge(unseen)
        self._valid_until = began + LEASE_SECONDS

    async def release(self) -> None:
        """Give all shares back, if the store responds. The courier sends nothing from then on."""
        self._valid_until = -math.inf
        if self._store is not None and self._held:
            with suppress(Unavailable):
                await self._store.release(self._holder, self._held)

    def _is_valid(self) -> bool:
        return self._store is None or time.monotonic() < self._valid_until

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _add(self, identity: str, limit: RateLimit, meter: Meter, largest: int) -> None:
        key = find_key(identity, limit)
        burst = max(limit.burst, largest)
        if (known := self._limits.get(key)) is not None:
            known.burst = max(known.burst, burst) if known.burst else 0
            return
        shared = self._limits[key] = SharedLimit(key, self._holder, limit, meter, burst)
        if key in self._used:
            shared.stop()
