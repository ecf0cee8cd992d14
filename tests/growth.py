"""How work grows with what it is given: a ratio of the processor's time, so that it says the same on a slow machine."""

import gc
import time
from collections.abc import Callable

# What the clock and the caches make of very short work. Four times the size is four times the work where it is linear
# and sixteen where it is quadratic.
_NOISE_S = 0.005
_STEP = 4
_MOST = 10


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Work of ``size`` costs less than ten times what a quarter of it costs; each is the least of three."""
    small, large = _cost(work, size // _STEP), _cost(work, size)
    growth = (large + _NOISE_S) / (small + _NOISE_S)
    assert growth < _MOST, f"{_STEP} times the size costs {growth:.1f} times the work: {small:.3f} s, {large:.3f} s"


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
