"""The names of native types in messages to authors of functions."""

from headwater.schemas import types as t


def javascript_name(type: t.Type, preserve_json: bool) -> str:
    """Return the JavaScript name of the type of values."""
    match type:
        case t.BooleanType():
            return "boolean"
        case t.IntType(bit_size=64):
            return "bigint"
        case t.IntType() | t.YearType() | t.FloatType():
            return "number"
        case t.ArrayType():
            return f"array of {javascript_name(type.element_type, preserve_json)}"
        case t.ObjectType() | t.MapType():
            return "object"
        case t.JsonType() if not preserve_json:
            return "any"
        case _:
            return "string"


def python_name(type: t.Type, preserve_json: bool) -> str:
    """Return the Python name of the type of values."""
    match type:
        case t.BooleanType():
            return "bool"
        case t.IntType() | t.YearType():
            return "int"
        case t.FloatType():
            return "float"
        case t.DecimalType():
            return "decimal.Decimal"
        case t.DateTimeType():
            return "datetime.datetime"
        case t.DateType():
            return "datetime.date"
        case t.TimeType():
            return "datetime.time"
        case t.ArrayType():
            return f"list of {python_name(type.element_type, preserve_json)}"
        case t.ObjectType() | t.MapType():
            return "dict"
        case t.JsonType() if not preserve_json:
            return "any"
        case _:
            return "str"
