"""Values of connectors become values of the schema, as the documented table says, or a problem without the value."""

import ipaddress
import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import (
    MISSING,
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
    compile_normaliser,
    compile_property,
    compile_row_normaliser,
    compile_rows_normaliser,
    describe_problem,
)
from tests.schemas.strategies import same, schemas_and_records

INT32, INT64, TEXT, JSON = IntType(32), IntType(64), StringType(), JsonType()
UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"
NOON = DateTime.parse("2026-01-02T12:00:00.5Z")
ADDRESS = ObjectType((Property("zip", INT32), Property("city", TEXT, read_optional=True)))


@pytest.mark.parametrize(
    ("type", "value", "expected"),
    [
        (TEXT, "a", "a"),
        (TEXT, b"\xc3\xa9", "é"),
        (TEXT, "", ""),
        (BooleanType(), True, True),
        (BooleanType(), "true", True),
        (BooleanType(), "false", False),
        (INT32, 5, 5),
        (INT32, 5.0, 5),
        (INT32, Decimal("5.00"), 5),
        (INT32, "5", 5),
        (INT32, b"-5", -5),
        (INT64, "9223372036854775807", 2**63 - 1),
        (FloatType(64), 5, 5.0),
        (FloatType(64), 2**53, 2.0**53),
        (FloatType(64), "1e3", 1000.0),
        (FloatType(64), "NaN", math.nan),
        (FloatType(64), Decimal("0.5"), 0.5),
        (FloatType(32), 0.5, 0.5),
        (FloatType(32), 2**24, 2.0**24),
        (DecimalType(5, 2), 5, Decimal(5)),
        (DecimalType(5, 2), 0.125, Decimal("0.13")),
        (DecimalType(5, 2), "12.50", Decimal("12.5")),
        (DecimalType(5, 2), Decimal("12.50"), Decimal("12.5")),
        (DateTimeType(), NOON, NOON),
        (DateTimeType(), datetime(2026, 1, 2, 12, 0, 0, 500_000), NOON),
        (DateTimeType(), datetime(2026, 1, 2, 14, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=2))), NOON),
        (DateTimeType(), "2026-01-02T12:00:00.5Z", NOON),
        (DateTimeType(), "2026-01-02 14:00:00.5+02:00", NOON),
        (DateTimeType(), date(2026, 1, 2), DateTime.parse("2026-01-02T00:00:00Z")),
        (DateType(), date(2026, 1, 2), date(2026, 1, 2)),
        (DateType(), datetime(2026, 1, 2, 23), date(2026, 1, 2)),
        (DateType(), datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=2))), date(2026, 1, 1)),
        (DateType(), "2026-01-02", date(2026, 1, 2)),
        (DateType(), "2026-01-02T23:00:00Z", date(2026, 1, 2)),
        (TimeType(), time(12, 0, 0, 500_000), Time.parse("12:00:00.5")),
        (TimeType(), "12:00:00.5", Time.parse("12:00:00.5")),
        (TimeType(), b"12:00:00.5Z", Time.parse("12:00:00.5")),
        (YearType(), "2026", 2026),
        (UuidType(), UUID_TEXT.upper(), UUID_TEXT),
        (UuidType(), UUID(UUID_TEXT), UUID_TEXT),
        (UuidType(), UUID(UUID_TEXT).bytes, UUID_TEXT),
        (JSON, '{"a": 1.0}', Json('{"a":1.0}')),
        (JSON, {"a": [1, None]}, Json('{"a":[1,null]}')),
        (JSON, b"null", Json("null")),
        (JSON, 5, Json("5")),
        (JSON, math.nan, Json("null")),
        (JSON, Decimal("1.50"), Json("1.50")),
        (IpType(), "10.0.0.1/24", "10.0.0.1"),
        (IpType(), "FE80::1%eth0", "fe80::1"),
        (IpType(), ipaddress.ip_interface("10.0.0.1/24"), "10.0.0.1"),
        (IpType(), ipaddress.ip_address("::1"), "::1"),
        (ArrayType(INT32), [1, "2"], [1, 2]),
        (ArrayType(INT32), "[1,2]", [1, 2]),
        (ArrayType(JSON), '[1.0,null,{"a":1}]', [Json("1.0"), Json("null"), Json('{"a":1}')]),
        (ArrayType(JSON), [None, 1], [Json("null"), Json("1")]),
        (ADDRESS, {"zip": "5", "other": 1}, {"zip": 5}),
        (ADDRESS, '{"zip":5,"city":"Rome"}', {"zip": 5, "city": "Rome"}),
        (MapType(INT32), {"a": "1"}, {"a": 1}),
        (MapType(INT32), '{"a":1}', {"a": 1}),
        (MapType(JSON), '{"a":1.50}', {"a": Json("1.50")}),
    ],
    ids=str,
)
def test_accepted_values(type: Type, value: Any, expected: Any) -> None:
    found = compile_property(Property("p", type))(value)
    assert same(found, expected)
    Codec(ObjectType((Property("p", type),))).check({"p": found})


