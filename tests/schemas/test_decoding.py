"""Decoding, kind by kind: accepted texts, and errors for others."""

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from headwater.schemas import (
    JSON_NULL,
    ArrayType,
    BooleanType,
    Codec,
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
from tests.schemas.strategies import same

UUID = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
ENUM = StringType(values=("s", "m", ""))
MOMENT = DateTime.parse("2024-03-05T10:00:00.5Z")


def codec(type: Type, *, nullable: bool = False, read_optional: bool = False) -> Codec:
    return Codec(ObjectType((Property("v", type, nullable=nullable, read_optional=read_optional),)))


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (StringType(), '"a\\u0000\\ud83d\\ude00"', "a\0😀"),
        (StringType(max_length=2), '"😀é"', "😀é"),
        (StringType(max_bytes=4), '"😀"', "😀"),
        (StringType(pattern="b+"), '"abc"', "abc"),
        (ENUM, '""', ""),
        (BooleanType(), "true", True),
        (IntType(8), "-128", -128),
        (IntType(32, True), "4294967295", 4294967295),
        (IntType(32), "-0", 0),
        (IntType(64), '"-9223372036854775808"', -(2**63)),
        (IntType(64, True), '"18446744073709551615"', 2**64 - 1),
        (FloatType(64), "1", 1.0),
        (FloatType(64), "-0.0", -0.0),
        (FloatType(64), "-0", -0.0),
        (FloatType(64), "1e-400", 0.0),
        (FloatType(64), '"NaN"', math.nan),
        (FloatType(32), '"-Infinity"', -math.inf),
        (FloatType(32), "0.1", to_float32(0.1)),
        (FloatType(32, maximum=0.1), "0.1", to_float32(0.1)),
        (FloatType(64, maximum=1.0), '"-Infinity"', -math.inf),
        (DecimalType(76, 37), "1" * 39 + "." + "2" * 37, Decimal("1" * 39 + "." + "2" * 37)),
        (DecimalType(4, 2), "12.340", Decimal("12.34")),
        (DecimalType(4, 2), "1e1", Decimal(10)),
        (DateTimeType(), '"2024-03-05T10:00:00.5Z"', MOMENT),
        (DateTimeType(), '"2024-03-05T11:00:00.5+01:00"', MOMENT),
        (DateType(), '"2024-02-29"', date(2024, 2, 29)),
        (TimeType(), '"10:00:00.000000001"', Time(36_000 * 10**9 + 1)),
        (YearType(), "9999", 9999),
        (UuidType(), f'"{UUID.upper()}"', UUID),
        (IpType(), '"2001:0db8::0001"', "2001:db8::1"),
        (JsonType(), ' { "a" : 1.00 }', Json('{"a":1.00}')),
        (JsonType(), "null", JSON_NULL),
        (ArrayType(IntType(8)), "[1, 2,1]", [1, 2, 1]),
        (ArrayType(StringType(), 2, 2, True), '["a","b"]', ["a", "b"]),
        (ArrayType(JsonType()), "[null]", [JSON_NULL]),
        (ArrayType(StringType(), 0, 0), "[]", []),
        (MapType(IntType(8)), '{"":1,"a.b":2}', {"": 1, "a.b": 2}),
        (ObjectType((Property("x", IntType(8), read_optional=True),)), "{}", {}),
    ],
)
def test_a_value_is_read_as(type: Type, text: str, value: Any) -> None:
    record = codec(type).decode(f'{{"v":{text}}}')
    assert same(record["v"], value)


