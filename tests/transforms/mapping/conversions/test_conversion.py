"""Conversions of values: results and rejections for every pair that types allow."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import (
    Codec,
    DateTime,
    InvalidValue,
    Json,
    Time,
)
from headwater.schemas import types as t
from headwater.transforms.mapping.conversions.conversion import conversion
from tests.schemas import strategies as schemas
from tests.transforms.mapping import strategies

TEXT, FLAG, INT8, INT, LONG = t.StringType(), t.BooleanType(), t.IntType(8), t.IntType(32), t.IntType(64)
BYTE, F64, F32, MONEY = t.IntType(8, unsigned=True), t.FloatType(64), t.FloatType(32), t.DecimalType(5, 2)
MOMENT, DAY, CLOCK, YEAR, UUID, JSON, IP = (
    t.DateTimeType(), t.DateType(), t.TimeType(), t.YearType(), t.UuidType(), t.JsonType(), t.IpType()
)  # fmt: skip
CODES = t.StringType(values=("a", "b"))
LOWER = t.StringType(pattern="^[a-z]+$")
ID = "7f3a1c52-9f3d-4c1b-8d2e-0a1b2c3d4e5f"


def convert(value: Any, source: t.Type, target: t.Type) -> Any:
    conversion_ = conversion(source, target)
    return value if conversion_ is None else conversion_(value)


def moment(text: str) -> DateTime:
    return DateTime.parse(text)


CONVERTED: list[tuple[t.Type, Any, t.Type, Any]] = [
    # to string
    (TEXT, "x", t.StringType(max_length=1), "x"),
    (TEXT, "a", CODES, "a"),
    (TEXT, "", TEXT, ""),
    (TEXT, "", CODES, None),
    (TEXT, "", t.StringType(values=("", "a")), ""),
    (TEXT, "", LOWER, None),
    (TEXT, "", t.StringType(max_length=3), ""),
    (FLAG, True, TEXT, "true"),
    (FLAG, False, TEXT, "false"),
    (LONG, -(2**63), TEXT, "-9223372036854775808"),
    (F64, 7928301735.5, TEXT, "7.9283017355e+09"),
    (F64, 767.5, TEXT, "767.5"),
    (F64, 100000.0, TEXT, "100000"),
    (F64, 1234567.0, TEXT, "1.234567e+06"),
    (F64, 0.00001, TEXT, "1e-05"),
    (F64, 0.0001, TEXT, "0.0001"),
    (F64, float("nan"), TEXT, "NaN"),
    (F64, float("-inf"), TEXT, "-Infinity"),
    (F32, 0.10000000149011612, TEXT, "0.1"),
    (MONEY, Decimal("12.50"), TEXT, "12.5"),
    (t.DecimalType(30), Decimal("1E+29"), TEXT, "1" + "0" * 29),
    (MOMENT, moment("2024-03-05T10:00:00.500Z"), TEXT, "2024-03-05T10:00:00.5Z"),
    (MOMENT, moment("2024-03-05T10:00:00.000000001Z"), TEXT, "2024-03-05T10:00:00.000000001Z"),
    (DAY, date(5, 1, 2), TEXT, "0005-01-02"),
    (CLOCK, Time.parse("10:20:30.250"), TEXT, "10:20:30.25"),
    (YEAR, 7, TEXT, "7"),
    (UUID, ID, TEXT, ID),
    (IP, "::1", TEXT, "::1"),
    (JSON, Json('"a\\u00e9"'), TEXT, "aé"),
    (JSON, Json("1.50"), TEXT, "1.50"),
    (JSON, Json("true"), TEXT, "true"),
    (JSON, Json("null"), TEXT, None),
    (JSON, Json('""'), TEXT, ""),
    (JSON, Json('""'), CODES, None),
    # to boolean
    *[(TEXT, word, FLAG, True) for word in ("true", "True", "TRUE", "yes", "Yes", "YES")],
    *[(TEXT, word, FLAG, False) for word in ("false", "False", "FALSE", "no", "No", "NO")],
    (TEXT, "", FLAG, None),
    (INT8, -3, FLAG, True),
    (INT8, 0, FLAG, False),
    (JSON, Json("true"), FLAG, True),
    (JSON, Json("false"), FLAG, False),
    (JSON, Json("null"), FLAG, None),
    # to int
    (TEXT, "007", INT, 7),
    (TEXT, "+7", INT, 7),
    (TEXT, "-7", INT, -7),
    (TEXT, "-0", INT, 0),
    (TEXT, "0", INT, 0),
    (TEXT, "0" * 5000 + "1", INT, 1),
    (TEXT, "255", BYTE, 255),
    (TEXT, "", INT, None),
    (FLAG, True, INT8, 1),
    (FLAG, False, BYTE, 0),
    (INT, 127, INT8, 127),
    (F64, 34.5, INT, 35),
    (F64, -0.5, INT, -1),
    (F64, 2.4, INT, 2),
    (F64, 0.49999999999999994, INT, 0),
    (F64, -2.5, INT, -3),
    (F64, 2.0**53 + 2, LONG, 2**53 + 2),
    (MONEY, Decimal("-12.00"), INT, -12),
    (YEAR, 2024, t.IntType(16), 2024),
    (JSON, Json("12"), INT, 12),
    (JSON, Json("12.0"), INT, 12),
    (JSON, Json("-0"), INT, 0),
    # to float
    (TEXT, "1.5", F64, 1.5),
    (TEXT, "-1e3", F64, -1000.0),
    (TEXT, ".5", F64, 0.5),
    (TEXT, "0", F64, 0.0),
    (TEXT, "Infinity", F64, float("inf")),
    (TEXT, "0.1", F32, 0.10000000149011612),
    (TEXT, "", F64, None),
    (INT, 5, F64, 5.0),
    (LONG, 2**53 + 1, F64, 2.0**53),
    (MONEY, Decimal("12.5"), F64, 12.5),
    (F64, 0.1, F32, 0.10000000149011612),
    (F32, 0.5, F64, 0.5),
    (JSON, Json("1e2"), F64, 100.0),
    # to decimal
    (TEXT, "12.340", MONEY, Decimal("12.34")),
    (TEXT, "1e2", MONEY, Decimal(100)),
    (TEXT, "", MONEY, None),
    (INT, 999, MONEY, Decimal(999)),
    (F64, 23.785, MONEY, Decimal("23.79")),  # the float is a little above
    (F64, 23.78, t.DecimalType(2), Decimal(24)),
    (t.DecimalType(20, 10), Decimal("1.5000"), MONEY, Decimal("1.5")),
    (JSON, Json("12.340"), MONEY, Decimal("12.34")),
    # to datetime, date, time, year
    (TEXT, "2024-05-01T10:00:00+02:00", MOMENT, moment("2024-05-01T08:00:00Z")),
    (TEXT, "2024-05-01T10:00:00.123456789Z", MOMENT, moment("2024-05-01T10:00:00.123456789Z")),
    (TEXT, "", MOMENT, None),
    (DAY, date(2024, 5, 1), MOMENT, moment("2024-05-01T00:00:00Z")),
    (JSON, Json('"2024-05-01 10:00"'), MOMENT, moment("2024-05-01T10:00:00Z")),
    (JSON, Json('"2024-05-01"'), MOMENT, moment("2024-05-01T00:00:00Z")),
    (TEXT, "2024-05-01", DAY, date(2024, 5, 1)),
    (TEXT, "05/24/2023", DAY, date(2023, 5, 24)),
    (TEXT, "05.24.2023", DAY, date(2023, 5, 24)),
    (TEXT, "45292", DAY, date(2024, 1, 1)),
    (TEXT, "", DAY, None),
    (MOMENT, moment("2024-05-01T23:59:59.9Z"), DAY, date(2024, 5, 1)),
    (JSON, Json('"2024-05-01"'), DAY, date(2024, 5, 1)),
    (TEXT, "10:20:30.5", CLOCK, Time.parse("10:20:30.5")),
    (TEXT, "", CLOCK, None),
    (MOMENT, moment("2024-05-01T23:59:59.9Z"), CLOCK, Time.parse("23:59:59.9")),
    (JSON, Json('"10:20:30"'), CLOCK, Time.parse("10:20:30")),
    (TEXT, "2024", YEAR, 2024),
    (TEXT, "", YEAR, None),
    (INT, 9999, YEAR, 9999),
    (JSON, Json("2024"), YEAR, 2024),
    # to uuid, ip
    (TEXT, "{7F3A1C52-9f3d-4c1b-8d2e-0a1b2c3d4e5f}", UUID, ID),
    (TEXT, "", UUID, None),
    (JSON, Json(f'"{ID.upper()}"'), UUID, ID),
    (TEXT, "2001:0db8::0001", IP, "2001:db8::1"),
    (TEXT, "", IP, None),
    (JSON, Json('"10.0.0.1"'), IP, "10.0.0.1"),
    # to json
    (TEXT, "", JSON, Json('""')),
    (TEXT, 'é"\n', JSON, Json('"é\\"\\n"')),
    (FLAG, True, JSON, Json("true")),
    (LONG, 2**63 - 1, JSON, Json("9223372036854775807")),
    (F64, 1234567.0, JSON, Json("1234567")),
    (F64, float("nan"), JSON, Json('"NaN"')),
    (F32, 0.10000000149011612, JSON, Json("0.1")),
    (MONEY, Decimal("1.50"), JSON, Json("1.5")),
    (MOMENT, moment("2024-05-01T10:00:00.5Z"), JSON, Json('"2024-05-01T10:00:00.500Z"')),
    (DAY, date(2024, 5, 1), JSON, Json('"2024-05-01"')),
    (CLOCK, Time.parse("10:20:30.5"), JSON, Json('"10:20:30.500"')),
    (YEAR, 2024, JSON, Json("2024")),
    (UUID, ID, JSON, Json(f'"{ID}"')),
    (IP, "::1", JSON, Json('"::1"')),
    (JSON, Json("null"), JSON, Json("null")),
    (t.ArrayType(INT), [1, 2], JSON, Json("[1,2]")),
    (t.ArrayType(JSON), [Json("null")], JSON, Json("[null]")),
    (t.MapType(TEXT), {"b\"": "1", "a": ""}, JSON, Json('{"b\\"":"1","a":""}')),
    # arrays
    (t.ArrayType(TEXT), ["1", "2"], t.ArrayType(INT), [1, 2]),
    (t.ArrayType(INT), [], t.ArrayType(TEXT), []),
    (JSON, Json("[1,2.0]"), t.ArrayType(INT), [1, 2]),
    (JSON, Json("5"), t.ArrayType(INT), [5]),
    (JSON, Json('"x"'), t.ArrayType(TEXT), ["x"]),
    (JSON, Json("[null,[]]"), t.ArrayType(JSON), [Json("null"), Json("[]")]),
    (JSON, Json("null"), t.ArrayType(INT), None),
    # maps
    (t.MapType(TEXT), {"a": "1", "b": ""}, t.MapType(INT), {"a": 1}),
    (JSON, Json('{"a":1,"b":null}'), t.MapType(INT), {"a": 1}),
    (JSON, Json('{"a":1,"b":null}'), t.MapType(JSON), {"a": Json("1"), "b": Json("null")}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "value", "target", "result"), CONVERTED)
def test_converts(source: t.Type, value: Any, target: t.Type, result: Any) -> None:
    converted = convert(value, source, target)
    assert (converted, converted.__class__) == (result, result.__class__)


REFUSED: list[tuple[t.Type, Any, t.Type, str]] = [
    (TEXT, "c", CODES, 'must be one of "a", "b"'),
    (TEXT, "A1", LOWER, "must match the pattern"),
    (TEXT, "éé", t.StringType(max_bytes=3), "must have at most 3 bytes"),
    (TEXT, "éé", t.StringType(max_length=1), "must have at most 1 characters"),
    (INT, 100, t.StringType(max_length=2), "must have at most 2 characters"),
    (JSON, Json("[]"), TEXT, "must be a JSON string, number or boolean"),
    (JSON, Json("{}"), TEXT, "must be a JSON string, number or boolean"),
    (JSON, Json('"\\ud800"'), TEXT, "must not contain lone surrogates"),
    *[(TEXT, word, FLAG, "must be one of true") for word in ("yES", "1", "0", " true", "t")],
    (JSON, Json('"true"'), FLAG, "must be true or false in JSON"),
    (JSON, Json("1"), FLAG, "must be true or false in JSON"),
    *[(TEXT, text, INT, "must be the digits") for text in ("7.0", " 7", "7 ", "+", "1_0", "٣", "0x1", "1e3")],
    *[(TEXT, text, BYTE, "must be the digits") for text in ("+7", "-0")],
    (TEXT, "300", INT8, "in the range -128 to 127"),
    (TEXT, "9" * 50_000, LONG, "in the range"),
    (TEXT, "-" + "9" * 50_000, LONG, "in the range"),
    (INT, 300, INT8, "in the range -128 to 127"),
    (INT, -1, BYTE, "in the range 0 to 255"),
    (FLAG, True, t.IntType(8, maximum=0), "in the range -128 to 0"),
    (F64, float("nan"), INT, "must be a finite number"),
    (F64, float("inf"), INT, "must be a finite number"),
    (F64, 2.0**63, LONG, "in the range"),
    (MONEY, Decimal("1.1"), INT, "must be a whole number"),
    *[(JSON, Json(text), INT, "without a fraction") for text in ("12.5", "12.00", '"12"', "1e3", "true", "[]")],
    (JSON, Json("9" * 5000), LONG, "in the range"),
    *[(TEXT, text, F64, "must be a number") for text in ("", "x", " 1", "1_0", "nan", "inf", "0x1p3", "1e", ".")][1:],
    (TEXT, "1e999", F64, "out of the range of a float"),
    (TEXT, "1e39", F32, "out of the range of a float(32)"),
    (TEXT, "NaN", t.FloatType(64, real=True), "must be a finite number"),
    (JSON, Json("1e999"), F64, "out of the range of a float"),
    (F64, 1e39, F32, "out of the range of a float(32)"),
    (F64, 2.0, t.FloatType(64, maximum=1.0), "at most 1"),
    (JSON, Json('"1.5"'), F64, "must be a JSON number"),
    (TEXT, "12.345", MONEY, "must be a decimal number of at most 3 digits"),
    (TEXT, "00.1", MONEY, "must be a decimal number"),
    (TEXT, " 1", MONEY, "must be a decimal number"),
    (INT, 1000, MONEY, "must be a decimal(5,2)"),
    (F64, 999.999, MONEY, "must be a decimal number of at most"),
    (F64, float("nan"), MONEY, "must be a decimal number"),
    (t.DecimalType(20, 10), Decimal("1.005"), MONEY, "must be a decimal(5,2)"),
    (INT, 5, t.DecimalType(5, 2, maximum=Decimal(4)), "in the range -999.99 to 4"),
    (JSON, Json('"1"'), MONEY, "must be a JSON number"),
    *[(TEXT, text, MOMENT, "must be a date and time") for text in (
        "2024-05-01 10:00", "2024-05-01", "2024-05-01T10:00:00", "2024-13-01T10:00:00Z", "0000-01-01T00:00:00Z")],
    (TEXT, "0001-01-01T00:00:00+01:00", MOMENT, "in the years 1 to 9999"),
    (JSON, Json("5"), MOMENT, "must be a JSON string"),
    (JSON, Json('""'), MOMENT, "must be a date and time of ISO 8601"),
    *[(TEXT, text, DAY, "must be") for text in ("0000-01-01", "60", "060", "24/05/2023", "05/24.2023", "2023-02-29")],
    (JSON, Json('"05/24/2023"'), DAY, "must be a date as YYYY-MM-DD"),
    (JSON, Json("45292"), DAY, "must be a JSON string"),
    *[(TEXT, text, CLOCK, "must be a time") for text in ("10:20", "24:00:00", "10:20:30x", "1:2:3")],
    *[(TEXT, text, YEAR, "must be a year") for text in ("0", "0099", "10000", "-1", "+1", " 1")],
    (INT, 0, YEAR, "must be a year in the range 1 to 9999"),
    (JSON, Json("10000"), YEAR, "must be a year in the range 1 to 9999"),
    *[(TEXT, text, UUID, "must be a UUID") for text in (ID[:-1], "{" + ID, "x" * 36, ID.replace("-", "", 1))],
    (TEXT, "10.0.0", IP, "must be an IP address"),
    (TEXT, "fe80::1%eth0", IP, "must be an IP address"),
    (JSON, Json("{}"), t.ArrayType(INT), "must not be a JSON object"),
    (JSON, Json("[]"), t.MapType(INT), "must be a JSON object"),
    (JSON, Json("5"), t.ObjectType((t.Property("a", INT),)), "must be a JSON object"),
    (JSON, Json('{"\\ud800":1}'), t.MapType(INT), "must not contain lone surrogates"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "value", "target", "rule"), REFUSED)
def test_refuses(source: t.Type, value: Any, target: t.Type, rule: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        convert(value, source, target)
    assert rule in raised.value.rule


@pytest.mark.parametrize(
    ("source", "value", "target", "path"),
    [
        (t.ArrayType(TEXT), ["1", "x"], t.ArrayType(INT), "[1]"),
        (t.ArrayType(TEXT), ["1", ""], t.ArrayType(INT), "[1]"),
        (JSON, Json("[1,null]"), t.ArrayType(INT), "[1]"),
        (t.MapType(TEXT), {"k k": "x"}, t.MapType(INT), '["k k"]'),
        (JSON, Json('{"a":{"b":[1,"x"]}}'), t.ObjectType((t.Property("a", t.MapType(t.ArrayType(INT))),)), 'a["b"][1]'),
        (t.ArrayType(INT), [1], t.ArrayType(INT, min_elements=2), ""),
        (t.ArrayType(TEXT), ["1", "01"], t.ArrayType(INT, unique_elements=True), "[1]"),
    ],
)
def test_errors_have_a_path(source: t.Type, value: Any, target: t.Type, path: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        convert(value, source, target)
    assert raised.value.path == path


PERSON = t.ObjectType((t.Property("a", TEXT), t.Property("b", TEXT, nullable=True), t.Property("c", TEXT)))
WANTED = t.ObjectType((t.Property("b", INT, nullable=True), t.Property("a", INT), t.Property("d", INT)))


@pytest.mark.parametrize(
    ("source", "value", "result"),
    [
        (PERSON, {"a": "1", "b": "2", "c": "x"}, {"b": 2, "a": 1}),
        (PERSON, {"a": "1", "b": None, "c": "x"}, {"b": None, "a": 1}),
        (PERSON, {"a": "1", "b": "", "c": "x"}, {"b": None, "a": 1}),
        (PERSON, {"c": "x"}, {}),
        (t.MapType(TEXT), {"a": "1", "b": "", "z": "x"}, {"b": None, "a": 1}),
        (t.MapType(TEXT), {"a": ""}, {}),
        (JSON, Json('{"a":1,"b":null,"@":1,"z":[]}'), {"b": None, "a": 1}),
        (JSON, Json('{"a":null}'), {}),
    ],
)
def test_objects_keep_the_names_that_both_have(source: t.Type, value: Any, result: Any) -> None:
    assert convert(value, source, WANTED) == result


def test_members_that_are_of_the_same_type_stay_as_they_are() -> None:
    wanted = t.ObjectType((t.Property("c", TEXT), t.Property("a", INT)))
    assert convert({"a": "1", "b": None, "c": "x"}, PERSON, wanted) == {"c": "x", "a": 1}


def test_an_object_has_no_null_where_the_other_cannot_have_one() -> None:
    with pytest.raises(InvalidValue) as raised:
        convert({"a": "", "b": "1", "c": "x"}, PERSON, WANTED)
    assert (raised.value.path, raised.value.rule) == ("a", "must not be null")


def test_an_object_becomes_a_map_without_nulls() -> None:
    assert convert({"a": "1", "b": None, "c": ""}, PERSON, t.MapType(INT)) == {"a": 1}


def test_an_object_becomes_json_with_nulls_and_without_missing_properties() -> None:
    assert convert({"a": "1", "b": None}, PERSON, JSON) == Json('{"a":"1","b":null}')


def test_json_that_would_be_nested_too_deep_is_rejected() -> None:
    deepest = Json("[" * 100 + "]" * 100)
    with pytest.raises(InvalidValue, match="nested deeper than 100"):
        convert([deepest], t.ArrayType(JSON), JSON)


def test_changes_nothing() -> None:
    tags = ["1", "2"]
    convert(tags, t.ArrayType(TEXT), t.ArrayType(INT))
    assert tags == ["1", "2"]


@given(strategies.convertible_types(), st.data())
def test_a_result_conforms_or_is_none_or_an_error(pair: tuple[t.Type, t.Type], data: st.DataObject) -> None:
    source, target = pair
    value = data.draw(schemas.values(source))
    try:
        converted = convert(value, source, target)
    except InvalidValue:
        return
    if converted is not None:
        Codec(t.ObjectType((t.Property("x", strategies.lenient(target)),))).check({"x": converted})


@given(schemas.scalar_types().filter(lambda type: type.kind != "json"), st.data())
def test_conversion_to_json_and_back(type: t.Type, data: st.DataObject) -> None:
    value = data.draw(schemas.values(type))
    json_ = convert(value, type, JSON)
    if json_.text in ('""', '"NaN"', '"Infinity"', '"-Infinity"'):
        return
    assert schemas.same(convert(json_, JSON, type), value)
