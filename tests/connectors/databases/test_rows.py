"""The columns and the batches of results; the checks of batches that are written; names of tables."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import BadRequest
from headwater.connectors.contract import Column, Outcome, QueryRejected, Row, TableWrite, rejected
from headwater.connectors.databases.quoting import parse_table, quote
from headwater.connectors.databases.rows import MAX_BATCH_BYTES, MAX_CHUNK_BYTES, QueryRows, next_rows
from headwater.connectors.databases.writing import RowFailed, check_rows, find_failing
from headwater.schemas import IntType, Json, JsonType, StringType

ID = Column(name="id", type=IntType(32))
TEXT = Column(name="text", type=StringType())
WRITE = TableWrite(table="people", columns=("id", "name"), key=("id",))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no columns"),
        (["id"] * 100, "column id occurs 100 times"),
        (["a", "b", "a"], "column a occurs 2 times"),
        ([f"c{number}" for number in range(1_601)], "1601 columns"),
    ],
)
def test_columns_that_are_rejected(names: list[str], message: str) -> None:
    with pytest.raises(QueryRejected, match=message):
        QueryRows([Column(name=name, type=IntType(32)) for name in names], lambda: iter(()), None)


LONG = "x" * MAX_CHUNK_BYTES


@pytest.mark.parametrize("value", [LONG, LONG.encode(), Json(f'"{LONG}"'), [LONG], {"a": [LONG.encode()]}, {LONG: 1}])
def test_large_rows_of_a_driver_are_read_one_by_one(value: Any) -> None:
    rows = iter([(1, None), (2, value), (3, value), (4, None), (5, None), (6, None)])
    numbers = []
    while chunk := next_rows(rows, 2):
        numbers.append([row[0] for row in chunk])
    assert numbers == [[1, 2], [3], [4, 5], [6]]


@pytest.mark.parametrize(
    ("column", "value"),
    [(TEXT, "x" * 1_000_000), (Column(name="text", type=JsonType()), Json('"' + "x" * 1_000_000 + '"'))],
)
def test_large_values_make_small_batches(column: Column, value: Any) -> None:
    read = 0

    def chunks() -> Iterator[list[Row]]:
        nonlocal read
        for number in range(100):
            read += 1
            yield [(number, value)]

    batches = QueryRows([ID, column], chunks, None).batches()
    size = len(next(batches))
    assert size == read == MAX_BATCH_BYTES // 1_000_000 + 1
    assert sum(map(len, batches)) == 100 - size


def test_a_limit_reads_no_more_than_it_needs() -> None:
    read = 0

    def chunks() -> Iterator[list[Row]]:
        nonlocal read
        while True:
            read += 1
            yield [(read,)] * 10

    rows = QueryRows([ID], chunks, 25)
    assert [len(batch) for batch in rows.batches()] == [25] and read == 3
    assert list(QueryRows([ID], chunks, 0).batches()) == [] and read == 3


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([(1, "a"), (2, "b")], None),
        ([(1, "a"), (None, "b")], ["", "NullKey"]),
        ([(1, "a"), (2, "b"), (1, "c")], ["", "", "DuplicateKey"]),
        ([(1, "a\0"), (2, "b")], ["InvalidValue", ""]),
        ([(1, "\ud800"), (2, "b")], ["InvalidValue", ""]),
        ([(1, ["a", "\0"])], ["InvalidValue"]),
        ([(1, {"a\0": 1})], ["InvalidValue"]),
    ],
)
def test_rows_are_checked_before_they_are_sent(rows: list[Row], reasons: list[str] | None) -> None:
    results = check_rows(WRITE, rows)
    assert (None if results is None else [result.reason for result in results]) == reasons


@pytest.mark.parametrize(
    ("write", "rows"),
    [
        (TableWrite(table="t", columns=("name",), key=("id",)), [("a",)]),
        (TableWrite(table="t", columns=("id",), key=()), [(1,)]),
        (WRITE, [(1,)]),
    ],
)
def test_writes_that_are_not_valid(write: TableWrite, rows: list[Row]) -> None:
    with pytest.raises(BadRequest):
        check_rows(write, rows)


@given(st.integers(1, 200), st.sets(st.integers(0, 199), max_size=20))
def test_the_rows_at_fault_are_found(count: int, bad: set[int]) -> None:
    bad = {number for number in bad if number < count}
    written: list[int] = []

    def write(first: int, end: int) -> None:
        if any(number in bad for number in range(first, end)):
            raise RowFailed(rejected("Bad"))
        written.extend(range(first, end))

    results = find_failing(count, write)
    assert sorted(written) == [number for number in range(count) if number not in bad]
    if not bad:
        assert results is None
    else:
        assert results is not None
        assert {number for number, each in enumerate(results) if each.outcome is Outcome.REJECTED} == bad
        assert {each.outcome for number, each in enumerate(results) if number not in bad} <= {Outcome.NOT_ATTEMPTED}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("people", ("people",)),
        ("Sales.People", ("Sales", "People")),
        ('"a.b"."c ""d"""', ("a.b", 'c "d"')),
        ("two words", ("two words",)),
    ],
)
def test_names_of_tables(text: str, parts: tuple[str, ...]) -> None:
    assert parse_table(text) == parts


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a.b.c", '"a', 'a"b', '"a"b', "a\0", "x" * 1_025])
def test_names_that_are_not_valid(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_table(text)


def test_names_are_quoted() -> None:
    assert (quote('a"b'), quote("a`b", "`")) == ('"a""b"', "`a``b`")
    for name in ("", "a\0"):
        with pytest.raises(BadRequest):
            quote(name)
