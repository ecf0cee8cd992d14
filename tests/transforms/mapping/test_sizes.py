"""No mapping produces a result above the limit, or holds more in memory while it computes one."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.schemas import (
    EVENT_SCHEMA,
    Codec,
    Json,
    Record,
    all_optional,
)
from headwater.schemas import types as t
from headwater.transforms.limits import MAX_RESULT_CHARACTERS
from headwater.transforms.mapping import (
    MAX_EXPRESSIONS_CHARACTERS,
    MAX_EXPRESSIONS_PARTS,
    CompiledMapping,
    InvalidMapping,
    MappingFailed,
    TransformationError,
    ValidationError,
    compiler,
    list_properties,
    mapping,
)
from headwater.transforms.mapping.evaluation import MAX_READ_CHARACTERS
from headwater.transforms.mapping.functions import structures
from headwater.transforms.mapping.sizes import SCALAR_CHARACTERS, compile_size
from tests.examples import examples

OUT = t.ObjectType(
    (
        t.Property("text", t.StringType(), nullable=True),
        t.Property("short", t.StringType(max_length=50), nullable=True),
        t.Property("json", t.JsonType()),
        t.Property("list", t.ArrayType(t.JsonType())),
        t.Property("texts", t.ArrayType(t.StringType())),
        t.Property("deep", t.ArrayType(t.ArrayType(t.StringType()))),
        t.Property("map", t.MapType(t.JsonType())),
        t.Property("number", t.IntType(32)),
        t.Property("flag", t.BooleanType()),
        t.Property(
            "object", t.ObjectType((t.Property("a", t.StringType(), nullable=True), t.Property("b", t.JsonType())))
        ),
    )
)
LARGE = 100_000
EVENT: Record = {"userId": "u" * LARGE, "properties": Json.of({"p": "x" * LARGE, "a": ["y" * 1_000] * 100})}
MULTIPLYING = {
    "a concatenation": ("text", "properties.p " * 2_000),
    "a concatenation of few": ("text", " ".join(["upper(userId userId userId userId)"] * 3)),
    "a concatenation of concatenations": ("text", "upper(userId userId userId) " * 100),
    "a concatenation inside a function": ("number", "len(" + "properties.p " * 2_000 + ")"),
    "an array": ("texts", f"array({', '.join(['properties.p'] * 2_000)})"),
    "an array of json": ("list", f"array({', '.join(['properties'] * 2_000)})"),
    "an array of arrays": ("list", "array(" + ", ".join(["array(properties.a, properties.a)"] * 500) + ")"),
    "an array of arrays of texts": ("deep", "array(" + ", ".join(["array(userId, userId)"] * 500) + ")"),
    "an array that becomes json": ("json", "array(" + ", ".join(["userId"] * 500) + ")"),
    "a map": ("map", "map(" + ", ".join(f"'{n}', properties" for n in range(2_000)) + ")"),
    "a map of maps": ("map", "map(" + ", ".join(f"'{n}', map('a', userId)" for n in range(1_000)) + ")"),
    "coalesce of arrays": ("list", "coalesce(null, array(" + ", ".join(["userId"] * 900) + "))"),
    "if": ("json", "if(true, array(" + ", ".join(["properties.a"] * 900) + "), null)"),
}


@pytest.mark.parametrize(("path", "expression"), MULTIPLYING.values(), ids=MULTIPLYING)
def test_a_value_that_is_repeated_is_counted_before_it_is_built(path: str, expression: str) -> None:
    compiled = CompiledMapping({path: expression}, EVENT_SCHEMA, OUT)
    tracemalloc.start()
    try:
        with pytest.raises(TransformationError) as failed:
            compiled.apply(EVENT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert failed.value.path == path
    assert f"larger than {MAX_RESULT_CHARACTERS} characters" in failed.value.message
    assert peak < 8 * MAX_RESULT_CHARACTERS
    compiled.apply({"userId": "u", "properties": Json.of({"p": "x", "a": []})})


def test_properties_are_counted_together() -> None:
    out = t.ObjectType(tuple(t.Property(f"p{number}", t.StringType()) for number in range(2_000)))
    compiled = CompiledMapping({property.name: "properties.p" for property in out}, EVENT_SCHEMA, out)
    tracemalloc.start()
    try:
        with pytest.raises(ValidationError) as failed:
            compiled.apply(EVENT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert failed.value.path == "p10"  # the eleventh of 100,000 characters each
    assert failed.value.reason == (
        f"the result makes the results of the record larger than {MAX_RESULT_CHARACTERS} characters together"
    )
    assert peak < 8 * MAX_RESULT_CHARACTERS


@pytest.mark.parametrize("others", [0, 100, 4_000])
def test_a_record_may_have_as_many_characters_as_the_limit(others: int) -> None:
    """The maximum size by type counts for properties that have one, or the true size if there are many of them."""
    short = [t.Property(f"s{number}", t.StringType(max_length=200)) for number in range(others)]
    out = t.ObjectType((t.Property("text", t.StringType()), *short))
    compiled = CompiledMapping({"text": "userId"} | {each.name: "type" for each in short}, EVENT_SCHEMA, out)
    counted = 4 if others == 4_000 else 200
    largest = "x" * (MAX_RESULT_CHARACTERS - counted * others)
    assert compiled.apply({"userId": largest, "type": "page"})["text"] == largest
    with pytest.raises(ValidationError):
        compiled.apply({"userId": largest + "x", "type": "page"})


def test_outputs_are_made_while_they_are_taken() -> None:
    """The outputs of a batch together may exceed the memory."""
    compiled = CompiledMapping({"text": "userId userId userId userId"}, EVENT_SCHEMA, OUT)
    codec = Codec(all_optional(OUT))
    taken: list[int] = []

    def records() -> Iterator[Record]:
        for number in range(500):
            taken.append(number)
            yield EVENT

    tracemalloc.start()
    try:
        total = 0
        for number, result in enumerate(compiled.apply_all(records())):
            assert taken[-1] == number
            assert isinstance(result, dict)
            total += len(codec.encode(result))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total > 500 * 4 * LARGE
    assert peak < 8 * MAX_RESULT_CHARACTERS


def test_the_expressions_of_a_mapping_have_a_size_together() -> None:
    half = "'" + "x" * (MAX_EXPRESSIONS_CHARACTERS // 8 - 2) + "'"
    out = t.ObjectType(tuple(t.Property(f"p{number}", t.StringType()) for number in range(9)))
    expressions = {f"p{number}": half for number in range(8)}
    CompiledMapping(expressions, None, out)
    list_properties([(text, t.StringType()) for text in expressions.values()], None)
    rule = f"the expressions must have at most {MAX_EXPRESSIONS_CHARACTERS} characters together"
    with pytest.raises(InvalidMapping, match=rule):
        CompiledMapping(expressions | {"p8": "1"}, None, out)
    with pytest.raises(InvalidMapping, match=rule):
        list_properties([*((text, t.StringType()) for text in expressions.values()), ("1", t.StringType())], None)


def test_the_expressions_of_a_mapping_have_a_number_of_parts_together() -> None:
    """Each part costs time for each record, even if its value is null."""
    half = f"array({', '.join(['name'] * (MAX_EXPRESSIONS_PARTS // 2 - 1))})"
    out = t.ObjectType(tuple(t.Property(f"p{number}", t.ArrayType(t.JsonType())) for number in range(3)))
    CompiledMapping({"p0": half, "p1": half}, EVENT_SCHEMA, out)
    with pytest.raises(InvalidMapping, match=f"at most {MAX_EXPRESSIONS_PARTS} constants, paths and calls") as raised:
        CompiledMapping({"p0": half, "p1": half, "p2": "name"}, EVENT_SCHEMA, out)
    assert raised.value.field == "p2"


WORKING = {
    "a text in json": "len(lower(properties.p))",
    "a property": "len(upper(userId))",
    "json that is compared": "eq(properties, traits)",
    "json that is converted": "eq(properties.a, array('y'))",
    "json that is measured": "len(properties.a)",
    "json that is parsed": "len(json_parse(properties.t))",
}


@pytest.mark.parametrize("expression", WORKING.values(), ids=WORKING)
def test_a_large_value_is_not_worked_on_too_often(expression: str) -> None:
    """Mappings run next to events of other workspaces: 500 KB compared 2,000 times would take minutes."""
    properties = {"p": "x" * LARGE, "a": ["y" * 1_000] * 100, "t": '"' + "t" * LARGE + '"'}
    record: Record = {
        "userId": "u" * LARGE,
        "properties": Json.of(properties),
        "traits": Json.of(properties | {"b": 1}),
    }
    out = t.ObjectType(tuple(t.Property(f"p{number}", t.JsonType()) for number in range(200)))
    assert CompiledMapping({"p0": expression}, EVENT_SCHEMA, out).apply(record)
    often = CompiledMapping({f"p{number}": expression for number in range(200)}, EVENT_SCHEMA, out)
    with pytest.raises(TransformationError) as failed:
        often.apply(record)
    assert f"works on more than {MAX_READ_CHARACTERS} characters" in failed.value.reason
    assert failed.value.path != "p0"
    small = {"p": "x", "a": ["y"] * 10, "t": '"t"'}
    often.apply({"userId": "u", "properties": Json.of(small), "traits": Json.of(small)})


@contextmanager
def limit(characters: int) -> Iterator[None]:
    with ExitStack() as stack:
        for module in (compiler, structures, mapping):
            stack.enter_context(mock.patch.object(module, "MAX_RESULT_CHARACTERS", characters))
        stack.enter_context(mock.patch.object(mapping, "_MAX_KNOWN_CHARACTERS", characters // 2))
        yield


_LEAVES = st.sampled_from(
    [
        "userId",
        "event",
        "properties",
        "properties.p",
        "properties.q?.r",
        "traits",
        "type",
        "'abc'",
        "1.5",
        "true",
        "null",
    ]
)


def _calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arguments = st.lists(inner, min_size=1, max_size=4).map(", ".join)
    return st.one_of(
        st.lists(inner, min_size=2, max_size=8).map(" ".join),
        st.tuples(st.sampled_from(["array", "coalesce", "upper", "lower", "trim", "json_parse", "len"]), arguments).map(
            lambda call: f"{call[0]}({call[1]})"
        ),
        st.lists(inner, min_size=1, max_size=4).map(
            lambda values: "map(" + ", ".join(f"'k{n}', {value}" for n, value in enumerate(values)) + ")"
        ),
        st.tuples(inner, inner, inner).map(lambda parts: f"if(eq({parts[0]}, 'abc'), {parts[1]}, {parts[2]})"),
    )


EXPRESSIONS = st.recursive(_LEAVES, _calls, max_leaves=12)
_NASTY = st.sampled_from(
    ['{"p":"\\ud800"}', '{"\\ud800":1}', '{"p":' + "1" * 5_000 + "}", '{"p":1e999}', '{"p":1e99999999999999999999}',
     '{"p":' + "[" * 99 + "]" * 99 + "}", '{"p":' + "[" * 5_000 + "]" * 5_000 + "}", "[" * 200_000 + "]" * 200_000,
     '{"p":"\\u0000"}', '{"p":{"r":null},"p":1}', "null", '"text"', "[]", "7", '{"p":"' + "x" * 300 + '"}']
)  # fmt: skip
_JSON = (
    _NASTY
    | st.dictionaries(st.sampled_from("pqr"), st.text(max_size=60) | st.integers()).map(
        lambda value: Json.of(value).text
    )
).map(Json)
RECORDS = st.fixed_dictionaries(
    {"traits": _JSON},
    optional={
        "userId": st.text(max_size=80),
        "event": st.text(max_size=80),
        "properties": _JSON,
        "type": st.just("abc"),
    },
)


@settings(max_examples=examples(200), deadline=None)
@given(
    expressions=st.dictionaries(
        st.sampled_from([property.name for property in OUT]), EXPRESSIONS, min_size=1, max_size=4
    ),
    record=RECORDS,
    maximum=st.integers(40, 800),
)
def test_every_record_has_an_outcome_that_is_not_larger_than_the_limit(
    expressions: dict[str, str], record: Record, maximum: int
) -> None:
    fitting: dict[str, str] = {}
    for path, expression in expressions.items():
        try:
            CompiledMapping({path: expression}, EVENT_SCHEMA, OUT)
        except InvalidMapping:
            continue
        fitting[path] = expression
    if not fitting:
        return
    with limit(10**9):
        (full,) = CompiledMapping(fitting, EVENT_SCHEMA, OUT).apply_all([record])
    with limit(maximum):
        before, bounded, after = CompiledMapping(fitting, EVENT_SCHEMA, OUT).apply_all(
            [{"traits": Json("1")}, record, {}]
        )
    assert isinstance(after, dict | MappingFailed) and isinstance(before, dict | MappingFailed)
    if isinstance(bounded, MappingFailed):
        bounded.message.encode()
        assert isinstance(full, MappingFailed) or "larger than" in bounded.reason
    else:
        assert bounded == full
        assert compile_size(OUT)(bounded) - SCALAR_CHARACTERS * len(bounded) <= maximum + SCALAR_CHARACTERS * len(
            bounded
        )


WORST = """
from headwater.schemas import EVENT_SCHEMA, Codec, Json, ObjectType, Property, StringType
from headwater.transforms.mapping import MAX_EXPRESSIONS_PARTS, CompiledMapping, MappingFailed

