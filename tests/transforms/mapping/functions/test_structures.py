"""array, map, json_parse."""

from datetime import date
from typing import Any

import pytest

from headwater.schemas import Json
from headwater.schemas import types as t
from headwater.transforms.mapping import InvalidMapping, TransformationError, ValidationError
from tests.transforms.mapping.examples import INT32, JSON, TEXT, evaluate

PERSON = t.ObjectType((t.Property("name", TEXT), t.Property("age", INT32, nullable=True)))


@pytest.mark.parametrize(
    ("expression", "type", "value"),
    [
        ("array(1, 'b', false)", t.ArrayType(TEXT), ["1", "b", "false"]),
        ("array(1, 'b', false)", JSON, Json('[1,"b",false]')),
        ("array()", t.ArrayType(INT32), []),
        ("array()", JSON, Json("[]")),
        ("array(null, gone, doc.b.c)", JSON, Json("[null,null,null]")),
        ("array('1.5', n)", t.ArrayType(t.FloatType(64)), [1.5, 3.0]),
        ("array('2024-01-01', at)", t.ArrayType(t.DateType()), [date(2024, 1, 1), date(2024, 3, 5)]),
        ("array(array(1), tags)", JSON, Json('[[1],["vip","new"]]')),
        ("array(array(1), array())", t.ArrayType(t.ArrayType(INT32)), [[1], []]),
        ("array(doc.l)", t.ArrayType(t.ArrayType(TEXT)), [["1", "x"]]),
        ("map('a', 1, 'b', gone)", JSON, Json('{"a":1}')),
        ("map('a', null, 'b', lower(gone), 'c', doc.b.c)", JSON, Json('{"a":null,"b":null,"c":null}')),
        ("map('a', unknown, 'b', missing.street)", JSON, Json("{}")),
        ("map()", JSON, Json("{}")),
        ("map('', '', 'é\"', big)", JSON, Json('{"":"","é\\"":9007199254740993}')),
        ("map('a', map('b', at))", JSON, Json('{"a":{"b":"2024-03-05T10:00:00.500Z"}}')),
        ("map('a', 1)", t.MapType(JSON), {"a": Json("1")}),
        ("map('a', 1, 'b', null)", t.MapType(INT32), {"a": 1}),
        ("map('name', first, 'age', gone)", PERSON, {"name": "Ada"}),
        ("map('name', first, 'age', null, 'other', 1)", PERSON, {"name": "Ada", "age": None}),
        ("json_parse('{\"q\":[1]}')", JSON, Json('{"q":[1]}')),
        ("json_parse(' [ 1.50 , null ] ')", JSON, Json("[1.50,null]")),
        ("json_parse('null')", JSON, Json("null")),
        ("json_parse('5')", INT32, 5),
        ("json_parse(n)", JSON, Json("3")),
        ("json_parse(gone)", JSON, None),
        ("json_parse(doc.b.c)", JSON, None),
        ("json_parse('\"[1]\"')", JSON, Json('"[1]"')),
        ("json_parse(json_parse('\"[1]\"'))", JSON, Json("[1]")),
    ],
)
def test_gives(expression: str, type: t.Type, value: Any) -> None:
    assert evaluate(expression, type) == value


@pytest.mark.parametrize(
    ("expression", "type", "reason"),
    [
        ("array(7)", t.ArrayType(t.DateType()), "int(32) cannot be converted to date, at character 7"),
        ("array(n)", t.ArrayType(t.DateType()), "int(32) cannot be converted to date, at character 7"),
        ("array(1, null)", t.ArrayType(INT32), "null cannot be an element of array(int(32)), at character 10"),
        ("array(1, '')", t.ArrayType(INT32), "'' cannot be converted to int(32)"),
        ("array(1)", t.BooleanType(), "array(json) cannot be converted to boolean"),
        ("array(1)", TEXT, "array(json) cannot be converted to string"),
        ("map('a')", JSON, "map takes pairs of keys and values, at character 1"),
        ("map(first, 1)", JSON, "a key of map must be a string constant, at character 5"),
        ("map(1, 1)", JSON, "a key of map must be a string constant"),
        ("map('a' n, 1)", JSON, "a key of map must be a string constant"),
        ("map('a', 1, \"a\", 2)", JSON, "the key is given twice, at character 13"),
        ("map('a', 1)", TEXT, "map(json) cannot be converted to string"),
        ("json_parse()", JSON, "json_parse takes 1 argument, and has 0"),
        ("json_parse(tags)", JSON, "array(string) cannot be converted to string"),
    ],
)
def test_refuses(expression: str, type: t.Type, reason: str) -> None:
    with pytest.raises(InvalidMapping) as raised:
        evaluate(expression, type)
    assert reason in raised.value.message


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "nul", "1 2", "NaN", "'a'", '{"a":1,}'])
def test_parses_only_json(text: str) -> None:
    with pytest.raises(TransformationError, match="the text for json_parse must be JSON"):
        evaluate("json_parse(" + ('"' + text.replace('"', '\\"') + '"') + ")")


def test_parses_only_so_deep() -> None:
    with pytest.raises(TransformationError, match="nested deeper than 100 levels"):
        evaluate("json_parse('" + "[" * 20_000 + "]" * 20_000 + "')")


@pytest.mark.parametrize(
    ("expression", "type", "reason"),
    [
        ("array(n, gone)", t.ArrayType(INT32), "the result at [1] must not be null or empty"),
        ("array(n, first)", t.ArrayType(INT32), "the result at [1] must be the digits of an integer"),
        ("array(1)", t.ArrayType(INT32, min_elements=2), "the result must have 2 to"),
        (
            "array(1, n, '3')",
            t.ArrayType(INT32, unique_elements=True),
            "the result at [2] is equal to an earlier element",
        ),
        ("map('a', 'x')", t.MapType(INT32), 'the result at ["a"] must be a JSON number'),
        ("map('age', 3000000000)", PERSON, "the result at age must be an integer in the range"),
        ("tags", t.ArrayType(t.IntType(8)), "the result at [0] must be the digits of an integer"),
    ],
)
def test_results_must_fit(expression: str, type: t.Type, reason: str) -> None:
    with pytest.raises(ValidationError) as failed:
        evaluate(expression, type)
    assert failed.value.reason.startswith(reason)
