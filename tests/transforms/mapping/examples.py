"""Shared data of the tables: one schema with every kind, a record, and evaluation."""

from datetime import date
from decimal import Decimal
from typing import Any

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
    Record,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    YearType,
)
from headwater.transforms.mapping import CompiledMapping

TEXT = StringType()
JSON = JsonType()
INT32 = IntType(32)
ADDRESS = ObjectType(
    (
        Property("street", TEXT),
        Property("zip", TEXT, nullable=True),
        Property("geo", ObjectType((Property("lat", FloatType(64)), Property("lon", FloatType(64))))),
    )
)
SCHEMA = ObjectType(
    (
        Property("first", TEXT),
        Property("empty", TEXT),
        Property("plan", StringType(values=("free", "pro"))),
        Property("vip", BooleanType()),
        Property("n", INT32),
        Property("tiny", IntType(8)),
        Property("big", IntType(64)),
        Property("score", FloatType(64)),
        Property("small", FloatType(32)),
        Property("price", DecimalType(10, 2)),
        Property("at", DateTimeType()),
        Property("day", DateType()),
        Property("clock", TimeType()),
        Property("born", YearType()),
        Property("id", UuidType()),
        Property("ip", IpType()),
        Property("doc", JSON),
        Property("null", JSON),
        Property("tags", ArrayType(TEXT)),
        Property("counts", ArrayType(INT32)),
        Property("address", ADDRESS),
        Property("prefs", MapType(INT32)),
        Property("places", MapType(ADDRESS)),
        Property("gone", TEXT, read_optional=True),
        Property("unknown", TEXT, nullable=True),
        Property("missing", ADDRESS, read_optional=True),
        Property("maybe", BooleanType(), nullable=True),
    )
)
RECORD: Record = {
    "first": "Ada",
    "empty": "",
    "plan": "pro",
    "vip": True,
    "n": 3,
    "tiny": 1,
    "big": 9_007_199_254_740_993,
    "score": 767.5,
    "small": 0.10000000149011612,
    "price": Decimal("12.5"),
    "at": DateTime.parse("2024-03-05T10:00:00.5Z"),
    "day": date(2024, 1, 2),
    "clock": Time.parse("10:20:30.25"),
    "born": 1815,
    "id": "7f3a1c52-9f3d-4c1b-8d2e-0a1b2c3d4e5f",
    "ip": "10.0.0.1",
    "doc": Json('{"a":5,"b":{"c":null},"s":"Text","l":[1,"x"],"t":true,"n":1.50,"":{"k k":7}}'),
    "null": Json("null"),
    "tags": ["vip", "new"],
    "counts": [1, 2, 3],
    "address": {"street": "Via Roma", "zip": None, "geo": {"lat": 45.5, "lon": 9.0}},
    "prefs": {"b": 2, "a": 1, "k k": 3},
    "places": {"home": {"street": "Here", "zip": "1", "geo": {"lat": 1.0, "lon": 2.0}}},
    "unknown": None,
    "maybe": None,
}


def evaluate(expression: str, type: Type = JSON, record: Record = RECORD) -> Any:
    """Return the result of the expression for the record, converted to the type; None if it is null."""
    out = ObjectType((Property("x", type, nullable=True),))
    return CompiledMapping({"x": expression}, SCHEMA, out).apply(record)["x"]
