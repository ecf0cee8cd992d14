"""Checks a batch of a table before it is written, and finds the rows that make it fail."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from headwater.base.errors import BadRequest
from headwater.connectors.contract import NOT_ATTEMPTED, ItemResult, Row, TableWrite, rejected
from headwater.schemas import Json, Value

MAX_REJECTED: Final = 50
"""Rows at fault that are searched for in one batch. The others are found when the rest is written again."""


class RowFailed(Exception):
    """A part of a batch is rejected. `result` is the one of its row, if it has only one."""

    def __init__(self, result: ItemResult) -> None:
        super().__init__(result.message)
        self.result = result


def check_rows(write: TableWrite, rows: Sequence[Row]) -> list[ItemResult] | None:
    """Return the results of a batch that must not be sent, or None.

    A key must be complete and occur once in the batch, and no text may contain NUL. Raises BadRequest if the key is not
    among the columns.
    """
    if not write.key or not set(write.key) <= set(write.columns):
        raise BadRequest("the columns must contain the key", field="tableKey")
    positions = [write.columns.index(name) for name in write.key]
    refused: dict[int, ItemResult] = {}
    seen = set[object]()
    for number, row in enumerate(rows):
        result = _check_row(row, positions, write, seen)
        if result is not None:
            refused[number] = result
    if not refused:
        return None
    return [refused.get(number, NOT_ATTEMPTED) for number in range(len(rows))]


def find_failing(count: int, write: Callable[[int, int], None]) -> list[ItemResult] | None:
    """Find the rows at fault by halving a batch that fails. `write(first, end)` writes a part and keeps it, or raises
    RowFailed and has no effect.

    Return the results of the batch; None if every part could be written. So a row that conflicts with an earlier one is
    the row at fault.
    """
    failed: dict[int, ItemResult] = {}
    parts = _halves(0, count) if count > 1 else [(0, count)]
    while parts and len(failed) < MAX_REJECTED:
        first, end = parts.pop()
        try:
            write(first, end)
        except RowFailed as error:
            if end - first == 1:
                failed[first] = error.result
            else:
                parts += _halves(first, end)
    if not failed:
        return None
    return [failed.get(number, NOT_ATTEMPTED) for number in range(count)]


def _halves(first: int, end: int) -> list[tuple[int, int]]:
    """Return the halves of a part, the first one last."""
    middle = (first + end) // 2
    return [(middle, end), (first, middle)]


def json_text(value: Value) -> str:
    """Return a value as JSON text."""
    return value.text if isinstance(value, Json) else json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Value) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Json):
        return json.loads(value.text)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _check_row(row: Row, positions: Sequence[int], write: TableWrite, seen: set[object]) -> ItemResult | None:
    if len(row) != len(write.columns):
        raise BadRequest("a row does not have a value for each column")
    key = tuple(row[position] for position in positions)
    if None in key:
        return rejected("NullKey", f"column {write.key[key.index(None)]} is part of the key and must not be null")
    identity = tuple(str(part) if isinstance(part, list | dict) else part for part in key)
    if identity in seen:
        return rejected("DuplicateKey", "another row of the batch has the same key")
    seen.add(identity)
    for name, value in zip(write.columns, row, strict=True):
        if _has_nul(value):
            return rejected("InvalidValue", f"column {name} has a text with the NUL character or a lone surrogate")
    return None


def _has_nul(value: Value) -> bool:
    if isinstance(value, str):
        return (not value.isascii() and _has_surrogate(value)) or "\0" in value
    if isinstance(value, list):
        return any(map(_has_nul, value))
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(each) for key, each in value.items())
    return False


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
