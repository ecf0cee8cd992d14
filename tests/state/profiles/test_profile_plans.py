"""No statement on profiles reads a whole table that grows."""

import re
from typing import Any

import pytest

from headwater.filters import Condition, Filter, check_filter
from headwater.schemas import IntType, StringType
from headwater.state import StateStore
from headwater.state.profiles import Alias, LinkValue, ProfileChange, RefusedEvidence, Separation
from headwater.state.profiles.rows import ProfileRows
from headwater.state.profiles.searching import Order, ProfileCursor, Search
from tests.state.profiles.changes import (
    CONNECTION,
    WORKSPACE,
    changes,
    kpid,
    link,
    member,
    name,
    observe,
    profile,
    write,
)
from tests.state.profiles.test_searching import SCHEMA
from tests.state.test_plans import noted, plan

PEOPLE = 3_000
GROWING = (
    "identities|members|links|profiles|profile_values|profile_aliases|separations|separation_members|profile_changes|"
    "resolution_refusals|unresolved|t"
)
"""Tables that grow with people; `t` is their alias in joins."""
FILTERS = [
    Filter("and", (Condition("text", "is", ("a5",)),)),
    Filter("and", (Condition("text", "contains", ("a5",)), Condition("small", "is less than", ("9",)))),
    Filter("or", (Condition("text", "is one of", ("a5", "a6")), Condition("small", "is", ("9",)))),
    Filter("and", (Condition("text", "is not", ("a5",)),)),
]


async def fill(state: StateStore) -> None:
    people = range(1, PEOPLE + 1)
    for pipeline in range(30):
        await observe(state, *(f"u{number}" for number in people if number % 30 == pipeline), pipelines=(pipeline,))
    for workspace in range(WORKSPACE, WORKSPACE + 10):
        ids = [number for number in people if number % 10 == workspace - WORKSPACE]
        await write(
            state,
            changes(
                workspace,
                profiles=[
                    profile(id_, f'{{"text":"a{id_}","small":{id_}}}', workspace=workspace, updated_at=id_)
                    for id_ in ids
                ],
                members=[member(id_, id_, "e") for id_ in ids],
                links=[link(f"e{id_}", id_) for id_ in ids],
                aliases=[Alias(kpid(PEOPLE + id_), id_, id_, 0) for id_ in ids],
                history=[ProfileChange(workspace, id_, "Merge", id_, kpid(PEOPLE + id_)) for id_ in ids],
                refused=[
                    RefusedEvidence(workspace, "TooManyValues", LinkValue(0, f"e{id_}"), id_, id_ - 1) for id_ in ids
                ],
            ),
        )
    async with state.transaction() as transaction:

        def more(rows: ProfileRows) -> None:
            rows.new_profile_ids(PEOPLE)
            rows.set_resolution(WORKSPACE, "d", None)
            for number in range(1, PEOPLE // 5):
                sides = ((name(f"u{number}"),), (name(f"u{number + 1}"),))
                rows.add_separation(Separation(0, WORKSPACE + number % 10, number, sides))
            for workspace in range(WORKSPACE, WORKSPACE + 10):
                ids = [number for number in people if number % 10 == workspace - WORKSPACE]
                rows.add_unresolved(workspace, ids, {id_: id_ + 1 for id_ in ids})

        await transaction.on_profiles(more)


async def work(state: StateStore) -> None:
    """Everything that the worker does."""
    async with state.transaction() as transaction:

        def run(rows: ProfileRows) -> None:
            values = [LinkValue(0, "e10"), LinkValue(0, "e20")]
            names = [name("u10"), name("u20")]
            rows.identities([10, 20])
            rows.identities_named(names)
            rows.members([10, 20])
            for limit in (None, 5):
                rows.find_members([10, 20], limit)
                rows.holders(WORKSPACE, values, limit)
            rows.separations(WORKSPACE, names)
            rows.profiles([10, 20])
            rows.aliases([10, 20])
            [refused, *_] = rows.refused(WORKSPACE, [10, 20], values)
            rows.new_profile_ids(1)
            rows.write(
                changes(
                    profiles=[profile(10, '{"text":"b"}'), profile(PEOPLE + 1, '{"text":"b"}')], removed_profiles=[20],
                    members=[member(20, 10)], removed_members=[30],
                    links=[link("f", 20)], removed_links=[(value, 20) for value in values],
                    aliases=[Alias(kpid(20), 10, 20, 0)], removed_aliases=[kpid(PEOPLE + 20)],
                    history=[ProfileChange(WORKSPACE, 1, "Merge", 10, kpid(20))],
                    refused=[refused], removed_refused=[refused],
                )
            )  # fmt: skip
            rows.unresolved(WORKSPACE, 10)
            rows.waiting([10, 20])
            rows.move_successors({10: 20})
            rows.remove_unresolved([10, 20])
            rows.set_resolution(WORKSPACE, rows.applied(WORKSPACE), rows.checkpoint(WORKSPACE))
            rows.remove_separation(WORKSPACE, 10)
            rows.shorten_history(3)

        await transaction.on_profiles(run)
        await transaction.remove_identities_except(range(1, 30))
        for _ in range(3):
            await transaction.remove_profiles_except(range(WORKSPACE + 1, WORKSPACE + 10))


async def read(state: StateStore) -> None:
    """Everything that a page or another process asks for."""
    reader = state.profiles
    await reader.find(WORKSPACE, kpid(10))
    await reader.find(WORKSPACE, kpid(PEOPLE + 10))
    await reader.find_identities(10, first=0, limit=10)
    await reader.find_members(10, limit=10)
    await reader.count(WORKSPACE)
    await reader.count_identities([CONNECTION + 1])
    await reader.resolution(WORKSPACE)
    await reader.separation(WORKSPACE, 10)
    await reader.blocked(WORKSPACE, [LinkValue(0, "u10"), LinkValue(1, "u20")])
    for after in (None, 100):
        await reader.history(WORKSPACE, 10, limit=10, after=after)
        await reader.refused(WORKSPACE, limit=10, after=after)
        await reader.separations(WORKSPACE, limit=10, after=after)
    orders = [None, Order(("text",), StringType()), Order(("small",), IntType(32))]
    for given in (None, *(check_filter(each, SCHEMA, role="Destination", target="User") for each in FILTERS)):
        for order in orders:
            for after_profile in (None, ProfileCursor(10, 10, None if order is None else "N"), ProfileCursor(10, 10)):
                search = Search(
                    WORKSPACE, given, order, limit=3, after=after_profile, identifiers=("text",), digest="d"
                )
                await reader.page(search)


@pytest.mark.parametrize("doing", [work, read])
async def test_no_statement_on_profiles_reads_a_whole_table(state: StateStore, doing: Any) -> None:
    await fill(state)
    engine = state._engine
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.exec_driver_sql("ANALYZE")
    async with noted(state) as statements:
        await doing(state)
    assert len(statements) >= 20
    scan = re.compile(rf"SCAN ({GROWING})\b(?! USING (COVERING )?INDEX \S+ \()|Seq Scan on ({GROWING})\b")
    async with engine.connect() as connection:
        for statement in statements:
            lines = await plan(connection, statement)
            assert not [line for line in lines if scan.search(line)], (statement[0][:300], lines)