@pytest.mark.parametrize(
    ("type", "value", "problem"),
    [
        (TEXT, None, "property 'p' cannot be null"),
        (TEXT, 5, "property 'p' is not a string, but an integer"),
        (TEXT, b"\xff", "property 'p' is not text in UTF-8"),
        (TEXT, "\ud800", "property 'p' is not text in UTF-8"),
        (TEXT, "a\0", "property 'p' contains the NUL character"),
        (StringType(max_length=2), "abc", "property 'p' must have at most 2 characters"),
        (StringType(values=("a", "b")), "c", 'property \'p\' must be one of "a", "b"'),
        (BooleanType(), 1, "property 'p' is not a boolean: true or false"),
        (INT32, 1.5, "property 'p' is not an integer"),
        (INT32, math.inf, "property 'p' is not an integer"),
        (INT32, "1.5", "property 'p' is not the text of an integer"),
        (INT32, True, "property 'p' is not an integer, but a boolean"),
        (INT32, 2**40, f"property 'p' must be an integer in the range {-(2**31)} to {2**31 - 1}"),
        (FloatType(64), 2**53 + 1, "property 'p' is an integer that a float(64) does not have exactly"),
        (FloatType(64), Decimal("0.1"), "property 'p' is a decimal that a float(64) does not have exactly"),
        (FloatType(32), 0.1, "property 'p' is a number that a float(32) does not have exactly"),
        (FloatType(64, real=True), math.nan, "property 'p' must be a finite number"),
        (FloatType(64), "1e999", "property 'p' is larger than every float(64)"),
        (DecimalType(3, 1), "1.23", "property 'p' is not a decimal(3,1)"),
        (DecimalType(3, 1), Decimal("NaN"), "property 'p' is not a finite number"),
        (DateTimeType(), "yesterday", "property 'p' is not a date and time of ISO 8601 in the years 1 to 9999"),
        (
            DateTimeType(),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
            "property 'p' is not a date and time of ISO 8601 in the years 1 to 9999",
        ),
        (DateTimeType(), 5, "property 'p' is not a date and time, but an integer"),
        (DateType(), "2026-02-30", "property 'p' is not a date of ISO 8601 in the years 1 to 9999"),
        (TimeType(), "25:00:00", "property 'p' is not a time of day as hh:mm:ss"),
        (YearType(), 0, "property 'p' must be a year in the range 1 to 9999"),
        (UuidType(), "x", "property 'p' is not a UUID"),
        (JSON, "{", "property 'p' is not valid JSON"),
        (JSON, 1j, "property 'p' is not a value of JSON"),
        (IpType(), "1.2.3", "property 'p' is not an IP address"),
        (ArrayType(INT32), 5, "property 'p' is not a list, but an integer"),
        (ArrayType(INT32), [1, "x"], "property 'p[]' is not the text of an integer"),
        (ArrayType(INT32), [None], "property 'p[]' cannot be null"),
        (ADDRESS, {"city": "x"}, "property 'p.zip' is missing"),
        (ADDRESS, {"zip": "x"}, "property 'p.zip' is not the text of an integer"),
        (MapType(INT32), {'secret"]': "x"}, "property 'p[]' is not the text of an integer"),
        (MapType(INT32), "[1]", "property 'p' is not a map, but a list"),
    ],
    ids=str,
)
def test_problems(type: Type, value: Any, problem: str) -> None:
    schema = ObjectType((Property("p", type),))
    with pytest.raises(InvalidValue) as error:
        compile_normaliser(schema)({"p": value})
    assert describe_problem(error.value) == problem
    assert compile_rows_normaliser(schema, ("p",))([(value,)]) is None


@pytest.mark.parametrize("type", [DecimalType(5), DateTimeType(), DateType(), JSON, StringType(values=("a",))], ids=str)
def test_an_empty_text_is_null_if_null_is_allowed(type: Type) -> None:
    assert compile_property(Property("p", type, nullable=True))("") is None
    with pytest.raises(InvalidValue):
        compile_property(Property("p", type))("")


@given(schemas_and_records())
def test_values_of_the_schema_stay(case: tuple[ObjectType, dict[str, Any]]) -> None:
    schema, record = case
    if "\\u0000" in Codec(schema).encode(record).decode():
        return
    assert same(compile_normaliser(schema)(record), record)


@given(schemas_and_records(), st.integers(1, 3))
def test_rows_are_normalised_together_as_one_by_one(case: tuple[ObjectType, dict[str, Any]], count: int) -> None:
    schema, record = case
    columns = ("other", *schema.by_name)
    row = (object(), *(record.get(name, MISSING) for name in schema.by_name))
    try:
        expected = compile_row_normaliser(schema, columns)(row)
    except InvalidValue:
        expected = None
    together = compile_rows_normaliser(schema, columns)([row] * count)
    if MISSING in row[1:] or expected is None:
        assert together is None
    else:
        assert together is not None
        assert same(together.records, [expected] * count)


def test_nulls_and_other_alphabets_are_normalised_together() -> None:
    schema = ObjectType((Property("p", StringType(), nullable=True),))
    rows = [("a",), (None,), ("è",)]
    together = compile_rows_normaliser(schema, ("p",))(rows)
    assert together is not None
    assert together.records == [{"p": "a"}, {"p": None}, {"p": "è"}]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.datetimes()
    | st.dates() | st.times() | st.uuids() | st.ip_addresses(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(schemas_and_records(), st.data())
def test_everything_that_is_accepted_conforms(case: tuple[ObjectType, dict[str, Any]], data: st.DataObject) -> None:
    schema, record = case
    given = {**record, **{name: data.draw(ANYTHING) for name in record}}
    try:
        found = compile_normaliser(schema)(given)
    except InvalidValue:
        return
    Codec(schema).check(found)
