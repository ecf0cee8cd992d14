"""Random warehouse schemas, records and filters, with values that are apart by as little as possible.

Made from a seed, since thousands are needed: hypothesis picks the seed, and a failing test prints the one filter and
record that it failed for.
"""

import math
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any, Final

from headwater.filters import OPERATORS, CheckedFilter, Condition, Filter, InvalidFilter, check_filter
from headwater.filters.operators import arity, is_operator
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    YearType,
    decimal_text,
    to_float32,
    walk_objects,
)

_TEXTS: Final = (
    "", "a", "A", "ab", "aB", "b", " ", "a ", "é", "e\u0301", "\uffff", "\U00010000", "😀x", "%", "_", "a_b", "'", '"',
    "\\", "a\\b", '","', "x,y", "[]", "null", "10", "9", "-", "ß", "SS", "İ",
)  # fmt: skip
_INTS: Final = (0, 1, -1, 2, 9, 10, 99, 100, 127, -128, 2**15 - 1, 2**31 - 1, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63),
                2**63, 2**64 - 1)  # fmt: skip
_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 0.1, 0.30000000000000004, 0.3, 1e-7, 5e-324, 1.5, 2.5, 1e15, 123456789.125,
                  2.0**53, 1e22, 1.7976931348623157e308, math.inf, -math.inf, 16777217.0, 3.14)  # fmt: skip
_DECIMALS: Final = ("0", "1", "-1", "0.5", "-0.5", "0.05", "0.50001", "9", "10", "9.9", "-9", "-10", "-9.9", "99",
                    "100", "12345678901234567890", "-12345678901234567890.1", "0.1",
                    "0.10000000000000000001")  # fmt: skip
_DATES: Final = ("0001-01-01", "0999-12-31", "1969-12-31", "1970-01-01", "2024-02-29", "2024-03-01", "9999-12-31")
_CLOCKS: Final = ("00:00:00", "10:00:00", "10:00:00.5", "10:00:00.500001", "10:00:00.4", "10:00:01", "23:59:59.999999")
_FINER: Final = ("10:00:00.5000001", "10:00:00.000000001", "23:59:59.999999999")
_UUIDS: Final = ("00000000-0000-0000-0000-000000000000", "6f1d3c1e-9a3b-4c7e-8f00-1234567890ab")
_IPS: Final = ("0.0.0.0", "10.0.0.1", "::1", "2001:db8::1", "::ffff:10.0.0.1", "255.255.255.255")
_YEARS: Final = (1, 9, 10, 999, 1000, 1999, 2024, 9999)

SCALARS: Final[tuple[Type, ...]] = (
    StringType(),
    StringType(max_length=20),
    BooleanType(),
    *(IntType(size) for size in (8, 16, 24, 32, 64)),
    *(IntType(size, unsigned=True) for size in (8, 16, 32, 64)),
    FloatType(32),
    FloatType(64),
    FloatType(64, real=True),
    DecimalType(5, 2),
    DecimalType(40, 20),
    DateTimeType(),
    DateType(),
    TimeType(),
    YearType(),
    UuidType(),
    IpType(),
)


def schema(random: Random) -> Schema:
    """Some properties of every shape, as a warehouse may have them."""
    properties = [_property(random, f"p{index}", _type(random, nested=True)) for index in range(random.randint(4, 9))]
    return ObjectType(tuple(properties))


def _property(random: Random, name: str, type: Type, *, optional: bool = False) -> Property:
    flag = "optional" if optional or isinstance(type, ObjectType) else random.choice(("optional", "nullable", ""))
    return Property(name, type, read_optional=flag == "optional", nullable=flag == "nullable")


def _type(random: Random, *, nested: bool) -> Type:
    shape = random.random()
    if shape < 0.15:
        return ArrayType(random.choice(SCALARS))
    if shape < 0.2:
        return MapType(random.choice(SCALARS))
    if shape < 0.35 and nested:
        children = [
            _property(random, f"c{index}", _type(random, nested=random.random() < 0.3), optional=True)
            for index in range(random.randint(1, 3))
        ]
        return ObjectType(tuple(children))
    return random.choice(SCALARS)


