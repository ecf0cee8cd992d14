"""Parquet: reads flat columns batch by batch, and writes files whose columns are all optional.

pyarrow is an optional package: this module is imported when a pipeline with such a file is opened.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Context, Decimal
from typing import Any, BinaryIO, Final, NamedTuple
from uuid import UUID

from headwater.base.errors import Unprocessable
from headwater.connectors.contract import (
    MAX_COLUMNS,
    Column,
    FileReader,
    FileRow,
    InvalidFile,
    InvalidRow,
    NoColumns,
    RowRead,
    RowWriter,
)
from headwater.connectors.formats.parquet_pages import check_pages
from headwater.connectors.formats.values import text_writer
from headwater.schemas import (
    MISSING,
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    InvalidType,
    InvalidValue,
    IpType,
    Json,
    JsonType,
    MapType,
    ObjectType,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    YearType,
    is_property_name,
)

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError:
    raise Unprocessable(
        "ConnectorNotAvailable", "Parquet is not installed on the server: pip install 'headwater[parquet]'"
    ) from None

_MAGIC: Final = b"PAR1"
_ENCRYPTED: Final = b"PARE"
_READ_ROWS: Final = 1_024
_BUFFER_BYTES: Final = 1 << 18
MAX_VALUE_BYTES: Final = 1 << 20
"""Maximum size of a text. A row with a longer one is invalid."""
_MAX_NAME_BYTES: Final = 1 << 20
_MAX_FOOTER_ITEMS: Final = 1_000_000
_MAX_SCHEMA_DEPTH: Final = 100
_GROUP_ROWS: Final = 65_536
_GROUP_BYTES: Final = 32 << 20
"""Rows and bytes of a row group that is written."""
_NANOSECONDS: Final[Mapping[str, int]] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MAX_NANOSECONDS: Final = 2**63 - 1
_DECIMALS: Final = Context(prec=76)

Convert = Callable[[Any], Any]
"""Converts a value of pyarrow other than null. Raises ValueError, whose text says what is wrong with it."""


class _Rule(NamedTuple):
    """How a column is read: its type, the type of pyarrow to convert it to first, and the conversion of one value."""

    type: Type
    storage: Any
    convert: Convert | None


class _ParquetReader:
    """Implements `FileReader`."""

    def __init__(self, file: Any, stream: BinaryIO) -> None:
        self._file = file
        self._stream = stream
        self.total_rows: int | None = file.metadata.num_rows
        self.columns, self._rules = _columns(file)

    def rows(self) -> Iterator[RowRead]:
        names = [column.name for column, rule in zip(self.columns, self._rules, strict=True) if rule is not None]
        number = 1
        for batch in self._batches(names):
            invalid: dict[int, str] = {}
            values = []
            arrays = iter(batch.columns)
            for column, rule in zip(self.columns, self._rules, strict=True):
                if rule is None:
                    values.append([MISSING] * batch.num_rows)
                else:
                    values.append(_values(next(arrays), column.name, rule, invalid))
            for index, row in enumerate(zip(*values, strict=True)):
                if invalid and index in invalid:
                    yield RowRead(number=number + index, error=invalid[index])
                else:
                    yield RowRead(number=number + index, values=row)
            number += batch.num_rows

    def _batches(self, names: list[str]) -> Iterator[Any]:
        for group in range(self._file.metadata.num_row_groups):
            check_pages(self._stream, self._file.metadata.row_group(group), frozenset(names))
            batches = self._file.iter_batches(_READ_ROWS, row_groups=[group], columns=names, use_threads=False)
            while True:
                with _readable():
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch


def _values(array: Any, name: str, rule: _Rule, invalid: dict[int, str]) -> list[Any]:
    """Return the values of a column; `invalid` gets the rows whose values cannot be read."""
    with _readable():
        if isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if array.type != rule.storage:
            array = array.cast(rule.storage)
        values: list[Any] = array.to_pylist()
    convert = rule.convert
    if convert is None:
        return values
    converted: list[Any] = []
    for index, value in enumerate(values):
        try:
            converted.append(None if value is None else convert(value))
        except (ValueError, ArithmeticError) as error:
            converted.append(None)
            invalid.setdefault(index, f"the column {name} {error}")
    return converted


def _columns(file: Any) -> tuple[tuple[Column, ...], list[_Rule | None]]:
    schema = file.schema
    columns: list[Column] = []
    rules: list[_Rule | None] = []
    leaf = 0
    for field in file.schema_arrow:
        leaves = _leaves(field.type)
        rule: _Rule | None = None
        issue = ""
        if not is_property_name(field.name):
            issue = "the name is not that of a property: letters, digits and _, not a digit first"
        elif pa.types.is_nested(_storage(field.type)):
            issue = "lists, maps and groups are not supported"
        else:
            rule, issue = _rule(schema.column(leaf))
        leaf += leaves
        rules.append(rule)
        columns.append(
            Column(name=field.name, type=None if rule is None else rule.type, nullable=field.nullable, issue=issue)
        )
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidFile(f"two columns have the name {repeated[:60]!r}")
    if len(columns) > MAX_COLUMNS:
        raise InvalidFile(f"the file has {len(columns):,} columns, and the most are {MAX_COLUMNS:,}")
    if not any(rules):
        raise NoColumns("the file has no column that can be read")
    return tuple(columns), rules


def _storage(type: Any) -> Any:
    return type.storage_type if isinstance(type, pa.BaseExtensionType) else type


def _leaves(type: Any) -> int:
    """Return the number of columns that the file has for a field."""
    type = _storage(type)
    if pa.types.is_dictionary(type):
        type = type.value_type
    if not pa.types.is_nested(type):
        return 1
    if pa.types.is_map(type):
        return _leaves(type.key_type) + _leaves(type.item_type)
    return sum(_leaves(type.field(index).type) for index in range(type.num_fields))


def _rule(column: Any) -> tuple[_Rule | None, str]:
    """Return how a column is read, or the issue that prevents it."""
    logical = json.loads(column.logical_type.to_json())
    physical = column.physical_type
    match logical["Type"], physical:
        case "None", _:
            return _physical_rule(physical)
        case "Int", _:
            size, is_signed = logical["bitWidth"], logical["isSigned"]
            storage = getattr(pa, f"{'' if is_signed else 'u'}int{size}")()
            return _Rule(IntType(size, unsigned=not is_signed), storage, None), ""
        case "Decimal", _:
            return _decimal_rule(logical["precision"], logical["scale"])
        case "Date", _:
            return _Rule(DateType(), pa.int32(), _date), ""
        case "Time", _:
            unit = _unit(logical)
            storage = pa.int32() if unit == "ms" else pa.int64()
            return _Rule(TimeType(), storage, _time(_NANOSECONDS[unit])), ""
        case "Timestamp", _:
            return _Rule(DateTimeType(), pa.int64(), _datetime(_NANOSECONDS[_unit(logical)])), ""
        case (("String" | "Enum" | "Null"), _):
            return _Rule(StringType(), pa.binary(), _text), ""
        case "JSON", _:
            return _Rule(JsonType(), pa.binary(), _json), ""
        case "UUID", _:
            return _Rule(UuidType(), pa.binary(16), _uuid), ""
        case kind, _:
            return None, f"the type {kind} is not supported"


def _physical_rule(physical: str) -> tuple[_Rule | None, str]:
    match physical:
        case "BOOLEAN":
            return _Rule(BooleanType(), pa.bool_(), None), ""
        case "INT32":
            return _Rule(IntType(32), pa.int32(), None), ""
        case "INT64":
            return _Rule(IntType(64), pa.int64(), None), ""
        case "FLOAT":
            return _Rule(FloatType(32), pa.float32(), None), ""
        case "DOUBLE":
            return _Rule(FloatType(64), pa.float64(), None), ""
        case "INT96":
            return _Rule(DateTimeType(), pa.int64(), _datetime(_NANOSECONDS["us"])), ""
        case "BYTE_ARRAY":
            return _Rule(StringType(), pa.binary(), _text), ""
        case _:
            return None, f"the type {physical} is not supported"


def _decimal_rule(precision: int, scale: int) -> tuple[_Rule | None, str]:
    try:
        type = DecimalType(precision, scale)
    except InvalidType:
        return None, f"decimal numbers of {precision} digits, {scale} of them after the point, are not supported"
    storage = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    return _Rule(type, storage, None), ""


def _unit(logical: Mapping[str, str]) -> str:
    return {"milliseconds": "ms", "microseconds": "us"}.get(logical["timeUnit"], "ns")


def _date(days: int) -> date:
    return date.fromordinal(days + _EPOCH_DAY)


def _time(nanoseconds: int) -> Convert:
    return lambda count: Time(count * nanoseconds)


def _datetime(nanoseconds: int) -> Convert:
    return lambda count: DateTime(count * nanoseconds)


def _text(data: bytes) -> str:
    if len(data) > MAX_VALUE_BYTES:
        raise ValueError(f"is longer than {MAX_VALUE_BYTES:,} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("is not text in UTF-8") from None
    if "\0" in text:
        raise ValueError("contains the NUL character")
    return text


def _json(data: bytes) -> Json:
    if len(data) > MAX_VALUE_BYTES:
        raise ValueError(f"is longer than {MAX_VALUE_BYTES:,} bytes")
    try:
        return Json.parse(data)
    except InvalidValue as error:
        raise ValueError(error.rule) from None


def _uuid(data: bytes) -> str:
    return str(UUID(bytes=data))


class _ParquetWriter:
    """Implements `RowWriter`."""

    def __init__(self, writer: Any, columns: Sequence[Column]) -> None:
        self._writer = writer
        self._columns = [(column.name, *_written(column.type)) for column in columns]
        self._batches: list[Any] = []
        self._rows = 0
        self._size = 0

    def write(self, rows: Sequence[FileRow]) -> None:
        if not rows:
            return
        arrays = [
            _array(name, type, convert, values)
            for (name, type, convert), values in zip(self._columns, zip(*rows, strict=True), strict=True)
        ]
        batch = pa.record_batch(arrays, schema=self._writer.schema)
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._size += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._size >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write a row group of the rows that wait."""
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches), row_group_size=self._rows)
        self._batches, self._rows, self._size = [], 0, 0


