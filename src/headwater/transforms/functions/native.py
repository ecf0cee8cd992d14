"""The names of native types in messages to authors of functions."""

from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    JsonType,
    MapType,
    ObjectType,
    TimeType,
    Type,
    YearType,
)


def javascript_name(type: Type, preserve_json: bool) -> str:
    """Return the JavaScript name of the type of values."""
    match type:
        case BooleanType():
            return "boolean"
        case IntType(bit_size=64):
            return "bigint"
        case IntType() | YearType() | FloatType():
            return "number"
        case ArrayType():
            return f"array of {javascript_name(type.element_type, preserve_json)}"
        case ObjectType() | MapType():
            return "object"
        case JsonType() if not preserve_json:
            return "any"
        case _:
            return "string"


def python_name(type: Type, preserve_json: bool) -> str:
    """Return the Python name of the type of values."""
    match type:
        case BooleanType():
            return "bool"
        case IntType() | YearType():
            return "int"
        case FloatType():
            return "float"
        case DecimalType():
            return "decimal.Decimal"
        case DateTimeType():
            return "datetime.datetime"
        case DateType():
            return "datetime.date"
        case TimeType():
            return "datetime.time"
        case ArrayType():
            return f"list of {python_name(type.element_type, preserve_json)}"
        case ObjectType() | MapType():
            return "dict"
        case JsonType() if not preserve_json:
            return "any"
        case _:
            return "str"
