"""A column of every type, and a row with a value of each."""

from datetime import date
from decimal import Decimal

from headwater.connectors.contract import Column
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    Json,
    JsonType,
    MapType,
    ObjectType,
    Property,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    Value,
    YearType,
    to_float32,
)

_OBJECT = ObjectType((Property("b", DecimalType(5, 2)), Property("d", DateType()), Property("m", StringType())))
_VALUES: dict[str, tuple[Type, Value]] = {
    "string": (StringType(), 'a,"b"\n'),
    "boolean": (BooleanType(), True),
    "int": (IntType(64), -(2**63)),
    "unsigned": (IntType(64, unsigned=True), 2**64 - 1),
    "float": (FloatType(64), 0.1),
    "float32": (FloatType(32), to_float32(0.1)),
    "special": (FloatType(64), float("nan")),
    "decimal": (DecimalType(30, 10), Decimal("12345678901234567890.123")),
    "datetime": (DateTimeType(), DateTime.parse("2024-03-05T10:00:00.123456789Z")),
    "date": (DateType(), date(2024, 3, 5)),
    "time": (TimeType(), Time.parse("10:00:00.5")),
    "year": (YearType(), 2024),
    "uuid": (UuidType(), "5b35a3a1-5a54-4c1d-9f0e-2f6a5f6b7c8d"),
    "json": (JsonType(), Json('{"a":1.0}')),
    "ip": (IpType(), "192.0.2.1"),
    "array": (ArrayType(IntType(64)), [9007199254740993, 1]),
    "object": (_OBJECT, {"d": date(2024, 3, 5), "b": Decimal("1.5")}),
    "map": (MapType(IntType(8)), {"b": None, "a": 1}),
}

EVERY_TYPE = [Column(name=name, type=type) for name, (type, _) in _VALUES.items()]
FULL_ROW = tuple(value for _, value in _VALUES.values())
