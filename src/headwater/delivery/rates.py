"""Rate limits of an account, shared by all lanes with the same credentials.

A meter knows from which time an amount fits, and counts it when it is spent. The amount is a number of requests or
events. A request that is larger than the burst of a rolling limit, or than a whole fixed
window, waits until nothing is spent, and what follows waits until it is paid. So over any time t, a rolling limit
passes at most t * count / seconds + burst, or its largest request instead of the burst.

A meter is that of this process. If others use the limit too, `headwater.delivery.shares` sets its share.
"""

import math
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from headwater.connectors.contract import RateLimit

MAX_USERS: Final = 10_000
"""Users of which a limit keeps what they spent, before it forgets those who can spend all again."""
INVALID_SECONDS: Final = 0.5
"""Time after which to look again at limits whose shares are unknown."""


class Meter(Protocol):
    """One limit of an account, or the share of it that this process has."""

    used: float
    """The amount that was spent since the holder of a share set it to 0."""
    is_limiting: bool
    """Whether an amount had to wait since the holder of a share set it to False."""

    def fits_at(self, amount: int, now: float) -> float: ...
    def spend(self, amount: int, now: float) -> None: ...
    def is_unspent(self, now: float) -> bool: ...

    def stop(self) -> None:
        """Let nothing pass until there is a share, and then no burst at first."""

    def share(self, amount: float, now: float, *, is_alone: bool = False) -> None:
        """Let `amount` pass in the time of the limit. `is_alone` states that no other process used it recently."""


class _Rolling:
    """A limit that is spent evenly, except for a burst: the generic cell rate algorithm."""

    __slots__ = ("_burst", "_interval", "_paid_at", "_seconds", "_stopped", "is_limiting", "used")

    def __init__(self, limit: RateLimit) -> None:
        self._seconds = limit.seconds
        self._interval = limit.seconds / limit.count
        self._burst = limit.burst
        self._paid_at = 0.0
        """The time at which the limit is as if nothing had been spent."""
        self._stopped: float | None = None
        """The amount that is to be paid, while nothing may pass."""
        self.used = 0.0
        self.is_limiting = False

    def fits_at(self, amount: int, now: float) -> float:
        if self._stopped is not None:
            self.is_limiting = True
            return math.inf
        at = self._paid_at - max(self._burst - amount, 0) * self._interval
        if at > now:
            self.is_limiting = True
        return at

    def spend(self, amount: int, now: float) -> None:
        self.used += amount
        self._paid_at = max(self._paid_at, now) + amount * self._interval

    def is_unspent(self, now: float) -> bool:
        return self._paid_at <= now

    def stop(self) -> None:
        self._stopped = self._burst

    def share(self, amount: float, now: float, *, is_alone: bool = False) -> None:
        owed = max(self._paid_at - now, 0.0) / self._interval if self._stopped is None else self._stopped
        if is_alone:
            owed = 0.0
        self._stopped = owed
        if amount > 0:
            self._interval = self._seconds / amount
            self._paid_at = now + owed * self._interval
            self._stopped = None


