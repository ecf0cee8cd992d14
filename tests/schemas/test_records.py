"""Rows of stored records: many texts together are read as each one is."""

import pytest

from headwater.schemas import (
    MISSING,
    BooleanType,
    DateTime,
    DateTimeType,
    FloatType,
    IntType,
    InvalidValue,
    Json,
    JsonType,
    ObjectType,
    Property,
    StringType,
    Type,
)
from headwater.schemas.records import RecordReader


def schema(*types: Type, nullable: bool = True) -> ObjectType:
    return ObjectType(tuple(Property(f"p{index}", type, nullable=nullable) for index, type in enumerate(types)))


READER = RecordReader(schema(StringType(), IntType(32), DateTimeType(), JsonType(), IntType(64)))
TEXTS = [
    b'{"p0":"a","p1":1,"p2":"2026-03-05T10:00:00.500Z","p3":{"x":1},"p4":"9007199254740993"}',
    b'{"p2":"2026-03-05T10:00:00.123456789Z"}',
    b'{"p0":null,"p1":null,"p2":null,"p3":null,"p4":null}',
    b'{"other":1}',
]


def test_many_texts_are_read_as_each_one() -> None:
    rows = READER.rows(TEXTS)
    assert rows == [READER.row(text) for text in TEXTS]
    assert rows[0] == ("a", 1, DateTime(1772704800_500_000_000), Json('{"x":1}'), 9007199254740993)
    assert rows[2:] == [(None,) * 5, (MISSING,) * 5]
    assert READER.rows([]) == []


@pytest.mark.parametrize("types", [(StringType(), BooleanType()), (FloatType(64),)])
def test_schemas_with_and_without_conversions(types: tuple[Type, ...]) -> None:
    reader = RecordReader(schema(*types, nullable=False))
    texts = [b"{}", b'{"p0":"a"}' if len(types) == 2 else b'{"p0":-0.0}']
    assert list(map(repr, reader.rows(texts))) == [repr(reader.row(text)) for text in texts]


@pytest.mark.parametrize("text", [b'{"p1":"x"}', b'{"p2":"never"}', b'{"p4":5.5}', b"[]"])
def test_a_text_that_does_not_conform_is_named(text: bytes) -> None:
    with pytest.raises(InvalidValue) as one:
        READER.row(text)
    with pytest.raises(InvalidValue) as many:
        READER.rows([*TEXTS, text])
    assert str(one.value) == str(many.value)
