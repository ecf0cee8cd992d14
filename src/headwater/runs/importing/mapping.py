"""Turns the records of a source into identities: normalises, filters, transforms and encodes them.

Everything is compiled once for a run. A record that fails is counted at its step; its identity is kept if its id is
known.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import compress, repeat
from typing import Any, Final, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from headwater.base.errors import Unavailable
from headwater.base.steps import ProcessingStep
from headwater.catalog import Definition, Pipeline
from headwater.events.wire import MAX_ID_BYTES
from headwater.filters import Predicate, check_filter, compile_filter, parse_json
from headwater.runs.importing.records import FailedRecord, MappedBatch, RawBatch
from headwater.runs.importing.updatedat import compile_time
from headwater.runs.job import RunFailed
from headwater.schemas import (
    IntType,
    InvalidValue,
    JsonType,
    Record,
    Schema,
    Table,
    Type,
    compile_normaliser,
    compile_property,
    compile_row_normaliser,
    compile_rows_normaliser,
    compile_writer,
    describe_problem,
)
from headwater.state import MAX_ATTRIBUTES_BYTES, attributes_fit
from headwater.transforms.functions import Function, FunctionFailed, Outcome, RecordError
from headwater.transforms.mapping import CompiledMapping, MappingFailed

FUNCTION_RECORDS: Final = 1_000
"""Number of records of one call of a function."""
MAPPED_RECORDS: Final = 250
"""Number of records that are mapped together, or one by one if one of them fails. Their values are in the cache of a
processor."""
_TOO_LARGE: Final = f"the attributes have more than {MAX_ATTRIBUTES_BYTES} bytes as JSON"

RunFunction = Callable[[Function, Sequence[Record], Schema, Schema], Iterator[Outcome]]
"""Runs a function in a sandbox, and waits for it. Raises FunctionFailed and Unavailable."""


class _Records(Struct):
    """Records that are valid, with their numbers, ids and update times, in lists of one length."""

    numbers: Sequence[int | None]
    ids: Sequence[str]
    times: Sequence[int | None]
    table: Table

    def select(self, chosen: Sequence[bool]) -> "_Records":
        """Return the records that are chosen."""
        return _Records(
            list(compress(self.numbers, chosen)),
            list(compress(self.ids, chosen)),
            list(compress(self.times, chosen)),
            self.table.select(chosen),
        )


class RecordMapper:
    """Maps the records of one run, batch by batch."""

    def __init__(
        self,
        pipeline: Pipeline,
        in_schema: Schema,
        out_schema: Schema,
        columns: tuple[str, ...] | None,
        *,
        since: int | None,
        now: Callable[[], int],
        has_filter: bool,
        run_function: RunFunction,
    ) -> None:
        """Compile the pipeline. Records updated before `since` are left out. Raises HeadwaterError."""
        definition = pipeline.definition
        self._since = since
        self._now = now
        self._has_filter = has_filter
        self._passes = _compile_filter(definition, in_schema)
        self._identify = _Identify(definition, in_schema, columns)
        self._transform = _compile_transformation(pipeline, in_schema, out_schema, run_function)

    def map(self, batch: RawBatch) -> MappedBatch:
        """Return the identities of a batch. Raises RunFailed if a function fails as a whole."""
        mapped = MappedBatch(batch.place, {}, set(), [], {}, bytes=batch.bytes)
        mapped.rows = len(batch.rows) + len(batch.failed)
        for failed in batch.failed:
            _fail(mapped, failed)
        read = self._read(batch, mapped)
        count = len(read.ids)
        mapped.passed["Receive"] = count + _count(mapped, "InputValidation")
        mapped.passed["InputValidation"] = count
        passed = self._filter(read, mapped)
        if self._has_filter:
            mapped.passed["Filter"] = len(passed.ids)
        self._advance(passed, mapped)
        self._transform_all(passed, mapped)
        return mapped

    def _read(self, batch: RawBatch, mapped: MappedBatch) -> _Records:
        """Return the records that are valid, and not older than the cursor."""
        read = self._identify.all(batch) or self._read_each(batch, mapped)
        since = self._since
        if since is None or not read.ids:
            return read
        return read.select([updated_at is None or updated_at >= since for updated_at in read.times])

    def _read_each(self, batch: RawBatch, mapped: MappedBatch) -> _Records:
        """Return the valid records of a batch in which some may not be."""
        valid: list[tuple[int | None, str, int | None, Record]] = []
        for number, row in zip(batch.numbers or repeat(None), batch.rows, strict=False):
            try:
                valid.append((number, *self._identify.one(row)))
            except _Unusable as error:
                _fail(mapped, FailedRecord(error.step, error.message, number, error.id, error.path))
        numbers, ids, times, records = zip(*valid, strict=True) if valid else ((), (), (), ())
        return _Records(numbers, ids, times, Table.of(records))

    def _filter(self, read: _Records, mapped: MappedBatch) -> _Records:
        if self._passes is None:
            return read
        passed = read.select(list(map(self._passes, read.table.records)))
        mapped.filtered = len(read.ids) - len(passed.ids)
        return passed

    def _advance(self, read: _Records, mapped: MappedBatch) -> None:
        """Set the cursor: a time in the future would hide the changes until then, so it counts as now."""
        latest = max((updated_at for updated_at in read.times if updated_at is not None), default=None)
        mapped.cursor = None if latest is None else min(latest, self._now())

    def _transform_all(self, read: _Records, mapped: MappedBatch) -> None:
        results = self._transform(read.table)
        texts = [result for result in results if isinstance(result, str)]
        mapped.size = sum(map(len, texts))
        if len(texts) == len(read.ids):
            mapped.users.update(zip(read.ids, zip(read.times, texts, strict=True), strict=True))
        else:
            for number, id_, updated_at, result in zip(read.numbers, read.ids, read.times, results, strict=True):
                if isinstance(result, str):
                    mapped.users[id_] = updated_at, result
                else:
                    step, message, path = result
                    _fail(mapped, FailedRecord(step, message, number, id_, path))
        mapped.passed["OutputValidation"] = len(texts)
        mapped.passed["Transformation"] = len(texts) + _count(mapped, "OutputValidation")


def _count(mapped: MappedBatch, step: ProcessingStep) -> int:
    return sum(each.step == step for each in mapped.failed)


def _fail(mapped: MappedBatch, failed: FailedRecord) -> None:
    """Count a failed record, and keep its identity if it has a usable id."""
    id_ = _usable_id(failed.id)
    if id_ is None:
        mapped.failed.append(replace(failed, id=""))
        mapped.has_unidentified = True
    else:
        mapped.failed.append(failed)
        mapped.kept.add(id_)


# --- Ids and times ------------------------------------------------------------------------------------------------


class _Unusable(Exception):
    """A record that cannot be imported."""

    def __init__(self, step: ProcessingStep, message: str, id: str = "", path: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.message = message
        self.id = id
        self.path = path


class _Identify:
    """Normalises rows or users, and finds their ids and update times."""

    def __init__(self, definition: Definition, schema: Schema, columns: tuple[str, ...] | None) -> None:
        self._is_row = columns is not None
        self._id_column = definition.user_id_column
        self._time_column = definition.updated_at_column
        self._normalise: Callable[[Any], Record]
        if columns is None:
            self._normalise = compile_normaliser(schema)
            return
        self._normalise = compile_row_normaliser(schema, columns)
        self._normalise_all = compile_rows_normaliser(schema, columns)
        id_property = schema.by_name[self._id_column]
        self._to_id = compile_id(id_property.type)
        self._id_index = columns.index(self._id_column)
        self._normalise_id = compile_property(id_property)
        if self._time_column:
            time_property = schema.by_name[self._time_column]
            self._to_time = compile_time(time_property.type, definition.updated_at_format)

    def all(self, batch: RawBatch) -> _Records | None:
        """Return all rows of a batch; None if one of them is not valid, or if they are users of an application."""
        table = self._normalise_all(batch.rows) if self._is_row else None
        if table is None or not table.count:
            return None
        ids = list(map(self._to_id, table.column(self._id_column)))
        if None in ids:
            return None
        times: Sequence[int | None] = [None] * table.count
        if self._time_column:
            values = table.column(self._time_column)
            if None in values:
                return None
            try:
                times = list(map(self._to_time, values))
            except InvalidValue:
                return None
        numbers = [None] * table.count if batch.numbers is None else batch.numbers
        return _Records(numbers, cast(list[str], ids), times, table)

    def one(self, row: Any) -> tuple[str, int | None, Record]:
        """Return the id, the update time and the record of a row or a user. Raises _Unusable."""
        if not self._is_row:
            return self._user(row)
        try:
            record = self._normalise(row)
        except InvalidValue as error:
            raise self._unusable(row, error) from None
        id_ = self._to_id(record[self._id_column])
        if id_ is None:
            raise _Unusable("Receive", f"property '{self._id_column}' is not a usable id", path=self._id_column)
        return id_, self._time(record, id_), record

    def _user(self, user: Any) -> tuple[str, int | None, Record]:
        if not (id_ := _usable_id(user.id)):
            raise _Unusable("Receive", "the application has returned a user whose id is not usable")
        try:
            return id_, user.updated_at, self._normalise(user.values)
        except InvalidValue as error:
            raise _Unusable("InputValidation", describe_problem(error), id_, error.path) from None

    def _time(self, record: Record, id_: str) -> int | None:
        if not self._time_column:
            return None
        value = record.get(self._time_column)
        if value is None:
            raise _Unusable("Receive", f"property '{self._time_column}' has no time", id_, self._time_column)
        try:
            return self._to_time(value)
        except InvalidValue as error:
            message = f"property '{self._time_column}' {error.rule}"
            raise _Unusable("Receive", message, id_, self._time_column) from None

    def _unusable(self, row: Any, error: InvalidValue) -> _Unusable:
        """Return the reason why a row cannot be normalised. Without an id, that is the reason."""
        try:
            id_ = self._to_id(self._normalise_id(row[self._id_index]))
        except InvalidValue:
            id_ = None
        if id_ is None:
            return _Unusable("Receive", f"property '{self._id_column}' is not a usable id", path=self._id_column)
        return _Unusable("InputValidation", describe_problem(error), id_, error.path)


def _usable_id(text: str) -> str | None:
    """Return the id if it can be stored: Unicode of 1 to MAX_ID_BYTES without NUL."""
    if not text or "\0" in text:
        return None
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        return None
    return text if size <= MAX_ID_BYTES else None


def compile_id(type: Type) -> Callable[[Any], str | None]:
    """Return the conversion of the values of a user id column to ids; None for one that is no id."""
    if isinstance(type, JsonType):
        return _read_json_id
    if isinstance(type, IntType):
        return lambda value: None if value is None else str(value)
    return lambda value: None if value is None else _usable_id(value)


def _read_json_id(value: Any) -> str | None:
    """Return the content of a JSON string, or the text of a number."""
    if value is None:
        return None
    text: str = value.text
    if text.startswith('"'):
        try:
            return _usable_id(_decode_text(text))
        except msgspec.DecodeError:  # an escape of half a surrogate pair, which is JSON but not Unicode
            return None
    return _usable_id(text) if text[0] in "-0123456789" else None


_decode_text: Final = msgspec.json.Decoder(str).decode


# --- Filter and transformation ------------------------------------------------------------------------------------

_Failure = tuple[ProcessingStep, str, str]
"""The step, the message and the path of a record that failed."""
_Transform = Callable[[Table], list[str | _Failure]]
"""Returns the attributes of each record as JSON, or its failure. Raises RunFailed."""


def _compile_filter(definition: Definition, schema: Schema) -> Predicate | None:
    filter_ = None if definition.filter is None else parse_json(definition.filter)
    return None if filter_ is None else compile_filter(check_filter(filter_, schema, role="Source", target="User"))


def _compile_transformation(
    pipeline: Pipeline, in_schema: Schema, out_schema: Schema, run_function: RunFunction
) -> _Transform:
    transformation = pipeline.definition.transformation
    assert transformation is not None, "imports are transformed"
    if transformation.mapping is not None:
        return _compile_mapping(transformation.mapping, in_schema, out_schema)
    assert transformation.function is not None, "it is a mapping or a function"
    owner = f"{pipeline.workspace}/{pipeline.id}/{hash(transformation.function)}"
    function = transformation.function.function(owner=owner)
    write = compile_writer(out_schema)

    def transform(table: Table) -> list[str | _Failure]:
        results: list[str | _Failure] = []
        for some in _slices(table, FUNCTION_RECORDS):
            try:
                outcomes = run_function(function, some.records, in_schema, out_schema)
            except (FunctionFailed, Unavailable) as error:
                raise RunFailed("Transformation", error.message) from error
            for outcome in outcomes:
                if isinstance(outcome, RecordError):
                    results.append((outcome.step, outcome.message, ""))
                    continue
                try:
                    results.append(_bounded(write(outcome).decode()))
                except UnicodeEncodeError:
                    results.append(_NOT_UNICODE)
        return results

    return transform


def _compile_mapping(expressions: dict[str, str], in_schema: Schema, out_schema: Schema) -> _Transform:
    mapping = CompiledMapping(expressions, in_schema, out_schema)
    write, write_together = mapping.compile_writer(out_schema), mapping.compile_table_writer(out_schema)

    def transform_one(record: Record) -> str | _Failure:
        try:
            return _bounded(write(record).decode())
        except MappingFailed as error:
            return error.step, error.message, error.path
        except UnicodeEncodeError:
            return _NOT_UNICODE

    def transform(table: Table) -> list[str | _Failure]:
        results: list[str | _Failure] = []
        for some in _slices(table, MAPPED_RECORDS):
            texts = None if write_together is None else write_together(some)
            results += map(transform_one, some.records) if texts is None else map(_bounded, texts)
        return results

    return transform


def _slices(table: Table, size: int) -> Iterator[Table]:
    return (table.slice(start, start + size) for start in range(0, table.count, size))


_NOT_UNICODE: Final[_Failure] = "OutputValidation", "the result has a text with lone surrogates", ""


def _bounded(attributes: str) -> str | _Failure:
    return attributes if attributes_fit(attributes) else ("OutputValidation", _TOO_LARGE, "")
