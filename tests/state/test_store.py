"""The state store: the guarantees of transactions, positions of consumers, and lists for readers."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.base.clock import from_microseconds, microseconds
from headwater.base.errors import Unavailable
from headwater.state import (
    Identity,
    IdentityCursor,
    IdentityObservation,
    RejectedEvent,
    RejectionCountCursor,
    StateStore,
    open_state,
    store,
)
from headwater.state.identities import MAX_UPDATE_DELAY_MICROSECONDS as MINUTE
from headwater.state.identities import Identities
from tests.harness import MovableClock
from tests.state.test_identities import observations, one_by_one, reaching_all, seen

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def rejected(
    position: int, workspace: int = 7, connection: int = 1, protocol: str = "track", body: bytes = b"{}"
) -> RejectedEvent:
    return RejectedEvent(
        position, workspace, connection, protocol, NOON, "BadRequest", "userId", "userId is required", body
    )


async def add(state: StateStore, *rows: RejectedEvent | IdentityObservation) -> None:
    async with state.transaction() as transaction:
        await transaction.add_rejected([row for row in rows if isinstance(row, RejectedEvent)])
        await transaction.change_identities(
            await transaction.merge_identities(
                [reaching_all(row) for row in rows if isinstance(row, IdentityObservation)]
            )
        )


# --- Transactions -------------------------------------------------------------------------------------------------


async def test_a_transaction_that_fails_leaves_nothing(state: StateStore) -> None:
    with pytest.raises(RuntimeError):
        async with state.transaction() as transaction:
            await transaction.change_identities(await transaction.merge_identities([seen("u", "a")]))
            await transaction.add_rejected([rejected(2)])
            await transaction.advance("warehouse", 0, 2)
            raise RuntimeError("the process ends here")
    assert await state.identities(1, first=0, limit=10) == ([], 0)
    assert await list_rejected(state) == []
    assert await state.rejection_counts(7, connection_id=None) == []
    assert await state.position("warehouse") == 0


async def test_what_was_committed_is_there_after_a_restart(state: StateStore, url: str) -> None:
    async with state.transaction() as transaction:
        await transaction.add_rejected([rejected(1)])
        await transaction.advance("warehouse", 0, 1)
    async with open_state(url, writes=False, clock=MovableClock()) as again:
        assert await list_rejected(again) == [1]
        assert await again.position("warehouse") == 1


async def test_each_consumer_has_a_position_of_its_own(state: StateStore) -> None:
    for consumer, after, position in (("warehouse", 0, 5), ("delivery", 0, 3), ("warehouse", 5, 9)):
        async with state.transaction() as transaction:
            await transaction.advance(consumer, after, position)
    assert [await state.position(consumer) for consumer in ("warehouse", "delivery", "nobody")] == [9, 3, 0]


@pytest.mark.parametrize("after", [0, 4, 6])
async def test_a_batch_that_another_consumer_has_processed_is_rolled_back(state: StateStore, after: int) -> None:
    async with state.transaction() as transaction:
        await transaction.advance("warehouse", 0, 5)
    with pytest.raises(Unavailable, match="another process"):
        async with state.transaction() as transaction:
            await transaction.add_rejected([rejected(7)])
            await transaction.advance("warehouse", after, 7)
    assert await state.position("warehouse") == 5
    assert await list_rejected(state) == []


async def test_readers_do_not_wait_for_the_writer(state: StateStore) -> None:
    async with state.transaction() as transaction:
        await transaction.add_rejected([rejected(1)])
        assert await asyncio.wait_for(list_rejected(state), 30) == []
    assert await list_rejected(state) == [1]


async def test_checkpoints_are_bytes_that_move_from_the_expected_value(state: StateStore) -> None:
    assert await state.checkpoint("users of 7") is None
    for expected, new in ((None, b"a"), (b"a", b"\0\xff")):
        async with state.transaction() as transaction:
            await transaction.advance_checkpoint("users of 7", expected, new)
    for stale in (None, b"a"):
        with pytest.raises(Unavailable):
            async with state.transaction() as transaction:
                await transaction.advance_checkpoint("users of 7", stale, b"b")
    assert await state.checkpoint("users of 7") == b"\0\xff"


# --- Identities ---------------------------------------------------------------------------------------------------


async def listed(state: StateStore, connection: int = 1, first: int = 0, limit: int = 1000) -> list[Identity]:
    return (await page(state, connection, first=first, limit=limit))[0]


async def page(state: StateStore, connection: int, **options: Any) -> tuple[list[Identity], int]:
    """A page of identities, without their ids, and how many there are."""
    found, total = await state.identities(connection, **options)
    return [msgspec.structs.replace(identity, id=0) for identity in found], total


async def test_identities_are_listed_the_latest_first(state: StateStore) -> None:
    await add(
        state,
        seen("u", "a", 5, pipelines=(11,)),
        seen(None, "b", 9, pipelines=(11,)),
        seen("v", None, 5, pipelines=(11,)),
    )
    assert await page(state, 1, first=0, limit=2) == (
        [Identity(None, ["b"], 1, 11, from_microseconds(9)), Identity("v", [], 1, 11, from_microseconds(5))],
        3,
    )
    assert await page(state, 1, first=2, limit=2) == ([Identity("u", ["a"], 1, 11, from_microseconds(5))], 3)
    assert await state.identities(1, first=3, limit=2) == ([], 3)
    assert await state.identities(2, first=0, limit=2) == ([], 0)


async def test_pages_of_identities_begin_after_a_cursor(state: StateStore) -> None:
    await add(state, *(seen(f"u{number}", None, number // 2, pipelines=(11,)) for number in range(7)))
    whole, _ = await state.identities(1, first=0, limit=100)
    for index, identity in enumerate(whole):
        after = IdentityCursor(microseconds(identity.updated_at), identity.id)
        assert await state.identities(1, first=0, limit=3, after=after) == (whole[index + 1 : index + 4], 7)


@pytest.mark.parametrize("sampled", [1, 10])
async def test_pages_of_identities_whose_times_are_in_no_order(
    state: StateStore, monkeypatch: pytest.MonkeyPatch, sampled: int
) -> None:
    """An import writes identities that changed at any time."""
    monkeypatch.setattr(store, "_SAMPLED_PAGES", sampled)
    await add(state, *(seen(f"u{number}", None, 37 * number % 23 - 5, pipelines=(11,)) for number in range(60)))
    whole, _ = await state.identities(1, first=0, limit=100)
    keys = [(identity.updated_at, identity.id) for identity in whole]
    assert len(whole) == 60 and keys == sorted(keys, reverse=True)
    for first in range(0, 70, 9):
        found, total = await state.identities(1, first=first, limit=4)
        assert (found, total) == (whole[first : first + 4], 60)
        after = IdentityCursor(microseconds(whole[first % 60].updated_at), whole[first % 60].id)
        found, _ = await state.identities(1, first=1, limit=4, after=after)
        assert found == whole[first % 60 + 2 : first % 60 + 6]
    assert await state.identities(1, first=2**40, limit=1_000) == ([], 60)


async def test_pages_of_rejected_events_and_their_counts_begin_after_a_cursor(state: StateStore) -> None:
    protocols = ("track", "grpc", "native")
    await add(state, *(rejected(position, protocol=protocols[position % 3]) for position in range(1, 9)))
    found, _ = await state.rejected(7, connection_id=None, protocol=None, first=0, limit=3, after=6)
    assert [row.position for row in found] == [5, 4, 3]
    counts = await state.rejection_counts(7, connection_id=None)
    for index, row in enumerate(counts):
        after = RejectionCountCursor(row.count, row.connection, row.protocol, row.code, row.path)
        assert (
            await state.rejection_counts(7, connection_id=None, limit=2, after=after) == counts[index + 1 : index + 3]
        )


async def test_identities_of_pipelines_that_are_gone_are_removed(state: StateStore) -> None:
    await add(state, seen("u", None, pipelines=(11, 12, 13)), seen("v", None, pipelines=(12,)))
    async with state.transaction() as transaction:
        assert await transaction.remove_identities_except([11, 13, 99]) == 2
        assert await transaction.remove_identities_except([11, 13, 99]) == 0
    assert {(identity.user_id, identity.pipeline) for identity in await listed(state)} == {("u", 11), ("u", 13)}
    async with state.transaction() as transaction:
        assert await transaction.remove_identities_except([]) == 2


async def test_a_batch_may_change_more_identities_than_a_query_takes(state: StateStore) -> None:
    await add(state, *(seen(None, f"a{number}", number) for number in range(500)))
    await add(state, *(seen(f"u{number}", f"a{number}", number) for number in range(450)))
    found = await listed(state)
    assert len(found) == 1000
    assert sum(identity.user_id is None for identity in found) == 100


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(observations, max_size=6), max_size=5))
def test_the_database_holds_what_the_rules_say(url: str, batches: list[list[IdentityObservation]]) -> None:
    expected: Identities = {}
    for batch in batches:
        for observation in batch:
            expected = one_by_one(observation, expected)

    async def through_the_database() -> list[Identity]:
        async with open_state(url, writes=True, clock=MovableClock()) as state:
            async with state.transaction() as transaction:
                await transaction.remove_identities_except([])  # rows of the previous example
            for batch in batches:
                await add(state, *batch)
            return [*await listed(state, 1), *await listed(state, 2)]

    found = {
        (
            identity.connection,
            identity.user_id or identity.anonymous_ids[0],
            identity.user_id is None,
            identity.pipeline,
        ): (
            identity.anonymous_ids,
            microseconds(identity.updated_at),
        )
        for identity in asyncio.run(through_the_database())
    }
    states = {
        (key.connection, key.identity_id, key.is_anonymous, key.pipeline): state
        for key, state in expected.items()
        if state is not None
    }
    assert {key: ids for key, (ids, _) in found.items()} == {key: state.anonymous_ids for key, state in states.items()}
    for key, (_, updated_at) in found.items():
        assert 0 <= states[key].updated_at - updated_at < MINUTE


@pytest.mark.parametrize(
    ("second", "listed_at"),
    [
        (seen("u", "a", MINUTE - 1), 0),
        (seen("u", "a", MINUTE), MINUTE),
        (seen("u", "b", 1), 1),
        (msgspec.structs.replace(seen("u", "a", 1), attributes=('{"n":1}', "{}")), 1),
    ],
    ids=["little later", "a minute later", "another id", "other attributes"],
)
async def test_an_identity_is_not_written_for_a_time_that_moved_a_little(
    state: StateStore, second: IdentityObservation, listed_at: int
) -> None:
    await add(state, seen("u", "a", 0))
    async with state.transaction() as transaction:
        changes = await transaction.merge_identities([second])
        assert bool(changes.changed) == bool(listed_at)
        await transaction.change_identities(changes)
    assert max(microseconds(identity.updated_at) for identity in await listed(state)) == listed_at


async def test_delays_of_the_time_do_not_add_up(state: StateStore) -> None:
    for at in range(0, 3 * MINUTE, MINUTE // 3):
        await add(state, seen("u", "a", at))
        identity, _ = await listed(state)
        assert 0 <= at - microseconds(identity.updated_at) < MINUTE


# --- Rejected events ----------------------------------------------------------------------------------------------


async def list_rejected(state: StateStore, workspace: int = 7, **chosen: Any) -> list[int]:
    options = {"connection_id": None, "protocol": None, "first": 0, "limit": 1000, **chosen}
    return [row.position for row in (await state.rejected(workspace, **options))[0]]


async def test_rejected_events_are_listed_the_newest_first(state: StateStore) -> None:
    await add(state, rejected(1), rejected(2, connection=2), rejected(3, protocol="grpc"), rejected(4, workspace=8))
    assert await list_rejected(state) == [3, 2, 1]
    assert await list_rejected(state, connection_id=1) == [3, 1]
    assert await list_rejected(state, protocol="track") == [2, 1]
    assert await list_rejected(state, protocol="tr\0ck") == await list_rejected(state, protocol="") == []
    assert await list_rejected(state, connection_id=1, protocol="grpc") == [3]
    assert await list_rejected(state, 8) == [4]
    page, total = await state.rejected(7, connection_id=None, protocol=None, first=1, limit=1)
    assert (page, total) == ([rejected(2, connection=2)], 3)


async def test_a_reason_may_repeat_any_text(state: StateStore) -> None:
    row = msgspec.structs.replace(rejected(1), path="batch[0].\0", message="\0 is no type, \U0001f600 neither")
    await add(state, row)
    (found,), _ = await state.rejected(7, connection_id=None, protocol=None, first=0, limit=1)
    assert (found.path, found.message) == ("batch[0].\ufffd", "\ufffd is no type, \U0001f600 neither")


async def test_a_rejected_event_is_found_by_its_message_id(state: StateStore) -> None:
    mine, other = (msgspec.structs.replace(rejected(position), message_id="m") for position in (1, 2))
    await add(state, mine, other, rejected(3), msgspec.structs.replace(rejected(4, workspace=8), message_id="m"))
    assert await state.rejected_messages(7, "m") == [mine, other]
    assert await state.rejected_messages(7, "nul\0") == []
