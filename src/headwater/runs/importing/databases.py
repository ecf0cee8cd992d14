"""Reads the rows of a database with the query of a pipeline."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from headwater.base.errors import HeadwaterError
from headwater.catalog import Definition
from headwater.connectors.contract import QuerySource
from headwater.runs.importing.alignment import check_columns
from headwater.runs.importing.records import START, Place, RawBatch
from headwater.runs.job import Report, RunFailed
from headwater.schemas import DateTime, Schema

MAX_LIMIT: Final = 2**63 - 1
"""The value of `${limit}` in a run, which reads all rows."""


class DatabaseSource:
    """Implements `Source`. A query has no place to continue at: a run that was interrupted reads all rows again."""

    has_filter = False
    skips_repeats = False

    def __init__(self, database: QuerySource, definition: Definition, report: Report) -> None:
        self._database = database
        self._definition = definition
        self._report = report
        self._open = ExitStack()
        self.columns: tuple[str, ...] | None = None

    def open(self, stored: Schema, since: int | None) -> None:
        """Run the query, and check its columns. Raises RunFailed."""
        updated_at = None if since is None else DateTime(since * 1_000)
        parameters = {"updated_at": updated_at, "limit": MAX_LIMIT}
        self._open.callback(self._database.close)
        try:
            self._rows = self._open.enter_context(self._database.query(self._definition.query, parameters, None))
        except HeadwaterError as error:
            raise RunFailed("Receive", error.message) from error
        check_columns(stored, self._rows.columns)
        self.columns = tuple(column.name for column in self._rows.columns)

    def restarts(self, place: Place) -> bool:
        return True

    def batches(self, since: int | None, place: Place) -> Iterator[RawBatch]:
        """Read all rows. Raises RunFailed."""
        number = 0
        try:
            for rows in self._rows.batches():
                self._report.check()
                yield RawBatch(START, rows, range(number + 1, number + 1 + len(rows)))
                number += len(rows)
        except HeadwaterError as error:
            raise RunFailed("Receive", error.message) from error

    def close(self) -> None:
        """End the query, and disconnect."""
        self._open.close()
