"""The result of a query: checked columns, and rows in batches that are bounded in rows and bytes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from headwater.connectors.contract import MAX_BATCH_ROWS, MAX_COLUMNS, Column, QueryRejected, Row
from headwater.schemas import ArrayType, JsonType, MapType, ObjectType, StringType, Type, Value
from headwater.schemas.json_value import Json

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Size of the texts of a batch from which on it is returned. One row may exceed it."""

MAX_CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Size of the texts of a chunk from which on it is complete."""

_PART_ROWS: Final = 100
_PART_BYTES: Final = 256 * 1024
_SHORT_CHARACTERS: Final = 1_000
"""Maximum length of a text whose size does not count."""
_ITEM_BYTES: Final = 50


def check_columns(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns of a query. Raises QueryRejected if there are none, too many, or two of one name."""
    if not columns:
        raise QueryRejected("the query returns no columns")
    if len(columns) > MAX_COLUMNS:
        raise QueryRejected(f"the query returns {len(columns)} columns; at most {MAX_COLUMNS} are allowed")
    name, count = Counter(column.name for column in columns).most_common(1)[0]
    if count > 1:
        raise QueryRejected(f"column {name} occurs {count} times")
    return tuple(columns)


def next_rows(rows: Iterator[tuple[Any, ...]], max_rows: int) -> list[tuple[Any, ...]]:
    """Return the next rows of a driver: at most `max_rows`, and fewer if their texts are large."""
    chunk: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        for value in row:
            if value.__class__ is str or value.__class__ is bytes:
                size += len(value)
            elif value.__class__ is Json:
                size += len(value.text)
            elif value.__class__ is list or value.__class__ is dict:
                size += _size(value)
        if len(chunk) == max_rows or size >= MAX_CHUNK_BYTES:
            break
    return chunk


def convert_columns(
    columns: Iterable[Sequence[Any]], readers: Sequence[Callable[[Any], Value] | None]
) -> list[Sequence[Value]]:
    """Convert the values of columns that are not null, each with its reader; None converts nothing."""
    return [
        values if convert is None else [None if value is None else convert(value) for value in values]
        for values, convert in zip(columns, readers, strict=True)
    ]


class QueryRows:
    """Implements `Rows` for the rows of a driver, which are tuples of values in the order of the columns.

    `read` returns an iterator of chunks. It is called once, by the first batch.
    """

    def __init__(
        self, columns: Sequence[Column], read: Callable[[], Iterator[Sequence[Row]]], limit: int | None
    ) -> None:
        self.columns = check_columns(columns)
        self._read = read
        self._left = limit
        self._chunks: Iterator[Sequence[Row]] | None = None

    def batches(self) -> Iterator[list[Row]]:
        if self._left == 0:
            return
        if self._chunks is None:
            self._chunks = self._read()
        large = [index for index, column in enumerate(self.columns) if is_large(column.type)]
        batch: list[Row] = []
        bytes_ = 0
        for part in self._parts(self._chunks, large):
            room = MAX_BATCH_ROWS - len(batch)
            batch += part[:room]
            bytes_ += _sizes(part, large)
            if len(batch) >= MAX_BATCH_ROWS or bytes_ >= MAX_BATCH_BYTES:
                yield batch
                batch, bytes_ = list(part[room:]), 0
        if batch:
            yield batch

    def _parts(self, chunks: Iterator[Sequence[Row]], large: Sequence[int]) -> Iterator[Sequence[Row]]:
        """Yield rows in parts that are small: single rows if they are large."""
        for chunk in chunks:
            rows = chunk if self._left is None else chunk[: self._left]
            for start in range(0, len(rows), _PART_ROWS):
                part = rows[start : start + _PART_ROWS]
                if _sizes(part, large) < _PART_BYTES:
                    yield part
                else:
                    yield from ([row] for row in part)
            if self._left is not None:
                self._left -= len(rows)
                if self._left == 0:
                    return


def _sizes(rows: Sequence[Row], large: Sequence[int]) -> int:
    """Return an estimate of the bytes of rows; `large` are the columns whose values can be large."""
    total = 0
    for index in large:
        for row in rows:
            value = row[index]
            total += len(value) if value.__class__ is str else _size(value)
    return total


def is_large(type_: Type | None) -> bool:
    """Return whether values of a type can have more than a thousand characters."""
    if isinstance(type_, StringType):
        limit = type_.max_length or type_.max_bytes
        return type_.values is None and (limit is None or limit > _SHORT_CHARACTERS)
    return isinstance(type_, JsonType | ArrayType | MapType | ObjectType)


def _size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Json):
        return len(value.text)
    if isinstance(value, list):
        return sum(_ITEM_BYTES + _size(each) for each in value)
    if isinstance(value, dict):
        return sum(_ITEM_BYTES + _size(key) + _size(each) for key, each in value.items())
    return 0
