"""Results of filters for records in memory: every operator, for values that are present, missing, null or JSON."""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.filters import Predicate, check_filter, compile_filter, parse_text
from headwater.filters.predicate import NEGATED
from headwater.schemas import EVENT_SCHEMA, DateTime, Json, ObjectType, Property, Schema, Time, parse_type, to_float32

TYPES = {
    "age": '{"kind":"int","bitSize":8}',
    "big": '{"kind":"int","bitSize":64,"unsigned":true}',
    "city": '{"kind":"string"}',
    "plan": '{"kind":"string","values":["","free","pro"]}',
    "vip": '{"kind":"boolean"}',
    "ratio": '{"kind":"float","bitSize":64}',
    "narrow": '{"kind":"float","bitSize":32}',
    "price": '{"kind":"decimal","precision":40,"scale":10}',
    "at": '{"kind":"datetime"}',
    "day": '{"kind":"date"}',
    "clock": '{"kind":"time"}',
    "year": '{"kind":"year"}',
    "id": '{"kind":"uuid"}',
    "ip": '{"kind":"ip"}',
    "tags": '{"kind":"array","elementType":{"kind":"string"}}',
    "ratios": '{"kind":"array","elementType":{"kind":"float","bitSize":64}}',
    "docs": '{"kind":"array","elementType":{"kind":"json"}}',
    "prefs": '{"kind":"map","elementType":{"kind":"string"}}',
    "doc": '{"kind":"json"}',
}
PROPERTIES = [Property(name, parse_type(text), read_optional=True, nullable=True) for name, text in TYPES.items()]
SCHEMA: Schema = ObjectType(
    (*PROPERTIES, Property("in", ObjectType(tuple(PROPERTIES)), read_optional=True, nullable=True))
)
DOC = Json.parse(
    '{"n":10.50,"l":["x",3],"s":"Abc","z":null,"t":true,"f":false,"o":{},"e":"","a":[],"big":9007199254740993}'
)
RECORD: dict[str, Any] = {
    "age": 41, "big": 2**64 - 1, "city": "Rome", "plan": "free", "vip": False, "ratio": 0.1, "narrow": to_float32(0.1),
    "price": Decimal("12.50"), "at": DateTime.parse("2024-02-29T10:00:00.000000001Z"), "day": date(2024, 2, 29),
    "clock": Time.parse("10:00:00.5"), "year": 999, "id": "6f1d3c1e-9a3b-4c7e-8f00-1234567890ab", "ip": "2001:db8::1",
    "tags": ["vip", "new"], "ratios": [0.1, 2.0], "docs": [Json("3.0"), Json('"x"'), Json("null")],
    "prefs": {}, "doc": DOC,
}  # fmt: skip


def compiled(source: str, schema: Schema = SCHEMA) -> Predicate:
    filter = parse_text(source)
    assert filter is not None
    return compile_filter(check_filter(filter, schema, role="Source", target="User"))


def either(source: str) -> bool:
    """Test the record and one that has it in a nested object, and return the common result."""
    result = compiled(source)(RECORD)
    assert compiled(f"in.{source}")({"in": RECORD}) is result
    return result


HOLDS = """
age is 41
age is not 42
age is +41
age is less than 42
age is less than or equal to 41
age is greater than -1000
age is greater than or equal to 41
age is between 41 and 50
age is between 0 and 41
age is not between 50 and 41
age is one of 1, 41
age is not one of 1, 2
big is 18446744073709551615
big is greater than 18446744073709551614
city is "Rome"
city is not "rome"
city is less than "rome"
city contains "om"
city does not contain "ro"
city starts with "Ro"
city ends with "me"
city is between "R" and "S"
city is one of "Paris", "Rome"
city is not empty
plan is "free"
plan is not ""
plan contains "free"
plan is one of "pro", "free"
plan is not empty
vip is false
ratio is 0.1
ratio is less than 0.10000000000000002
narrow is 0.1
narrow is not between 0.2 and 1
price is 12.5
price is 1.25e1
price is one of .5, 12.500
price is less than 12.5000000001
at is "2024-02-29T11:00:00.000000001+01:00"
at is after "2024-02-29T10:00:00"
at is on or after 2024-02-29
at is before "2024-02-29T10:00:00.000000002Z"
at is between 2024-02-29 and 2024-03-01
day is 2024-02-29
day is on or before 2024-02-29
day is before 2024-03-01
day is one of 2024-02-29
clock is "10:00:00.500"
clock is after 10:00:00
clock is not between 11:00:00 and 10:00:00
year is 999
year is before 1000
year is on or after 999
year is between 9 and 1000
id is "6F1D3C1E-9A3B-4C7E-8F00-1234567890AB"
ip is "2001:0db8::0001"
ip is not "::1"
tags contains "vip"
tags does not contain "vi"
tags is not empty
ratios contains 2
ratios contains 0.1
docs contains 3
docs contains "x"
docs does not contain "null"
prefs is empty
prefs exists
age is not null
age exists
doc.n is 10.5
doc.n is "1.05e1"
doc.n is not "ten"
doc.n is less than 10.500001
doc.n is between 10 and 11
doc.n is not between 10 and "x"
doc.n is one of 1, 10.5
doc.big is 9007199254740993
doc.big is not 9007199254740992
doc.big is greater than 9007199254740992
doc.l contains "3.0"
doc.l contains "x"
doc.l does not contain 4
doc.l is not empty
doc.l is not 3
doc.s is "Abc"
doc.s is greater than "Abb"
doc.s contains "b"
doc.s starts with "A"
doc.s ends with "bc"
doc.s is one of "x", "Abc"
doc.z is null
doc.z exists
doc.z is empty
doc.z is not 1
doc.e is empty
doc.a is empty
doc.o is empty
doc.o exists
doc.t is true
doc.f is false
doc.f is not empty
doc.y does not exist
doc.y is not null
doc.y is empty
doc.y is not 1
doc.n.k does not exist
doc is not null
doc is not empty
doc does not contain "n"
doc exists
"""


