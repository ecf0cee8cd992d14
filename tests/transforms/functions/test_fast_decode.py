"""Fast decoding and decoding one by one give the same records."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.schemas import IntType, JsonType
from headwater.transforms.functions import Language, RecordError
from headwater.transforms.functions.bulk import bulk_of
from headwater.transforms.functions.contract import Results
from headwater.transforms.functions.plan import Plan
from headwater.transforms.functions.reading import Reading
from tests.transforms.functions.make import IDENTITY, USER, function, one
from tests.transforms.functions.strategies import schemas


def results(lines: Sequence[str | RecordError]) -> Results:
    """Return the output of a sandbox with such lines."""
    return Results("\n".join("!" if isinstance(line, RecordError) else line for line in lines).encode(), lambda: lines)


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_reading_in_bulk_is_reading_one_by_one(language: Language, data: st.DataObject) -> None:
    schema, values = data.draw(schemas())
    plan = Plan(function(language, IDENTITY[language], schema), schema, schema, "Import")
    lines = [plan.encode([record]).decode()[1:-1] for record in data.draw(st.lists(values, min_size=1, max_size=3))]
    bulk = plan.decode(results(lines), len(lines))
    plan._bulk = None
    assert plan.decode(results(lines), len(lines)) == bulk


@pytest.mark.parametrize("line", [
    '{"id":1.5}', '{"id":true}', '{"id":null}', '{"id":2147483648}', '{"no":1}', '{"name":5}', '{"id":[]}', "[]", "7",
    "{",     '{"email":null}', '{"id":7}', '{"active":1}', '{"name":"\\ud800"}', "",
])  # fmt: skip
@pytest.mark.parametrize("language", ["JavaScript", "Python"])
def test_a_batch_with_any_line_is_read_alike(language: Language, line: str) -> None:
    plan = Plan(function(language, IDENTITY[language]), USER, USER, "Import")
    lines = ['{"id":1}', line, '{"id":2}']
    bulk = plan.decode(results(lines), 3)
    plan._bulk = None
    assert plan.decode(results(lines), 3) == bulk
    assert bulk[0] == {"id": 1} and bulk[2] == {"id": 2}


def test_errors_stay_in_their_places() -> None:
    plan = Plan(function("Python", IDENTITY["Python"]), USER, USER, "Import")
    error = RecordError("Transformation", "no")
    assert plan.decode(results(["{}", error, json.dumps({"id": 1})]), 3) == [{}, error, {"id": 1}]


def test_native_json_is_never_read_in_bulk_as_its_digits_would_be_lost() -> None:
    schema: Any = one(JsonType())
    assert bulk_of(schema, Reading("JavaScript", False, "Import")) is None
    assert bulk_of(schema, Reading("JavaScript", True, "Import")) is not None
    assert bulk_of(one(IntType(32)), Reading("Python", False, "Import")) is not None
