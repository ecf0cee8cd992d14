"""Transactions: writes wait for a statement with a result, and their errors are raised before anything is committed."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from headwater.state import IdentityObservation, LatestCall, MessageState, StateStore, Transaction
from headwater.storage import sessions

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOURCE = 1
CALL = LatestCall(SOURCE, 7, NOON, "track")
INVALID = LatestCall(SOURCE, 7, NOON, None)  # type: ignore[arg-type]
"""A call that no database stores: its protocol is missing."""


async def test_writes_that_wait_are_committed_at_the_end(state: StateStore) -> None:
    async with state.transaction() as transaction:
        await transaction.save_calls([CALL])
    assert await state.latest_call(SOURCE) == CALL


async def test_a_read_sees_the_writes_before_it(state: StateStore) -> None:
    observation = IdentityObservation(7, SOURCE, (11,), "u", "a", 60_000_000, reaches=(11,))
    async with state.transaction() as transaction:
        await transaction.change_identities(await transaction.merge_identities([observation]))
        assert not (await transaction.merge_identities([observation])).changed


async def flush(transaction: Transaction) -> None:
    await transaction.flush()


async def advance(transaction: Transaction) -> None:
    await transaction.advance("tests", 0, 1)


async def save(transaction: Transaction) -> None:
    """Save a message, which can be outside of the transaction: it must not happen."""
    await transaction.save({(SOURCE, "m"): MessageState(1, 0)})


async def nothing(_transaction: Transaction) -> None:
    """Leave it to the commit."""


@pytest.mark.parametrize("then", [flush, advance, save, nothing])
@pytest.mark.parametrize("opened", [StateStore.transaction, StateStore.trial])
async def test_an_error_of_a_write_that_waits_undoes_everything(
    state: StateStore, opened: Any, then: Callable[[Transaction], Awaitable[None]]
) -> None:
    with pytest.raises(DBAPIError):
        async with opened(state) as transaction:
            await transaction.advance("other", 0, 1)
            await transaction.save_calls([INVALID])
            await then(transaction)
    assert await state.position("other") == await state.position("tests") == 0
    assert await state.messages([(SOURCE, "m")]) == {}
    async with state.transaction() as transaction:  # the connection is usable
        await transaction.save_calls([CALL])
    assert await state.latest_call(SOURCE) == CALL


async def test_small_writes_take_one_trip_to_the_database(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[object] = []
    for each in (sessions.ConnectionSession, sessions._ThreadSession):
        monkeypatch.setattr(each, "run", _counted(each.run, trips))
    observations = [IdentityObservation(7, SOURCE, (11,), "u", "a", 1, reaches=(11,))]
    async with state.transaction() as transaction:
        changes = await transaction.merge_identities(observations)
        await transaction.change_identities(changes)
        await transaction.save_calls([CALL])
        await transaction.advance("tests", 0, 1)
        assert len(trips) == 2
    assert len(trips) == 3


def _counted(run: Callable[..., Awaitable[Any]], trips: list[object]) -> Callable[..., Awaitable[Any]]:
    async def counted(session: object, work: object) -> Any:
        trips.append(work)
        return await run(session, work)

    return counted
