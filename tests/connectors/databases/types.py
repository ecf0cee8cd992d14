"""Checks of column types: the types and values that a source reads, and a round trip through a sink."""

import math
from collections.abc import Sequence
from typing import Any

from headwater.connectors.contract import Column, Outcome, QuerySource, TableSink, TableWrite
from headwater.schemas import Type, Value


def read(source: QuerySource, query: str) -> tuple[tuple[Column, ...], list[tuple[Value, ...]]]:
    """Return the columns and all rows of a query."""
    with source.query(query, {}, None) as rows:
        return rows.columns, [row for batch in rows.batches() for row in batch]


def check_read(source: QuerySource, query: str, type_: Type | None, values: Sequence[Value]) -> None:
    """Check the type and the values of a query with one column. A type of None means that the column has an issue."""
    [column], rows = read(source, query)
    assert column.type == type_, column
    assert bool(column.issue) is (type_ is None)
    found = [value for (value,) in rows]
    assert [same(*pair) for pair in zip(found, values, strict=True)] == [True] * len(values), found


def check_round_trip(source: QuerySource, sink: TableSink, query: str, table: str, columns: Sequence[str]) -> None:
    """Write the rows of a query into an empty table, and check that reading it gives them again."""
    _, rows = read(source, query)
    write = TableWrite(table=table, columns=tuple(columns), key=(columns[0],))
    results = sink.upsert(write, rows)
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * len(rows), results
    names = ", ".join(columns)
    _, again = read(source, f"SELECT {names} FROM {table} ORDER BY {columns[0]}")
    for row, other in zip(rows, again, strict=True):
        assert [same(*pair) for pair in zip(row, other, strict=True)] == [True] * len(row), (row, other)


def same(value: Any, other: Any) -> bool:
    """Return whether two values are equal and of one class. NaN is equal to NaN."""
    if isinstance(value, float) and isinstance(other, float) and math.isnan(value):
        return math.isnan(other)
    return type(value) is type(other) and value == other
