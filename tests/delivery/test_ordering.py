"""The order of items that share keys, compared with a plain model."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from headwater.delivery.ordering import BUSY, WAITING, Entry, Ordering
from tests.delivery.lanes import make_item

KEYS = st.lists(st.integers(0, 4), max_size=3)


@given(keys=st.lists(KEYS, max_size=30), seed=st.integers(0, 10_000))
def test_an_item_is_free_when_no_earlier_one_shares_a_key(keys: list[list[int]], seed: int) -> None:
    """Items are finished in any order, also while they wait."""
    random = Random(seed)
    ordering = Ordering()
    entries = [Entry(make_item(number, *each)) for number, each in enumerate(keys)]
    for entry in entries:
        ordering.add(entry)
    free = {entry.number for entry in entries if not entry.waits}
    unfinished = set(range(len(keys)))
    for number in random.sample(range(len(keys)), len(keys)):
        unfinished.remove(number)
        free |= {entry.number for entry in ordering.finish(entries[number])}
        for each in unfinished:
            waits = any(other < each and not set(keys[other]).isdisjoint(keys[each]) for other in unfinished)
            # An item behind a finished one waits for what that waits for, even if it shares no key with it.
            assert each not in free or not waits
    assert len(ordering) == 0


def test_an_item_with_two_keys_waits_for_both() -> None:
    ordering = Ordering()
    first, second, third = (Entry(make_item(number, *keys)) for number, keys in enumerate([(1,), (2,), (1, 2, 1)]))
    for entry in (first, second, third):
        ordering.add(entry)
    assert third.waits == 2
    assert ordering.finish(second) == []
    assert ordering.finish(first) == [third]


def test_an_item_in_a_batch_is_not_freed() -> None:
    ordering = Ordering()
    first, second = (Entry(make_item(number, 1)) for number in range(2))
    ordering.add(first)
    ordering.add(second)
    second.state = BUSY
    assert ordering.finish(first) == []
    assert (second.waits, second.state) == (0, BUSY)


def test_an_item_that_finishes_early_keeps_its_place() -> None:
    ordering = Ordering()
    first, second, third = (Entry(make_item(number, 1)) for number in range(3))
    for entry in (first, second, third):
        ordering.add(entry)
    assert ordering.finish(second) == []
    assert (third.waits, third.state) == (1, WAITING)
    assert ordering.finish(first) == [third]


def test_an_item_behind_a_cold_one_is_known() -> None:
    ordering = Ordering()
    first, second, other = (Entry(make_item(number, key)) for number, key in enumerate([1, 1, 2]))
    ordering.add(first)
    first.item = None
    assert ordering.add(second)
    assert not ordering.add(other)