properties = tuple(Property(f"p{number}", StringType()) for number in range(2_000))
wide = {each.name: "properties.p" for each in properties} | {"p0": "properties.p " * (MAX_EXPRESSIONS_PARTS - 2_000)}
pipelines = []
for _ in range(8):
    out = ObjectType(properties)
    pipelines.append((CompiledMapping(wide, EVENT_SCHEMA, out), Codec(out)))
made = 0
for count, size in ((12, 500_000), (60, 100_000), (600, 10_000)):
    batch = [{"properties": Json.of({"p": "x" * size})} for _ in range(count)]
    for mapping, codec in pipelines:
        for result in mapping.apply_all(batch):
            made += 1 if isinstance(result, MappingFailed) else len(codec.encode(result))
assert made == 8 * (12 + 60 + 600), made
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.process
def test_the_largest_mappings_that_are_accepted_take_little_memory() -> None:
    """Eight pipelines, with 6 MB of events of three sizes: all outputs together may exceed the limit for results."""
    done = subprocess.run([sys.executable, "-c", WORST], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300, "MiB"


@pytest.mark.parametrize("expression", [
    "coalesce(" + ", ".join(f"properties.a{number}" for number in range(1_000)) + ")",
    "coalesce(" + ", ".join(["properties"] * 1_000) + ")",
    "if(eq(object, map('a', 1)), object)",
    "coalesce(" + ", ".join(["object"] * 1_000) + ")",
])  # fmt: skip
def test_a_large_type_is_compiled_once_for_a_mapping(expression: str) -> None:
    """A thousand conversions to an object of a thousand properties took gigabytes."""
    properties = tuple(t.Property(f"a{number}", t.StringType(), read_optional=True) for number in range(1_000))
    schema = t.ObjectType((t.Property("properties", t.JsonType()), t.Property("object", t.ObjectType(properties))))
    other = t.ObjectType(
        tuple(t.Property(each.name, t.StringType(max_length=9), read_optional=True) for each in properties)
    )
    tracemalloc.start()
    try:
        compiled = CompiledMapping({"out": expression}, schema, t.ObjectType((t.Property("out", other),)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20
    inside = '{"a1":{"a2":"x"}}' if "properties.a1" in expression else '{"a2":"x"}'
    assert compiled.apply({"properties": Json(inside), "object": {"a2": "x"}}) in ({"out": {"a2": "x"}}, {})
