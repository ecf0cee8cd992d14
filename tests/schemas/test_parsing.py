import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import (
    InvalidType,
    parse_schema,
    parse_type,
    read_schema,
    read_type,
)
from headwater.schemas import types as t
from tests.complexity import assert_linear
from tests.jsontexts import json_values

KINDS_WITHOUT_KEYS = ["boolean", "datetime", "date", "time", "year", "uuid", "json", "ip"]


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ('{"kind":"string"}', t.StringType()),
        ('{"kind":"string","maxLength":5,"maxBytes":9}', t.StringType(max_length=5, max_bytes=9)),
        ('{"kind":"string","charLen":5}', t.StringType(max_length=5)),
        ('{"kind":"string","values":["s","m",""]}', t.StringType(values=("s", "m", ""))),
        ('{"kind":"string","values":["e\\u0301"]}', t.StringType(values=("é",))),
        ('{"kind":"string","values":["e\u0301"]}', t.StringType(values=("é",))),
        ('{"bitSize":8,"kind":"int"}', t.IntType(8)),
        (
            '{"kind":"int","bitSize":64,"unsigned":true,"maximum":18446744073709551614}',
            t.IntType(64, True, None, 2**64 - 2),
        ),
        ('{"kind":"int","bitSize":64,"unsigned":false}', t.IntType(64)),
        ('{"kind":"float","bitSize":32,"real":true,"minimum":0,"maximum":1.5e1}', t.FloatType(32, True, 0.0, 15.0)),
        ('{"kind":"decimal","precision":10}', t.DecimalType(10)),
        ('{"kind":"array","elementType":{"kind":"boolean"},"minElements":1}', t.ArrayType(t.BooleanType(), 1)),
        ('{"kind":"map","elementType":{"kind":"boolean"}}', t.MapType(t.BooleanType())),
        (
            '{"kind":"object","properties":[{"name":"a","type":{"kind":"boolean"}}]}',
            t.ObjectType((t.Property("a", t.BooleanType()),)),
        ),
    ],
)
def test_types(text: str, type: t.Type) -> None:
    assert parse_type(text) == type
    assert parse_type(text.encode()) == type


def test_the_empty_lists_of_responses_are_no_members() -> None:
    text = '{"kind":"string","values":[],"properties":[]}'
    assert parse_type(text) == t.StringType()
    schema = f'{{"kind":"object","values":[],"properties":[{{"name":"a","type":{text}}}]}}'
    assert parse_type(schema) == t.ObjectType((t.Property("a", t.StringType()),))
    with pytest.raises(InvalidType, match="values is not a key of a type of kind boolean"):
        parse_type('{"kind":"boolean","values":["a"]}')