def record(random: Random, schema: ObjectType, *, nan: bool = False) -> dict[str, Any]:
    """One that a warehouse may give back: no object in it is empty. With `nan`, it is among the floats."""
    made: dict[str, Any] = {}
    for property in schema:
        if property.read_optional and random.random() < 0.2:
            continue
        value = None if property.nullable and random.random() < 0.2 else value_of(random, property.type, nan=nan)
        if value != {} or not isinstance(property.type, ObjectType):
            made[property.name] = value
    return made


def value_of(random: Random, type: Type, *, nan: bool = False) -> Any:
    """A value of the type; of arrays and maps some are empty."""
    match type:
        case ObjectType():
            return record(random, type, nan=nan)
        case ArrayType(element_type=element):
            return [value_of(random, element, nan=nan) for _ in range(random.randint(0, 3))]
        case MapType(element_type=element):
            return {
                random.choice(("k", "", "ü")): value_of(random, element, nan=nan) for _ in range(random.randint(0, 2))
            }
        case IntType():
            low, high = type.range
            return random.choice([number for number in _INTS if low <= number <= high])
        case FloatType(real=False) if nan and random.random() < 0.2:
            return math.nan
        case FloatType(bit_size=size, real=real):
            floats = [number for number in _FLOATS if math.isfinite(number) or not real]
            if size == 32:
                rounded = [to_float32(number) for number in floats]
                floats = [
                    new for new, old in zip(rounded, floats, strict=True) if math.isfinite(new) == math.isfinite(old)
                ]
            return random.choice(floats)
        case DecimalType(precision=precision):
            return Decimal(random.choice([text for text in _DECIMALS if len(text) < 6 or precision > 5]))
        case DateTimeType():
            return DateTime.parse(f"{random.choice(_DATES)}T{random.choice(_CLOCKS)}Z")
        case _:
            return _PLAIN[type.kind](random)


_PLAIN: Final[dict[str, Callable[[Random], Any]]] = {
    "string": lambda random: random.choice(_TEXTS),
    "boolean": lambda random: random.random() < 0.5,
    "date": lambda random: date.fromisoformat(random.choice(_DATES)),
    "time": lambda random: Time.parse(random.choice(_CLOCKS)),
    "year": lambda random: random.choice(_YEARS),
    "uuid": lambda random: random.choice(_UUIDS),
    "ip": lambda random: random.choice(_IPS),
}


def literal(random: Random, type: Type) -> str:
    """A text that may be compared with values of the type, or with the elements of an array; often one of them."""
    if isinstance(type, ArrayType):
        type = type.element_type
    clock = random.choice(_CLOCKS if random.random() < 0.7 else _FINER)
    match type:
        case IntType():
            return str(random.choice([number for number in _INTS if number >= 0 or not type.unsigned]))
        case FloatType():
            return repr(random.choice(_FLOATS))
        case DecimalType():
            return random.choice(_DECIMALS)
        case DateTimeType():
            return f"{random.choice(_DATES)}T{clock}"
        case TimeType():
            return clock
        case YearType():
            return str(random.choice(_YEARS))
        case _:
            value = value_of(random, type)
            return decimal_text(value) if isinstance(value, Decimal) else str(value)


def filter(random: Random, schema: Schema) -> CheckedFilter:
    """One that fits the schema."""
    paths = [(path, property) for path, property in walk_objects(schema)]
    while True:
        conditions: list[Condition] = []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            path, property = random.choice(paths)
            operator = random.choice(OPERATORS)
            assert is_operator(operator)
            least, most = arity(operator)
            count = random.randint(1, 4) if most is None else least
            conditions.append(Condition(path, operator, tuple(literal(random, property.type) for _ in range(count))))
        try:
            return check_filter(
                Filter(random.choice(("and", "or")), tuple(conditions)), schema, role="Source", target="User"
            )
        except InvalidFilter:
            continue
