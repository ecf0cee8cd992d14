"""The breaker: when it opens, what closes it, and which results count."""

from random import Random

import pytest
from msgspec.structs import replace

from headwater.connectors.contract import Failure
from headwater.delivery.breaker import Breaker
from headwater.delivery.items import HEALTHY, Health, HealthState
from tests.delivery.lanes import GONE, NOW, UNAVAILABLE


def make_breaker(health: Health = HEALTHY) -> Breaker:
    return Breaker(Random(1), health)


def fail(breaker: Breaker, now: float, failure: Failure = UNAVAILABLE, era: int | None = None) -> None:
    breaker.fail(failure, 503, breaker.era if era is None else era, now)


def pause_end(breaker: Breaker) -> float:
    assert breaker.health.paused_until is not None
    return breaker.health.paused_until


def open_breaker() -> tuple[Breaker, float]:
    breaker, now = make_breaker(), NOW
    while breaker.is_closed:
        fail(breaker, now)
        now = pause_end(breaker)
    return breaker, now


def test_it_opens_after_five_failures_in_a_row() -> None:
    breaker, now = make_breaker(), NOW
    for failures in range(1, 5):
        fail(breaker, now)
        assert (breaker.health.failures, breaker.is_closed) == (failures, True)
        now = pause_end(breaker)
    fail(breaker, now)
    assert breaker.health.state is HealthState.OPEN
    assert breaker.health.failing_since == NOW


def test_a_success_ends_the_row() -> None:
    breaker = make_breaker()
    for second in range(20):
        fail(breaker, NOW + 60 * second)
        breaker.succeed(breaker.era, NOW + 60 * second + 30)
    assert breaker.health is HEALTHY


@pytest.mark.parametrize(("succeeded", "failed", "opens"), [(5, 4, False), (6, 4, False), (5, 5, True), (14, 6, False)])
def test_it_opens_if_half_of_the_requests_of_ten_seconds_fail(succeeded: int, failed: int, opens: bool) -> None:
    breaker = make_breaker()
    outcomes = sorted([(index / succeeded, True) for index in range(succeeded)])
    outcomes += [((index + 0.5) / failed, False) for index in range(failed)]
    for at, is_success in sorted(outcomes):
        if is_success:
            breaker.succeed(breaker.era, NOW + at)
        else:
            fail(breaker, NOW + at)
    assert (breaker.health.state is HealthState.OPEN) is opens


def test_failures_of_the_past_do_not_count() -> None:
    breaker = make_breaker()
    for index in range(40):
        fail(breaker, NOW + 11 * index)
        breaker.succeed(breaker.era, NOW + 11 * index + 10.5)
    assert breaker.is_closed


def test_the_success_of_the_probe_closes_it() -> None:
    breaker, now = open_breaker()
    old = breaker.era
    breaker.send()
    assert breaker.opens_at(now) is None
    assert not breaker.succeed(old, now)  # of a request that was sent before
    assert breaker.health.state is HealthState.HALF_OPEN
    assert breaker.succeed(breaker.era, now)
    assert breaker.health is HEALTHY
    assert breaker.opens_at(now) == now


def test_the_failure_of_the_probe_opens_it_for_longer() -> None:
    breaker, now = open_breaker()
    for _ in range(30):
        breaker.send()
        fail(breaker, now)
        assert breaker.health.state is HealthState.OPEN
        assert now + 0.5 <= pause_end(breaker) <= now + 300.1
        now = pause_end(breaker)
    assert now - NOW > 20 * 300


def test_a_late_failure_extends_the_pause_only_by_its_request() -> None:
    breaker, now = open_breaker()
    old = breaker.era - 1
    until = pause_end(breaker)
    fail(breaker, now, era=old)
    assert pause_end(breaker) == until
    fail(breaker, now, replace(UNAVAILABLE, retry_after_seconds=60.0), era=old)
    assert pause_end(breaker) == now + 60


def test_a_requested_wait_holds_although_the_probe_succeeds() -> None:
    breaker, now = open_breaker()
    old = breaker.era
    breaker.send()
    fail(breaker, now, replace(UNAVAILABLE, retry_after_seconds=60.0), era=old)
    breaker.succeed(breaker.era, now)
    assert breaker.is_closed
    assert breaker.opens_at(now) == now + 60


def test_a_closed_endpoint_is_refusing_until_it_is_resumed() -> None:
    breaker = make_breaker()
    fail(breaker, NOW, GONE)
    assert (breaker.health.state, pause_end(breaker)) == (HealthState.REFUSING, NOW + 3_600)
    breaker.resume(NOW + 5)
    assert breaker.opens_at(NOW + 5) == NOW + 5
    breaker.send()
    assert breaker.succeed(breaker.era, NOW + 6)


def test_results_from_before_a_resumption_do_not_count() -> None:
    breaker, now = open_breaker()
    breaker.send()
    old = breaker.era
    breaker.resume(now)
    fail(breaker, now, era=old)
    assert not breaker.succeed(old, now)
    assert breaker.opens_at(now) == now


def test_a_restart_keeps_an_open_breaker_open() -> None:
    breaker, _ = open_breaker()
    breaker.send()
    restarted = make_breaker(breaker.health)
    assert restarted.health.state is HealthState.OPEN
    assert restarted.health.paused_until == breaker.health.paused_until
