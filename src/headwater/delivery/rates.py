"""Rate limits of an account, shared by all lanes with the same credentials.

A meter knows from which time an amount fits, and counts it when it is spent. The amount is a number of requests or
events. A request that is larger than the burst of a rolling limit, or than a whole fixed
window, waits until nothing is spent, and what follows waits until it is paid. So over any time t, a rolling limit
passes at most t * count / seconds + burst, or its largest request instead of the burst.
"""

import math
from collections.abc import Iterable
from typing import Final, Protocol

from headwater.connectors.contract import RateLimit

MAX_USERS: Final = 10_000
"""Users of which a limit keeps what they spent, before it forgets those who can spend all again."""


class _Meter(Protocol):
    def fits_at(self, amount: int, now: float) -> float: ...
    def spend(self, amount: int, now: float) -> None: ...
    def is_unspent(self, now: float) -> bool: ...


class _Rolling:
    """A limit that is spent evenly, except for a burst: the generic cell rate algorithm."""

    __slots__ = ("_burst", "_interval", "_paid_at")

    def __init__(self, limit: RateLimit) -> None:
        self._interval = limit.seconds / limit.count
        self._burst = limit.burst
        self._paid_at = 0.0
        """The time at which the limit is as if nothing had been spent."""

    def fits_at(self, amount: int, now: float) -> float:
        return self._paid_at - max(self._burst - amount, 0) * self._interval

    def spend(self, amount: int, now: float) -> None:
        self._paid_at = max(self._paid_at, now) + amount * self._interval

    def is_unspent(self, now: float) -> bool:
        return self._paid_at <= now


class _Fixed:
    """A limit of windows that start at multiples of their length. More than a window's count is taken from the next."""

    __slots__ = ("_count", "_seconds", "_spent", "_window")

    def __init__(self, limit: RateLimit) -> None:
        self._count = limit.count
        self._seconds = limit.seconds
        self._window = 0
        self._spent = 0

    def fits_at(self, amount: int, now: float) -> float:
        self._advance(now)
        windows = math.ceil((self._spent + min(amount, self._count)) / self._count) - 1
        return (self._window + windows) * self._seconds

    def spend(self, amount: int, now: float) -> None:
        self._advance(now)
        self._spent += amount

    def is_unspent(self, now: float) -> bool:
        self._advance(now)
        return not self._spent

    def _advance(self, now: float) -> None:
        window = int(now // self._seconds)
        if window > self._window:
            self._spent = max(self._spent - (window - self._window) * self._count, 0)
            self._window = window


def _meter(limit: RateLimit) -> _Meter:
    return _Fixed(limit) if limit.window == "Fixed" else _Rolling(limit)


class _Users:
    """A limit of each user."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._meters: dict[str, _Meter] = {}
        self._max = MAX_USERS

    def of(self, user: str, now: float) -> _Meter:
        if (meter := self._meters.get(user)) is None:
            if len(self._meters) >= self._max:
                self._meters = {each: kept for each, kept in self._meters.items() if not kept.is_unspent(now)}
                self._max = max(MAX_USERS, 2 * len(self._meters))
            meter = self._meters[user] = _meter(self._limit)
        return meter


class AccountRates:
    """The rate limits of one account. Equal limits of its sinks are counted together, and pauses are for all."""

    def __init__(self) -> None:
        self.paused_until = 0.0
        self.turns: dict[str, float] = {}
        """The latest turn of each user whose events exceed his limits."""
        self._meters: dict[RateLimit, _Meter] = {}
        self._users: dict[RateLimit, _Users] = {}

    def rates(self, limits: Iterable[RateLimit]) -> "Rates":
        """Return the limits of one sink."""
        return Rates(self, tuple(limits))

    def meter(self, limit: RateLimit) -> _Meter:
        """Return the meter of a limit of the whole account."""
        if (meter := self._meters.get(limit)) is None:
            meter = self._meters[limit] = _meter(limit)
        return meter

    def users(self, limit: RateLimit) -> _Users:
        """Return the meters of a limit of each user."""
        if (users := self._users.get(limit)) is None:
            users = self._users[limit] = _Users(limit)
        return users


class Rates:
    """The limits of one sink, which apply together."""

    def __init__(self, account: AccountRates, limits: tuple[RateLimit, ...]) -> None:
        self._account = account
        shared = [limit for limit in limits if limit.per == "Account"]
        self._shared = [(limit, account.meter(limit)) for limit in shared]
        self._users = [(limit.unit, account.users(limit)) for limit in limits if limit.per == "User"]
        self._user_interval = max((limit.seconds / limit.count for limit in limits if limit.per == "User"), default=0.0)
        self.is_per_user = bool(self._users)
        """Whether a user has limits of his own."""

    def fits_at(self, events: int, now: float, *, creates: bool = False) -> float:
        """Return the time from which one request with so many events is within the limits of the account.

        `creates` states that it is a call that creates so many users.
        """
        at = self._account.paused_until
        for amount, meter in self._of_account(events, creates):
            at = max(at, meter.fits_at(amount, now))
        return at

    def spend(self, events: int, now: float, *, creates: bool = False) -> None:
        """Count a request with so many events, or a call that creates so many users."""
        for amount, meter in self._of_account(events, creates):
            meter.spend(amount, now)

    def pause(self, until: float) -> None:
        """Send nothing until then: the destination announced that a limit of the account is used up."""
        self._account.paused_until = max(self._account.paused_until, until)

    def user_fits_at(self, user: str, events: int, now: float, *, is_in_request: bool) -> float:
        """Return the time from which events of a user are within his limits.

        `is_in_request` states that the request has events of this user already, so that they add no request.
        """
        at = 0.0
        for amount, meter in self._of_user(user, events, now, is_in_request):
            at = max(at, meter.fits_at(amount, now))
        return at

    def user_turn(self, user: str, events: int, now: float) -> float:
        """Return the time at which to look again at events of a user that exceed his limits. It is after the turns of
        his other events, so that not all of them are looked at again and again."""
        turns = self._account.turns
        if len(turns) >= MAX_USERS:
            self._account.turns = turns = {each: at for each, at in turns.items() if at > now}
        at = self.user_fits_at(user, events, now, is_in_request=False)
        if (last := turns.get(user)) is not None:
            at = max(at, last + events * self._user_interval)
        turns[user] = at
        return at

    def spend_user(self, user: str, events: int, now: float, *, is_in_request: bool) -> None:
        """Count events of a user."""
        for amount, meter in self._of_user(user, events, now, is_in_request):
            meter.spend(amount, now)

    def _of_account(self, events: int, creates: bool) -> Iterable[tuple[int, _Meter]]:
        for limit, meter in self._shared:
            if limit.counts(events):
                unit = (limit.create_unit if creates else None) or limit.unit
                yield (events if unit == "Event" else 1), meter

    def _of_user(self, user: str, events: int, now: float, is_in_request: bool) -> Iterable[tuple[int, _Meter]]:
        for unit, users in self._users:
            amount = events if unit == "Event" else int(not is_in_request)
            if amount:
                yield amount, users.of(user, now)
