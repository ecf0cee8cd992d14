import math
from collections.abc import Callable
from decimal import Decimal

import pytest

from headwater.schemas import InvalidType
from headwater.schemas import types as t

BROKEN: list[tuple[Callable[[], object], str, str]] = [
    (lambda: t.StringType(max_length=0), "maxLength", "must be in the range 1 to 4294967295"),
    (lambda: t.StringType(max_length=2**32), "maxLength", "must be in the range 1 to 4294967295"),
    (lambda: t.StringType(max_bytes=0), "maxBytes", "must be in the range 1 to 4294967295"),
    (lambda: t.StringType(max_bytes=2**32), "maxBytes", "must be in the range 1 to 4294967295"),
    (lambda: t.StringType(pattern="("), "pattern", "must be a regular expression of RE2: missing ): ("),
    (
        lambda: t.StringType(pattern=r"(a)\1"),
        "pattern",
        r"must be a regular expression of RE2: invalid escape sequence: \1",
    ),
    (lambda: t.StringType(pattern="\0"), "pattern", "must not contain NUL"),
    (lambda: t.StringType(values=()), "values", "must have at least one element"),
    (lambda: t.StringType(values=("a", "b\0")), "values[1]", "must not contain NUL"),
    (lambda: t.StringType(values=("e\u0301",)), "values[0]", "must be in Unicode's normalization form C"),
    (lambda: t.StringType(values=("\ud800",)), "values[0]", "must not contain lone surrogates"),
    (
        lambda: t.StringType(values=("a",), pattern="a"),
        "values",
        "cannot be combined with pattern, maxLength or maxBytes",
    ),
    (
        lambda: t.StringType(values=("a",), max_length=1),
        "values",
        "cannot be combined with pattern, maxLength or maxBytes",
    ),
    (
        lambda: t.StringType(values=("a",), max_bytes=1),
        "values",
        "cannot be combined with pattern, maxLength or maxBytes",
    ),
    (lambda: t.IntType(7), "bitSize", "must be 8, 16, 24, 32 or 64"),
    (lambda: t.IntType(8, minimum=-129), "minimum", "must be in the range -128 to 127"),
    (lambda: t.IntType(8, maximum=128), "maximum", "must be in the range -128 to 127"),
    (lambda: t.IntType(8, True, minimum=-1), "minimum", "must be in the range 0 to 255"),
    (lambda: t.IntType(64, True, maximum=2**64), "maximum", "must be in the range 0 to 18446744073709551615"),
    (lambda: t.IntType(8, minimum=2, maximum=1), "minimum", "must not be above the maximum"),
    (lambda: t.FloatType(16), "bitSize", "must be 32 or 64"),
    (lambda: t.FloatType(64, minimum=math.nan), "minimum", "must be a finite number of 64 bits"),
    (lambda: t.FloatType(64, maximum=math.inf), "maximum", "must be a finite number of 64 bits"),
    (lambda: t.FloatType(32, maximum=1e39), "maximum", "must be a finite number of 32 bits"),
    (lambda: t.FloatType(64, minimum=0.2, maximum=0.1), "minimum", "must not be above the maximum"),
    (lambda: t.DecimalType(0), "precision", "must be in the range 1 to 76"),
    (lambda: t.DecimalType(77), "precision", "must be in the range 1 to 76"),
    (lambda: t.DecimalType(4, 5), "scale", "must be in the range 0 to 37 and not above the precision"),
    (lambda: t.DecimalType(76, 38), "scale", "must be in the range 0 to 37 and not above the precision"),
    (lambda: t.DecimalType(4, -1), "scale", "must be in the range 0 to 37 and not above the precision"),
    (lambda: t.DecimalType(3, 1, Decimal("0.05")), "minimum", "must be a decimal(3,1)"),
    (lambda: t.DecimalType(3, 1, Decimal(100)), "minimum", "must be a decimal(3,1)"),
    (lambda: t.DecimalType(3, 1, None, Decimal("NaN")), "maximum", "must be a decimal(3,1)"),
    (lambda: t.DecimalType(3, 1, Decimal(2), Decimal(1)), "minimum", "must not be above the maximum"),
    (lambda: t.ArrayType(t.StringType(), max_elements=2**31), "maxElements", "must be in the range 0 to 2147483647"),
    (lambda: t.ArrayType(t.StringType(), max_elements=-1), "maxElements", "must be in the range 0 to 2147483647"),
    (lambda: t.ArrayType(t.StringType(), -1), "minElements", "must be 0 or more, and not above maxElements"),
    (lambda: t.ArrayType(t.StringType(), 3, 2), "minElements", "must be 0 or more, and not above maxElements"),
    (lambda: t.ObjectType(()), "properties", "must have at least one element"),
    (
        lambda: t.ObjectType((_property("a"), _property("b"), _property("a"))),
        "properties[2].name",
        "is the name of an earlier property",
    ),
    (lambda: _property("a-b"), "name", "must be a letter or underscore followed by letters, digits and underscores"),
    (lambda: _property(""), "name", "must be a letter or underscore followed by letters, digits and underscores"),
    (lambda: _property("é"), "name", "must be a letter or underscore followed by letters, digits and underscores"),
    (lambda: _property("a\n"), "name", "must be a letter or underscore followed by letters, digits and underscores"),
    (lambda: t.Property("a", t.StringType(), prefilled="\0"), "prefilled", "must not contain NUL"),
    (lambda: t.Property("a", t.StringType(), description="\0"), "description", "must not contain NUL"),
]