def _array(name: str, type: Any, convert: Convert | None, values: Sequence[Any]) -> Any:
    try:
        if convert is None:
            found = [None if value is MISSING else value for value in values]
        else:
            found = [None if value is None or value is MISSING else convert(value) for value in values]
        if isinstance(type, pa.BaseExtensionType):
            return pa.ExtensionArray.from_storage(type, pa.array(found, type.storage_type))
        if pa.types.is_temporal(type):
            return pa.array(found, pa.int32() if type.bit_width == 32 else pa.int64()).cast(type)
        return pa.array(found, type)
    except (ValueError, ArithmeticError) as error:
        raise InvalidRow(f"{name} cannot be written to Parquet: {error}") from None


def _written(type: Type | None) -> tuple[Any, Convert | None]:
    """Return the type of pyarrow for values of a type, and the conversion of one value."""
    match type:
        case BooleanType():
            return pa.bool_(), None
        case IntType(bit_size=size, unsigned=unsigned):
            return getattr(pa, f"{'u' if unsigned else ''}int{32 if size == 24 else size}")(), None
        case YearType():
            return pa.int32(), None
        case FloatType(bit_size=size):
            return pa.float32() if size == 32 else pa.float64(), None
        case DecimalType(precision=precision, scale=scale):
            return (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale), _scaled(scale)
        case DateTimeType():
            return pa.timestamp("ns", tz="UTC"), _written_datetime
        case DateType():
            return pa.date32(), lambda day: day.toordinal() - _EPOCH_DAY
        case TimeType():
            return pa.time64("us"), lambda time: time.nanoseconds // 1_000
        case UuidType():
            return pa.uuid(), lambda text: UUID(text).bytes
        case JsonType() | ArrayType() | MapType() | ObjectType():
            return pa.json_(pa.string()), text_writer(type)
        case StringType() | IpType() | None:
            return pa.string(), None
        case _:
            raise AssertionError(type)


