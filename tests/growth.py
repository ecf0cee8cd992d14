"""Asserts that work grows linearly. A ratio of processor times has the same value on a slow machine."""

import gc
import time
from collections.abc import Callable

# Clock and caches distort very short work. Four times the size is four times the work if it is linear, and sixteen
# times if it is quadratic.
_NOISE_SECONDS = 0.005
_STEP = 4
_MAX_GROWTH = 10


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Work of ``size`` costs less than ten times what a quarter of it costs; each is the least of three."""
    small, large = _cost(work, size // _STEP), _cost(work, size)
    growth = (large + _NOISE_SECONDS) / (small + _NOISE_SECONDS)
    assert growth < _MAX_GROWTH, (
        f"{_STEP} times the size costs {growth:.1f} times the work: {small:.3f} s, {large:.3f} s"
    )


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