@pytest.mark.parametrize(
    ("type", "text", "path", "rule"),
    [
        (StringType(), "1", "v", "must be a string, not 1"),
        (StringType(), "null", "v", "must be a string, not null"),
        (StringType(max_length=2), '"abc"', "v", 'must have at most 2 characters, not "abc"'),
        (StringType(max_bytes=3), '"😀"', "v", 'must have at most 3 bytes of UTF-8, not "😀"'),
        (StringType(max_length=1, pattern="b"), '"a"', "v", 'must match the pattern b, not "a"'),
        (ENUM, '"x"', "v", 'must be one of "s", "m", "", not "x"'),
        (BooleanType(), '"true"', "v", 'must be a boolean, not "true"'),
        (BooleanType(), "1", "v", "must be a boolean, not 1"),
        (IntType(8), "128", "v", "must be an integer in the range -128 to 127, not 128"),
        (IntType(8, minimum=3), "2", "v", "must be an integer in the range 3 to 127, not 2"),
        (IntType(8), "1.0", "v", "must be an integer, not 1.0"),
        (IntType(8), "1e1", "v", "must be an integer, not 1e1"),
        (IntType(8), '"1"', "v", 'must be an integer, not "1"'),
        (IntType(8), "true", "v", "must be an integer, not true"),
        (IntType(8), "9" * 9999, "v", "must be an integer, not " + "9" * 60 + "…"),
        (IntType(64), "1", "v", "must be a string of the digits of an integer, not 1"),
        (IntType(64), '"1.0"', "v", 'must be a string of the digits of an integer, not "1.0"'),
        (IntType(64), '"007"', "v", 'must be a string of the digits of an integer, not "007"'),
        (IntType(64), '"+7"', "v", 'must be a string of the digits of an integer, not "+7"'),
        (IntType(64), '"-0"', "v", 'must be a string of the digits of an integer, not "-0"'),
        (IntType(64), '"\u0661"', "v", 'must be a string of the digits of an integer, not "\u0661"'),
        (
            IntType(64),
            '"9223372036854775808"',
            "v",
            'must be an integer in the range -9223372036854775808 to 9223372036854775807, not "9223372036854775808"',
        ),
        (FloatType(64), "true", "v", "must be a float(64), not true"),
        (FloatType(64), "null", "v", "must be a float(64), not null"),
        (FloatType(64), '"1"', "v", 'must be a float(64), not "1"'),
        (FloatType(64), '"nan"', "v", 'must be a float(64), not "nan"'),
        (FloatType(64), "1e400", "v", "must be a float(64), not 1e400"),
        (FloatType(32), "1e39", "v", "must be a float(32), not 1e39"),
        (FloatType(64, real=True), '"NaN"', "v", 'must be a finite number, not "NaN"'),
        (FloatType(64, real=True), '"Infinity"', "v", 'must be a finite number, not "Infinity"'),
        (FloatType(64, minimum=0.5), "0.25", "v", "must be at least 0.5, not 0.25"),
        (FloatType(64, minimum=0.5, maximum=1.0), '"NaN"', "v", 'must be at least 0.5 and at most 1, not "NaN"'),
        (DecimalType(4, 2), '"1.5"', "v", 'must be a decimal(4,2), not "1.5"'),
        (DecimalType(4, 2), "1.555", "v", "must be a decimal(4,2), not 1.555"),
        (DecimalType(4, 2), "100", "v", "must be a decimal(4,2), not 100"),
        (DecimalType(4, 2), "1e999999999", "v", "must be a decimal(4,2), not 1e999999999"),
        (DecimalType(4, 2), "true", "v", "must be a decimal(4,2), not true"),
        (DecimalType(4, 2, Decimal(1)), "0.99", "v", "must be in the range 1 to 99.99, not 0.99"),
        (
            DateTimeType(),
            '"2024-03-05"',
            "v",
            'must be a date and time of RFC 3339, in the years 1 to 9999, not "2024-03-05"',
        ),
        (
            DateTimeType(),
            "1709632800",
            "v",
            "must be a date and time of RFC 3339, in the years 1 to 9999, not 1709632800",
        ),
        (DateType(), '"20240305"', "v", 'must be a date as YYYY-MM-DD, not "20240305"'),
        (DateType(), '"2023-02-29"', "v", 'must be a date as YYYY-MM-DD, not "2023-02-29"'),
        (DateType(), '"0000-01-01"', "v", 'must be a date as YYYY-MM-DD, not "0000-01-01"'),
        (TimeType(), '"10:00"', "v", 'must be a time of day as hh:mm:ss[.fraction], not "10:00"'),
        (YearType(), "0", "v", "must be a year in the range 1 to 9999, not 0"),
        (YearType(), '"2024"', "v", 'must be an integer, not "2024"'),
        (UuidType(), f'"{UUID[:-1]}"', "v", f'must be a UUID, not "{UUID[:-1]}"'),
        (IpType(), '"10.0.0.1/8"', "v", 'must be an IP address, not "10.0.0.1/8"'),
        (ArrayType(IntType(8)), "{}", "v", "must be an array, not {}"),
        (ArrayType(IntType(8)), "[1,2,300]", "v[2]", "must be an integer in the range -128 to 127, not 300"),
        (ArrayType(IntType(8)), "[null]", "v[0]", "must be an integer, not null"),
        (ArrayType(IntType(8), 2, 3), "[1]", "v", "must have 2 to 3 elements, and has 1"),
        (ArrayType(IntType(8), 2, 3), "[1,2,3,4]", "v", "must have 2 to 3 elements, and has 4"),
        (ArrayType(IntType(8), unique_elements=True), "[1,2,1]", "v[2]", "is equal to an earlier element"),
        (ArrayType(FloatType(64), unique_elements=True), "[0,-0.0]", "v[1]", "is equal to an earlier element"),
        (ArrayType(ArrayType(IntType(8))), "[[1],[true]]", "v[1][0]", "must be an integer, not true"),
        (MapType(IntType(8)), '{"k":"x"}', 'v["k"]', 'must be an integer, not "x"'),
        (MapType(IntType(8)), '{"a\\"b":null}', 'v["a\\"b"]', "must be an integer, not null"),
        (MapType(IntType(8)), "[]", "v", "must be an object, not []"),
        (ObjectType((Property("x", IntType(8)),)), "{}", "v.x", "is missing"),
        (ObjectType((Property("x", IntType(8)),)), '{"x":1,"y":2}', "v.y", "does not exist in the schema"),
        (ObjectType((Property("x", IntType(8)),)), "null", "v", "must be an object, not null"),
        (
            ArrayType(MapType(ObjectType((Property("x", IntType(8)),)))),
            '[{"k":{"x":"1"}}]',
            'v[0]["k"].x',
            'must be an integer, not "1"',
        ),
        (JsonType(), "[" * 120 + "]" * 120, "v", "is nested deeper than 100 levels"),
    ],
)
def test_what_does_not_conform(type: Type, text: str, path: str, rule: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        codec(type).decode(f'{{"v":{text}}}')
    assert (caught.value.path, caught.value.rule) == (path, rule)


def test_missing_and_null_and_json_null_are_three_things() -> None:
    optional = codec(IntType(8), nullable=True, read_optional=True)
    assert optional.decode("{}") == {}
    assert optional.decode('{"v": null }') == {"v": None}
    assert codec(JsonType(), nullable=True).decode('{"v":null}') == {"v": JSON_NULL}
    for strict in (codec(IntType(8)), codec(JsonType())):
        with pytest.raises(InvalidValue, match="v is missing"):
            strict.decode("{}")


def test_null_in_place_of_what_is_not_nullable() -> None:
    with pytest.raises(InvalidValue, match="v must be an integer, not null"):
        codec(IntType(8), read_optional=True).decode('{"v":null}')


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
        codec(StringType()).decode(text)
    assert str(caught.value) == message


def test_a_trusted_text_may_repeat_members() -> None:
    assert codec(StringType()).decode('{"v":"a","v":"b"}', trusted=True) == {"v": "b"}
    assert codec(JsonType()).decode('{"v":{"a":1,"a":2}}', trusted=True) == {"v": Json('{"a":1,"a":2}')}
