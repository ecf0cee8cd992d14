"""Encoding, kind by kind: written texts, and rejected values."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from headwater.schemas import (
    JSON_NULL,
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    InvalidValue,
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
    YearType,
    to_float32,
)
from tests.schemas.test_decoding import ENUM, MOMENT, UUID, codec


@pytest.mark.parametrize(
    ("type", "value", "text"),
    [
        (StringType(), 'a"é', '"a\\"é"'),
        (BooleanType(), False, "false"),
        (IntType(32), -5, "-5"),
        (IntType(64), -5, '"-5"'),
        (IntType(64, True), 2**64 - 1, '"18446744073709551615"'),
        (FloatType(64), 1.0, "1"),
        (FloatType(64), -0.0, "-0"),
        (FloatType(64), 1.5, "1.5"),
        (FloatType(64), 1e-5, "1e-05"),
        (FloatType(64), 1e20, "100000000000000000000"),
        (FloatType(64), 1e21, "1e+21"),
        (FloatType(64), math.nan, '"NaN"'),
        (FloatType(64), math.inf, '"Infinity"'),
        (FloatType(32), -math.inf, '"-Infinity"'),
        (FloatType(32), to_float32(0.1), "0.1"),
        (DecimalType(5, 2), Decimal("1.50"), "1.5"),
        (DecimalType(5, 2), Decimal("1E+2"), "100"),
        (DecimalType(5, 2), Decimal("-0.00"), "0"),
        (DateTimeType(), MOMENT, '"2024-03-05T10:00:00.500Z"'),
        (DateType(), date(1, 2, 3), '"0001-02-03"'),
        (TimeType(), Time.parse("10:00:00.25"), '"10:00:00.250"'),
        (YearType(), 2024, "2024"),
        (UuidType(), UUID, f'"{UUID}"'),
        (IpType(), "::ffff:1.2.3.4", '"::ffff:1.2.3.4"'),
        (JsonType(), Json('{"a":1.00,"a":2}'), '{"a":1.00,"a":2}'),
        (JsonType(), JSON_NULL, "null"),
        (ArrayType(IntType(64)), [1, 2], '["1","2"]'),
        (MapType(IntType(8)), {"b": 1, "a": 2, "": 3}, '{"":3,"a":2,"b":1}'),
        (
            ObjectType(
                (Property("b", IntType(8)), Property("a", IntType(8)), Property("c", IntType(8), read_optional=True))
            ),
            {"a": 1, "b": 2},
            '{"b":2,"a":1}',
        ),
    ],
)
def test_a_value_is_written_as(type: Type, value: Any, text: str) -> None:
    assert codec(type).encode({"v": value}).decode() == f'{{"v":{text}}}'


@pytest.mark.parametrize(
    ("type", "value", "path", "rule"),
    [
        (StringType(), 1, "v", "must be a str, not of class int"),
        (StringType(), None, "v", "must be a str, not null"),
        (StringType(), "\ud800", "v", "must not contain lone surrogates"),
        (ENUM, "x", "v", 'must be one of "s", "m", ""'),
        (BooleanType(), 1, "v", "must be a bool, not of class int"),
        (IntType(8), True, "v", "must be an int, not of class bool"),
        (IntType(8), 1.0, "v", "must be an int, not of class float"),
        (IntType(8), 128, "v", "must be an integer in the range -128 to 127"),
        (IntType(64), "1", "v", "must be an int, not of class str"),
        (FloatType(64), 1, "v", "must be a float, not of class int"),
        (FloatType(64, real=True), math.nan, "v", "must be a finite number"),
        (FloatType(32), 0.1, "v", "must be a float(32)"),
        (DecimalType(4, 2), 1, "v", "must be a Decimal, not of class int"),
        (DecimalType(4, 2), Decimal("NaN"), "v", "must be a decimal(4,2)"),
        (DecimalType(4, 2), Decimal("1.555"), "v", "must be a decimal(4,2)"),
        (DateTimeType(), datetime.now(UTC), "v", "must be a DateTime, not of class datetime"),
        (DateType(), datetime(2024, 1, 1), "v", "must be a date, not of class datetime"),
        (TimeType(), DateTime(0), "v", "must be a Time, not of class DateTime"),
        (YearType(), 10000, "v", "must be a year in the range 1 to 9999"),
        (UuidType(), UUID.upper(), "v", "must be a UUID in its canonical form"),
        (UuidType(), "x", "v", "must be a UUID in its canonical form"),
        (IpType(), "2001:0db8::1", "v", "must be an IP address in its canonical form"),
        (JsonType(), "x", "v", "must be a Json, not of class str"),
        (JsonType(), None, "v", "must be a Json, not null"),
        (JsonType(), Json("[" * 101 + "]" * 101), "v", "is nested deeper than 100 levels"),
        (ArrayType(IntType(8)), (1,), "v", "must be a list, not of class tuple"),
        (ArrayType(IntType(8)), [1, "x"], "v[1]", "must be an int, not of class str"),
        (ArrayType(IntType(8), 0, 1), [1, 2], "v", "must have 0 to 1 elements, and has 2"),
        (ArrayType(IntType(8), unique_elements=True), [1, 1], "v[1]", "is equal to an earlier element"),
        (MapType(IntType(8)), [], "v", "must be a dict, not of class list"),
        (MapType(IntType(8)), {1: 1}, "v", "must have keys of text, not of class int"),
        (MapType(IntType(8)), {"k": None}, 'v["k"]', "must be an int, not null"),
        (MapType(IntType(8)), {"\ud800": 1}, 'v["?"]', "must not contain lone surrogates"),
        (ObjectType((Property("x", IntType(8)),)), {}, "v.x", "is missing"),
        (ObjectType((Property("x", IntType(8)),)), {"x": 1, "y": 1}, "v.y", "does not exist in the schema"),
        (ObjectType((Property("x", IntType(8)),)), [], "v", "must be a dict, not of class list"),
    ],
)
def test_what_does_not_conform(type: Type, value: Any, path: str, rule: str) -> None:
    for refuse in (codec(type).encode, codec(type).check, codec(type).document):
        with pytest.raises(InvalidValue) as caught:
            refuse({"v": value})
        assert (caught.value.path, caught.value.rule) == (path, rule)


def test_null() -> None:
    assert codec(IntType(8), nullable=True).encode({"v": None}) == b'{"v":null}'
    assert codec(JsonType(), nullable=True).encode({"v": None}) == b'{"v":null}'
    assert codec(IntType(8), read_optional=True).encode({}) == b"{}"
