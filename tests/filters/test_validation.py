"""Allowed operators for each property, the order of the rules, and error messages."""

from typing import Any

import pytest

from headwater.filters import (
    MAX_CONDITIONS,
    MAX_VALUES,
    OPERATORS,
    Condition,
    Filter,
    InvalidFilter,
    UnknownProperty,
    check_filter,
)
from headwater.filters.operators import Role, Target
from headwater.schemas import EVENT_SCHEMA, ObjectType, Property, parse_type

PROPERTIES = {
    "s": '{"kind":"string"}',
    "e": '{"kind":"string","values":["free","pro"]}',
    "e_empty": '{"kind":"string","values":["","pro"]}',
    "boolean": '{"kind":"boolean"}',
    "int": '{"kind":"int","bitSize":8}',
    "float": '{"kind":"float","bitSize":64}',
    "decimal": '{"kind":"decimal","precision":10}',
    "datetime": '{"kind":"datetime"}',
    "date": '{"kind":"date"}',
    "time": '{"kind":"time"}',
    "year": '{"kind":"year"}',
    "uuid": '{"kind":"uuid"}',
    "json": '{"kind":"json"}',
    "json_within": '{"kind":"json"}',
    "ip": '{"kind":"ip"}',
    "array_s": '{"kind":"array","elementType":{"kind":"string"}}',
    "array_json": '{"kind":"array","elementType":{"kind":"json"}}',
    "array_boolean": '{"kind":"array","elementType":{"kind":"boolean"}}',
    "array_array": '{"kind":"array","elementType":{"kind":"array","elementType":{"kind":"string"}}}',
    "map": '{"kind":"map","elementType":{"kind":"string"}}',
    "object": '{"kind":"object","properties":[{"name":"s","type":{"kind":"string"}}]}',
    "nullable": '{"kind":"boolean"}',
    "optional": '{"kind":"boolean"}',
}
SCHEMA = ObjectType(
    tuple(
        Property(name, parse_type(text), nullable=name == "nullable", read_optional=name == "optional")
        for name, text in PROPERTIES.items()
    )
)
VALUES = {
    "e": "pro", "e_empty": "", "date": "2024-02-29", "datetime": "2024-02-29T10:00:00", "time": "10:00:00",
    "uuid": "6f1d3c1e-9a3b-4c7e-8f00-1234567890ab", "ip": "::1",
}  # fmt: skip

COMPARABLE = "s e e_empty int float decimal datetime date time year uuid json json_within ip"
ORDERED = "s int float decimal json json_within"
MOMENTS = "datetime date time year"
HAS_PARTS = "s e e_empty json json_within array_s array_json"
ALLOWED = {
    "is": COMPARABLE,
    "is not": COMPARABLE,
    "is less than": ORDERED,
    "is less than or equal to": ORDERED,
    "is greater than": ORDERED,
    "is greater than or equal to": ORDERED,
    "is between": f"{ORDERED} {MOMENTS}",
    "is not between": f"{ORDERED} {MOMENTS}",
    "contains": HAS_PARTS,
    "does not contain": HAS_PARTS,
    "is one of": f"{ORDERED} {MOMENTS} e e_empty",
    "is not one of": f"{ORDERED} {MOMENTS} e e_empty",
    "starts with": "s json json_within",
    "ends with": "s json json_within",
    "is before": f"{MOMENTS} json json_within",
    "is on or before": f"{MOMENTS} json json_within",
    "is after": f"{MOMENTS} json json_within",
    "is on or after": f"{MOMENTS} json json_within",
    "is true": "boolean nullable optional json json_within",
    "is false": "boolean nullable optional json json_within",
    "is empty": "s e_empty json json_within array_s array_json array_boolean array_array map object",
    "is not empty": "s e_empty json json_within array_s array_json array_boolean array_array map object",
    "is null": "nullable json json_within",
    "is not null": "nullable json json_within",
    "exists": "optional json_within",
    "does not exist": "optional json_within",
}
COUNTS = {"is between": (2,), "is not between": (2,), "is one of": (1, 2, 5), "is not one of": (1, 2, 5)}
NULLARY = OPERATORS[OPERATORS.index("is true") :]


