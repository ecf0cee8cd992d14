import json

import pytest
from hypothesis import given

from headwater.schemas import Type, parse_schema, parse_type, serialise
from tests.schemas.strategies import schemas, types


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        (
            '{"bitSize":16,"kind":"int","maximum":900,"minimum":-32768,"unsigned":false}',
            '{"kind":"int","bitSize":16,"maximum":900}',
        ),
        (
            '{"kind":"int","maximum":9,"minimum":1,"unsigned":true,"bitSize":8}',
            '{"kind":"int","bitSize":8,"unsigned":true,"minimum":1,"maximum":9}',
        ),
        (
            '{"kind":"float","maximum":1,"minimum":1e-7,"real":true,"bitSize":64}',
            '{"kind":"float","bitSize":64,"real":true,"minimum":1e-07,"maximum":1}',
        ),
        ('{"kind":"float","bitSize":32,"maximum":0.1}', '{"kind":"float","bitSize":32,"maximum":0.1}'),
        (
            '{"kind":"decimal","scale":2,"precision":6,"minimum":0.00,"maximum":1e3}',
            '{"kind":"decimal","minimum":0,"maximum":1000,"precision":6,"scale":2}',
        ),
        ('{"kind":"decimal","precision":6,"scale":0}', '{"kind":"decimal","precision":6}'),
        (
            '{"kind":"string","maxLength":5,"pattern":"a","maxBytes":9}',
            '{"kind":"string","maxBytes":9,"maxLength":5,"pattern":"a"}',
        ),
        ('{"kind":"string","charLen":5}', '{"kind":"string","maxLength":5}'),
        ('{"kind":"string","values":["é",""]}', '{"kind":"string","values":["é",""]}'),
        (
            '{"elementType":{"kind":"ip"},"kind":"array","uniqueElements":true,"maxElements":2147483647,"minElements":0}',
            '{"kind":"array","uniqueElements":true,"elementType":{"kind":"ip"}}',
        ),
        (
            '{"elementType":{"kind":"ip"},"kind":"array","maxElements":3,"minElements":2}',
            '{"kind":"array","minElements":2,"maxElements":3,"elementType":{"kind":"ip"}}',
        ),
        ('{"elementType":{"kind":"ip"},"kind":"map"}', '{"kind":"map","elementType":{"kind":"ip"}}'),
        (
            '{"properties":[{"description":"","nullable":false,"type":{"kind":"ip"},"name":"a"}],"kind":"object"}',
            '{"kind":"object","properties":[{"name":"a","type":{"kind":"ip"},"description":""}]}',
        ),
        (
            '{"kind":"object","properties":[{"description":"d","nullable":true,"readOptional":true,"updateRequired":true,'
            '"createRequired":true,"type":{"kind":"ip"},"prefilled":"p","name":"a"}]}',
            '{"kind":"object","properties":[{"name":"a","prefilled":"p","type":{"kind":"ip"},"createRequired":true,'
            '"updateRequired":true,"readOptional":true,"nullable":true,"description":"d"}]}',
        ),
    ],
)
def test_canonical_form(given: str, canonical: str) -> None:
    assert serialise(parse_type(given)).decode() == canonical


def test_no_schema_is_null() -> None:
    assert serialise(None) == b"null"
    assert parse_schema(serialise(None)) is None


@given(types())
def test_written_text_is_read_again(type: Type) -> None:
    text = serialise(type)
    again = parse_type(text)
    assert again == type
    assert hash(again) == hash(type)
    assert serialise(again) == text


@given(schemas())
def test_it_is_plain_json(schema: Type) -> None:
    assert json.loads(serialise(schema))["kind"] == "object"
