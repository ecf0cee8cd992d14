"""Schemas as messages: every schema can be read and sent again, to the last digit of its bounds."""

from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given, settings

from headwater.api.messages.schema import to_schema, type_message
from headwater.schemas import DecimalType, FloatType, IntType, InvalidType, ObjectType, Property, Schema, Type
from headwater.v1 import schemas_pb2 as pb
from tests.schemas.strategies import schemas

TYPES = {"int": {"bit_size": 64}, "float": {"bit_size": 64}, "decimal": {"precision": 40, "scale": 5}}


def of(type_: Type) -> ObjectType:
    return ObjectType((Property("a", type_),))


def bounded(kind: str, bound: Value) -> pb.DataType:
    """Return a schema of a number with a lower bound."""
    number = pb.DataType(kind=kind, minimum=bound)
    for name, value in TYPES[kind].items():
        setattr(number, name, value)
    return pb.DataType(kind="object", properties=[pb.Property(name="a", type=number)])


@settings(max_examples=100, deadline=None)
@given(schemas())
def test_every_schema_is_unchanged_in_a_message(schema: Schema) -> None:
    message = type_message(schema)
    assert to_schema(message) == schema
    assert to_schema(json_format.Parse(json_format.MessageToJson(message), pb.DataType())) == schema


@pytest.mark.parametrize(
    ("type_", "shown"),
    [
        (IntType(32, maximum=5), 5),
        (IntType(64, maximum=2**53), 2**53),
        (IntType(64, maximum=2**53 + 1), "9007199254740993"),
        (IntType(64, unsigned=True, maximum=2**64 - 2), "18446744073709551614"),
        (FloatType(64, maximum=0.1), 0.1),
        (FloatType(64, maximum=1e300), 1e300),
        (DecimalType(5, 2, maximum=Decimal("1.1")), 1.1),
        (DecimalType(20, 2, maximum=Decimal("123456789012345678.25")), "123456789012345678.25"),
    ],
    ids=str,
)
def test_bounds_are_numbers_if_a_double_represents_them(type_: Type, shown: Any) -> None:
    bound = type_message(of(type_)).properties[0].type.maximum
    assert json_format.MessageToDict(bound) == shown


@pytest.mark.parametrize("kind", TYPES)
def test_bounds_are_read_as_numbers_and_as_text(kind: str) -> None:
    bounds = (Value(number_value=5.0), Value(string_value="5"), Value(null_value=struct_pb2.NULL_VALUE))
    read = [to_schema(bounded(kind, bound)) for bound in bounds]
    minima = [getattr(schema.properties[0].type, "minimum", ...) for schema in read if schema is not None]
    assert minima == [5, 5, None]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "bound",
    [
        Value(),
        Value(bool_value=True),
        Value(struct_value=Struct()),
        *(Value(number_value=float(number)) for number in ("inf", "-inf", "nan", "1e300")),
        *(
            Value(string_value=text)
            for text in ("", "five", "0x5", "+5", "05", "5 ", "1_0", "\u0665", "NaN", "1e999", "9" * 101)
        ),
    ],
    ids=lambda bound: str(bound).strip()[:30] or "nothing",
)
def test_an_invalid_bound_is_rejected(kind: str, bound: Value) -> None:
    if kind == "float" and bound.number_value == 1e300:
        return
    with pytest.raises(InvalidType) as caught:
        to_schema(bounded(kind, bound))
    assert caught.value.path == "properties[0].type.minimum"
