"""Rates: rolling and fixed limits, of requests and events, of accounts and users."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import RateLimit, spread
from headwater.delivery.rates import AccountRates, Rates
from tests.delivery.lanes import NOW


def make_rates(*limits: RateLimit) -> Rates:
    return AccountRates().rates(limits)


def spend_from(rates: Rates, now: float, requests: int, events: int = 1) -> list[float]:
    """Send requests as early as possible. Returns their times, from `now`."""
    times = []
    at = now
    for _ in range(requests):
        at = max(at, rates.fits_at(events, at))
        rates.spend(events, at)
        times.append(round(at - now, 6))
    return times


@pytest.mark.parametrize(
    ("limit", "events", "times"),
    [
        (RateLimit(count=10, seconds=1.0), 1, [0.0, 0.1, 0.2, 0.3, 0.4]),
        (RateLimit(count=10, seconds=1.0, burst=3), 1, [0.0, 0.0, 0.0, 0.1, 0.2]),
        (RateLimit(count=10, seconds=1.0, unit="Event"), 5, [0.0, 0.5, 1.0, 1.5, 2.0]),
        (RateLimit(count=10, seconds=1.0, unit="Event", burst=10), 5, [0.0, 0.0, 0.5, 1.0, 1.5]),
        (RateLimit(count=10, seconds=1.0, unit="Event", burst=3), 5, [0.0, 0.5, 1.0, 1.5, 2.0]),
        (RateLimit(count=2, seconds=10.0, window="Fixed"), 1, [0.0, 0.0, 10.0, 10.0, 20.0]),
        (RateLimit(count=10, seconds=10.0, window="Fixed", unit="Event"), 4, [0.0, 0.0, 10.0, 10.0, 20.0]),
        (RateLimit(count=10, seconds=10.0, window="Fixed", unit="Event"), 25, [0.0, 30.0, 60.0, 90.0, 120.0]),
    ],
)
def test_the_times_of_requests(limit: RateLimit, events: int, times: list[float]) -> None:
    assert spend_from(make_rates(limit), NOW, 5, events) == times


def test_fixed_windows_start_at_multiples_of_their_length() -> None:
    rates = make_rates(RateLimit(count=1, seconds=60.0, window="Fixed"))
    minute = NOW // 60 * 60
    assert spend_from(rates, minute + 50, 3) == [0.0, 10.0, 70.0]


def test_all_limits_apply_together() -> None:
    rates = make_rates(
        RateLimit(count=2, seconds=1.0, burst=2),
        RateLimit(count=3, seconds=60.0, window="Fixed"),
    )
    start = NOW // 60 * 60
    assert spend_from(rates, start, 5) == [0.0, 0.0, 0.5, 60.0, 60.0]


def test_equal_limits_of_an_account_are_counted_together() -> None:
    account = AccountRates()
    events = account.rates([RateLimit(count=1, seconds=10.0, group="all"), RateLimit(count=5, seconds=1.0)])
    users = account.rates([RateLimit(count=1, seconds=10.0, group="all")])
    others = account.rates([RateLimit(count=1, seconds=10.0, group="other")])
    events.spend(1, NOW)
    assert users.fits_at(1, NOW) == NOW + 10
    assert others.fits_at(1, NOW) <= NOW


def test_a_pause_is_for_the_account() -> None:
    account = AccountRates()
    account.rates([]).pause(NOW + 5)
    account.rates([]).pause(NOW + 3)
    assert account.rates([]).fits_at(1, NOW) == NOW + 5


def test_each_user_has_his_own_limit() -> None:
    rates = make_rates(RateLimit(count=1, seconds=10.0, unit="Event", per="User"))
    rates.spend_user("a", 1, NOW, is_in_request=False)
    assert rates.user_fits_at("a", 1, NOW, is_in_request=True) == NOW + 10
    assert rates.user_fits_at("b", 1, NOW, is_in_request=True) <= NOW
    assert rates.fits_at(1, NOW) <= NOW


def test_a_request_counts_once_for_a_user() -> None:
    rates = make_rates(RateLimit(count=1, seconds=10.0, per="User"))
    rates.spend_user("a", 1, NOW, is_in_request=False)
    assert rates.user_fits_at("a", 1, NOW, is_in_request=True) <= NOW
    assert rates.user_fits_at("a", 1, NOW, is_in_request=False) == NOW + 10


def test_the_turns_of_a_user_follow_one_another() -> None:
    rates = make_rates(RateLimit(count=1, seconds=10.0, unit="Event", per="User"))
    rates.spend_user("a", 1, NOW, is_in_request=False)
    assert [rates.user_turn("a", 1, NOW) - NOW for _ in range(3)] == [10.0, 20.0, 30.0]
    assert rates.user_turn("a", 1, NOW + 100) <= NOW + 100


def test_many_users_take_bounded_memory() -> None:
    account = AccountRates()
    limit = RateLimit(count=1, seconds=10.0, unit="Event", per="User")
    rates = account.rates([limit])
    for number in range(50_000):
        rates.spend_user(f"user{number}", 1, NOW + number, is_in_request=False)
    assert len(account.users(limit)._meters) <= 10_000


@given(
    requests=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 8)), min_size=1, max_size=40),
    count=st.integers(1, 20),
    burst=st.integers(1, 10),
)
def test_no_time_passes_more_than_its_share_and_a_burst(
    requests: list[tuple[float, int]], count: int, burst: int
) -> None:
    rates = make_rates(RateLimit(count=count, seconds=4.0, unit="Event", burst=burst))
    now, sent = NOW, []
    for pause, events in requests:
        now = max(now + pause, rates.fits_at(events, now + pause))
        rates.spend(events, now)
        sent.append((now, events))
    largest = max(burst, *(events for _, events in sent))
    for first, (start, _) in enumerate(sent):
        total = 0
        for at, events in sent[first:]:
            total += events
            assert total <= (at - start) * count / 4.0 + largest + 1e-3


@given(
    requests=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), min_size=1, max_size=40),
    count=st.integers(5, 20),
)
def test_no_fixed_window_has_more_than_its_count(requests: list[tuple[float, int]], count: int) -> None:
    rates = make_rates(RateLimit(count=count, seconds=4.0, unit="Event", window="Fixed"))
    now, windows = NOW, dict[int, int]()
    for pause, events in requests:
        now = max(now + pause, rates.fits_at(events, now + pause))
        rates.spend(events, now)
        windows[int(now // 4)] = windows.get(int(now // 4), 0) + events
    assert max(windows.values()) <= count


def test_a_limit_of_bulk_requests_does_not_count_single_events() -> None:
    rates = make_rates(RateLimit(count=1, seconds=10.0, min_events=2), RateLimit(count=10, seconds=10.0, max_events=1))
    assert spend_from(rates, NOW, 2, events=5) == [0.0, 10.0]
    assert spend_from(rates, NOW, 3, events=1) == [0.0, 1.0, 2.0]
    assert spend_from(rates, NOW, 1, events=5) == [20.0]


@given(
    count=st.integers(2, 200),
    burst=st.integers(1, 20),
    seconds=st.sampled_from([1.0, 60.0]),
    begin=st.floats(0.0, 1.0),
)
def test_a_spread_limit_keeps_each_fixed_window(count: int, burst: int, seconds: float, begin: float) -> None:
    burst = min(burst, count - 1)
    rates = make_rates(spread(count, seconds, burst=burst))
    times = spend_from(rates, NOW, 4 * count)
    windows = [int((at + begin * seconds) // seconds) for at in times]
    assert max(windows.count(window) for window in windows) <= count


def test_a_limit_of_some_routes_counts_only_their_requests() -> None:
    rates = make_rates(
        RateLimit(count=10, seconds=10.0, routes=("",)), RateLimit(count=1, seconds=10.0, routes=("merge",))
    )
    rates.spend(1, NOW, "merge")
    assert rates.fits_at(1, NOW, "merge") == NOW + 10
    assert rates.fits_at(1, NOW) <= NOW
    rates.spend(1, NOW)
    assert rates.fits_at(1, NOW) == NOW + 1
    assert rates.fits_at(1, NOW, "other") <= NOW
