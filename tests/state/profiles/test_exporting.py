"""Profiles are read for exports in order, in one snapshot, with the records of a pipeline."""

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select

from headwater.filters import Condition, Filter, check_filter
from headwater.schemas import (
    DateTimeType,
    IntType,
    IpType,
    ObjectType,
    Property,
    StringType,
    Type,
    UuidType,
)
from headwater.state import StateStore, exports
from headwater.state.profiles import tables
from headwater.state.profiles.exporting import (
    ATTRIBUTES,
    ID,
    MAX_COMPARED_IDS,
    RECORD,
    ExportRecord,
    ProfileSelection,
)
from headwater.state.profiles.searching import Order
from tests.state.profiles.changes import OTHER_WORKSPACE, WORKSPACE, changes, kpid, profile, write
from tests.state.profiles.test_profile_plans import PEOPLE, fill
from tests.state.test_plans import noted, plan

SCHEMA = ObjectType(
    (Property("text", StringType(), read_optional=True), Property("small", IntType(32), read_optional=True))
)

VERSIONS = select(tables.profiles.c.id, tables.profiles.c.version).order_by(tables.profiles.c.version)


async def ids(state: StateStore, **selection: Any) -> list[int]:
    """Return the ids of the selected profiles, read in small batches."""
    found: list[int] = []
    async with state.exports.read(ProfileSelection(workspace=WORKSPACE, **selection)) as stream:
        while rows := await stream.read(2):
            assert len(rows) <= 2
            found += [row[ID] for row in rows if stream.holds(row)]
    return found


def record(profile: int, *, run: int = 1, is_failed: bool = False) -> ExportRecord:
    return ExportRecord(profile, b"source", b"content", f"e{profile}", is_failed, run)


async def write_records(state: StateStore, pipeline: int, *records: ExportRecord) -> None:
    async with state.transaction() as transaction:
        await transaction.run(lambda connection: exports.write_records(connection, pipeline, records))


async def records(state: StateStore, pipeline: int) -> dict[int, Any]:
    async with state.exports.read(ProfileSelection(workspace=WORKSPACE, pipeline=pipeline)) as stream:
        return {row[ID]: tuple(row[RECORD:]) for row in await stream.read() if row[RECORD] is not None}


@pytest.mark.parametrize(
    ("type_", "attributes", "expected"),
    [
        (StringType(), ['"b"', '"a"', None, '"B"', '"\u00e9"', '""', '"a"'], [6, 4, 2, 7, 1, 5, 3]),
        (IntType(32), ["3", "-3", "0", None, "20"], [2, 3, 1, 5, 4]),
        (IntType(64), ['"3"', '"-3"', '"9007199254740993"', '"9007199254740992"', None], [2, 1, 4, 3, 5]),
        (UuidType(), ['"6ba7b811-9dad-11d1-80b4-00c04fd430c8"', '"6ba7b810-9dad-11d1-80b4-00c04fd430c8"'], [2, 1]),
        (IpType(), ['"10.0.0.2"', '"10.0.0.1"', None], [2, 1, 3]),
        (DateTimeType(), ['"2024-01-01T00:00:00.5Z"', '"2024-01-01T00:00:00Z"'], [2, 1]),
    ],
    ids=str,
)
async def test_profiles_are_in_the_order_of_a_property(
    state: StateStore, type_: Type, attributes: Sequence[str | None], expected: list[int]
) -> None:
    rows = [
        profile(number, "{}" if value is None else f'{{"a":{{"b":{value}}}}}')
        for number, value in enumerate(attributes, 1)
    ]
    await write(state, changes(profiles=rows))
    assert await ids(state, order=Order(("a", "b"), type_)) == expected
    assert await ids(state) == sorted(expected)


async def test_long_strings_have_the_order_of_their_whole_text(state: StateStore) -> None:
    ends = ["b", "a", "\\u0000", "", "aa"]
    rows = [profile(number, f'{{"a":"{"x" * 64}{end}"}}') for number, end in enumerate(ends, 1)]
    await write(state, changes(profiles=rows))
    found = await ids(state, order=Order(("a",), StringType()))
    assert [number for number in found if number != 3] == [4, 2, 5, 1]


