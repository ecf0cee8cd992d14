"""Missing keys are cached for a moment, and in a limited number."""

from headwater.catalog.negativecache import MAX_MISSES, WINDOW_SECONDS, NegativeCache
from tests.harness import MovableClock


def test_a_miss_counts_for_a_moment() -> None:
    negative_cache = NegativeCache(clock := MovableClock())
    assert negative_cache.should_query("a")
    assert negative_cache.should_query("a"), "until it is found missing"
    negative_cache.add("a")
    assert not negative_cache.should_query("a")
    assert negative_cache.should_query("b")
    clock.advance(WINDOW_SECONDS - 0.001)
    negative_cache.add("b")
    assert not negative_cache.should_query("a")
    clock.advance(0.001)
    assert negative_cache.should_query("a")
    assert negative_cache.should_query("b"), "no miss counts longer than a window"


def test_a_window_begins_with_its_first_miss() -> None:
    negative_cache = NegativeCache(clock := MovableClock())
    negative_cache.add("a")
    clock.advance(10)
    assert negative_cache.should_query("b")
    negative_cache.add("b")
    clock.advance(WINDOW_SECONDS - 0.001)
    assert not negative_cache.should_query("b")


def test_in_a_flood_nothing_is_worth_a_look() -> None:
    negative_cache = NegativeCache(clock := MovableClock())
    for number in range(MAX_MISSES):
        assert negative_cache.should_query(number)
        negative_cache.add(number)
    assert not negative_cache.should_query("a")
    negative_cache.add("a")
    assert len(negative_cache._hashes) == MAX_MISSES
    clock.advance(WINDOW_SECONDS)
    assert negative_cache.should_query("a")


def test_a_clock_that_is_set_back_forgets_them() -> None:
    negative_cache = NegativeCache(clock := MovableClock())
    negative_cache.add("a")
    clock.advance(-3600)
    assert negative_cache.should_query("a")
