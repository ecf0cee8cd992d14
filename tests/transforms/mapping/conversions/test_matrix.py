"""The conversion matrix, cell by cell."""

import pytest

from headwater.schemas import types as t
from headwater.transforms.mapping.conversions.conversion import conversion
from headwater.transforms.mapping.conversions.matrix import find_mismatch

TEXT, INT, DAY = t.StringType(), t.IntType(32), t.DateType()
TYPES: dict[str, t.Type] = {
    "string": TEXT,
    "boolean": t.BooleanType(),
    "int": INT,
    "float": t.FloatType(64),
    "decimal": t.DecimalType(10, 2),
    "datetime": t.DateTimeType(),
    "date": DAY,
    "time": t.TimeType(),
    "year": t.YearType(),
    "uuid": t.UuidType(),
    "json": t.JsonType(),
    "ip": t.IpType(),
    "array": t.ArrayType(TEXT),
    "object": t.ObjectType((t.Property("a", TEXT),)),
    "map": t.MapType(TEXT),
}
MATRIX = """
from \\ to  string boolean int float decimal datetime date time year uuid json ip array object map
string     x      x       x   x     x       x        x    x    x    x    x    x  .     .      .
boolean    x      x       .   .     .       .        .    .    .    .    x    .  .     .      .
int        x      .       x   x     x       .        .    .    x    .    x    .  .     .      .
float      x      .       x   x     x       .        .    .    .    .    x    .  .     .      .
decimal    x      .       x   x     x       .        .    .    .    .    x    .  .     .      .
datetime   x      .       .   .     .       x        x    x    .    .    x    .  .     .      .
date       x      .       .   .     .       x        x    .    .    .    x    .  .     .      .
time       x      .       .   .     .       .        .    x    .    .    x    .  .     .      .
year       x      .       x   .     .       .        .    .    x    .    x    .  .     .      .
uuid       x      .       .   .     .       .        .    .    .    x    x    .  .     .      .
json       x      x       x   x     x       x        x    x    x    x    x    x  x     x      x
ip         x      .       .   .     .       .        .    .    .    .    x    x  .     .      .
array      .      .       .   .     .       .        .    .    .    .    x    .  x     .      .
object     .      .       .   .     .       .        .    .    .    .    x    .  .     x      x
map        .      .       .   .     .       .        .    .    .    .    x    .  .     x      x
"""
_HEADING, *_ROWS = MATRIX.strip().splitlines()
CELLS = [
    (row.split()[0], target, mark == "x")
    for row in _ROWS
    for target, mark in zip(_HEADING.split()[3:], row.split()[1:], strict=True)
]


def test_the_table_is_complete() -> None:
    assert len(CELLS) == len(t.KINDS) ** 2


@pytest.mark.parametrize(("source", "target", "convertible"), CELLS)
def test_cell(source: str, target: str, convertible: bool) -> None:
    reason = find_mismatch(TYPES[source], TYPES[target])
    if convertible:
        assert reason is None
        conversion(TYPES[source], TYPES[target])
    else:
        assert reason == f"{TYPES[source]} cannot be converted to {TYPES[target]}"


@pytest.mark.parametrize("size", [8, 16, 24, 32, 64])
def test_booleans_and_ints_of_8_bits_are_the_same_to_programs(size: int) -> None:
    assert (find_mismatch(t.BooleanType(), t.IntType(size)) is None) == (size == 8)
    assert (find_mismatch(t.IntType(size, unsigned=True), t.BooleanType()) is None) == (size == 8)


def _object(**types: t.Type) -> t.ObjectType:
    return t.ObjectType(tuple(t.Property(name, type) for name, type in types.items()))


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (t.ArrayType(TEXT), t.ArrayType(INT), None),
        (t.ArrayType(DAY), t.ArrayType(INT), "date cannot be converted to int(32)"),
        (t.ArrayType(t.ArrayType(TEXT)), t.ArrayType(TEXT), "array(string) cannot be converted to string"),
        (t.MapType(TEXT), t.MapType(INT), None),
        (t.MapType(DAY), t.MapType(INT), "date cannot be converted to int(32)"),
        (t.MapType(TEXT), _object(a=INT, b=DAY), None),
        (t.MapType(INT), _object(a=TEXT, b=DAY), "b: int(32) cannot be converted to date"),
        (_object(a=INT, b=DAY), t.MapType(TEXT), None),
        (_object(a=INT, b=DAY), t.MapType(INT), "b: date cannot be converted to int(32)"),
        (_object(a=INT, b=DAY), _object(a=TEXT, c=INT), None),
        (_object(a=INT, b=DAY), _object(b=INT, a=INT), "b: date cannot be converted to int(32)"),
        (_object(a=INT), _object(b=INT), "the objects have no property in common"),
        (_object(a=_object(b=DAY)), _object(a=_object(b=INT)), "a: b: date cannot be converted to int(32)"),
        (t.MapType(t.MapType(DAY)), t.JsonType(), None),
    ],
)
def test_element_types_decide(source: t.Type, target: t.Type, reason: str | None) -> None:
    assert find_mismatch(source, target) == reason
