"""Every driver returns the same as a plain list, after any loads, maintenance and restarts."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from headwater.warehouse import CountKey, Interval
from tests.harness import MovableClock
from tests.warehouse.conftest import Open
from tests.warehouse.oracle import SHAPES, Oracle, random_events, random_query, read_all

KEYS: Final[tuple[CountKey, ...]] = ("event", "type", "connection")
INTERVALS: Final[tuple[Interval | None, ...]] = ("hour", "day", None)
LOADS = st.tuples(st.just("load"), st.sampled_from((0, 1, 7, 90, 499, 500, 650, 2_100, 4_100)), st.sampled_from(SHAPES))
ACTIONS = st.lists(
    st.one_of(LOADS, LOADS, st.tuples(st.sampled_from(("load again", "maintain", "an hour", "open again")))),
    min_size=1,
    max_size=12,
)


@given(actions=ACTIONS, seed=st.integers(0, 2**32))
@hypothesis.settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_it_agrees_with_a_list(
    new_warehouse: Callable[[MovableClock], Open], actions: list[tuple[Any, ...]], seed: int
) -> None:
    random, clock, oracle = Random(seed), MovableClock(), Oracle()
    opens = new_warehouse(clock)
    opened = opens()
    warehouse = await opened.__aenter__()
    latest: list[Any] = []
    try:
        for action, *how in actions:
            match action:
                case "load":
                    number, shape = how
                    latest = random_events(random, oracle.through + 1, number, shape)
                    through = latest[-1].position if latest else oracle.through + random.randrange(3)
                    await warehouse.load(latest, through=through)
                    oracle.load(latest, through=through)
                case "load again":
                    await warehouse.load(latest, through=oracle.through)
                case "maintain":
                    await warehouse.maintain()
                case "an hour":
                    clock.advance(3_601)
                case "open again":
                    await opened.__aexit__(None, None, None)
                    opened = opens()
                    warehouse = await opened.__aenter__()
        assert await warehouse.loaded() == oracle.through
        for _ in range(8):
            query, ascending = random_query(random), random.random() < 0.5
            offset, limit = random.choice((0, 0, 1, 700)), random.choice((60, 1_000))
            expected = oracle.documents(query, ascending=ascending)
            found = await read_all(warehouse, query, ascending=ascending, offset=offset, limit=limit)
            assert found == expected[offset:], query
            by = random.sample(KEYS, random.randrange(4))
            interval = random.choice(INTERVALS)
            counts = await warehouse.counts(query, by=by, interval=interval, limit=100_000)
            assert set(counts) == set(oracle.counts(query, by=by, interval=interval)), query
    finally:
        await opened.__aexit__(None, None, None)
