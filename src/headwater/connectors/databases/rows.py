"""The result of a query: checked columns, and rows in batches that are bounded in rows and bytes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from headwater.connectors.contract import MAX_BATCH_ROWS, MAX_COLUMNS, Column, QueryRejected, Row
from headwater.schemas import ArrayType, JsonType, MapType, ObjectType, StringType, Type, Value
from headwater.schemas.json_value import Json

MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
"""Size of the texts of a batch from which on it is returned. One row may exceed it."""

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
        size = _sizes([column.type for column in self.columns])
        batch: list[Row] = []
        bytes_ = 0
        for row in self._rows(self._chunks):
            batch.append(row)
            if size is not None:
                bytes_ += size(row)
            if len(batch) >= MAX_BATCH_ROWS or bytes_ >= MAX_BATCH_BYTES:
                yield batch
                batch, bytes_ = [], 0
        if batch:
            yield batch

    def _rows(self, chunks: Iterator[Sequence[Row]]) -> Iterator[Row]:
        for chunk in chunks:
            if self._left is None:
                yield from chunk
                continue
            for row in chunk:
                yield row
                self._left -= 1
                if self._left == 0:
                    return


def _sizes(types: Iterable[Type | None]) -> Callable[[Row], int] | None:
    """Return a function that estimates the bytes of a row; None if all of its values are small."""
    large = [index for index, type_ in enumerate(types) if _is_large(type_)]
    if not large:
        return None
    return lambda row: sum(_size(row[index]) for index in large)


def _is_large(type_: Type | None) -> bool:
    if isinstance(type_, StringType):
        limit = type_.max_length or type_.max_bytes
        return type_.values is None and (limit is None or limit > _SHORT_CHARACTERS)
    return isinstance(type_, JsonType | ArrayType | MapType | ObjectType)


def _size(value: Value) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Json):
        return len(value.text)
    if isinstance(value, list):
        return sum(_ITEM_BYTES + _size(each) for each in value)
    if isinstance(value, dict):
        return sum(_ITEM_BYTES + len(key) + _size(each) for key, each in value.items())
    return 0
