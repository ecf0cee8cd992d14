"""The codec as a whole: encoded records of any schema decode into equal records."""

import json
import math
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.schemas import (
    Codec,
    DateTime,
    InvalidValue,
    Record,
)
from headwater.schemas import types as t
from tests.complexity import assert_linear
from tests.examples import examples
from tests.jsontexts import json_values
from tests.schemas.strategies import same, schemas, schemas_and_records


def test_the_documented_example() -> None:
    schema = t.ObjectType(
        (
            t.Property("id", t.IntType(64)),
            t.Property("tags", t.MapType(t.IntType(8))),
            t.Property("when", t.DateTimeType()),
            t.Property("w", t.FloatType(64)),
            t.Property("note", t.JsonType(), read_optional=True),
        )
    )
    moment = DateTime.parse("2024-03-05T10:00:00.5Z")
    record: Record = {"id": 7, "tags": {"b": 2, "a": 1}, "when": moment, "w": math.nan}
    text = '{"id":"7","tags":{"a":1,"b":2},"when":"2024-03-05T10:00:00.500Z","w":"NaN"}'
    codec = Codec(schema)
    assert codec.schema is schema
    assert codec.encode(record).decode() == text
    assert same(codec.decode(text), record)
    assert msgspec.json.encode(codec.document(record)).decode() == text


@settings(max_examples=examples(150))
@given(schemas_and_records())
def test_written_text_is_read_again(case: tuple[t.Schema, Record]) -> None:
    schema, record = case
    codec = Codec(schema)
    codec.check(record)
    text = codec.encode(record)
    again = codec.decode(text)
    assert same(again, record)
    assert list(again) == [property.name for property in schema if property.name in record]
    assert codec.encode(again) == text
    json.loads(text)


@given(schemas(), st.dictionaries(st.text(max_size=3), json_values, max_size=3))
def test_any_json_is_a_record_or_an_error(schema: t.Schema, document: dict[str, Any]) -> None:
    """The document has the schema's names, so that values cause errors too."""
    named = dict(zip([property.name for property in schema], document.values(), strict=False)) | document
    for candidate in (document, named):
        try:
            record = Codec(schema).decode(json.dumps(candidate))
        except InvalidValue as error:
            assert error.rule
        else:
            Codec(schema).check(record)


@given(schemas(), st.text() | st.binary())
def test_any_text_is_a_record_or_an_error(schema: t.Schema, text: str | bytes) -> None:
    try:
        Codec(schema).decode(text)
    except InvalidValue as error:
        assert error.rule


def test_the_deepest_schema() -> None:
    type: t.Type = t.StringType()
    value: Any = "x"
    for _ in range(t.MAX_DEPTH - 1):
        type, value = t.ObjectType((t.Property("p", type),)), {"p": value}
    assert isinstance(type, t.ObjectType)
    codec = Codec(type)
    assert codec.decode(codec.encode(value)) == value


def test_work_is_linear_in_the_number_of_properties() -> None:
    def coded(size: int) -> None:
        names = [f"p{index}" for index in range(size)]
        record: Record = dict.fromkeys(names, "x")
        codec = Codec(t.ObjectType(tuple(t.Property(name, t.StringType(), read_optional=True) for name in names)))
        assert codec.decode(codec.encode(record)) == record

    assert_linear(coded, 10_000)


def test_work_is_linear_in_the_size_of_a_value() -> None:
    codec = Codec(t.ObjectType((t.Property("doc", t.JsonType()), t.Property("text", t.StringType(pattern="(a+)+$")))))
    texts = {
        size: json.dumps({"doc": [[index, {"k": "[" * 20}] for index in range(size)], "text": "a" * 2 * size})
        for size in (12_500, 50_000)
    }
    assert_linear(lambda size: codec.decode(texts[size]), 50_000)
