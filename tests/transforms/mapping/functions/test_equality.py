"""Equality of two values of a type, for the types that Python compares differently."""

from typing import Any

import pytest

from headwater.schemas import ArrayType, Json, MapType, ObjectType, Property, Type
from headwater.transforms.mapping.functions.equality import compile_equality
from tests.transforms.mapping.examples import JSON, TEXT

JSONS, KEYED = ArrayType(JSON), MapType(JSON)
PAIR = ObjectType((Property("a", JSON, nullable=True, read_optional=True), Property("b", TEXT, nullable=True)))
ENDLESS = "1e99999999999999999999"


@pytest.mark.parametrize(
    ("type", "one", "other", "equal"),
    [
        (JSON, Json('{"a":1,"b":[1.0]}'), Json('{"b":[1],"a":1e0}'), True),
        (JSON, Json('{"a":1}'), Json('{"b":1}'), False),
        (JSON, Json('{"a":1}'), Json('{"a":2}'), False),
        (JSON, Json('{"a":1}'), Json('{"a":"1"}'), False),
        (JSON, Json("[1,2]"), Json("[1]"), False),
        (JSON, Json("false"), Json("0"), False),
        (JSON, Json(f"[1.0,{ENDLESS}]"), Json(f"[1,{ENDLESS}]"), True),
        (JSON, Json(f"[{ENDLESS}]"), Json(f"[{ENDLESS[:-1]}8]"), False),
        (JSONS, [Json("1.0")], [Json("1")], True),
        (JSONS, [Json("1")], [Json("2")], False),
        (JSONS, [Json("1")], [Json("1"), Json("2")], False),
        (KEYED, {"a": Json("1.0"), "b": Json("2")}, {"b": Json("2"), "a": Json("1")}, True),
        (KEYED, {"a": Json("1")}, {"a": Json("2")}, False),
        (KEYED, {"a": Json("1")}, {"b": Json("1")}, False),
        (PAIR, {"a": Json("1.0"), "b": "x"}, {"a": Json("1"), "b": "x"}, True),
        (PAIR, {"a": Json("1"), "b": "x"}, {"a": Json("1"), "b": "y"}, False),
        (PAIR, {"a": Json("1"), "b": None}, {"a": Json("1"), "b": None}, True),
        (PAIR, {"a": None, "b": "x"}, {"a": Json("1"), "b": "x"}, False),
        (PAIR, {"a": Json("1"), "b": "x"}, {"a": None, "b": "x"}, False),
        (PAIR, {"a": None, "b": "x"}, {"b": "x"}, False),  # null is not missing
    ],
)
def test_equality(type: Type, one: Any, other: Any, equal: bool) -> None:
    assert compile_equality(type)(one, other) is equal