async def test_only_profiles_of_the_workspace_that_pass_the_filter_are_read(state: StateStore) -> None:
    await write(
        state,
        changes(profiles=[profile(number, f'{{"text":"t{number}","small":{number}}}') for number in range(1, 6)]),
        changes(OTHER_WORKSPACE, profiles=[profile(9, '{"text":"t3"}', workspace=OTHER_WORKSPACE)]),
    )
    two = Condition("small", "is greater than", ("2",))
    for given, expected in (
        (Filter("and", (two,)), [3, 4, 5]),
        (Filter("and", (two, Condition("text", "is not", ("t4",)))), [3, 5]),
        (Filter("or", (two, Condition("text", "is", ("t1",)))), [1, 3, 4, 5]),
        (Filter("and", (Condition("text", "is one of", ("t3", "t9")),)), [3]),
    ):
        checked = check_filter(given, SCHEMA, role="Destination", target="User")
        assert await ids(state, filter=checked) == expected


async def test_all_rows_are_of_one_snapshot(state: StateStore) -> None:
    await write(state, changes(profiles=[profile(number, '{"text":"before"}') for number in range(1, 6)]))
    async with state.exports.read(ProfileSelection(workspace=WORKSPACE)) as stream:
        rows = list(await stream.read(1))
        await write(state, changes(profiles=[profile(3, '{"text":"after"}')], removed_profiles=[4]))
        while more := await stream.read(2):
            rows += more
    assert [row[ID] for row in rows] == [1, 2, 3, 4, 5]
    assert {bytes(row[ATTRIBUTES]) for row in rows} == {b'{"text":"before"}'}
    assert await ids(state) == [1, 2, 3, 5]


async def test_records_of_a_pipeline_are_read_with_profiles(state: StateStore) -> None:
    await write(state, changes(profiles=[profile(number) for number in (1, 2, 3)]))
    await write_records(state, 11, record(1), record(3, is_failed=True), record(99))
    await write_records(state, 12, record(2))
    assert await records(state, 11) == {
        1: (b"source", b"content", "e1", False, 1),
        3: (b"source", b"content", "e3", True, 1),
    }
    await write_records(state, 11, record(1, run=2))
    assert (await records(state, 11))[1][-1] == 2
    many = [str(number) for number in range(MAX_COMPARED_IDS + 1)]
    for searched, expected in ((many, [(1, "e1"), (3, "e3")]), (["e3", "e2", "\0"], [(3, "e3")]), ([], [])):
        async with state.exports.read_external_ids(11, searched) as stream:
            assert [tuple(row) for row in await stream.read()] == expected
    assert await state.read(lambda connection: exports.find_kpids(connection, [1, 9])) == {1: kpid(1)}


async def test_records_are_deleted_with_their_reasons(state: StateStore) -> None:
    await write(state, changes(profiles=[profile(number) for number in range(1, 6)]))
    for pipeline in (11, 12, 13):
        await write_records(state, pipeline, *(record(number) for number in range(1, 6)))
    async with state.transaction() as transaction:
        assert await transaction.run(lambda connection: exports.remove_records(connection, 11, [1, 9])) == 1
        assert (
            await transaction.run(lambda connection: exports.remove_records_except(connection, [11, 12], limit=3)) == 3
        )
        assert await transaction.remove_runs_except([11, 12]) == 2
    assert list(await records(state, 11)) == [2, 3, 4, 5] and not await records(state, 13)

    await write(state, changes(removed_profiles=[2, 3]))
    assert list(await records(state, 11)) == [4, 5] and list(await records(state, 12)) == [1, 4, 5]
    await write_records(state, 11, record(2))  # not written, because the profile does not exist
    assert await state.read(lambda connection: exports.count_records_of_profiles(connection, [2, 4])) == 2


