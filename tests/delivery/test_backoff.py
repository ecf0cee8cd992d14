"""Back-off: growth, jitter, limits, and the wait that a destination requests."""

from random import Random

import pytest

from headwater.delivery import backoff


def test_delays_grow_with_jitter_up_to_the_limit() -> None:
    random = Random(1)
    runs = []
    for _ in range(200):
        delays = [0.0]
        for _ in range(20):
            delays.append(backoff.next_delay(delays[-1], random))
        runs.append(delays[1:])
    for before, after in ((run[index], run[index + 1]) for run in runs for index in range(19)):
        assert 0.5 <= before <= after <= min(3 * before, 300.0)
    assert len({run[0] for run in runs}) == len(runs)
    assert sum(run[-1] for run in runs) / len(runs) > 100


@pytest.mark.parametrize(("failures", "delay"), [(0, 0.0), (1, 1.0), (5, 16.0), (12, 300.0), (10_000, 300.0)])
def test_a_restart_continues_with_a_typical_delay(failures: int, delay: float) -> None:
    assert backoff.delay_after(failures) == delay


@pytest.mark.parametrize(
    ("delay", "requested", "wait"),
    [(2.0, None, 2.0), (2.0, 1.0, 2.0), (2.0, 5.0, 5.0), (2.0, -5.0, 2.0), (2.0, 86_400.0, 3_600.0)],
)
def test_the_requested_wait_is_a_minimum_with_a_limit(delay: float, requested: float | None, wait: float) -> None:
    assert backoff.wait(delay, requested) == wait
