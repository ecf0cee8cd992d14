"""Decoding, kind by kind: accepted texts, and errors for others."""

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from headwater.schemas import (
    JSON_NULL,
    Codec,
    DateTime,
    InvalidValue,
    Json,
    Time,
    to_float32,
)
from headwater.schemas import types as t
from tests.schemas.strategies import same

UUID = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
ENUM = t.StringType(values=("s", "m", ""))
MOMENT = DateTime.parse("2024-03-05T10:00:00.5Z")


def codec(type: t.Type, *, nullable: bool = False, read_optional: bool = False) -> Codec:
    return Codec(t.ObjectType((t.Property("v", type, nullable=nullable, read_optional=read_optional),)))


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (t.StringType(), '"a\\u0000\\ud83d\\ude00"', "a\0😀"),
        (t.StringType(max_length=2), '"😀é"', "😀é"),
        (t.StringType(max_bytes=4), '"😀"', "😀"),
        (t.StringType(pattern="b+"), '"abc"', "abc"),
        (ENUM, '""', ""),
        (t.BooleanType(), "true", True),
        (t.IntType(8), "-128", -128),
        (t.IntType(32, True), "4294967295", 4294967295),
        (t.IntType(32), "-0", 0),
        (t.IntType(64), '"-9223372036854775808"', -(2**63)),
        (t.IntType(64, True), '"18446744073709551615"', 2**64 - 1),
        (t.FloatType(64), "1", 1.0),
        (t.FloatType(64), "-0.0", -0.0),
        (t.FloatType(64), "-0", -0.0),
        (t.FloatType(64), "1e-400", 0.0),
        (t.FloatType(64), '"NaN"', math.nan),
        (t.FloatType(32), '"-Infinity"', -math.inf),
        (t.FloatType(32), "0.1", to_float32(0.1)),
        (t.FloatType(32, maximum=0.1), "0.1", to_float32(0.1)),
        (t.FloatType(64, maximum=1.0), '"-Infinity"', -math.inf),
        (t.DecimalType(76, 37), "1" * 39 + "." + "2" * 37, Decimal("1" * 39 + "." + "2" * 37)),
        (t.DecimalType(4, 2), "12.340", Decimal("12.34")),
        (t.DecimalType(4, 2), "1e1", Decimal(10)),
        (t.DateTimeType(), '"2024-03-05T10:00:00.5Z"', MOMENT),
        (t.DateTimeType(), '"2024-03-05T11:00:00.5+01:00"', MOMENT),
        (t.DateType(), '"2024-02-29"', date(2024, 2, 29)),
        (t.TimeType(), '"10:00:00.000000001"', Time(36_000 * 10**9 + 1)),
        (t.YearType(), "9999", 9999),
        (t.UuidType(), f'"{UUID.upper()}"', UUID),
        (t.IpType(), '"2001:0db8::0001"', "2001:db8::1"),
        (t.JsonType(), ' { "a" : 1.00 }', Json('{"a":1.00}')),
        (t.JsonType(), "null", JSON_NULL),
        (t.ArrayType(t.IntType(8)), "[1, 2,1]", [1, 2, 1]),
        (t.ArrayType(t.StringType(), 2, 2, True), '["a","b"]', ["a", "b"]),
        (t.ArrayType(t.JsonType()), "[null]", [JSON_NULL]),
        (t.ArrayType(t.StringType(), 0, 0), "[]", []),
        (t.MapType(t.IntType(8)), '{"":1,"a.b":2}', {"": 1, "a.b": 2}),
        (t.ObjectType((t.Property("x", t.IntType(8), read_optional=True),)), "{}", {}),
    ],
)
def test_a_value_is_read_as(type: t.Type, text: str, value: Any) -> None:
    record = codec(type).decode(f'{{"v":{text}}}')
    assert same(record["v"], value)