def check(
    property: str, operator: str, *values: str, role: Role = "Source", target: Target = "User", schema: Any = SCHEMA
) -> Condition:
    filter = Filter("and", (Condition(property, operator, values),))
    return check_filter(filter, schema, role=role, target=target).normal.conditions[0]


def extend_path(name: str) -> str:
    return "json_within.a.b" if name == "json_within" else name


def allowed(operator: str, **pipeline: Any) -> set[str]:
    found = set()
    for name in PROPERTIES:
        count = COUNTS.get(operator, (0 if operator in NULLARY else 1,))[0]
        try:
            check(extend_path(name), operator, *[VALUES.get(name, "7")] * count, **pipeline)
        except InvalidFilter as error:
            assert error.field == "conditions[0].operator"
        else:
            found.add(name)
    return found


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_and_kinds(operator: str) -> None:
    expected = set(ALLOWED[operator].split())
    assert allowed(operator) == expected
    # Filters of events and profiles cannot test objects for emptiness, and those of profiles cannot use JSON.
    assert allowed(operator, target="Event") == expected - {"object"}
    assert allowed(operator, role="Destination") == expected - {"object", "json", "json_within"}


@pytest.mark.parametrize("operator", OPERATORS)
def test_numbers_of_values(operator: str) -> None:
    name = next(iter(ALLOWED[operator].split()))
    right = COUNTS.get(operator, (0,) if operator in NULLARY else (1,))
    for count in (0, 1, 2, 3, 5):
        values = [VALUES.get(name, "7")] * count
        if count in right or (len(right) == 3 and count):
            assert (check(extend_path(name), operator, *values).values or ()) == tuple(values)
        else:
            with pytest.raises(InvalidFilter, match="must be"):
                check(extend_path(name), operator, *values)


NO_BOOLEAN = "cannot be used with properties of kind boolean; use is true or is false"
ALWAYS_THERE = "cannot be used: the property is not readOptional, so it always exists; give a path inside it"


@pytest.mark.parametrize(
    ("property", "operator", "values", "member", "rule"),
    [
        ("boolean", "is", ["true"], "operator", NO_BOOLEAN),
        ("e", "is less than", ["pro"], "operator", "cannot be used with strings with values"),
        ("e", "is one of", ["pro", "gold"], "values[1]", "must be one of the property's values"),
        ("e", "is empty", [], "operator", "cannot be used: the empty text is not one of the property's values"),
        ("int", "is", ["7.0"], "values[0]", "must be an integer"),
        ("json", "exists", [], "operator", ALWAYS_THERE),
        ("boolean", "is null", [], "operator", "cannot be used: the property is not nullable"),
        ("optional", "exists", ["x"], "values", "must be absent: the operator takes no values"),
        ("object", "contains", ["x"], "operator", "cannot be used with properties of kind object"),
        ("s", "is between", ["x"], "values", "must be 2 values, not 1"),
        ("s", "is one of", [], "values", "must be at least 1 value, not 0"),
        ("s", "equals", ["x"], "operator", "is not an operator"),
        ("array_boolean", "contains", ["x"], "operator", "cannot be used with arrays with elements of kind boolean"),
    ],
)
def test_messages(property: str, operator: str, values: list[str], member: str, rule: str) -> None:
    with pytest.raises(InvalidFilter) as raised:
        check(property, operator, *values)
    error = raised.value
    assert error.reason == f"conditions[0].{member} ({property} {operator}) {rule}"
    assert error.message == f"the filter is not valid: {error.reason}"
    assert (error.status, error.code, error.field) == (400, "BadRequest", f"conditions[0].{member}")
    assert (error.condition, error.property, error.operator, error.rule) == (0, property, operator, rule)


