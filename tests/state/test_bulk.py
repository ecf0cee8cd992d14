"""Many rows together, on both databases: every number of rows, and every value that a column can have."""

import pytest
from sqlalchemy.exc import DBAPIError

from headwater.state import StateStore, bulk, tables
from headwater.state.profiles.tables import resolutions
from headwater.storage.sessions import attempt

TRAITS = list(tables.traits.c)
CALLS = list(tables.calls.c)
TEXTS = ["", "a", '"', "\\", "{}", "null", "NULL", "a,b", "é", "\U0001f600", "\n", " "]
KEY = ("connection", "identity_id", "is_anonymous")


def traits(number: int, text: str = "{}") -> tuple[int, str, bool, str]:
    return number - 3, TEXTS[number % len(TEXTS)], bool(number % 2), text


async def stored(state: StateStore) -> list[tuple[object, ...]]:
    rows = await state.read(lambda connection: list(connection.execute(tables.traits.select())))
    return sorted(map(tuple, rows))


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 999, 1_000, 1_049, 4_000, 4_001, 5_049, 9_100])
async def test_any_number_of_rows_is_written(state: StateStore, count: int) -> None:
    rows = [traits(number) for number in range(count)]
    async with state.transaction() as transaction:
        await transaction.run(lambda connection: bulk.insert(connection, TRAITS, rows))
    assert await stored(state) == sorted(rows)
    changed = [traits(number, TEXTS[-number % len(TEXTS)]) for number in range(count // 2, count + 60)]
    async with state.transaction() as transaction:
        await transaction.run(lambda connection: bulk.upsert(connection, TRAITS, changed, key=KEY))
    assert await stored(state) == sorted(rows[: count // 2] + changed)


@pytest.mark.parametrize("count", [3, 60, 2_500])
async def test_rows_are_undone_if_one_violates_a_constraint(state: StateStore, count: int) -> None:
    rows = [traits(number) for number in range(count)]
    async with state.transaction() as transaction:
        await transaction.run(lambda connection: bulk.insert(connection, TRAITS, rows[:1]))
        error = await transaction.run(
            lambda connection: attempt(connection, lambda each: bulk.insert(each, TRAITS, [*rows[1:], rows[0]]))
        )
        assert isinstance(error, DBAPIError)
    assert await stored(state) == rows[:1]
    with pytest.raises(DBAPIError):
        async with state.transaction() as transaction:
            await transaction.run(lambda connection: bulk.insert(connection, TRAITS, [*rows[1:], rows[0]]))
    assert await stored(state) == rows[:1]


@pytest.mark.parametrize("count", [0, 3, 2_500])
async def test_rows_of_several_tables_are_written(state: StateStore, count: int) -> None:
    rows = [traits(number) for number in range(count)]
    calls = [(number, 1, number, "track") for number in range(count)]
    into_traits = bulk.Insert(tuple(TRAITS), KEY)
    into_calls = bulk.Insert(tuple(CALLS), ("connection",), frozenset({"received_at"}))
    for _ in range(2):
        async with state.transaction() as transaction:
            await transaction.run(
                lambda connection: bulk.insert_all(connection, [(into_traits, rows), (into_calls, calls)])
            )
    assert await stored(state) == sorted(rows)
    found = await state.read(lambda connection: list(connection.execute(tables.calls.select())))
    assert sorted(map(tuple, found)) == [(number, 1, 2 * number, "track") for number in range(count)]


@pytest.mark.parametrize("count", [3, 60, 2_000])
async def test_columns_are_added_or_kept(state: StateStore, count: int) -> None:
    rows = [(number, 1, number, "track") for number in range(count)]
    again = [(number, 5, 10, "native") for number in range(count)]
    async with state.transaction() as transaction:
        await transaction.run(lambda connection: bulk.insert(connection, CALLS, rows))
        await transaction.run(
            lambda connection: bulk.upsert(
                connection, CALLS, again, key=("connection",), adding=("received_at",), keeping=("workspace",)
            )
        )
    found = await state.read(lambda connection: list(connection.execute(tables.calls.select())))
    assert sorted(map(tuple, found)) == [(number, 1, number + 10, "native") for number in range(count)]


async def test_rows_are_found_by_any_key(state: StateStore) -> None:
    rows = [traits(number) for number in range(200)]
    async with state.transaction() as transaction:
        await transaction.run(lambda connection: bulk.insert(connection, TRAITS, rows))
    key = [tables.traits.c[name] for name in KEY]
    wanted = [row[:3] for row in rows[::2]] + [(7, "missing", True)]
    found = await state.read(lambda connection: bulk.lookup(connection, TRAITS, key, wanted))
    assert sorted(map(tuple, found)) == sorted(rows[::2])


@pytest.mark.parametrize("has_begun", [False, True])
@pytest.mark.parametrize("count", [2, 70, 1_500])
async def test_nulls_are_written(state: StateStore, count: int, has_begun: bool) -> None:
    rows = [
        (number, None if number % 3 else "applied", None if number % 2 else bytes([number % 256]))
        for number in range(count)
    ]
    async with state.transaction() as transaction:
        if has_begun:  # then many rows are copied on PostgreSQL
            await transaction.run(lambda connection: bulk.lookup(connection, TRAITS, TRAITS[:1], [(1,)]))
        await transaction.run(lambda connection: bulk.insert(connection, list(resolutions.c), rows))
    found = await state.read(lambda connection: list(connection.execute(resolutions.select())))
    assert sorted(map(tuple, found)) == rows
