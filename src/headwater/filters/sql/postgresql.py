"""Conditions for PostgreSQL. Parameters are Python values as asyncpg takes them, each cast to its type.

Texts are ordered by code point whatever the collation of the database, and NaN is in no order, as in Python.
"""

from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from headwater.filters.literals import Scalar
from headwater.filters.sql.dialect import FALSE, MAX_INT64, Dialect, Parameters, Symbol, to_microseconds
from headwater.schemas import ArrayType, DateTime, FloatType, IntType, Time, Type

_EPOCH: Final = datetime(1970, 1, 1)
_TYPES: Final = {
    "string": "text",
    "int": "bigint",
    "year": "bigint",
    "float": "double precision",
    "decimal": "numeric",
    "datetime": "timestamp",
    "date": "date",
    "time": "time",
    "uuid": "uuid",
    "ip": "inet",
}


class _Postgresql(Dialect):
    def compare(self, column: str, symbol: Symbol, type: Type, value: Scalar, parameters: Parameters) -> str:
        stored: Any = value
        if isinstance(value, DateTime | Time):
            comparison = to_microseconds(symbol, value)
            if comparison is None:
                return FALSE
            symbol, microseconds = comparison
            stored = _moment(value, microseconds)
        elif isinstance(value, int) and value > MAX_INT64:
            stored = Decimal(value)
        compared = f"{column} {symbol} CAST({parameters.add(stored)} AS {_type(type, [stored])})"
        if type.kind == "string" and symbol != "=":
            return f'{column} COLLATE "C" {compared.removeprefix(column).lstrip()}'
        if isinstance(type, FloatType) and not type.real and symbol in (">", ">="):
            return f"{compared} AND {column} < CAST('NaN' AS double precision)"  # above which there is nothing else
        return compared

    def one_of(self, column: str, type: Type, values: tuple[Scalar, ...], parameters: Parameters) -> str:
        stored: list[Any] = []
        for value in values:
            if isinstance(value, DateTime | Time):
                comparison = to_microseconds("=", value)
                if comparison is not None:
                    stored.append(_moment(value, comparison[1]))
            else:
                stored.append(value)
        name = _type(type, stored)
        if name == "numeric":
            stored = [Decimal(value) for value in stored]
        return f"{column} = ANY(CAST({parameters.add(stored)} AS {name}[]))"

    def text_contains(self, column: str, text: str, parameters: Parameters) -> str:
        return f"position(CAST({parameters.add(text)} AS text) IN {column}) > 0"

    def starts_with(self, column: str, text: str, parameters: Parameters) -> str:
        return f"left({column}, {len(text)}) = CAST({parameters.add(text)} AS text)"

    def ends_with(self, column: str, text: str, parameters: Parameters) -> str:
        return f"right({column}, {len(text)}) = CAST({parameters.add(text)} AS text)"

    def array_contains(self, column: str, type: ArrayType, value: Scalar, parameters: Parameters) -> str:
        stored: Any = value
        if isinstance(value, DateTime | Time):
            comparison = to_microseconds("=", value)
            if comparison is None:
                return FALSE
            stored = _moment(value, comparison[1])
        elif isinstance(value, int) and value > MAX_INT64:
            stored = Decimal(value)
        name = _type(type.element_type, [stored])
        return f"CAST({parameters.add(stored)} AS {name}) = ANY({column})"

    def is_empty(self, column: str, type: Type) -> str:
        match type.kind:
            case "array":
                return f"cardinality({column}) = 0"
            case "map":
                return f"{column} = CAST('{{}}' AS jsonb)"
            case _:
                return f"{column} = ''"


POSTGRESQL: Final[Dialect] = _Postgresql()


def _type(type: Type, values: list[Any]) -> str:
    """The type to cast values to, for comparing them with a column of the type."""
    if isinstance(type, IntType) and any(isinstance(value, Decimal) or value > MAX_INT64 for value in values):
        return "numeric"
    return _TYPES[type.kind]


def _moment(value: DateTime | Time, microseconds: int) -> datetime | time:
    """The moment, to the microsecond, without a zone."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment if isinstance(value, DateTime) else moment.time()