@pytest.mark.parametrize("kind", KINDS_WITHOUT_KEYS)
def test_kinds_without_keys(kind: str) -> None:
    assert parse_type(f'{{"kind":"{kind}"}}').kind == kind
    with pytest.raises(InvalidType, match=f"maxLength is not a key of a type of kind {kind}"):
        parse_type(f'{{"kind":"{kind}","maxLength":1}}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the type must be JSON in UTF-8"),
        ("{", "the type must be JSON in UTF-8"),
        ('{"kind":"ip"} x', "the type must be JSON in UTF-8"),
        ("null", "the type must be an object"),
        ("[]", "the type must be an object"),
        ('"string"', "the type must be an object"),
        ('{"bitSize":8}', "kind is missing"),
        ("{}", "kind is missing"),
        ('{"kind":null}', "kind must be one of string, boolean, int"),
        ('{"kind":["int"]}', "kind must be one of string, boolean, int"),
        ('{"kind":"T"}', "kind must be one of string, boolean, int"),
        ('{"kind":"Int","bitSize":8}', "kind must be one of string, boolean, int"),
        ('{"kind":"int","Bitsize":8}', "Bitsize is not a key of a type of kind int"),
        ('{"kind":"int","bitSize":8,"x y":1}', '["x y"] is not a key of a type of kind int'),
        ('{"kind":"int","bitSize":8,"scale":1}', "scale is not a key of a type of kind int"),
        ('{"kind":"int","bitSize":8,"bitSize":8}', "bitSize is given twice"),
        ('{"kind":"int"}', "bitSize is missing"),
        ('{"kind":"int","bitSize":"8"}', "bitSize must be an integer"),
        ('{"kind":"int","bitSize":8.0}', "bitSize must be an integer"),
        ('{"kind":"int","bitSize":true}', "bitSize must be an integer"),
        ('{"kind":"int","bitSize":null}', "bitSize must be an integer"),
        ('{"kind":"int","bitSize":8,"unsigned":1}', "unsigned must be a boolean"),
        ('{"kind":"int","bitSize":8,"minimum":' + "9" * 9999 + "}", "minimum is out of range"),
        ('{"kind":"float"}', "bitSize is missing"),
        ('{"kind":"float","bitSize":64,"minimum":1e400}', "minimum must be a finite number of 64 bits"),
        (
            '{"kind":"float","bitSize":64,"minimum":1e99999999999999999999}',
            "minimum must be a finite number of 64 bits",
        ),
        ('{"kind":"float","bitSize":64,"minimum":NaN}', "the type must be JSON in UTF-8"),
        ('{"kind":"float","bitSize":64,"minimum":"0"}', "minimum must be a number"),
        ('{"kind":"decimal"}', "precision is missing"),
        ('{"kind":"decimal","precision":3,"minimum":0.5}', "minimum must be a decimal(3,0)"),
        ('{"kind":"decimal","precision":3,"maximum":' + "9" * 9999 + "}", "maximum must be a decimal(3,0)"),
        ('{"kind":"decimal","precision":3,"scale":3,"minimum":0.' + "0" * 300 + "1}", "minimum must be a decimal(3,3)"),
        ('{"kind":"string","maxLength":1,"charLen":1}', "charLen means the same as maxLength: give only one"),
        ('{"kind":"string","charLen":"1"}', "charLen must be an integer"),
        ('{"kind":"string","values":"a"}', "values must be an array of strings"),
        ('{"kind":"string","values":null}', "values must be an array of strings"),
        ('{"kind":"string","values":["a",1]}', "values[1] must be a string"),
        ('{"kind":"string","values":["\\ud800"]}', "values[0] must not contain lone surrogates"),
        ('{"kind":"string","pattern":1}', "pattern must be a string"),
        ('{"kind":"array"}', "elementType is missing"),
        (
            '{"kind":"array","items":{"kind":"ip"}}',
            "items is not a key of a type of kind array; did you mean elementType?",
        ),
        ('{"kind":"array","elementType":{"kind":"int"}}', "elementType.bitSize is missing"),
        ('{"kind":"map","elementType":null}', "elementType must be an object"),
        ('{"kind":"object"}', "properties is missing"),
        ('{"kind":"object","properties":{}}', "properties must be an array"),
        ('{"kind":"object","properties":[]}', "properties must have at least one element"),
        ('{"kind":"object","properties":[1]}', "properties[0] must be an object"),
        ('{"kind":"object","properties":[{"name":"a"}]}', "properties[0].type is missing"),
        ('{"kind":"object","properties":[{"type":{"kind":"ip"}}]}', "properties[0].name is missing"),
        ('{"kind":"object","properties":[{"name":1,"type":{"kind":"ip"}}]}', "properties[0].name must be a string"),
        (
            '{"kind":"object","properties":[{"Name":"a","type":{"kind":"ip"}}]}',
            "properties[0].Name is not a key of a property",
        ),
        (
            '{"kind":"object","properties":[{"name":"a","type":{"kind":"ip"},"nullable":"yes"}]}',
            "properties[0].nullable must be a boolean",
        ),
        (
            '{"kind":"object","properties":[{"name":"a","name":"b","type":{"kind":"ip"}}]}',
            "properties[0].name is given twice",
        ),
        (
            '{"kind":"object","properties":[{"name":"a","type":{"kind":"map","elementType":{"kind":"float","bitSize":8}}}]}',
            "properties[0].type.elementType.bitSize must be 32 or 64",
        ),
    ],
)
def test_invalid_types(text: str, message: str) -> None:
    with pytest.raises(InvalidType) as caught:
        parse_type(text)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 400


def test_bytes_that_are_not_utf_8() -> None:
    with pytest.raises(InvalidType, match="must be JSON in UTF-8"):
        parse_type(b'{"kind":"string","pattern":"\xff"}')


def test_a_schema_is_an_object_or_nothing() -> None:
    assert parse_schema("null") is None
    assert read_schema(None) is None
    with pytest.raises(InvalidType, match="kind must be object"):
        parse_schema('{"kind":"ip"}')


def test_decoded_json_is_read_too() -> None:
    assert read_type({"kind": "float", "bitSize": 64, "minimum": 0.1}) == t.FloatType(64, minimum=0.1)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"kind":"array","elementType":' * 100_000,
        '{"kind":"array","elementType":' * 80 + '{"kind":"ip"}' + "}" * 80,
        '{"kind":"object","properties":[{"name":"a","type":' * 80 + '{"kind":"ip"}' + "}]}" * 80,
    ],
    ids=["brackets", "unclosed", "arrays", "objects"],
)
def test_deep_nesting_is_a_clear_error(text: str) -> None:
    with pytest.raises(InvalidType, match="is nested deeper than 64 levels"):
        parse_type(text)


def test_parsing_is_linear_in_the_number_of_properties() -> None:
    def parsed(size: int) -> None:
        properties = [{"name": f"p{index}", "type": {"kind": "int", "bitSize": 32}} for index in range(size)]
        schema = parse_schema(json.dumps({"kind": "object", "properties": properties}))
        assert schema is not None
        assert schema.get(f"p{size - 1}") is schema.properties[-1]

    assert_linear(parsed, 10_000)


_keys = st.sampled_from(
    ["kind", "bitSize", "minimum", "maximum", "values", "properties", "elementType", "name", "type"]
)
_kinds = st.sampled_from(["int", "string", "object", "array", "map", "float", "decimal", "ip"])


@given(
    st.recursive(
        json_values | _kinds, lambda inner: st.dictionaries(_keys, inner, max_size=5) | st.lists(inner, max_size=3)
    )
)
def test_any_json_is_a_type_or_an_error(document: object) -> None:
    try:
        parse_type(json.dumps(document))
    except InvalidType as error:
        assert error.rule


@given(st.text() | st.binary())
def test_any_text_is_a_type_or_an_error(text: str | bytes) -> None:
    with pytest.raises(InvalidType):
        parse_type(text)
