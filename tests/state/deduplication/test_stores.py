"""The contract of message stores, for RocksDB with SQLite and for PostgreSQL."""

from datetime import timedelta
from pathlib import Path

import pytest

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.state import MessageState, MessageStates, StateStore, Step, Transaction, open_state
from headwater.state.deduplication import RETENTION, Message, sql
from tests.harness import NOW, MovableClock
from tests.postgresql import PostgresqlServer
from tests.sqlite import migrated_url

STEPS = (Step(7, 1, "Finalize", "Passed"), Step(8, 1, "Transformation", "Failed", "email is longer than 20 characters"))


def entry(position: int, received_at: int = microseconds(NOW)) -> MessageState:
    return MessageState(position, received_at, STEPS)


async def record(state: StateStore, entries: MessageStates) -> None:
    async with state.transaction() as transaction:
        await transaction.save(entries)


async def known(transaction: Transaction, *keys: tuple[int, str]) -> MessageStates:
    return await transaction.lookup([Message(0, key, 0) for key in keys])


async def test_what_was_recorded_is_known(state: StateStore) -> None:
    entries = {(1, "a"): entry(1), (1, "b"): entry(2), (2, "a"): entry(3)}
    await record(state, entries)
    async with state.transaction() as transaction:
        assert await known(transaction, (1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a")) == entries
        assert await known(transaction) == {}


async def test_what_was_recorded_later_counts(state: StateStore) -> None:
    await record(state, {(1, "a"): entry(1)})
    await record(state, {(1, "a"): MessageState(1, 5, (), [], 2)})
    assert await state.messages([(1, "a")]) == {(1, "a"): MessageState(1, 5, (), [], 2)}


async def test_message_ids_are_compared_exactly(state: StateStore) -> None:
    ids = ["a", "A", "a ", "ä", "a\u0308", "1", "01", "1.0", "%", "😀", "x" * 1000]
    entries = {(1, id_): entry(position) for position, id_ in enumerate(ids, 1)}
    await record(state, entries)
    async with state.transaction() as transaction:
        assert await known(transaction, *entries) == entries


async def test_a_large_batch(state: StateStore) -> None:
    entries = {(2**31 - 1, f"m{position}"): entry(position) for position in range(1, 5001)}
    await record(state, entries)
    async with state.transaction() as transaction:
        assert await known(transaction, *entries) == entries


async def test_entries_are_read_outside_of_transactions_too(state: StateStore) -> None:
    await record(state, {(1, "a"): entry(1), (2, "a"): entry(2), (3, "a"): entry(3)})
    asked = [(1, "a"), (3, "a"), (4, "a"), (1, "nul\0")]
    assert await state.messages(asked) == {(1, "a"): entry(1), (3, "a"): entry(3)}
    assert await state.messages([]) == {}


async def test_what_was_recorded_is_there_after_a_restart(url: str) -> None:
    async with open_state(url, writes=True, clock=MovableClock()) as state:
        await record(state, {(1, "a"): entry(1)})
    async with open_state(url, writes=True, clock=MovableClock()) as again, again.transaction() as transaction:
        assert await known(transaction, (1, "a")) == {(1, "a"): entry(1)}


async def test_a_reader_sees_what_was_recorded_a_moment_ago(state: StateStore, url: str) -> None:
    async with open_state(url, writes=False, clock=MovableClock()) as reader:
        assert await reader.messages([(1, "a")]) == {}
        for number in range(3):
            await record(state, {(1, "a"): entry(1, received_at=number)})
            assert await reader.messages([(1, "a")]) == {(1, "a"): entry(1, received_at=number)}


async def test_postgresql_forgets_the_oldest_first(postgresql_server: PostgresqlServer) -> None:
    """RocksDB forgets by itself, by the clock of the machine."""
    clock = MovableClock()
    async with open_state(postgresql_server.create(), writes=True, clock=clock) as state:
        old, new = microseconds(NOW), microseconds(NOW + timedelta(seconds=1))
        await record(state, {(1, "old"): entry(1, old), (1, "new"): entry(2, new)})
        clock.advance(RETENTION.total_seconds())
        async with state.transaction() as transaction:
            await transaction.trim_messages()
        assert set(await state.messages([(1, "old")])) == {(1, "old")}
        clock.advance(0.5)
        async with state.transaction() as transaction:
            await transaction.trim_messages()
        assert set(await state.messages([(1, "old"), (1, "new")])) == {(1, "new")}


async def test_postgresql_forgets_as_much_as_arrives(
    postgresql_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_MAX_TRIM_BATCH", 10)
    monkeypatch.setattr(sql, "_MAX_TRIMMED_MESSAGES", 30)
    clock = MovableClock()
    async with open_state(postgresql_server.create(), writes=True, clock=clock) as state:
        keys = [(1, str(number)) for number in range(35)]
        await record(state, {key: entry(position) for position, key in enumerate(keys, 1)})
        clock.advance(RETENTION.total_seconds() + 1)
        left = []
        for _ in range(2):
            async with state.transaction() as transaction:
                await transaction.trim_messages()
            left.append(set(await state.messages(keys)))
        assert left == [set(keys[30:]), set()]


async def test_rocksdb_has_one_writer(tmp_path: Path) -> None:
    """PostgreSQL allows several writers: there the position of the consumer decides between them."""
    url = migrated_url(tmp_path / "state.db")
    async with (
        open_state(url, writes=True, clock=MovableClock()) as first,
        open_state(url, writes=True, clock=MovableClock()) as second,
    ):
        await record(first, {(1, "a"): entry(1)})
        with pytest.raises(Unavailable, match="the deduplication store does not respond"):
            await record(second, {(1, "b"): entry(2)})
