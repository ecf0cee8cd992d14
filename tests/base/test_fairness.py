"""Slots are shared fairly between owners, however many calls one owner makes."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.base.fairness import FairSlots

OWNERS = st.sampled_from("abcd")


class Held:
    """A call that holds a slot until the test releases it."""

    def __init__(self, slots: FairSlots, owner: str, order: list[str]) -> None:
        self.owner = owner
        self.let_go = asyncio.Event()
        self.has_slot = False
        self.task = asyncio.create_task(self._hold(slots, order))

    async def _hold(self, slots: FairSlots, order: list[str]) -> None:
        async with slots.slot(self.owner):
            order.append(self.owner)
            self.has_slot = True
            await self.let_go.wait()
            self.has_slot = False


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@settings(max_examples=200, deadline=None)
@given(
    slots=st.integers(1, 4),
    per_owner=st.none() | st.integers(1, 4),
    calls=st.lists(OWNERS, max_size=30),
    choices=st.lists(st.tuples(st.integers(0, 1_000), st.booleans()), max_size=60),
)
def test_shares_are_kept_and_no_owner_waits_longer_than_a_round(
    slots: int, per_owner: int | None, calls: list[str], choices: list[tuple[int, bool]]
) -> None:
    """Invariants after every step: at most the existing slots are held, no owner exceeds its share, and no slot is free
    while a waiting owner may have it. In the order of grants, no owner gets a second slot while another waiting owner
    has none."""
    share = max(1, slots - 1) if per_owner is None else per_owner

    async def run() -> None:
        fair, order = FairSlots(slots, per_owner=per_owner), list[str]()
        held = [Held(fair, owner, order) for owner in calls]
        await settle()
        for number, cancels in choices:
            running = [each for each in held if each.has_slot]
            waiting = [each for each in held if not each.has_slot and not each.task.done()]
            holds = Counter(each.owner for each in running)
            assert len(running) <= slots
            assert all(count <= share for count in holds.values())
            assert len(running) == slots or all(holds[each.owner] >= share for each in waiting)
            if not running:
                break
            granted = len(order)
            if cancels and waiting:
                waiting[number % len(waiting)].task.cancel()
            else:
                running[number % len(running)].let_go.set()
            await settle()
            eligible = {each.owner for each in waiting if holds[each.owner] < share}
            assert not (twice := [owner for owner, count in Counter(order[granted:]).items() if count > 1]) or (
                eligible <= {*order[granted:]}
            ), twice
        for each in held:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in held), return_exceptions=True)
        async with asyncio.timeout(1):  # no slot is lost by a cancellation
            for owner in "abcd":
                async with fair.slot(owner):
                    pass

    asyncio.run(run())


async def test_owners_that_wait_are_served_in_turn() -> None:
    fair, order = FairSlots(1), list[str]()
    held = [Held(fair, owner, order) for owner in ("a", "a", "a", "a", "b", "c", "b")]
    for _ in held:
        await settle()
        next(each for each in held if each.has_slot).let_go.set()
    await settle()
    assert order == ["a", "a", "b", "c", "a", "b", "a"]


async def test_one_owner_leaves_a_slot_for_the_others() -> None:
    fair, order = FairSlots(3), list[str]()
    held = [Held(fair, "a", order) for _ in range(10)]
    await settle()
    assert order == ["a", "a"]
    async with asyncio.timeout(1), fair.slot("b"):
        pass
    for each in held:
        each.task.cancel()


async def test_waiting_is_bounded_in_number_and_in_time() -> None:
    fair, order = FairSlots(1, max_waiting=2, what="trials"), list[str]()
    held = [Held(fair, "a", order) for _ in range(3)]
    await settle()
    with pytest.raises(TooManyRequests, match="2 trials of this workspace are waiting already"):
        async with fair.slot("a"):
            pass
    with pytest.raises(Unavailable, match="no slot became free for trials in time"):
        async with fair.slot("b", seconds=0.01):
            pass
    for each in held:
        each.let_go.set()
    await asyncio.gather(*(each.task for each in held))
    async with fair.slot("b", seconds=0.01):
        pass
