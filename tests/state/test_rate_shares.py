"""Shares of rate limits in the state store, on both databases."""

import asyncio
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, update

from headwater.state import StateStore, open_state
from headwater.state.rateshares import LEASE_SECONDS, MIN_FREE, WantedShare
from headwater.state.tables import rate_shares
from tests.harness import MovableClock

RUN = WantedShare(key="account", holder="run 1", window_seconds=1.0, total=100.0, burst=4.0, amount=100.0, wanted=100.0)


async def amounts(state: StateStore) -> dict[str, tuple[float, bool]]:
    return {share.holder: (share.amount, share.is_live) for share in await state.rate_shares.read("account")}


async def test_amounts_and_bursts_are_at_most_the_total(state: StateStore) -> None:
    store = state.rate_shares
    first = await store.renew(RUN)
    assert (first.amount, first.was_held, first.is_alone) == (96.0, False, True)
    second = await store.renew(replace(RUN, holder="run 2"))
    assert (second.amount, second.was_held, second.is_alone) == (0.0, False, False)
    assert (await store.renew(replace(RUN, amount=40.0))).amount == 40.0
    third = await store.renew(replace(RUN, holder="run 2"))
    assert (third.amount, third.was_held) == (52.0, True)
    assert (await store.renew(replace(RUN, key="other"))).amount == 96.0
    assert await amounts(state) == {"run 1": (40.0, True), "run 2": (52.0, True)}


async def test_a_burst_stays_taken_for_a_window(state: StateStore) -> None:
    store = state.rate_shares
    await store.renew(replace(RUN, window_seconds=600.0))
    await store.release("run 1", ["account"])
    assert await amounts(state) == {"run 1": (0.0, False)}
    granted = await store.renew(replace(RUN, holder="run 2", window_seconds=600.0))
    assert (granted.amount, granted.is_alone) == (92.0, False)


async def test_a_share_ends_with_its_lease(state: StateStore) -> None:
    long = replace(RUN, window_seconds=60.0)
    await state.rate_shares.renew(long)
    await age(state, "run 1", LEASE_SECONDS + 30)
    assert await amounts(state) == {"run 1": (96.0, False)}
    assert (await state.rate_shares.renew(replace(long, holder="run 2"))).amount == 92.0
    await age(state, "run 1", 60)
    granted = await state.rate_shares.renew(replace(long, holder="run 2"))
    assert (granted.amount, granted.is_alone) == (96.0, True)
    assert list(await amounts(state)) == ["run 2"]


async def age(state: StateStore, holder: str, seconds: float) -> None:
    """Move the end of the lease of a share back: the clock of PostgreSQL cannot be moved."""
    earlier = rate_shares.c.lease_until - int(seconds * 1e6)
    moved = update(rate_shares).where(rate_shares.c.holder == holder).values(lease_until=earlier)

    def work(connection: Connection) -> None:
        connection.execute(moved)
        connection.commit()

    await state.rate_shares._write(work)


async def test_a_run_waits_outside_if_the_bursts_of_others_leave_too_little(state: StateStore) -> None:
    large = replace(RUN, burst=46.0)
    await state.rate_shares.renew(large)
    assert (await state.rate_shares.renew(replace(large, holder="run 2"))).amount == 0.0
    assert list(await amounts(state)) == ["run 1"], f"less than {MIN_FREE} would be left"
    await state.rate_shares.renew(replace(large, holder="courier 1", can_wait=False))
    assert sorted(await amounts(state)) == ["courier 1", "run 1"]


async def test_the_courier_acknowledges_what_it_has_seen(state: StateStore) -> None:
    store = state.rate_shares
    await store.renew(RUN)
    seen = await store.read()
    await store.renew(replace(RUN, key="other"))
    await store.acknowledge(seen)
    await store.renew(RUN)
    assert {share.key: share.is_seen for share in await store.read()} == {"account": True, "other": False}
    await store.remove("run 1", ["account"])
    assert [share.key for share in await store.read()] == ["other"]


async def test_processes_that_ask_together_get_no_more_than_the_total(url: str) -> None:
    async def ask(state: StateStore, number: int) -> None:
        for _ in range(5):
            await state.rate_shares.renew(replace(RUN, holder=f"run {number}", burst=1.0, amount=30.0))

    def open_one() -> Any:
        return open_state(url, writes=False, clock=MovableClock())

    async with open_one() as first, open_one() as second:
        await asyncio.gather(*(ask((first, second)[number % 2], number) for number in range(6)))
        found = [amount for amount, _ in (await amounts(first)).values()]
        assert len(found) == 6 and 90 < sum(amount + 1 for amount in found if amount) <= 100