class _Fixed:
    """A limit of windows that start at multiples of their length. More than a window's count is taken from the next."""

    __slots__ = ("_count", "_next_count", "_seconds", "_spent", "_window", "is_limiting", "used")

    def __init__(self, limit: RateLimit) -> None:
        self._count = self._next_count = limit.count
        self._seconds = limit.seconds
        self._window = 0
        self._spent = 0
        self.used = 0.0
        self.is_limiting = False

    def fits_at(self, amount: int, now: float) -> float:
        self._advance(now)
        if not self._count:
            self.is_limiting = True
            return (self._window + 1) * self._seconds if self._next_count else math.inf
        windows = max(math.ceil((self._spent + min(amount, self._count)) / self._count) - 1, 0)
        at = (self._window + windows) * self._seconds
        if at > now:
            self.is_limiting = True
        return at

    def spend(self, amount: int, now: float) -> None:
        self._advance(now)
        self.used += amount
        self._spent += amount

    def is_unspent(self, now: float) -> bool:
        self._advance(now)
        return not self._spent

    def stop(self) -> None:
        self._count = self._next_count = 0

    def share(self, amount: float, now: float, *, is_alone: bool = False) -> None:
        self._advance(now)
        self._next_count = int(amount)
        if is_alone or self._next_count < self._count:  # another process may have used up the present window
            self._count = self._next_count

    def _advance(self, now: float) -> None:
        window = int(now // self._seconds)
        if window > self._window:
            self._spent = max(self._spent - self._count - (window - self._window - 1) * self._next_count, 0)
            self._window = window
            self._count = self._next_count


def _meter(limit: RateLimit) -> Meter:
    return _Fixed(limit) if limit.window == "Fixed" else _Rolling(limit)


class _Users:
    """A limit of each user."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._meters: dict[str, Meter] = {}
        self._max = MAX_USERS

    def of(self, user: str, now: float) -> Meter:
        if (meter := self._meters.get(user)) is None:
            if len(self._meters) >= self._max:
                self._meters = {each: kept for each, kept in self._meters.items() if not kept.is_unspent(now)}
                self._max = max(MAX_USERS, 2 * len(self._meters))
            meter = self._meters[user] = _meter(self._limit)
        return meter


class MeterMade(Protocol):
    """Takes a meter when it is made, and the largest amount of one request."""

    def __call__(self, limit: RateLimit, meter: Meter, largest: int) -> None: ...


class AccountRates:
    """The rate limits of one account. Equal limits of its sinks are counted together, and pauses are for all."""

    def __init__(
        self, is_valid: Callable[[], bool] = lambda: True, made: MeterMade = lambda limit, meter, largest: None
    ) -> None:
        """`is_valid` returns False while this process does not know its shares of the limits: then nothing passes."""
        self.is_valid = is_valid
        self.paused_until = 0.0
        self.turns: dict[str, float] = {}
        """The latest turn of each user whose events exceed his limits."""
        self._made = made
        self._meters: dict[RateLimit, Meter] = {}
        self._users: dict[RateLimit, _Users] = {}

    def rates(self, limits: Iterable[RateLimit], *, max_events: int = 1) -> "Rates":
        """Return the limits of one sink, whose requests have at most `max_events`."""
        return Rates(self, tuple(limits), max_events)

    def meter(self, limit: RateLimit, max_events: int) -> Meter:
        """Return the meter of a limit of the whole account."""
        if (meter := self._meters.get(limit)) is None:
            meter = self._meters[limit] = _meter(limit)
        self._made(limit, meter, find_largest(limit, max_events))
        return meter

    def users(self, limit: RateLimit) -> _Users:
        """Return the meters of a limit of each user."""
        if (users := self._users.get(limit)) is None:
            users = self._users[limit] = _Users(limit)
        return users


def find_largest(limit: RateLimit, max_events: int) -> int:
    """Return the largest amount of one request with at most `max_events`."""
    if limit.unit == "Request":
        return 1
    return max_events if limit.max_events is None else min(max_events, limit.max_events)


class Rates:
    """The limits of one sink, which apply together."""

    def __init__(self, account: AccountRates, limits: tuple[RateLimit, ...], max_events: int) -> None:
        self._account = account
        shared = [limit for limit in limits if limit.per == "Account"]
        self._shared = [(limit, account.meter(limit, max_events)) for limit in shared]
        self._users = [(limit.unit, account.users(limit)) for limit in limits if limit.per == "User"]
        self._user_interval = max((limit.seconds / limit.count for limit in limits if limit.per == "User"), default=0.0)
        self.is_per_user = bool(self._users)
        """Whether a user has limits of his own."""

    def fits_at(self, events: int, now: float, route: str = "") -> float:
        """Return the time from which one request with so many events is within the limits of the account."""
        at = self._account.paused_until
        if self._shared and not self._account.is_valid():
            return max(at, now + INVALID_SECONDS)
        for amount, meter in self._of_account(events, route):
            at = max(at, meter.fits_at(amount, now))
        return at

    def spend(self, events: int, now: float, route: str = "") -> None:
        """Count a request with so many events."""
        for amount, meter in self._of_account(events, route):
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

    def _of_account(self, events: int, route: str) -> Iterable[tuple[int, Meter]]:
        for limit, meter in self._shared:
            if limit.counts(events, route):
                yield (events if limit.unit == "Event" else 1), meter

    def _of_user(self, user: str, events: int, now: float, is_in_request: bool) -> Iterable[tuple[int, Meter]]:
        for unit, users in self._users:
            amount = events if unit == "Event" else int(not is_in_request)
            if amount:
                yield amount, users.of(user, now)
