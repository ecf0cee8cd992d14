"""The limits of how much may be sent: exact, by the clock that is given, and forgotten when they are full again."""

import math
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import HeadwaterError, PayloadTooLarge, TooManyRequests
from headwater.intake.ratelimit import Quota, RateLimit, RateLimiter
from tests.harness import MovableClock


def taken(limiter: RateLimiter, events: int = 1, *, workspace: int = 1, key: str = "k") -> Quota:
    quota = limiter.take(workspace, key, events)
    assert quota is not None
    return quota


def test_without_a_limit_everything_is_taken() -> None:
    assert RateLimiter(MovableClock()).take(1, "k", 10**9) is None


def test_a_burst_and_then_so_many_a_second() -> None:
    clock = MovableClock()
    limiter = RateLimiter(clock, key=RateLimit(per_second=2, burst=10))
    assert taken(limiter, 9) == Quota(burst=10, remaining=1, full_in=5)
    assert taken(limiter, 1) == Quota(burst=10, remaining=0, full_in=5)
    with pytest.raises(TooManyRequests, match="the key sends more than 2 events a second") as rejected:
        taken(limiter, 1)
    assert rejected.value.headers == {
        "retry-after": "1",
        "ratelimit-limit": "10",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "5",
    }
    clock.advance(0.5)
    assert taken(limiter, 1).remaining == 0
    clock.advance(5)
    assert taken(limiter, 0) == Quota(burst=10, remaining=10, full_in=0)


@pytest.mark.parametrize(("events", "seconds"), [(1, 1), (2, 1), (3, 2), (10, 5)])
def test_retry_after_is_when_the_same_call_will_pass(events: int, seconds: int) -> None:
    clock = MovableClock()
    limiter = RateLimiter(clock, key=RateLimit(per_second=2, burst=10))
    taken(limiter, 10)
    with pytest.raises(TooManyRequests) as rejected:
        taken(limiter, events)
    assert rejected.value.retry_after == seconds
    clock.advance(seconds)
    taken(limiter, events)


def test_more_than_a_burst_will_never_pass() -> None:
    limiter = RateLimiter(MovableClock(), key=RateLimit(per_second=1000, burst=10))
    with pytest.raises(PayloadTooLarge, match="more events than the key may send at once, 10"):
        taken(limiter, 11)
    assert taken(limiter, 10).remaining == 0


def test_a_rejected_call_uses_no_quota() -> None:
    """A rejected call uses up neither limit."""
    limiter = RateLimiter(MovableClock(), workspace=RateLimit(1, 100), key=RateLimit(1, 10))
    taken(limiter, 8)
    for events in (3, 11):
        with pytest.raises(HeadwaterError):
            taken(limiter, events)
    assert taken(limiter, 0) == Quota(burst=10, remaining=2, full_in=8)
    assert taken(limiter, 0, key="other").remaining == 10


def test_keys_and_workspaces_have_limits_of_their_own_and_the_tighter_one_is_told() -> None:
    limiter = RateLimiter(MovableClock(), workspace=RateLimit(1, 12), key=RateLimit(1, 10))
    assert taken(limiter, 8, key="a") == Quota(10, 2, 8)
    assert taken(limiter, 3, key="b") == Quota(12, 1, 11)
    assert taken(limiter, 3, workspace=2, key="c") == Quota(10, 7, 3)
    with pytest.raises(TooManyRequests, match="the workspace sends more"):
        taken(limiter, 2, key="b")


def test_a_process_has_its_share() -> None:
    clock = MovableClock()
    limiter = RateLimiter(clock, key=RateLimit(per_second=10, burst=100), processes=4)
    assert taken(limiter, 25) == Quota(25, 0, 10)
    clock.advance(1)
    assert taken(limiter, 2).remaining == 0
    tiny = RateLimiter(clock, key=RateLimit(per_second=1, burst=1), processes=64)
    assert taken(tiny, 1) == Quota(1, 0, 64)


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    clock = MovableClock()
    limiter = RateLimiter(clock, key=RateLimit(per_second=2, burst=10))
    taken(limiter, 5)
    clock.advance(-3600)
    with pytest.raises(TooManyRequests) as rejected:
        taken(limiter, 1)
    assert rejected.value.retry_after == 1
    clock.advance(1)
    assert taken(limiter, 1).remaining == 1


def test_full_buckets_are_forgotten() -> None:
    clock = MovableClock()
    limiter = RateLimiter(clock, key=RateLimit(per_second=10, burst=10))
    for number in range(10_000):
        clock.advance(0.1)
        taken(limiter, 1, key=f"k{number}")
    assert limiter._keys is not None
    assert len(limiter._keys._full_at) <= 1024


@given(
    per_second=st.integers(1, 50),
    burst=st.integers(1, 60),
    processes=st.integers(1, 5),
    calls=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 60)), max_size=60),
)
def test_never_more_than_the_limit_and_never_less_without_need(
    per_second: int, burst: int, processes: int, calls: list[tuple[float, int]]
) -> None:
    """Every window has at most the rate and one burst, and every rejected call would have exceeded them."""
    clock = MovableClock()
    limiter = RateLimiter(clock, key=RateLimit(per_second, burst), processes=processes)
    rate, share = Fraction(per_second, processes), max(1, burst // processes)
    began = clock.now()
    tokens, at = Fraction(share), Fraction(0)  # the same as a bucket that is filled in time
    passed: list[tuple[Fraction, int]] = []
    for pause, events in calls:
        clock.advance(pause)
        now = Fraction((clock.now() - began) // timedelta(microseconds=1), 1_000_000)
        tokens, at = min(Fraction(share), tokens + (now - at) * rate), now
        try:
            quota = taken(limiter, events)
        except PayloadTooLarge:
            assert events > share
        except TooManyRequests as error:
            assert tokens < events <= share
            assert error.retry_after == math.ceil((events - tokens) / rate)
        else:
            assert events <= tokens
            tokens -= events
            assert quota == Quota(share, math.floor(tokens), math.ceil((share - tokens) / rate))
            passed.append((now, events))
    for index, (start, _) in enumerate(passed):
        total = 0
        for end, events in passed[index:]:
            total += events
            assert total <= (end - start) * rate + share
