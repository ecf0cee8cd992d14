"""The rates of a connector at full load, for comparison with the limit of the vendor."""

from collections import deque
from collections.abc import Iterable, Sequence

from headwater.connectors.contract import RateLimit
from headwater.delivery.rates import AccountRates


def call_times(limits: Iterable[RateLimit], *, seconds: float, events: int = 1) -> list[float]:
    """Return the times of calls with so many events or users each, made as early as the limits allow."""
    rates = AccountRates().rates(limits)
    times: list[float] = []
    now = 0.0
    while (now := max(now, rates.fits_at(events, now))) < seconds:
        rates.spend(events, now)
        times.append(now)
    return times


def most_within(times: Sequence[float], seconds: float) -> int:
    """Return the largest number of calls in any window of so many seconds, wherever it starts."""
    window: deque[float] = deque()
    most = 0
    for time in times:
        window.append(time)
        while window[0] <= time - seconds:
            window.popleft()
        most = max(most, len(window))
    return most
