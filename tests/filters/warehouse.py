"""Tables of a warehouse for the tests: the columns of a schema, and records as rows, as `sql/dialect.py` says."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from headwater.schemas import (
    MISSING,
    ArrayType,
    Codec,
    DateTime,
    DecimalType,
    FloatType,
    IntType,
    MapType,
    ObjectType,
    Property,
    Schema,
    Time,
    Type,
    column_of,
    decimal_text,
    value_at,
    walk_objects,
)

Database = Literal["sqlite", "postgresql"]

_EPOCH: Final = datetime(1970, 1, 1)
_SQLITE: Final = {"boolean": "INTEGER", "int": "INTEGER", "year": "INTEGER", "float": "REAL", "datetime": "INTEGER"}
_POSTGRESQL: Final = {
    "string": "varchar", "boolean": "boolean", "year": "smallint", "decimal": "numeric",
    "datetime": "timestamp", "date": "date", "time": "time", "uuid": "uuid", "ip": "inet",
}  # fmt: skip


def columns(schema: Schema) -> list[tuple[str, Type]]:
    """The paths that have a column, and their types."""
    return [(path, property.type) for path, property in walk_objects(schema) if property.type.kind != "object"]


def create_table(name: str, schema: Schema, database: Database) -> str:
    """The statement that makes the table."""
    type_of = _sqlite_type if database == "sqlite" else _postgresql_type
    made = ", ".join(f'"{column_of(path)}" {type_of(type)}' for path, type in columns(schema))
    return f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {made})"


def insert(name: str, schema: Schema, database: Database) -> str:
    """The statement that puts a row into the table."""
    count = len(columns(schema)) + 1
    marks = ["?"] * count if database == "sqlite" else [f"${index + 1}" for index in range(count)]
    return f"INSERT INTO {name} VALUES ({', '.join(marks)})"


def row(schema: Schema, record: dict[str, Any], database: Database) -> list[Any]:
    """The values of the columns."""
    convert = _to_sqlite if database == "sqlite" else _to_postgresql
    values = [(type, value_at(record, tuple(path.split(".")))) for path, type in columns(schema)]
    return [None if value is None or value is MISSING else convert(type, value) for type, value in values]


def _sqlite_type(type: Type) -> str:
    return "TEXT" if _is_digits(type) else _SQLITE.get(type.kind, "TEXT")


def _postgresql_type(type: Type) -> str:
    match type:
        case IntType(bit_size=size, unsigned=unsigned):
            needed = size + unsigned
            return (
                "smallint" if needed <= 16 else "integer" if needed <= 32 else "bigint" if needed <= 64 else "numeric"
            )
        case FloatType(bit_size=size):
            return "real" if size == 32 else "double precision"
        case ArrayType(element_type=element):
            return f"{_postgresql_type(element)}[]"
        case MapType():
            return "jsonb"
        case _:
            return _POSTGRESQL[type.kind]


def _is_digits(type: Type) -> bool:
    return isinstance(type, DecimalType) or (isinstance(type, IntType) and type.unsigned and type.bit_size == 64)


def _to_sqlite(type: Type, value: Any) -> Any:
    match value:
        case list() | dict():
            return _json(type, value)
        case DateTime():
            return value.nanoseconds // 1000
        case Time():
            return value.json_text
        case _ if _is_digits(type):
            return str(value) if isinstance(value, int) else decimal_text(value)
        case str() | int() | float():
            return value
        case _:
            return value.isoformat()


def _to_postgresql(type: Type, value: Any) -> Any:
    match value:
        case list() if isinstance(type, ArrayType):
            return [_to_postgresql(type.element_type, element) for element in value]
        case dict():
            return _json(type, value)
        case DateTime():
            return _EPOCH + timedelta(microseconds=value.nanoseconds // 1000)
        case Time():
            return (_EPOCH + timedelta(microseconds=value.nanoseconds // 1000)).time()
        case _:
            return value


def _json(type: Type, value: Any) -> str:
    text = Codec(ObjectType((Property("value", type),))).encode({"value": value}).decode()
    return text.removeprefix('{"value":').removesuffix("}")
