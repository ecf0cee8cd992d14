"""Records of one schema, by record or by property."""

from collections.abc import Sequence
from itertools import compress
from typing import Any, Self

from headwater.schemas.values import Record


class Table:
    """Records, as such or as a column for each property. Each form is made from the other when it is needed.

    Columns have one length, and a value in each record. It is immutable to its users.
    """

    def __init__(
        self, count: int, *, columns: dict[str, Sequence[Any]] | None = None, records: Sequence[Record] | None = None
    ) -> None:
        """One of the two forms is given; `count` is the number of records."""
        self.count = count
        self._columns = columns
        self._records = records

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self:
        """Return a table of these records."""
        return cls(len(records), records=records)

    @property
    def records(self) -> Sequence[Record]:
        """The records."""
        if self._records is None:
            columns = self._columns or {}
            names = tuple(columns)
            self._records = [dict(zip(names, row, strict=False)) for row in zip(*columns.values(), strict=True)]
        return self._records

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a property; None where a record has none."""
        if self._columns is not None:
            return self._columns[name]
        return [record.get(name) for record in self.records]

    def slice(self, start: int, end: int) -> "Table":
        """Return the records from `start` on, before `end`."""
        count = max(min(end, self.count) - start, 0)
        if self._columns is None:
            return Table(count, records=self.records[start:end])
        return Table(count, columns={name: values[start:end] for name, values in self._columns.items()})

    def select(self, chosen: Sequence[bool]) -> "Table":
        """Return the records that are chosen."""
        count = sum(chosen)
        if self._columns is None:
            return Table(count, records=list(compress(self.records, chosen)))
        return Table(count, columns={name: list(compress(all_, chosen)) for name, all_ in self._columns.items()})