def _property(name: str) -> t.Property:
    return t.Property(name, t.StringType())


@pytest.mark.parametrize(("make", "path", "rule"), BROKEN)
def test_a_broken_rule_is_named_with_its_key(make: Callable[[], object], path: str, rule: str) -> None:
    with pytest.raises(InvalidType) as caught:
        make()
    assert (caught.value.path, caught.value.rule) == (path, rule)
    assert caught.value.field == path
    assert str(caught.value) == f"{path} {rule}"


@pytest.mark.parametrize(
    "element", [t.JsonType(), t.ArrayType(t.StringType()), t.MapType(t.StringType()), t.ObjectType((_property("a"),))]
)
def test_only_elements_that_can_be_compared_may_be_unique(element: t.Type) -> None:
    with pytest.raises(InvalidType, match=f"uniqueElements cannot be set when the elements are of kind {element.kind}"):
        t.ArrayType(element, unique_elements=True)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        (t.IntType(16, minimum=-32768, maximum=900), t.IntType(16, maximum=900)),
        (t.IntType(24, True, 0, 2**24 - 1), t.IntType(24, True)),
        (t.FloatType(32, minimum=-t.MAX_FLOAT32, maximum=t.MAX_FLOAT32), t.FloatType(32)),
        (t.FloatType(32, maximum=0.1), t.FloatType(32, maximum=0.10000000149011612)),
        (t.DecimalType(3, 1, Decimal("-99.9"), Decimal("99.90")), t.DecimalType(3, 1)),
        (t.DecimalType(3, 1, Decimal("1.50")), t.DecimalType(3, 1, Decimal("1.5"))),
    ],
)
def test_redundant_constraints_are_none(given: t.Type, canonical: t.Type) -> None:
    assert given == canonical
    assert hash(given) == hash(canonical)


def test_a_bound_is_never_a_negative_zero() -> None:
    bounds = t.FloatType(64, minimum=-0.0), t.DecimalType(3, 1, Decimal("-0.0"))
    assert math.copysign(1, bounds[0].minimum or 0.0) == 1
    assert str(bounds[1].minimum) == "0"


@pytest.mark.parametrize("size", [8, 16, 24, 32, 64])
def test_natural_ranges_of_ints(size: int) -> None:
    assert t.IntType(size).range == (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    assert t.IntType(size, unsigned=True).range == (0, 2**size - 1)


def test_natural_range_of_decimals_is_exact() -> None:
    low, high = t.DecimalType(76, 37).range
    assert high == Decimal("9" * 39 + "." + "9" * 37)
    assert low == high.copy_negate()


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (t.StringType(max_length=3), "string"),
        (t.IntType(32), "int(32)"),
        (t.IntType(32, unsigned=True), "int(32)"),
        (t.FloatType(64), "float(64)"),
        (t.DecimalType(10, 3), "decimal(10,3)"),
        (t.DateTimeType(), "datetime"),
        (t.ArrayType(t.BooleanType()), "array(boolean)"),
        (t.MapType(t.IntType(16)), "map(int(16))"),
        (t.ObjectType((_property("a"),)), "object"),
    ],
)
def test_display_form(type: t.Type, text: str) -> None:
    assert str(type) == text


def test_there_are_15_kinds() -> None:
    assert len(t.KINDS) == 15


@pytest.mark.parametrize(
    "wrap",
    [t.ArrayType, t.MapType, lambda type: t.ObjectType((t.Property("a", type),))],
    ids=["array", "map", "object"],
)
def test_nesting_is_bounded(wrap: Callable[[t.Type], t.Type]) -> None:
    type: t.Type = t.StringType()
    for _ in range(t.MAX_DEPTH - 1):
        type = wrap(type)
    assert type.depth == t.MAX_DEPTH
    assert hash(type) == hash(type)
    assert repr(type)
    with pytest.raises(InvalidType, match="the type is nested deeper than 64 levels"):
        wrap(type)


def test_properties_are_found_by_name() -> None:
    type = t.ObjectType((_property("b"), _property("a")))
    assert type.get("a") is type.properties[1]
    assert type.get("c") is None
    assert list(type) == list(type.properties)
    assert list(type.by_name) == ["b", "a"]
