"""Encoding, kind by kind: written texts, and rejected values."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from headwater.schemas import (
    JSON_NULL,
    DateTime,
    InvalidValue,
    Json,
    Time,
    to_float32,
)
from headwater.schemas import types as t
from tests.schemas.test_decoding import ENUM, MOMENT, UUID, codec


@pytest.mark.parametrize(
    ("type", "value", "text"),
    [
        (t.StringType(), 'a"é', '"a\\"é"'),
        (t.BooleanType(), False, "false"),
        (t.IntType(32), -5, "-5"),
        (t.IntType(64), -5, '"-5"'),
        (t.IntType(64, True), 2**64 - 1, '"18446744073709551615"'),
        (t.FloatType(64), 1.0, "1"),
        (t.FloatType(64), -0.0, "-0"),
        (t.FloatType(64), 1.5, "1.5"),
        (t.FloatType(64), 1e-5, "1e-05"),
        (t.FloatType(64), 1e20, "100000000000000000000"),
        (t.FloatType(64), 1e21, "1e+21"),
        (t.FloatType(64), math.nan, '"NaN"'),
        (t.FloatType(64), math.inf, '"Infinity"'),
        (t.FloatType(32), -math.inf, '"-Infinity"'),
        (t.FloatType(32), to_float32(0.1), "0.1"),
        (t.DecimalType(5, 2), Decimal("1.50"), "1.5"),
        (t.DecimalType(5, 2), Decimal("1E+2"), "100"),
        (t.DecimalType(5, 2), Decimal("-0.00"), "0"),
        (t.DateTimeType(), MOMENT, '"2024-03-05T10:00:00.500Z"'),
        (t.DateType(), date(1, 2, 3), '"0001-02-03"'),
        (t.TimeType(), Time.parse("10:00:00.25"), '"10:00:00.250"'),
        (t.YearType(), 2024, "2024"),
        (t.UuidType(), UUID, f'"{UUID}"'),
        (t.IpType(), "::ffff:1.2.3.4", '"::ffff:1.2.3.4"'),
        (t.JsonType(), Json('{"a":1.00,"a":2}'), '{"a":1.00,"a":2}'),
        (t.JsonType(), JSON_NULL, "null"),
        (t.ArrayType(t.IntType(64)), [1, 2], '["1","2"]'),
        (t.MapType(t.IntType(8)), {"b": 1, "a": 2, "": 3}, '{"":3,"a":2,"b":1}'),
        (
            t.ObjectType(
                (
                    t.Property("b", t.IntType(8)),
                    t.Property("a", t.IntType(8)),
                    t.Property("c", t.IntType(8), read_optional=True),
                )
            ),
            {"a": 1, "b": 2},
            '{"b":2,"a":1}',
        ),
    ],
)
def test_a_value_is_written_as(type: t.Type, value: Any, text: str) -> None:
    assert codec(type).encode({"v": value}).decode() == f'{{"v":{text}}}'


@pytest.mark.parametrize(
    ("type", "value", "path", "rule"),
    [
        (t.StringType(), 1, "v", "must be a str, not of class int"),
        (t.StringType(), None, "v", "must be a str, not null"),
        (t.StringType(), "\ud800", "v", "must not contain lone surrogates"),
        (ENUM, "x", "v", 'must be one of "s", "m", ""'),
        (t.BooleanType(), 1, "v", "must be a bool, not of class int"),
        (t.IntType(8), True, "v", "must be an int, not of class bool"),
        (t.IntType(8), 1.0, "v", "must be an int, not of class float"),
        (t.IntType(8), 128, "v", "must be an integer in the range -128 to 127"),
        (t.IntType(64), "1", "v", "must be an int, not of class str"),
        (t.FloatType(64), 1, "v", "must be a float, not of class int"),
        (t.FloatType(64, real=True), math.nan, "v", "must be a finite number"),
        (t.FloatType(32), 0.1, "v", "must be a float(32)"),
        (t.DecimalType(4, 2), 1, "v", "must be a Decimal, not of class int"),
        (t.DecimalType(4, 2), Decimal("NaN"), "v", "must be a decimal(4,2)"),
        (t.DecimalType(4, 2), Decimal("1.555"), "v", "must be a decimal(4,2)"),
        (t.DateTimeType(), datetime.now(UTC), "v", "must be a DateTime, not of class datetime"),
        (t.DateType(), datetime(2024, 1, 1), "v", "must be a date, not of class datetime"),
        (t.TimeType(), DateTime(0), "v", "must be a Time, not of class DateTime"),
        (t.YearType(), 10000, "v", "must be a year in the range 1 to 9999"),
        (t.UuidType(), UUID.upper(), "v", "must be a UUID in its canonical form"),
        (t.UuidType(), "x", "v", "must be a UUID in its canonical form"),
        (t.IpType(), "2001:0db8::1", "v", "must be an IP address in its canonical form"),
        (t.JsonType(), "x", "v", "must be a Json, not of class str"),
        (t.JsonType(), None, "v", "must be a Json, not null"),
        (t.JsonType(), Json("[" * 101 + "]" * 101), "v", "is nested deeper than 100 levels"),
        (t.ArrayType(t.IntType(8)), (1,), "v", "must be a list, not of class tuple"),
        (t.ArrayType(t.IntType(8)), [1, "x"], "v[1]", "must be an int, not of class str"),
        (t.ArrayType(t.IntType(8), 0, 1), [1, 2], "v", "must have 0 to 1 elements, and has 2"),
        (t.ArrayType(t.IntType(8), unique_elements=True), [1, 1], "v[1]", "is equal to an earlier element"),
        (t.MapType(t.IntType(8)), [], "v", "must be a dict, not of class list"),
        (t.MapType(t.IntType(8)), {1: 1}, "v", "must have keys of text, not of class int"),
        (t.MapType(t.IntType(8)), {"k": None}, 'v["k"]', "must be an int, not null"),
        (t.MapType(t.IntType(8)), {"\ud800": 1}, 'v["?"]', "must not contain lone surrogates"),
        (t.ObjectType((t.Property("x", t.IntType(8)),)), {}, "v.x", "is missing"),
        (t.ObjectType((t.Property("x", t.IntType(8)),)), {"x": 1, "y": 1}, "v.y", "does not exist in the schema"),
        (t.ObjectType((t.Property("x", t.IntType(8)),)), [], "v", "must be a dict, not of class list"),
    ],
)
def test_invalid_values(type: t.Type, value: Any, path: str, rule: str) -> None:
    for refuse in (codec(type).encode, codec(type).check, codec(type).document):
        with pytest.raises(InvalidValue) as caught:
            refuse({"v": value})
        assert (caught.value.path, caught.value.rule) == (path, rule)


def test_null() -> None:
    assert codec(t.IntType(8), nullable=True).encode({"v": None}) == b'{"v":null}'
    assert codec(t.JsonType(), nullable=True).encode({"v": None}) == b'{"v":null}'
    assert codec(t.IntType(8), read_optional=True).encode({}) == b"{}"
