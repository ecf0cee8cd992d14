"""Encoding and decoding give an outcome for every record, whatever the record and the output of the sandbox."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headwater.base.throttle import Throttle
from headwater.schemas import (
    Codec,
    InvalidValue,
    Json,
    Record,
    all_optional,
)
from headwater.schemas import types as t
from headwater.transforms.functions import FunctionFailed, Language, Purpose, RecordError
from headwater.transforms.functions.compiled_function import CompiledFunction
from headwater.transforms.functions.contract import Results
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from tests.transforms.functions.make import IDENTITY, KINDS, function, one
from tests.transforms.functions.strategies import schemas

_NUMBERS = st.sampled_from(
    ["1" * 5_000, "-" + "9" * 4_301, "1e400", "-1e999999999999999999999", "0." + "1" * 5_000, "NaN", "Infinity",
     "-Infinity", "-0", "1E+2", "18446744073709551616", "5e-324"]
)  # fmt: skip
_TEXTS = st.sampled_from(
    ['"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"' + "x" * 100 + '"', '"1e999"', '"NaN"', '"\\ud83d\\ude00"', '""',
     '"9999-99-99"', '"' + "9" * 5_000 + '"']
)  # fmt: skip
_LITERALS = st.sampled_from(["null", "true", "false", "", "undefined", "{", "[", '"', "\\", "\0"])
_DEPTHS = st.sampled_from([2, 99, 101, 165, 900, 1_100, 5_000, 20_000])
_DEEP = st.one_of(
    st.builds(lambda depth, inner: "[" * depth + inner + "]" * depth, _DEPTHS, _LITERALS),
    st.builds(lambda depth, inner: '{"k":' * depth + inner + "}" * depth, _DEPTHS, _LITERALS),
    st.builds(lambda depth: "[" * depth, _DEPTHS),
)
_KEYS = st.sampled_from(['"a"', '"\\ud800"', '"\\udfff\\u0000"', '"__proto__"', '"' + "k" * 1_000 + '"', '"x"'])


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.lists(st.tuples(_KEYS, inner).map(":".join), max_size=3)
    return st.one_of(
        st.lists(inner, max_size=3).map(lambda texts: "[" + ",".join(texts) + "]"),
        members.map(lambda texts: "{" + ",".join(texts) + "}"),
    )


NASTY = st.recursive(st.one_of(_NUMBERS, _TEXTS, _LITERALS, _DEEP), _containers, max_leaves=4)
"""Text that is JSON or nearly JSON."""


def results(lines: list[str | RecordError]) -> Results:
    """Return the output of a sandbox with these lines."""
    texts = ["!" if isinstance(line, RecordError) else line for line in lines]
    return Results("\n".join(texts).encode(errors="replace"), lambda: lines)


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_result_has_an_outcome(language: Language, data: st.DataObject) -> None:
    """The outcome is a record that conforms, so that it can be stored, or an error whose message can be stored."""
    schema, _ = data.draw(schemas())
    names = st.sampled_from([property.name for property in schema] + ["unknown", "\\ud800"])
    nasty = st.lists(st.tuples(names.map('"{}"'.format), NASTY).map(":".join), max_size=3)
    lines: list[str | RecordError] = data.draw(
        st.lists(nasty.map(lambda members: "{" + ",".join(members) + "}") | NASTY, min_size=1, max_size=3)
    )
    lines = ["{}" if not isinstance(line, RecordError) and "\n" in line else line for line in lines]
    preserve = data.draw(st.booleans())
    purposes: tuple[Purpose, ...] = ("Import", "Create", "Update")
    purpose = data.draw(st.sampled_from(purposes))
    compiled = CompiledFunction(
        function(language, IDENTITY[language], schema, preserve_json=preserve), schema, schema, purpose
    )
    outcomes = compiled.decode(results(["{}", *lines, "{}"]), len(lines) + 2)
    assert outcomes[0] == outcomes[-1] == {}
    codec = Codec(all_optional(schema))
    for outcome in outcomes:
        if isinstance(outcome, RecordError):
            assert len(outcome.message.encode()) < 20_000
        else:
            codec.encode(outcome)


@pytest.mark.parametrize("kind", [*KINDS, "map", "array", "object", "map of json", "array of json"])
@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@settings(max_examples=25, deadline=None)
@given(text=NASTY, nullable=st.booleans(), preserve=st.booleans())
def test_every_value_of_every_kind_has_an_outcome(
    language: Language, kind: str, text: str, nullable: bool, preserve: bool
) -> None:
    types = KINDS | {
        "map": t.MapType(t.StringType()),
        "array": t.ArrayType(t.ArrayType(t.StringType())),
        "object": one(t.MapType(t.JsonType()), read_optional=True),
        "map of json": t.MapType(t.JsonType()),
        "array of json": t.ArrayType(t.JsonType()),
    }
    schema = one(types[kind], read_optional=True, nullable=nullable)
    compiled = CompiledFunction(
        function(language, IDENTITY[language], schema, preserve_json=preserve), schema, schema, "Import"
    )
    for line in (f'{{"v":{text}}}', f'{{"v":{json.dumps(text)}}}'):
        (outcome,) = compiled.decode(results([line]), 1)
        if isinstance(outcome, RecordError):
            outcome.message.encode()
        else:
            Codec(schema).encode(outcome)


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_record_is_encoded_or_replaced_by_the_reason(language: Language, data: st.DataObject) -> None:
    """A record that does not conform, which is a bug of the caller, does not affect the rest of the batch."""
    schema, values = data.draw(schemas())
    anything = st.one_of(
        st.none(), st.text(), st.integers(), st.floats(), NASTY.map(Json), st.binary(), st.lists(st.text())
    )
    wrong = st.dictionaries(st.sampled_from([property.name for property in schema]), anything, max_size=3)
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    records: list[Any] = data.draw(
        st.lists(values | wrong | st.just({schema.properties[0].name: cyclic}), min_size=1, max_size=4)
    )
    compiled = CompiledFunction(function(language, IDENTITY[language], schema), schema, schema, "Import")
    text = compiled.encode(records)
    assert text[:1] == b"[" and text[-1:] == b"]"
    if language == "Python":
        assert len(text.split(b",\n")) == len(records)


def test_records_that_do_not_conform_are_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.transforms.functions.compiled_function._throttle", Throttle())
    schema = one(t.DateTimeType())
    compiled = CompiledFunction(function("Python", IDENTITY["Python"], schema), schema, schema, "Import")
    with capture_logs() as lines:
        for _ in range(3):
            compiled.encode([{"v": cast(Any, Path())}] * 3)
    assert [line["event"] for line in lines] == ["a record cannot be passed to a function"]


def test_a_result_may_have_as_many_characters_as_the_limit() -> None:
    compiled = CompiledFunction(
        function("Python", IDENTITY["Python"], one(t.StringType())), one(t.StringType()), one(t.StringType()), "Import"
    )
    fits = "x" * (MAX_RESULT_CHARACTERS - len('{"v":""}'))
    largest, larger = f'{{"v":"{fits}"}}', f'{{"v":"{fits}x"}}'
    outcomes = compiled.decode(results([largest, larger, '{"v":"y"}']), 3)
    assert outcomes[0] == {"v": fits} and outcomes[2] == {"v": "y"}
    assert isinstance(outcomes[1], RecordError)
    assert outcomes[1].message == f"the result is larger than {MAX_RESULT_CHARACTERS} characters of JSON"


def test_results_of_a_large_batch_are_decoded_while_they_are_taken() -> None:
    """Empty arrays take twenty times their text in memory: a batch of 32 MB would need 700 MB."""
    schema = one(t.ArrayType(t.ArrayType(t.StringType())))
    compiled = CompiledFunction(function("Python", IDENTITY["Python"], schema), schema, schema, "Import")
    fast_decode, decoded = compiled._fast_decode, 0
    assert fast_decode is not None

    def counting(text: bytes) -> list[Record]:
        nonlocal decoded
        assert fast_decode is not None
        records = fast_decode(text)
        decoded += len(records)
        return records

    compiled._fast_decode = counting
    line = '{"v":[' + ",".join(["[]"] * 30_000) + "]}"
    outcomes = compiled.outcomes(results([line] * 24), 24)
    assert decoded == 0
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, dict)
        assert number < decoded <= number + 1_100_000 // len(line)
    assert decoded == 24


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_sandbox_that_answers_with_too_few_or_too_many_lines_fails_the_batch_when_called(count: int) -> None:
    schema = one(t.StringType())
    compiled = CompiledFunction(function("Python", IDENTITY["Python"], schema), schema, schema, "Import")
    for line in ('{"v":"x"}', '{"v":"' + "x" * 600_000 + '"}'):
        with pytest.raises(FunctionFailed):
            compiled.outcomes(results([line, line]), count)


def test_chunks_with_a_bad_result_lose_no_other() -> None:
    schema = t.ObjectType((t.Property("v", t.StringType()),))
    compiled = CompiledFunction(function("Python", IDENTITY["Python"], schema), schema, schema, "Import")
    error = RecordError("Transformation", "no")
    lines: list[str | RecordError] = []
    expected: list[Any] = []
    for number in range(400):
        text = f"{number}" + "x" * 10_000
        lines += [f'{{"v":"{text}"}}']
        expected += [{"v": text}]
    lines[150], expected[150] = error, error
    lines[390], expected[390] = '{"v":7}', RecordError("OutputValidation", "«v» is not of type str")
    assert compiled.decode(results(lines), 400) == expected


def test_a_key_with_a_lone_surrogate_is_refused_where_it_is() -> None:
    """The codec would reject it later, when the record is stored, without a link to the function."""
    schema = one(t.MapType(t.StringType()))
    compiled = CompiledFunction(function("JavaScript", IDENTITY["JavaScript"], schema), schema, schema, "Import")
    (outcome,) = compiled.decode(results(['{"v":{"a\\ud800":"x"}}']), 1)
    assert outcome == RecordError("OutputValidation", '«v["a\\ud800"]» must not have lone surrogates in its key')
    with pytest.raises(InvalidValue):
        Codec(schema).encode({"v": {"a\ud800": "x"}})
