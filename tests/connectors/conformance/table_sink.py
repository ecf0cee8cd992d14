"""The conformance suite of `TableSink`."""

from abc import ABC, abstractmethod

import pytest

from headwater.base.errors import BadRequest
from headwater.connectors.contract import Outcome, Row, TableSink, TableWrite

WRITE = TableWrite(table="people", columns=("id", "name"), key=("id",))


class TableSinkConformance(ABC):
    """`make` returns a sink with an empty table `people`: `id`, its key, a whole number; `name`, a text that is not
    null; `note`, a nullable text that only `set_note` writes."""

    @abstractmethod
    def make(self) -> TableSink: ...

    @abstractmethod
    def read(self, sink: TableSink) -> list[Row]:
        """Return the rows (id, name, note) in the order of id."""
        ...

    @abstractmethod
    def set_note(self, sink: TableSink, id_: int, note: str) -> None: ...

    def test_the_columns_of_the_table_are_read(self) -> None:
        sink = self.make()
        columns = {column.name: column for column in sink.columns("people")}
        assert list(columns) == ["id", "name", "note"]
        assert (columns["name"].nullable, columns["note"].nullable) == (False, True)
        assert all(column.type is not None and column.writable for column in columns.values())
        sink.close()

    def test_a_missing_table_is_an_error(self) -> None:
        sink = self.make()
        for name in ("missing", "people; DROP TABLE people", 'a"b', ""):
            with pytest.raises(BadRequest):
                sink.columns(name)
        assert sink.columns("people")
        sink.close()

    def test_rows_are_inserted_and_updated_by_key(self) -> None:
        sink = self.make()
        assert self._outcomes(sink, [(1, "a"), (2, "b")]) == [Outcome.DELIVERED] * 2
        assert self._outcomes(sink, [(2, "c"), (3, "d")]) == [Outcome.DELIVERED] * 2
        assert self.read(sink) == [(1, "a", None), (2, "c", None), (3, "d", None)]
        sink.close()

    def test_a_repetition_changes_nothing(self) -> None:
        sink = self.make()
        for _ in range(2):
            self._outcomes(sink, [(1, "a"), (2, "b")])
        assert self.read(sink) == [(1, "a", None), (2, "b", None)]
        sink.close()

    def test_other_columns_keep_their_values(self) -> None:
        sink = self.make()
        self._outcomes(sink, [(1, "a")])
        self.set_note(sink, 1, "kept")
        self._outcomes(sink, [(1, "b")])
        assert self.read(sink) == [(1, "b", "kept")]
        sink.close()

    def test_values_are_not_interpreted_as_sql(self) -> None:
        sink = self.make()
        names = ["'; DROP TABLE people; --", '"', "\\", "é\N{GRINNING FACE}", ""]
        self._outcomes(sink, list(enumerate(names)))
        assert [row[1] for row in self.read(sink)] == names
        sink.close()

    def test_a_batch_is_written_whole_or_not_at_all(self) -> None:
        sink = self.make()
        self._outcomes(sink, [(1, "a")])
        results = sink.upsert(WRITE, [(2, "b"), (1, None), (3, "c")])
        assert len(results) == 3
        assert results[1].outcome is Outcome.REJECTED and results[1].reason
        assert {results[0].outcome, results[2].outcome} == {Outcome.NOT_ATTEMPTED}
        assert self.read(sink) == [(1, "a", None)]
        sink.close()

    def _outcomes(self, sink: TableSink, rows: list[Row]) -> list[Outcome]:
        return [result.outcome for result in sink.upsert(WRITE, rows)]