def test_messages_name_the_restriction_of_the_pipeline() -> None:
    with pytest.raises(InvalidFilter, match=r"kind object in filters of profiles and events$"):
        check("object", "is empty", target="Event")
    with pytest.raises(InvalidFilter, match=r"kind json in filters of profiles$"):
        check("json", "is empty", role="Destination")


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("nope", "nope"),
        ("object.nope.deeper", "object.nope"),
        ("s.deeper", "s.deeper"),
        ("array_s.x", "array_s.x"),
        ("map.key", "map.key"),
    ],
)
def test_unknown_properties(path: str, missing: str) -> None:
    with pytest.raises(UnknownProperty) as raised:
        check(path, "is", "x")
    assert raised.value.missing == missing
    assert raised.value.rule.startswith(f"names a property that does not exist, {missing}")
    assert raised.value.field == "conditions[0].property"


@pytest.mark.parametrize("path", ["", ".", ".a", "a.", "a..b", "a b", "a-b", "é", "json.1", "json.a b"])
def test_invalid_paths(path: str) -> None:
    with pytest.raises(InvalidFilter, match="must be property names") as raised:
        check(path, "is", "x")
    assert raised.value.field == "conditions[0].property"


def test_the_order_of_the_rules() -> None:
    """Each broken rule is fixed in turn, and the next one is reported."""
    good = Condition("s", "is", ("x",))
    steps: list[tuple[str, tuple[Condition, ...], str]] = [
        ("xor", (), "logical"),
        ("or", (), "conditions"),
        ("or", (good, Condition("a b", "equals", ("",) * 3)), "conditions[1].property"),
        ("or", (good, Condition("nope", "equals", ("",) * 3)), "conditions[1].property"),
        ("or", (good, Condition("int", "equals", ("",) * 3)), "conditions[1].operator"),
        ("or", (good, Condition("int", "is true", ("",) * 3)), "conditions[1].operator"),
        ("or", (good, Condition("int", "is between", ("",) * 3)), "conditions[1].values"),
        ("or", (good, Condition("int", "is between", ("1", "x"))), "conditions[1].values[1]"),
    ]
    for logical, conditions, field in steps:
        with pytest.raises(InvalidFilter) as raised:
            check_filter(Filter(logical, conditions), SCHEMA, role="Source", target="User")
        assert raised.value.field == field


def test_paths_that_are_used() -> None:
    conditions = (Condition("type", "is", ("track",)), Condition("properties.cart.total", "exists"),
                  Condition("context.page.url", "exists"), Condition("properties.x", "is null"))  # fmt: skip
    checked = check_filter(Filter("or", conditions), EVENT_SCHEMA, role="Destination", target="Event")
    assert checked.paths == ["context.page.url", "properties", "type"]


@pytest.mark.timeout(20)
def test_bounds() -> None:
    for path in ("json_within" + ".a" * 20_000, "s" * 50_000, "json." + "b" * 50_000):
        filter = Filter("and", (Condition(path, "is", ("x",)),))
        try:
            check_filter(filter, SCHEMA, role="Source", target="User")
        except InvalidFilter as error:
            assert len(error.message) < 500
    with pytest.raises(InvalidFilter, match="at most"):
        many = tuple(Condition("s", "is", ("x",)) for _ in range(MAX_CONDITIONS + 1))
        check_filter(Filter("and", many), SCHEMA, role="Source", target="User")
    with pytest.raises(InvalidFilter, match="at most"):
        check("s", "is one of", *["x"] * (MAX_VALUES + 1))
    wide = ObjectType(tuple(Property(f"p{number}", SCHEMA.properties[0].type) for number in range(5_000)))
    filter = Filter("and", tuple(Condition(f"p{number}", "is", ("x",)) for number in range(5_000)))
    assert len(check_filter(filter, wide, role="Source", target="User").paths) == 5_000