def _scaled(scale: int) -> Convert:
    """Return a function that gives numbers the exponent of the column, which pyarrow needs."""
    exponent = Decimal(1).scaleb(-scale)
    return lambda number: number.quantize(exponent, context=_DECIMALS)


def _written_datetime(moment: DateTime) -> int:
    if abs(moment.nanoseconds) > _MAX_NANOSECONDS:
        raise ValueError("it has times of the years 1678 to 2262 only")
    return moment.nanoseconds


class ParquetFormat:
    """Implements `FileFormat`."""

    content_type = "application/vnd.apache.parquet"
    needs_seeking = True

    def sheets(self, stream: BinaryIO) -> tuple[str, ...]:
        return ()

    @contextmanager
    def read(self, stream: BinaryIO, sheet: str) -> Iterator[FileReader]:
        _check_magic(stream)
        with _readable():
            file = pq.ParquetFile(
                stream,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                coerce_int96_timestamp_unit="us",
                thrift_string_size_limit=_MAX_NAME_BYTES,
                thrift_container_size_limit=_MAX_FOOTER_ITEMS,
                schema_depth_limit=_MAX_SCHEMA_DEPTH,
                page_checksum_verification=True,
                arrow_extensions_enabled=False,
            )
            reader = _ParquetReader(file, stream)
        with file:
            yield reader

    @contextmanager
    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Iterator[RowWriter]:
        schema = pa.schema([pa.field(column.name, _written(column.type)[0]) for column in columns])
        with pq.ParquetWriter(
            stream, schema, store_schema=False, store_decimal_as_integer=True, write_page_checksum=True
        ) as file:
            writer = _ParquetWriter(file, columns)
            yield writer
            writer.flush()


def _check_magic(stream: BinaryIO) -> None:
    start = stream.read(len(_MAGIC))
    stream.seek(0)
    if start == _ENCRYPTED:
        raise InvalidFile("the Parquet file is encrypted")
    if start != _MAGIC:
        raise InvalidFile("the file is not Parquet")


@contextmanager
def _readable() -> Iterator[None]:
    """Turn the errors of pyarrow into InvalidFile."""
    try:
        yield
    except (pa.ArrowException, OSError, OverflowError) as error:
        text = str(error).partition("\n")[0][:200]
        known = "it is encrypted" if "encrypt" in text.lower() else text
        raise InvalidFile(f"the Parquet file cannot be read: {known}") from None
