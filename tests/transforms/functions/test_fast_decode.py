"""Fast decoding and decoding one by one give the same records."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.schemas import IntType, JsonType
from headwater.transforms.functions import Language, RecordError
from headwater.transforms.functions.compiled_function import CompiledFunction
from headwater.transforms.functions.contract import Results
from headwater.transforms.functions.fast_decode import compile_fast_decoder
from headwater.transforms.functions.result_decoder import ResultDecoder
from tests.transforms.functions.make import IDENTITY, USER, function, one
from tests.transforms.functions.strategies import schemas


def results(lines: Sequence[str | RecordError]) -> Results:
    """Return the output of a sandbox with such lines."""
    return Results("\n".join("!" if isinstance(line, RecordError) else line for line in lines).encode(), lambda: lines)


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_fast_decoding_is_decoding_one_by_one(language: Language, data: st.DataObject) -> None:
    schema, values = data.draw(schemas())
    compiled = CompiledFunction(function(language, IDENTITY[language], schema), schema, schema, "Import")
    lines = [compiled.encode([record]).decode()[1:-1] for record in data.draw(st.lists(values, min_size=1, max_size=3))]
    fast = compiled.decode(results(lines), len(lines))
    compiled._fast_decode = None
    assert compiled.decode(results(lines), len(lines)) == fast


@pytest.mark.parametrize("line", [
    '{"id":1.5}', '{"id":true}', '{"id":null}', '{"id":2147483648}', '{"no":1}', '{"name":5}', '{"id":[]}', "[]", "7",
    "{",     '{"email":null}', '{"id":7}', '{"active":1}', '{"name":"\\ud800"}', "",
])  # fmt: skip
@pytest.mark.parametrize("language", ["JavaScript", "Python"])
def test_a_batch_with_any_line_is_read_alike(language: Language, line: str) -> None:
    compiled = CompiledFunction(function(language, IDENTITY[language]), USER, USER, "Import")
    lines = ['{"id":1}', line, '{"id":2}']
    fast = compiled.decode(results(lines), 3)
    compiled._fast_decode = None
    assert compiled.decode(results(lines), 3) == fast
    assert fast[0] == {"id": 1} and fast[2] == {"id": 2}


def test_errors_stay_in_their_places() -> None:
    compiled = CompiledFunction(function("Python", IDENTITY["Python"]), USER, USER, "Import")
    error = RecordError("Transformation", "no")
    assert compiled.decode(results(["{}", error, json.dumps({"id": 1})]), 3) == [{}, error, {"id": 1}]


def test_native_json_is_never_decoded_fast_because_its_digits_would_be_lost() -> None:
    schema: Any = one(JsonType())
    assert compile_fast_decoder(schema, ResultDecoder("JavaScript", False, "Import")) is None
    assert compile_fast_decoder(schema, ResultDecoder("JavaScript", True, "Import")) is not None
    assert compile_fast_decoder(one(IntType(32)), ResultDecoder("Python", False, "Import")) is not None
