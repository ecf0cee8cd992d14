"""Conditions for SQLite 3.38 or later."""

import json
from datetime import date
from decimal import Decimal
from typing import Final

from headwater.filters.literals import JsonLiteral, Scalar
from headwater.filters.sql.dialect import FALSE, MAX_INT64, Dialect, Parameters, Symbol, to_microseconds
from headwater.schemas import (
    ArrayType,
    Codec,
    DateTime,
    DecimalType,
    FloatType,
    IntType,
    InvalidValue,
    ObjectType,
    Property,
    StringType,
    Time,
    Type,
    decimal_text,
)

_NAME: Final = "element"
_MANY: Final = 100
"""From how many values on they are one parameter."""


class _Sqlite(Dialect):
    def compare(self, column: str, symbol: Symbol, type: Type, value: Scalar, parameters: Parameters) -> str:
        if _is_digits(type) and symbol != "=":
            return _compare_digits(column, symbol, _digits(value), parameters)
        if isinstance(value, DateTime):
            comparison = to_microseconds(symbol, value)
            if comparison is None:
                return FALSE
            symbol, stored = comparison
            return f"{column} {symbol} {parameters.add(stored)}"
        return f"{column} {symbol} {parameters.add(_stored(type, value))}"

    def one_of(self, column: str, type: Type, values: tuple[Scalar, ...], parameters: Parameters) -> str:
        stored = [held for held in (_stored(type, value) for value in values) if held is not None]
        if len(stored) > _MANY and not isinstance(type, FloatType):  # which SQLite reads inexactly out of JSON
            array = parameters.add(json.dumps(stored, ensure_ascii=False))
            return f"{column} IN (SELECT value FROM json_each({array}))"
        names = [parameters.add(value) for value in stored]
        return f"{column} IN ({', '.join(names)})"  # which may be none of them: SQLite has the empty list

    def text_contains(self, column: str, text: str, parameters: Parameters) -> str:
        return f"instr({column}, {parameters.add(text)}) > 0"

    def starts_with(self, column: str, text: str, parameters: Parameters) -> str:
        return f"substr({column}, 1, {len(text)}) = {parameters.add(text)}"

    def ends_with(self, column: str, text: str, parameters: Parameters) -> str:
        return f"substr({column}, -{len(text)}) = {parameters.add(text)}"

    def array_contains(self, column: str, type: ArrayType, value: Scalar, parameters: Parameters) -> str:
        element = type.element_type
        if isinstance(element, StringType):
            return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value = {parameters.add(value)})"
        text = _element_text(element, value)
        if text is None:
            return FALSE
        # The elements of every other kind are written without a comma in them, and equal ones alike: looking for the
        # text is exact, while the numbers that SQLite reads out of JSON are not.
        texts = (text, f"-{text}") if isinstance(element, FloatType) and value == 0 else (text,)
        elements = f"',' || substr({column}, 2, length({column}) - 2) || ','"
        return " OR ".join(f"instr({elements}, {parameters.add(f',{each},')}) > 0" for each in texts)

    def is_empty(self, column: str, type: Type) -> str:
        empty = {"array": "[]", "map": "{}"}.get(type.kind, "")
        return f"{column} = '{empty}'"


SQLITE: Final[Dialect] = _Sqlite()


def _stored(type: Type, value: Scalar) -> str | int | float | None:
    """The value as a column of the type holds it; None when it cannot be in one."""
    if _is_digits(type):
        return _digits(value)
    match value:
        case DateTime():
            comparison = to_microseconds("=", value)
            return None if comparison is None else comparison[1]
        case Time():
            return value.json_text
        case date():
            return value.isoformat()
        case int() if value > MAX_INT64:  # no parameter can be, and no column: a float is as far above all of them
            return float(value)
        case str() | int() | float():
            return value
        case _:
            raise AssertionError(value)


def _is_digits(type: Type) -> bool:
    """Whether the column holds digits as text."""
    return isinstance(type, DecimalType) or (isinstance(type, IntType) and type.unsigned and type.bit_size == 64)


def _digits(value: Scalar) -> str:
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


def _compare_digits(column: str, symbol: Symbol, text: str, parameters: Parameters) -> str:
    """Numbers as text: of two positive ones the one with more digits before the point is greater; if they have as many,
    the one whose text is. For negative ones it is the other way around."""
    negative = text.startswith("-")
    digits = text.removeprefix("-")
    whole = len(digits.partition(".")[0])
    is_negative = f"substr({column}, 1, 1) = '-'"
    number = f"ltrim({column}, '-')"
    length = f"instr({number} || '.', '.') - 1"
    inner = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}[symbol] if negative else symbol
    same_sign = (
        f"CASE WHEN {length} = {whole} THEN {number} {inner} {parameters.add(digits)} "
        f"ELSE {length} {inner[0]} {whole} END"
    )
    below = symbol[0] == "<"
    if negative:
        return f"CASE WHEN {is_negative} THEN {same_sign} WHEN {column} IS NOT NULL THEN {0 if below else 1} END"
    return f"CASE WHEN {is_negative} THEN {1 if below else 0} ELSE {same_sign} END"


def _element_text(type: Type, value: Scalar) -> str | None:
    """The value as the codec writes it among the elements of an array; None when it cannot be one."""
    assert not isinstance(value, JsonLiteral)  # which is never looked for in SQL
    codec = Codec(ObjectType((Property(_NAME, type),)))
    try:
        member = codec.encode({_NAME: value}).decode()
    except InvalidValue:
        return None
    return member.removeprefix(f'{{"{_NAME}":').removesuffix("}")
