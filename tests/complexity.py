"""Asserts that work has linear complexity. A ratio of processor times has the same value on a slow machine."""

import gc
import time
from collections.abc import Callable

# Clock and caches distort very short work. Four times the size is four times the work if it is linear, and sixteen
# times if it is quadratic.
_NOISE_SECONDS = 0.005
_STEP = 4
_MAX_RATIO = 10


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Assert that work of `size` takes less than ten times the processor time of a quarter of it.

    Each time is the minimum of three measurements.
    """
    small, large = _cost(work, size // _STEP), _cost(work, size)
    ratio = (large + _NOISE_SECONDS) / (small + _NOISE_SECONDS)
    assert ratio < _MAX_RATIO, f"{_STEP} times the size costs {ratio:.1f} times the work: {small:.3f} s, {large:.3f} s"


def _cost(work: Callable[[int], object], size: int) -> float:
    costs = []
    gc.disable()
    try:
        for _ in range(3):
            began = time.thread_time()
            work(size)
            costs.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(costs)
