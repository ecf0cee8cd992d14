"""No statement of the driver scans a table that grows."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from headwater.warehouse import EventQuery, Person, PersonSet
from headwater.warehouse.conditions import Selection, select
from headwater.warehouse.drivers.sqlite import loading, removing
from headwater.warehouse.drivers.sqlite.cache import Cache
from headwater.warehouse.drivers.sqlite.counting import Counter
from headwater.warehouse.drivers.sqlite.database import connect
from headwater.warehouse.drivers.sqlite.maintenance import step
from headwater.warehouse.drivers.sqlite.reading import Budget, PageReader, make_window
from tests.warehouse.oracle import HOUR, START, event, random_events, random_query
from tests.warehouse.sqlite.test_old_files import make_old_file

SMALL: Final = {"loaded", "sqlite_master"}
ALLOWED: Final = {
    "SCAN event_blocks USING COVERING INDEX small_event_blocks",  # a few small blocks a workspace: it merges them
    "SCAN (subquery-1)",  # of at most as many rows as a block has
}


@pytest.fixture
def file(tmp_path: Path) -> sqlite3.Connection:
    """Return a file with old rows, rows and blocks."""
    make_old_file(tmp_path / "w.db", [event(position) for position in range(1, 50)], progress=50)
    connection = connect(tmp_path / "w.db", writes=True)
    return connection


def read(connection: sqlite3.Connection) -> None:
    random = Random(1)
    for _ in range(300):
        query, ascending = random_query(random), random.random() < 0.5
        selection, budget = select(query), Budget(60)
        if selection.is_empty:
            continue
        window = make_window(query, ascending=ascending, after=None)
        PageReader(connection, Cache(), query, selection, window, ascending=ascending, budget=budget).read(0, 100)
        Counter(connection, Cache(), query, selection, by=["event"], interval="day", budget=budget).count(100)


def write(connection: sqlite3.Connection) -> None:
    position = 100
    for size in (10, 700, 900, 1_900, 1_900, 400, 400):
        events = random_events(Random(size), position, size, "in time")
        position = events[-1].position + 1
        loading.load(connection, events, through=position, now=START)
        while step(connection, START + 3 * HOUR):
            pass


def read_and_remove_persons(connection: sqlite3.Connection) -> None:
    persons = PersonSet([Person(user_id="u1"), Person(connection=11, anonymous_id="a1")])
    query, window = EventQuery(workspace=1), make_window(EventQuery(workspace=1), ascending=False, after=None)
    selection = Selection(None, {}, None, persons=persons)
    PageReader(connection, Cache(), query, selection, window, ascending=False, budget=Budget(60)).read(0, 100)
    cursor = None
    while (cursor := removing.erase(connection, 1, persons, cursor).cursor) is not None:
        pass
    while removing.remove_before(connection, 1, START + HOUR):
        pass


@pytest.mark.parametrize("work", [write, read, read_and_remove_persons])
def test_no_statement_scans_a_table_that_grows(file: sqlite3.Connection, work: Callable[[Any], None]) -> None:
    if work is not write:
        write(file)
        loading.load(file, [event(1_000_000)], through=1_000_000, now=START)
    statements: set[str] = set()
    file.set_trace_callback(statements.add)
    work(file)
    file.set_trace_callback(None)
    checked = 0
    for statement in statements:
        if not re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE)", statement):
            continue
        checked += 1
        for *_, step_ in file.execute(f"EXPLAIN QUERY PLAN {statement}"):
            if step_.startswith("SCAN") and step_ not in ALLOWED:
                assert step_.split()[1] in SMALL, (step_, statement)
            assert "TEMP B-TREE FOR ORDER BY" not in step_ or " events " in statement, statement
    assert checked > 10
    file.close()


def test_the_newest_events_of_a_workspace_open_few_blocks(file: sqlite3.Connection) -> None:
    """Late events are stored separately: if every block had one of them, all blocks would be opened."""
    for number in range(20):
        first = 1_000 + number * 600
        events = [
            event(first + index, timestamp=START + first * 1_000 + (40 * 24 * HOUR if index == 7 else index))
            for index in range(600)
        ]
        loading.load(file, events, through=first + 599, now=START)
    statements: list[str] = []
    file.set_trace_callback(statements.append)
    query = EventQuery(workspace=1)
    window = make_window(query, ascending=False, after=None)
    reader = PageReader(file, Cache(), query, select(query), window, ascending=False, budget=Budget(60))
    assert len(reader.read(0, 100).documents) == 100
    assert sum("SELECT columns" in statement for statement in statements) == 1
    file.close()
