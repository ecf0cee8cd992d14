"""What is remembered of things that were not there: for a moment, and not too many."""

from headwater.catalog.misses import MOST, WINDOW_S, Misses
from tests.parts import MovableClock


def test_a_miss_counts_for_a_moment() -> None:
    misses = Misses(clock := MovableClock())
    assert misses.is_worth_a_look("a")
    assert misses.is_worth_a_look("a"), "until it is found missing"
    misses.add("a")
    assert not misses.is_worth_a_look("a")
    assert misses.is_worth_a_look("b")
    clock.advance(WINDOW_S - 0.001)
    misses.add("b")
    assert not misses.is_worth_a_look("a")
    clock.advance(0.001)
    assert misses.is_worth_a_look("a")
    assert misses.is_worth_a_look("b"), "no miss counts longer than a window"


def test_a_window_begins_with_its_first_miss() -> None:
    misses = Misses(clock := MovableClock())
    misses.add("a")
    clock.advance(10)
    assert misses.is_worth_a_look("b")
    misses.add("b")
    clock.advance(WINDOW_S - 0.001)
    assert not misses.is_worth_a_look("b")


def test_in_a_flood_nothing_is_worth_a_look() -> None:
    misses = Misses(clock := MovableClock())
    for number in range(MOST):
        assert misses.is_worth_a_look(number)
        misses.add(number)
    assert not misses.is_worth_a_look("a")
    misses.add("a")
    assert len(misses._hashes) == MOST
    clock.advance(WINDOW_S)
    assert misses.is_worth_a_look("a")


def test_a_clock_that_is_set_back_forgets_them() -> None:
    misses = Misses(clock := MovableClock())
    misses.add("a")
    clock.advance(-3600)
    assert misses.is_worth_a_look("a")