@pytest.mark.parametrize("source", HOLDS.strip().splitlines())
def test_conditions_that_hold(source: str) -> None:
    assert either(source) is True


DOES_NOT_HOLD = """
age is 40
age is not 41
age is between 50 and 41
age is greater than 41
age is less than 41
city starts with "ro"
city ends with "Rome "
city is "rome"
city contains "ORD"
city is empty
vip is true
ratio is 0.1000000001
price is 12.5000000001
at is "2024-02-29T10:00:00"
at is before 2024-02-29
day is after 2024-02-29
clock is "10:00:00.5000001"
year is after 1000
year is between 1000 and 2000
tags contains "VIP"
ratios contains 0.2
docs contains 4
tags is empty
prefs is not empty
age is null
age does not exist
doc.n is "ten"
doc.n contains "1"
doc.n starts with "1"
doc.n ends with "5"
doc.l starts with "x"
doc.l ends with 3
doc.s starts with "a"
doc.s ends with "B"
doc.s contains "B"
doc.s is one of "abc", 1
doc.n is one of 1, "x"
doc.t is one of 1, "true"
doc.l is one of 1, 3
doc.n is greater than "1x"
doc.n.k exists
doc.l contains 4
doc.l is 3
doc.s is "abc"
doc.s is 1
doc.s is true
doc.s is false
doc.t is false
doc.t is 1
doc.t is "true"
doc.f is true
doc.f is 0
doc.f is empty
doc.z is false
doc.z is "null"
doc.z is not null
doc.z does not exist
doc.y is null
doc.y exists
doc.y is 1
doc.y is false
doc.y is true
doc.s is before "Z"
doc.s is on or before "Z"
doc.s is after "A"
doc.s is on or after "A"
doc is empty
doc is null
doc.n is between 10 and "x"
"""


@pytest.mark.parametrize("source", DOES_NOT_HOLD.strip().splitlines())
def test_conditions_that_do_not_hold(source: str) -> None:
    assert either(source) is False


POSITIVE_OF_NOTHING = {"is empty"}
ONE_OF_EACH = {
    "is": "age is 1", "is less than": "age is less than 1",
    "is less than or equal to": "age is less than or equal to 1",
    "is greater than": "age is greater than 1", "is greater than or equal to": "age is greater than or equal to 1",
    "is between": "age is between 1 and 2", "contains": "tags contains 1", "is one of": "age is one of 1, 2",
    "starts with": "city starts with 1", "ends with": "city ends with 1", "is before": "year is before 1",
    "is on or before": "at is on or before 2024-01-01", "is after": "clock is after 10:00:00",
    "is on or after": "day is on or after 2024-01-01", "is true": "vip is true", "is false": "vip is false",
    "is empty": "city is empty",
}  # fmt: skip


@pytest.mark.parametrize("operator", ONE_OF_EACH)
@pytest.mark.parametrize("missing", [{}, {"in": None}, {"in": {}}, None])
def test_missing_and_null_properties(operator: str, missing: dict[str, Any] | None) -> None:
    """Missing and null properties fail every operator except `is empty` and the negated ones."""
    source = ONE_OF_EACH[operator]
    name = source.partition(" ")[0]
    record = {name: None, "in": {name: None}} if missing is None else missing
    expected = operator in POSITIVE_OF_NOTHING
    opposite = next((negated for negated, positive in NEGATED.items() if positive == operator), None)
    for prefix in ("", "in."):
        assert compiled(prefix + source)(record) is expected
        if opposite is not None:
            assert compiled(prefix + source.replace(operator, opposite, 1))(record) is not expected


