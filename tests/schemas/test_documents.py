"""Writing conforming records: the text of the codec."""

import pytest
from hypothesis import given

from headwater.schemas import Codec, ObjectType, Property, StringType, compile_writer
from tests.schemas.strategies import schemas_and_records


@given(schemas_and_records())
def test_the_text_is_that_of_the_codec(case: tuple[ObjectType, dict[str, object]]) -> None:
    schema, record = case
    assert compile_writer(schema)(record) == Codec(schema).encode(record)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["class", "__class__", "__struct_fields__", "self", "f0", "_"])
def test_any_property_name_is_written(name: str) -> None:
    schema = ObjectType((Property(name, StringType()), Property("f1", StringType())))
    assert compile_writer(schema)({"f1": "b", name: "a"}) == f'{{"{name}":"a","f1":"b"}}'.encode()


def test_lone_surrogates_are_an_error() -> None:
    with pytest.raises(UnicodeEncodeError):
        compile_writer(ObjectType((Property("name", StringType()),)))({"name": "\ud800"})
