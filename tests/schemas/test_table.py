"""Tables: both forms of records agree."""

import pytest

from headwater.schemas import Record, Table

RECORDS: list[Record] = [{"a": number, "b": None if number % 2 else f"b{number}"} for number in range(5)]
COLUMNS: dict[str, list[object]] = {"a": [0, 1, 2, 3, 4], "b": ["b0", None, "b2", None, "b4"]}


@pytest.mark.parametrize("table", [Table.of(RECORDS), Table(5, columns=dict(COLUMNS))], ids=["records", "columns"])
def test_each_form_gives_the_other(table: Table) -> None:
    assert table.count == 5
    assert list(table.column("b")) == COLUMNS["b"]
    assert table.records == RECORDS
    for start, end in [(0, 5), (1, 3), (4, 9), (5, 6)]:
        some = table.slice(start, end)
        assert some.records == RECORDS[start:end]
        assert some.count == len(RECORDS[start:end])
    chosen = table.select([True, False, True, False, False])
    assert (chosen.count, list(chosen.column("a")), chosen.records) == (2, [0, 2], [RECORDS[0], RECORDS[2]])


def test_a_record_without_a_property_has_none_in_its_column() -> None:
    assert Table.of([{"a": 1}, {}]).column("a") == [1, None]
