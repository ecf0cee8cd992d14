"""Shared data of the tables: one schema with every kind, a record, and evaluation."""

from datetime import date
from decimal import Decimal
from typing import Any

from headwater.schemas import (
    DateTime,
    Json,
    Record,
    Time,
)
from headwater.schemas import types as t
from headwater.transforms.mapping import CompiledMapping

TEXT = t.StringType()
JSON = t.JsonType()
INT32 = t.IntType(32)
ADDRESS = t.ObjectType(
    (
        t.Property("street", TEXT),
        t.Property("zip", TEXT, nullable=True),
        t.Property("geo", t.ObjectType((t.Property("lat", t.FloatType(64)), t.Property("lon", t.FloatType(64))))),
    )
)
SCHEMA = t.ObjectType(
    (
        t.Property("first", TEXT),
        t.Property("empty", TEXT),
        t.Property("plan", t.StringType(values=("free", "pro"))),
        t.Property("vip", t.BooleanType()),
        t.Property("n", INT32),
        t.Property("tiny", t.IntType(8)),
        t.Property("big", t.IntType(64)),
        t.Property("score", t.FloatType(64)),
        t.Property("small", t.FloatType(32)),
        t.Property("price", t.DecimalType(10, 2)),
        t.Property("at", t.DateTimeType()),
        t.Property("day", t.DateType()),
        t.Property("clock", t.TimeType()),
        t.Property("born", t.YearType()),
        t.Property("id", t.UuidType()),
        t.Property("ip", t.IpType()),
        t.Property("doc", JSON),
        t.Property("null", JSON),
        t.Property("tags", t.ArrayType(TEXT)),
        t.Property("counts", t.ArrayType(INT32)),
        t.Property("address", ADDRESS),
        t.Property("prefs", t.MapType(INT32)),
        t.Property("places", t.MapType(ADDRESS)),
        t.Property("gone", TEXT, read_optional=True),
        t.Property("unknown", TEXT, nullable=True),
        t.Property("missing", ADDRESS, read_optional=True),
        t.Property("maybe", t.BooleanType(), nullable=True),
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


def evaluate(expression: str, type: t.Type = JSON, record: Record = RECORD) -> Any:
    """Return the result of the expression for the record, converted to the type; None if it is null."""
    out = t.ObjectType((t.Property("x", type, nullable=True),))
    return CompiledMapping({"x": expression}, SCHEMA, out).apply(record)["x"]
