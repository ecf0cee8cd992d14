"""The conformance suite of `QuerySource`."""

from abc import ABC, abstractmethod

import pytest

from headwater.connectors.contract import MAX_BATCH_ROWS, QueryRejected, QuerySource, Row


class QuerySourceConformance(ABC):
    """`make` returns a source with a table of `rows()` (columns `id`, a whole number, and `name`, a nullable text).

    `QUERY` reads it in the order of id, after the id `${after}`.
    """

    QUERY = "SELECT id, name FROM people WHERE id > ${after} ORDER BY id"
    WRITING: tuple[str, ...] = ("DELETE FROM people", "INSERT INTO people VALUES (99, 'x')", "DROP TABLE people")
    INVALID: tuple[str, ...] = (
        "SELEC id",
        "SELECT missing FROM people",
        "SELECT id, id FROM people",
        "SELECT 1; SELECT 2",
    )

    @abstractmethod
    def make(self, rows: list[Row]) -> QuerySource: ...

    def rows(self, count: int = 5) -> list[Row]:
        return [(number, None if number % 3 == 0 else f"n{number}") for number in range(1, count + 1)]

    def read(self, source: QuerySource, query: str, limit: int | None = None, after: int = 0) -> list[Row]:
        with source.query(query, {"after": after}, limit) as result:
            return [row for batch in result.batches() for row in batch]

    def test_rows_come_in_order_with_their_values(self) -> None:
        source = self.make(self.rows())
        assert self.read(source, self.QUERY) == self.rows()
        source.close()

    def test_columns_are_known_before_rows(self) -> None:
        source = self.make([])
        with source.query(self.QUERY, {"after": 0}, None) as result:
            assert [column.name for column in result.columns] == ["id", "name"]
            assert all(column.type is not None or column.issue for column in result.columns)
            assert list(result.batches()) == []
        source.close()

    def test_batches_are_bounded_and_not_empty(self) -> None:
        source = self.make(self.rows(2 * MAX_BATCH_ROWS + 1))
        with source.query(self.QUERY, {"after": 0}, None) as result:
            sizes = [len(batch) for batch in result.batches()]
        assert sum(sizes) == 2 * MAX_BATCH_ROWS + 1 and all(0 < size <= MAX_BATCH_ROWS for size in sizes)
        source.close()

    @pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (4, 4), (100, 5), (None, 5)])
    def test_the_limit_of_a_query_applies(self, limit: int | None, count: int) -> None:
        source = self.make(self.rows())
        assert len(self.read(source, self.QUERY, limit)) == count
        source.close()

    def test_parameters_are_values(self) -> None:
        source = self.make(self.rows())
        assert self.read(source, self.QUERY, after=3) == self.rows()[3:]
        query = self.QUERY.replace("id > ${after}", "name = ${after}")
        with source.query(query, {"after": "n1' OR '1'='1"}, None) as result:
            assert list(result.batches()) == []
        source.close()

    def test_a_query_can_be_left_early(self) -> None:
        source = self.make(self.rows(3 * MAX_BATCH_ROWS))
        for _ in range(3):
            with source.query(self.QUERY, {"after": 0}, None) as result:
                next(result.batches())
        assert len(self.read(source, self.QUERY)) == 3 * MAX_BATCH_ROWS
        source.close()

    def test_invalid_queries_are_rejected(self) -> None:
        source = self.make(self.rows())
        for query in (*self.INVALID, "SELECT id FROM people WHERE id = ${unknown}"):
            with pytest.raises(QueryRejected):
                self.read(source, query)
        assert self.read(source, self.QUERY) == self.rows()
        source.close()

    def test_queries_that_write_are_rejected_and_write_nothing(self) -> None:
        source = self.make(self.rows())
        for query in self.WRITING:
            with pytest.raises(QueryRejected):
                self.read(source, query)
        assert self.read(source, self.QUERY) == self.rows()
        source.close()