async def test_no_statement_of_exports_reads_a_whole_table(state: StateStore) -> None:
    await fill(state)
    for pipeline in range(30):
        await write_records(state, pipeline, *(record(number) for number in range(1, PEOPLE, 10)))
    engine = state._engine
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.exec_driver_sql("ANALYZE")
    given = Filter("and", (Condition("text", "is", ("a10",)),))
    checked = check_filter(given, SCHEMA, role="Destination", target="User")
    async with noted(state) as statements:
        await ids(state)
        await ids(state, filter=checked)
        await ids(state, pipeline=3, since=5)
        async with state.transaction() as transaction:

            def work(connection: Any) -> None:
                exports.write_records(connection, 3, [record(1)])
                exports.remove_records(connection, 3, [1])
                exports.count_records_of_profiles(connection, [1])
                exports.remove_records_except(connection, range(1, 30), limit=10)
                exports.existing_profiles(connection, [1])
                exports.read_checkpoint(connection, 3)
                exports.write_checkpoint(connection, 3, exports.ExportCheckpoint(b"d", 1))

            await transaction.run(work)
    assert len(statements) >= 8
    scan = re.compile(
        r"SCAN (profiles|exports|t|failed)\b(?! USING (COVERING )?INDEX \S+ \()|Seq Scan on (profiles|exports)\b"
    )
    async with engine.connect() as connection:
        for statement in statements:
            lines = await plan(connection, statement)
            assert not [line for line in lines if scan.search(line)], (statement[0][:300], lines)


async def test_only_what_changed_or_failed_is_read_since_a_version(state: StateStore) -> None:
    await write(state, changes(profiles=[profile(number) for number in range(1, 8)]))
    async with state.exports.read(ProfileSelection(workspace=WORKSPACE)) as stream:
        version = stream.version
    await write_records(state, 11, *(record(number, is_failed=number == 5) for number in range(1, 8)))
    await write_records(state, 12, record(6, is_failed=True))
    assert await ids(state, pipeline=11, since=version) == [5]

    await write(state, changes(profiles=[profile(3, '{"text":"after"}')], removed_profiles=[7]))
    await write(state, changes(OTHER_WORKSPACE, profiles=[profile(9, workspace=OTHER_WORKSPACE)]))
    await write(state, changes(profiles=[profile(2, '{"text":"after"}')]))
    assert await ids(state, pipeline=11, since=version) == [2, 3, 5]
    async with state.exports.read(ProfileSelection(workspace=WORKSPACE, pipeline=11, since=version)) as stream:
        assert stream.version > version
        assert stream.confirmed == 5  # of 7 records one is failed, and one was deleted with its profile
        assert await ids(state, pipeline=11, since=stream.version) == [5]


async def test_a_checkpoint_is_of_one_pipeline(state: StateStore) -> None:
    async with state.transaction() as transaction:
        for pipeline in (11, 12):
            for version in (4, 5):
                checkpoint = exports.ExportCheckpoint(b"definition", version + pipeline)
                await transaction.run(partial(exports.write_checkpoint, pipeline=pipeline, checkpoint=checkpoint))
    assert await state.read(lambda connection: exports.read_checkpoint(connection, 11)) == exports.ExportCheckpoint(
        b"definition", 16
    )
    async with state.transaction() as transaction:
        await transaction.remove_runs_except([12])
    assert await state.read(lambda connection: exports.read_checkpoint(connection, 11)) is None
    assert await state.read(lambda connection: exports.read_checkpoint(connection, 12)) is not None


async def test_versions_are_ordered_by_commits(state: StateStore) -> None:
    """A transaction that began earlier and commits later has a later version, so no export misses it."""
    async with state.transaction() as first:
        await first.on_profiles(lambda rows: rows.write(changes(profiles=[profile(1)])))
        second = asyncio.create_task(write(state, changes(profiles=[profile(2)])))
        await asyncio.wait((second,), timeout=0.2)
        assert not second.done() and await ids(state, pipeline=11, since=0) == []
    await second
    versions = await state.read(lambda connection: connection.execute(VERSIONS).all())
    assert [row.id for row in versions] == [1, 2] and versions[0].version < versions[1].version
