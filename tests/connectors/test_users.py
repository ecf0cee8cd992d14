"""Users that are written with one request each: the order of results, unknown outcomes, and the times of requests."""

import asyncio

import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import ItemResult, Outcome, UserWrite
from headwater.connectors.users import write_each
from tests.virtualtime import VirtualClock, run_in_virtual_time

USERS = [UserWrite(id="", attributes={}, key=str(number)) for number in range(6)]


async def write(user: UserWrite) -> ItemResult:
    """Write a user: the second takes longest, and the outcome of the third is unknown."""
    await asyncio.sleep(1.0 if user.key == "1" else 0.1)
    if user.key == "2":
        raise Unavailable("no response", retry_after=7)
    return ItemResult(outcome=Outcome.DELIVERED, id=user.key)


async def fail(user: UserWrite) -> ItemResult:
    raise Unavailable("no response", retry_after=1 + int(user.key))


async def test_results_are_in_the_order_of_the_users() -> None:
    results = await write_each(USERS, write)
    assert [each.id for each in results] == ["0", "1", "", "3", "4", "5"]
    assert (results[2].outcome, results[2].retry_after_seconds) == (Outcome.RETRY, 7.0)


async def test_without_any_outcome_the_longest_wait_is_raised() -> None:
    with pytest.raises(Unavailable) as failure:
        await write_each(USERS, fail)
    assert failure.value.retry_after == len(USERS)


@pytest.mark.parametrize(
    ("max_concurrency", "interval_seconds", "times"),
    [
        (None, 0.0, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (None, 0.25, [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]),
        (2, 0.0, [0.0, 0.0, 0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_requests_begin_within_the_limits(
    max_concurrency: int | None, interval_seconds: float, times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(clock: VirtualClock) -> None:
        loop, began = asyncio.get_running_loop(), []
        start = loop.time()

        async def note(user: UserWrite) -> ItemResult:
            began.append(loop.time() - start)
            return await write(user)

        await write_each(USERS, note, max_concurrency=max_concurrency, interval_seconds=interval_seconds)
        assert began == pytest.approx(times, abs=0.05)

    run_in_virtual_time(monkeypatch, (), main)
