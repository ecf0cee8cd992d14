"""Concurrency: growth while the limit is used, and decrease once per round."""

import pytest

from headwater.delivery.concurrency import Concurrency


def answer(concurrency: Concurrency, requests: int, seconds: float = 0.1, *, was_full: bool = True) -> None:
    for _ in range(requests):
        concurrency.succeeded(seconds, concurrency.round, was_full=was_full)


def test_it_grows_by_one_per_round_up_to_the_maximum() -> None:
    concurrency = Concurrency(16)
    assert concurrency.limit == 4
    answer(concurrency, 5)
    assert concurrency.limit == 5
    answer(concurrency, 1_000)
    assert concurrency.limit == 16


def test_it_does_not_grow_while_it_is_not_used() -> None:
    concurrency = Concurrency(16)
    answer(concurrency, 1_000, was_full=False)
    assert concurrency.limit == 4


def test_slower_responses_shrink_it_once_per_round() -> None:
    concurrency = Concurrency(16)
    answer(concurrency, 1_000)
    current = concurrency.round
    for _ in range(16):
        concurrency.succeeded(2.0, current, was_full=True)
    assert concurrency.limit == 14


def test_small_differences_are_not_slow() -> None:
    concurrency = Concurrency(16)
    answer(concurrency, 1_000, 0.001)
    answer(concurrency, 1_000, 0.005)
    assert concurrency.limit == 16


def test_failures_halve_it_once_per_round() -> None:
    concurrency = Concurrency(16)
    answer(concurrency, 1_000)
    current = concurrency.round
    for _ in range(16):
        concurrency.failed(current)
    assert concurrency.limit == 8
    for _ in range(10):
        concurrency.failed(concurrency.round)
    assert concurrency.limit == 1


def test_after_an_outage_it_starts_with_one() -> None:
    concurrency = Concurrency(16)
    concurrency.restart()
    assert concurrency.limit == 1
    answer(concurrency, 1)
    assert concurrency.limit == 2


@pytest.mark.parametrize(("maximum", "limit"), [(0, 1), (1, 1), (2, 2), (64, 4)])
def test_the_first_limit(maximum: int, limit: int) -> None:
    assert Concurrency(maximum).limit == limit