@pytest.mark.parametrize(
    ("type", "text", "path", "rule"),
    [
        (t.StringType(), "1", "v", "must be a string, not 1"),
        (t.StringType(), "null", "v", "must be a string, not null"),
        (t.StringType(max_length=2), '"abc"', "v", 'must have at most 2 characters, not "abc"'),
        (t.StringType(max_bytes=3), '"😀"', "v", 'must have at most 3 bytes of UTF-8, not "😀"'),
        (t.StringType(max_length=1, pattern="b"), '"a"', "v", 'must match the pattern b, not "a"'),
        (ENUM, '"x"', "v", 'must be one of "s", "m", "", not "x"'),
        (t.BooleanType(), '"true"', "v", 'must be a boolean, not "true"'),
        (t.BooleanType(), "1", "v", "must be a boolean, not 1"),
        (t.IntType(8), "128", "v", "must be an integer in the range -128 to 127, not 128"),
        (t.IntType(8, minimum=3), "2", "v", "must be an integer in the range 3 to 127, not 2"),
        (t.IntType(8), "1.0", "v", "must be an integer, not 1.0"),
        (t.IntType(8), "1e1", "v", "must be an integer, not 1e1"),
        (t.IntType(8), '"1"', "v", 'must be an integer, not "1"'),
        (t.IntType(8), "true", "v", "must be an integer, not true"),
        (t.IntType(8), "9" * 9999, "v", "must be an integer, not " + "9" * 60 + "…"),
        (t.IntType(64), "1", "v", "must be a string of the digits of an integer, not 1"),
        (t.IntType(64), '"1.0"', "v", 'must be a string of the digits of an integer, not "1.0"'),
        (t.IntType(64), '"007"', "v", 'must be a string of the digits of an integer, not "007"'),
        (t.IntType(64), '"+7"', "v", 'must be a string of the digits of an integer, not "+7"'),
        (t.IntType(64), '"-0"', "v", 'must be a string of the digits of an integer, not "-0"'),
        (t.IntType(64), '"\u0661"', "v", 'must be a string of the digits of an integer, not "\u0661"'),
        (
            t.IntType(64),
            '"9223372036854775808"',
            "v",
            'must be an integer in the range -9223372036854775808 to 9223372036854775807, not "9223372036854775808"',
        ),
        (t.FloatType(64), "true", "v", "must be a float(64), not true"),
        (t.FloatType(64), "null", "v", "must be a float(64), not null"),
        (t.FloatType(64), '"1"', "v", 'must be a float(64), not "1"'),
        (t.FloatType(64), '"nan"', "v", 'must be a float(64), not "nan"'),
        (t.FloatType(64), "1e400", "v", "must be a float(64), not 1e400"),
        (t.FloatType(32), "1e39", "v", "must be a float(32), not 1e39"),
        (t.FloatType(64, real=True), '"NaN"', "v", 'must be a finite number, not "NaN"'),
        (t.FloatType(64, real=True), '"Infinity"', "v", 'must be a finite number, not "Infinity"'),
        (t.FloatType(64, minimum=0.5), "0.25", "v", "must be at least 0.5, not 0.25"),
        (t.FloatType(64, minimum=0.5, maximum=1.0), '"NaN"', "v", 'must be at least 0.5 and at most 1, not "NaN"'),
        (t.DecimalType(4, 2), '"1.5"', "v", 'must be a decimal(4,2), not "1.5"'),
        (t.DecimalType(4, 2), "1.555", "v", "must be a decimal(4,2), not 1.555"),
        (t.DecimalType(4, 2), "100", "v", "must be a decimal(4,2), not 100"),
        (t.DecimalType(4, 2), "1e999999999", "v", "must be a decimal(4,2), not 1e999999999"),
        (t.DecimalType(4, 2), "true", "v", "must be a decimal(4,2), not true"),
        (t.DecimalType(4, 2, Decimal(1)), "0.99", "v", "must be in the range 1 to 99.99, not 0.99"),
        (
            t.DateTimeType(),
            '"2024-03-05"',
            "v",
            'must be a date and time of RFC 3339, in the years 1 to 9999, not "2024-03-05"',
        ),
        (
            t.DateTimeType(),
            "1709632800",
            "v",
            "must be a date and time of RFC 3339, in the years 1 to 9999, not 1709632800",
        ),
        (t.DateType(), '"20240305"', "v", 'must be a date as YYYY-MM-DD, not "20240305"'),
        (t.DateType(), '"2023-02-29"', "v", 'must be a date as YYYY-MM-DD, not "2023-02-29"'),
        (t.DateType(), '"0000-01-01"', "v", 'must be a date as YYYY-MM-DD, not "0000-01-01"'),
        (t.TimeType(), '"10:00"', "v", 'must be a time of day as hh:mm:ss[.fraction], not "10:00"'),
        (t.YearType(), "0", "v", "must be a year in the range 1 to 9999, not 0"),
        (t.YearType(), '"2024"', "v", 'must be an integer, not "2024"'),
        (t.UuidType(), f'"{UUID[:-1]}"', "v", f'must be a UUID, not "{UUID[:-1]}"'),
        (t.IpType(), '"10.0.0.1/8"', "v", 'must be an IP address, not "10.0.0.1/8"'),
        (t.ArrayType(t.IntType(8)), "{}", "v", "must be an array, not {}"),
        (t.ArrayType(t.IntType(8)), "[1,2,300]", "v[2]", "must be an integer in the range -128 to 127, not 300"),
        (t.ArrayType(t.IntType(8)), "[null]", "v[0]", "must be an integer, not null"),
        (t.ArrayType(t.IntType(8), 2, 3), "[1]", "v", "must have 2 to 3 elements, and has 1"),
        (t.ArrayType(t.IntType(8), 2, 3), "[1,2,3,4]", "v", "must have 2 to 3 elements, and has 4"),
        (t.ArrayType(t.IntType(8), unique_elements=True), "[1,2,1]", "v[2]", "is equal to an earlier element"),
        (t.ArrayType(t.FloatType(64), unique_elements=True), "[0,-0.0]", "v[1]", "is equal to an earlier element"),
        (t.ArrayType(t.ArrayType(t.IntType(8))), "[[1],[true]]", "v[1][0]", "must be an integer, not true"),
        (t.MapType(t.IntType(8)), '{"k":"x"}', 'v["k"]', 'must be an integer, not "x"'),
        (t.MapType(t.IntType(8)), '{"a\\"b":null}', 'v["a\\"b"]', "must be an integer, not null"),
        (t.MapType(t.IntType(8)), "[]", "v", "must be an object, not []"),
        (t.ObjectType((t.Property("x", t.IntType(8)),)), "{}", "v.x", "is missing"),
        (t.ObjectType((t.Property("x", t.IntType(8)),)), '{"x":1,"y":2}', "v.y", "does not exist in the schema"),
        (t.ObjectType((t.Property("x", t.IntType(8)),)), "null", "v", "must be an object, not null"),
        (
            t.ArrayType(t.MapType(t.ObjectType((t.Property("x", t.IntType(8)),)))),
            '[{"k":{"x":"1"}}]',
            'v[0]["k"].x',
            'must be an integer, not "1"',
        ),
        (t.JsonType(), "[" * 120 + "]" * 120, "v", "is nested deeper than 100 levels"),
    ],
)
def test_invalid_texts(type: t.Type, text: str, path: str, rule: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        codec(type).decode(f'{{"v":{text}}}')
    assert (caught.value.path, caught.value.rule) == (path, rule)


def test_missing_and_null_and_json_null_are_three_things() -> None:
    optional = codec(t.IntType(8), nullable=True, read_optional=True)
    assert optional.decode("{}") == {}
    assert optional.decode('{"v": null }') == {"v": None}
    assert codec(t.JsonType(), nullable=True).decode('{"v":null}') == {"v": JSON_NULL}
    for strict in (codec(t.IntType(8)), codec(t.JsonType())):
        with pytest.raises(InvalidValue, match="v is missing"):
            strict.decode("{}")


def test_null_for_a_property_that_is_not_nullable() -> None:
    with pytest.raises(InvalidValue, match="v must be an integer, not null"):
        codec(t.IntType(8), read_optional=True).decode('{"v":null}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the value must be JSON in UTF-8"),
        ('{"v":1', "the value must be JSON in UTF-8"),
        ('{"v":1} 2', "the value must be JSON in UTF-8"),
        ('{"v":01}', "the value must be JSON in UTF-8"),
        ('{"v":NaN}', "the value must be JSON in UTF-8"),
        (b'{"v":"\xff"}', "the value must be JSON in UTF-8"),
        ('{"v":"\\ud800"}', "the value must be JSON in UTF-8"),
        ("[]", "the value must be an object, not []"),
        ("null", "the value must be an object, not null"),
        ('"v"', 'the value must be an object, not "v"'),
        ('{"v":"a","V":1}', "V does not exist in the schema"),
        ('{"v":"a","x\u0301 .":1}', '["x\u0301 ."] does not exist in the schema'),
        ('{"v":"a","v":"b"}', 'the value has the member "v" twice'),
        ("[" * 100_000, "the value is nested too deeply"),
        ('{"v":' * 100_000, "the value is nested too deeply"),
        ('{"v":' + "[" * 500 + "]" * 500 + "}", "the value is nested too deeply"),
    ],
)
def test_the_text_as_a_whole(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        codec(t.StringType()).decode(text)
    assert str(caught.value) == message


def test_a_trusted_text_may_repeat_members() -> None:
    assert codec(t.StringType()).decode('{"v":"a","v":"b"}', trusted=True) == {"v": "b"}
    assert codec(t.JsonType()).decode('{"v":{"a":1,"a":2}}', trusted=True) == {"v": Json('{"a":1,"a":2}')}
