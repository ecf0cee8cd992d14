"""Throttling of equal log lines."""

from headwater.base.throttle import MAX_KEYS, Throttle


class Seconds:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_of_a_kind_passes_in_each_period_and_says_how_many_there_were() -> None:
    seconds = Seconds()
    throttle = Throttle(60, seconds)
    assert [throttle.passes("a") for _ in range(4)] == [1, 0, 0, 0]
    assert throttle.passes("b") == 1
    seconds.now += 60
    assert throttle.passes("a") == 4
    assert throttle.passes("a") == 0


def test_it_remembers_a_limited_number_of_kinds() -> None:
    throttle = Throttle(60, Seconds())
    for number in range(3 * MAX_KEYS):
        assert throttle.passes(number) == 1
    assert len(throttle._seen) <= MAX_KEYS