@pytest.mark.parametrize(
    ("record", "null", "exists"),
    [
        ({}, False, False),
        ({"age": None, "doc": None}, True, True),
        ({"age": 1, "doc": Json("1")}, False, True),
    ],
)
def test_null_and_missing_are_apart(record: dict[str, Any], null: bool, exists: bool) -> None:
    for name in ("age", "doc"):
        for prefix, outer in (("", record), ("in.", {"in": record})):
            assert compiled(f"{prefix}{name} is null")(outer) is null
            assert compiled(f"{prefix}{name} is not null")(outer) is not null
            assert compiled(f"{prefix}{name} exists")(outer) is exists
            assert compiled(f"{prefix}{name} does not exist")(outer) is not exists
    for outer in ({}, {"in": None}):
        assert compiled("in.age is null")(outer) is compiled("in.age exists")(outer) is False


def test_json_null_is_null_and_exists() -> None:
    for source, expected in (
        ("doc is null", True),
        ("doc exists", True),
        ("doc is empty", True),
        ("doc.a exists", False),
    ):
        assert compiled(source)({"doc": Json("null")}) is expected
    assert compiled("doc.a is null")({"doc": None}) is False


def test_and_stops_at_the_first_that_fails_and_or_at_the_first_that_holds() -> None:
    asked: list[str] = []

    class Asked(Mapping[str, Any]):
        """A record that computes its values on demand, as an event may."""

        def __getitem__(self, name: str) -> Any:
            asked.append(name)
            return RECORD[name]

        def __iter__(self) -> Iterator[str]:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

    for source, result, names in (
        ("city is 1 and age is 41 and vip is false", False, ["city"]),
        ('city is "Rome" and age is 1 and vip is false', False, ["city", "age"]),
        ('city is "Rome" and age is 41 and vip is false', True, ["city", "age", "vip"]),
        ("city is 1 or age is 41 or vip is false", True, ["city", "age"]),
        ("city is 1 or age is 1 or vip is true", False, ["city", "age", "vip"]),
    ):
        asked.clear()
        assert compiled(source)(Asked()) is result
        assert asked == names


def test_an_event_with_its_properties_as_text() -> None:
    event = {
        "type": "track", "event": "Order Completed", "context": {"page": {"url": "https://example.com/"}},
        "properties": Json.parse(b'{"total": 49.90, "products": [{"sku": "x"}]}'), "traits": Json("{}"),
        "timestamp": DateTime.parse("2024-02-29T10:00:00Z"),
    }  # fmt: skip
    for source, expected in (
        ('type is "track" and event is "Order Completed"', True),
        ("type is 'track' and properties.products is not empty", True),
        ("properties.total is greater than 49.9 or properties.total is 49.9", True),
        ("context.page.url starts with 'https://' and context.app.name does not exist", True),
        ("context.os.name is 'iOS' or userId exists or traits is not empty", False),
    ):
        assert compiled(source, EVENT_SCHEMA)(event) is expected


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("9" * 5000, "doc is greater than 1", True),
        ("9" * 5000, "doc is 1", False),
        ("1e99999999999999999999", "doc is greater than 1e99", True),
        ("-1e99999999999999999999", "doc is less than 0", True),
        ("1e-99999999999999999999", "doc is greater than 0", True),
        ("1e-99999999999999999999", "doc is 0", False),
        ("0e99999999999999999999", "doc is 0", True),
        ("0.10000000000000000000000000001", "doc is 0.1", False),
        ("-0.0", "doc is 0", True),
        ('"\\ud800"', "doc is not empty", True),
        ("[" * 100 + "]" * 100, "doc is not empty", True),
        ("[" * 50_000 + "]" * 50_000, "doc is 1", False),
        ("{" * 3, "doc is 1", False),
        ('{"a":1,"a":2}', "doc.a is 2", True),
    ],
)
def test_strange_json(text: str, source: str, expected: bool) -> None:
    assert compiled(source)({"doc": Json(text)}) is expected


def test_a_long_path_inside_json() -> None:
    path = ".".join(["doc"] + ["a"] * 20_000)
    assert compiled(f"{path} exists")({"doc": Json('{"a":' * 90 + "1" + "}" * 90)}) is False


def test_many_values_and_conditions() -> None:
    many = ", ".join(map(str, range(9_000)))
    assert compiled(f"doc is one of {many}")({"doc": Json("8999.0")}) is True
    assert compiled(f"age is one of {many}")({"age": -1}) is False
    assert compiled(" or ".join(f"age is {number}" for number in range(5_000)))({"age": 4_999}) is True


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


@given(
    VALUES,
    st.sampled_from(sorted(NEGATED)),
    st.sampled_from(["doc", "doc.a", "doc.a.b"]),
    st.text("0159.-ab", min_size=1),
)
def test_negated_operators_are_negations(value: object, negated: str, path: str, literal: str) -> None:
    positive = NEGATED[negated]  # type: ignore[index]  # one of them
    record = {"doc": Json(json.dumps(value, separators=(",", ":")))}
    given = {"is between": f'"{literal}" and "5"', "is one of": f'"{literal}", "5"'}.get(positive, f'"{literal}"')
    if positive in ("is empty", "is null", "exists"):
        given = ""
    assert compiled(f"{path} {positive} {given}")(record) is not compiled(f"{path} {negated} {given}")(record)
