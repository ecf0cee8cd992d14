"""Values passed into functions and out of them: a table for each kind, and the round trip of any record."""

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.schemas import (
    JSON_NULL,
    DateTime,
    Json,
    Record,
    Time,
)
from headwater.schemas import types as t
from headwater.transforms.functions import Function, Language, RecordError, Runner
from tests.transforms.functions.make import IDENTITY, KINDS, USER, function, one
from tests.transforms.functions.strategies import schemas

pytestmark = pytest.mark.asyncio(loop_scope="module")

INF = float("inf")

# kind, value, and for each language an expression that is true in the function
SEEN: list[tuple[str, Any, str, str]] = [
    ("string", "é\u2028'\"\\", "v === 'é\\u2028\\'\"\\\\'", "v == 'é\\u2028\\'\"\\\\'"),
    ("boolean", True, "v === true", "v is True"),
    ("int", 12, "v === 12", "v == 12"),
    ("int64", 2**63 - 1, "v === 9223372036854775807n", "v == 9223372036854775807"),
    ("int64", -(2**63), "v === -9223372036854775808n", "v == -9223372036854775808"),
    ("float", 1.5, "v === 1.5", "v == 1.5"),
    ("float", 2.0, "v === 2", "type(v) is float and v == 2"),
    ("float", float("nan"), "Number.isNaN(v)", "v != v"),
    ("float", INF, "v === Infinity", "v == float('inf')"),
    ("float", -INF, "v === -Infinity", "v == float('-inf')"),
    ("decimal", Decimal("1.50"), "v === '1.5'", "v == Decimal('1.5')"),
    ("decimal", Decimal("1E+3"), "v === '1000'", "v == Decimal(1000)"),
    ("datetime", DateTime.parse("2024-05-01T10:00:00.000000001Z"),
     "v === '2024-05-01T10:00:00.000000001Z'", "v == datetime(2024, 5, 1, 10) and v.tzinfo is None"),
    ("datetime", DateTime.parse("2024-05-01T10:00:00.25Z"),
     "new Date(v).getMilliseconds() === 250", "v == datetime(2024, 5, 1, 10, 0, 0, 250000)"),
    ("date", date(2024, 5, 1), "v === '2024-05-01'", "v == date(2024, 5, 1)"),
    ("time", Time.parse("10:00:00.25"), "v === '10:00:00.25'", "v == time(10, 0, 0, 250000)"),
    ("time", Time.parse("10:00:00"), "v === '10:00:00'", "v == time(10)"),
    ("year", 2024, "v === 2024", "v == 2024"),
    ("uuid", "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "v.length === 36", "len(v) == 36"),
    ("ip", "2001:db8::1", "v === '2001:db8::1'", "v == '2001:db8::1'"),
    ("json", Json('{"a":1.0,"b":[null]}'), "v.a === 1 && v.b[0] === null", "v == {'a': 1.0, 'b': [None]}"),
    ("json", JSON_NULL, "v === null", "v is None"),
]  # fmt: skip

IMPORTS = "from datetime import date, datetime, time, timezone, timedelta\nfrom decimal import Decimal\n"


@pytest.mark.parametrize(("kind", "value", "javascript", "python"), SEEN)
async def test_values_passed_to_functions(runner: Runner, kind: str, value: Any, javascript: str, python: str) -> None:
    schema, seen = one(KINDS[kind]), one(KINDS["boolean"])
    for language, source in (
        ("JavaScript", f"function transform(r) {{ const v = r.v; return {{ v: {javascript} }} }}"),
        ("Python", f"{IMPORTS}def transform(r):\n    v = r['v']\n    return {{'v': {python}}}"),
    ):
        outcomes = await runner.run(function(language, source, schema, seen), [{"v": value}], schema, seen)  # type: ignore[arg-type]  # a language
        assert outcomes == [{"v": True}], language


# kind, returned expression, and the value, or the broken rule
FROM_JAVASCRIPT: list[tuple[str, str, Any]] = [
    ("string", "'a'", "a"),
    ("string", "1", "«v» is not of type string"),
    ("string", "NaN", "«v» is not of type string"),
    ("string", "'\\ud800'", "must not contain lone surrogates"),
    ("boolean", "false", False),
    ("boolean", "0", "«v» is not of type boolean"),
    ("int", "7", 7),
    ("int", "7.0", 7),
    ("int", "7.5", "«v» is not an integer"),
    ("int", "NaN", "«v» is not an integer"),
    ("int", "7n", "«v» is not of type number"),
    ("int", "2 ** 31", "in the range"),
    ("int", "1e300", "in the range"),
    ("int64", "9223372036854775807n", 2**63 - 1),
    ("int64", "9223372036854775808n", "in the range"),
    ("int64", "10", "«v» is not of type bigint"),
    ("int64", "'10'", "«v» is not of type bigint"),
    ("float", "0.1", 0.1),
    ("float", "-0", 0.0),
    ("float", "Infinity", INF),
    ("float", "'Infinity'", "«v» is not of type number"),
    ("decimal", "'1.250'", Decimal("1.25")),
    ("decimal", "1.25", "«v» is not of type string"),
    ("decimal", "'1.2345'", "digits"),
    ("datetime", "'2024-05-01T12:00:00.000000001+02:00'", DateTime.parse("2024-05-01T10:00:00.000000001Z")),
    ("datetime", "new Date(0)", DateTime(0)),
    ("datetime", "new Date(NaN)", "«v» is an invalid date"),
    ("datetime", "'2024-05-01 10:00:00'", "RFC 3339"),
    ("datetime", "0", "«v» is not of type string"),
    ("date", "'2024-05-01'", date(2024, 5, 1)),
    ("date", "'2024-5-1'", "YYYY-MM-DD"),
    ("time", "'10:00:00.5'", Time.parse("10:00:00.5")),
    ("year", "2024", 2024),
    ("year", "0", "a year"),
    ("uuid", "'3F2504E04F8941D39A0C0305E82C3301'", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
    ("uuid", "'x'", "must be a UUID"),
    ("ip", "'2001:DB8:0::1'", "2001:db8::1"),
    ("json", "{ a: [1, 'x', null, undefined] }", Json('{"a":[1,"x",null,null]}')),
    ("json", "null", JSON_NULL),
    ("json", "() => 0", "«v» is not a JSON value"),
    ("json", "1n", "«v» is not a JSON value"),
    (
        "json",
        "{ a: 'null', b: null, c: [undefined], d: new Date(0) }",
        Json('{"a":"null","b":null,"c":[null],"d":"1970-01-01T00:00:00.000Z"}'),
    ),
    ("json", "NaN", "«v» must be JSON, which has neither NaN nor infinities"),
    ("json", "-Infinity", "«v» must be JSON, which has neither NaN nor infinities"),
    ("json", "1e308 * 10", "«v» must be JSON, which has neither NaN nor infinities"),
    ("json", "{ a: [1, { b: 0 / 0 }] }", "«v.a[1].b» must be JSON, which has neither NaN nor infinities"),
    ("json", "[new Number(NaN)]", "«v[0]» must be JSON, which has neither NaN nor infinities"),
    ("json", "{ at: new Date('?') }", "«v.at» is an invalid date"),
]

FROM_PYTHON: list[tuple[str, str, Any]] = [
    ("string", "'a'", "a"),
    ("string", "1", "«v» is not of type str"),
    ("boolean", "True", True),
    ("boolean", "1", "«v» is not of type bool"),
    ("int", "7", 7),
    ("int", "7.0", "«v» is not of type int"),
    ("int", "True", "«v» is not of type int"),
    ("int", "2 ** 31", "in the range"),
    ("int64", "2 ** 63 - 1", 2**63 - 1),
    ("int64", "2 ** 100", "in the range"),
    ("float", "0.1", 0.1),
    ("float", "float('inf')", INF),
    ("float", "2", 2.0),
    ("float", "'2'", "«v» is not of type float"),
    ("decimal", "Decimal('1.250')", Decimal("1.25")),
    ("decimal", "'1.25'", "«v» is not of type decimal.Decimal"),
    ("decimal", "Decimal('NaN')", "must be a decimal number"),
    ("datetime", "datetime(2024, 5, 1, 10, 0, 0, 250000)", DateTime.parse("2024-05-01T10:00:00.25Z")),
    ("datetime", "datetime(2024, 5, 1, 10, tzinfo=timezone(timedelta(hours=2)))",
     DateTime.parse("2024-05-01T08:00:00Z")),
    ("datetime", "'2024-05-01T10:00:00Z'", "«v» is not of type datetime.datetime"),
    ("date", "date(2024, 5, 1)", date(2024, 5, 1)),
    ("date", "datetime(2024, 5, 1)", "«v» is not of type datetime.date"),
    ("time", "time(10, 0, 0, 500000)", Time.parse("10:00:00.5")),
    ("year", "2024", 2024),
    ("uuid", "'3F2504E0-4F89-41D3-9A0C-0305E82C3301'", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
    ("ip", "'1.2.3.4'", "1.2.3.4"),
    ("json", "{'a': [1, 1.0, None, 10 ** 30]}", Json('{"a":[1,1.0,null,1000000000000000000000000000000]}')),
    ("json", "None", JSON_NULL),
    ("json", "float('nan')", "«v» must be JSON, which has neither NaN nor infinities"),
    ("json", "{'a': [1, {'b': float('-inf')}]}", "«v» must be JSON, which has neither NaN nor infinities"),
    ("json", "[1e308 * 10]", "«v» must be JSON, which has neither NaN nor infinities"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "returned", "expected"), FROM_JAVASCRIPT)
async def test_values_returned_by_javascript(runner: Runner, kind: str, returned: str, expected: Any) -> None:
    await _returns(runner, "JavaScript", f"const transform = () => ({{ v: {returned} }})", KINDS[kind], expected)


@pytest.mark.parametrize(("kind", "returned", "expected"), FROM_PYTHON)
async def test_values_returned_by_python(runner: Runner, kind: str, returned: str, expected: Any) -> None:
    await _returns(runner, "Python", f"{IMPORTS}def transform(r): return {{'v': {returned}}}", KINDS[kind], expected)


async def _returns(runner: Runner, language: Language, source: str, type: t.Type, expected: Any) -> None:
    schema = one(type)
    [outcome] = await runner.run(function(language, source, schema), [{}], schema, schema)
    if isinstance(outcome, RecordError):
        assert isinstance(expected, str) and expected in outcome.message
        assert outcome.step == "OutputValidation"
    else:
        assert outcome == {"v": expected}


CONTAINERS = [
    (t.ArrayType(t.IntType(64)), "[1n, 2]", "«v[1]» is not of type bigint", None),
    (t.ArrayType(t.DecimalType(5, 2)), "['1', null]", "«v[1]»", "[Decimal(1), 1.5]"),
    (t.MapType(t.IntType(32)), "{ a: 1, b: 'x' }", '«v["b"]» is not of type', "{'a': 1, 'b': 'x'}"),
    (t.MapType(t.StringType()), "new Map()", "«v» is not of type object", None),
    (t.ArrayType(t.StringType()), "'a'", "«v» is not of type", "'a'"),
    (t.ArrayType(t.StringType(), max_elements=1), "['a', 'b']", "«v» must have 0 to 1 elements", "['a', 'b']"),
    (t.ObjectType((t.Property("a", t.ObjectType((t.Property("b", t.IntType(8)),))),)), "{ a: { b: 'x' } }",
     "«v.a.b» is not of type",
     "{'a': {'b': 'x'}}"),
    (t.ObjectType((t.Property("a", t.IntType(8)),)), "{ a: 1, c: 2 }", "«v.c» does not exist", "{'a': 1, 'c': 2}"),
]  # fmt: skip


@pytest.mark.parametrize(("type", "javascript", "message", "python"), CONTAINERS)
async def test_errors_name_the_place(
    runner: Runner, type: t.Type, javascript: str, message: str, python: str | None
) -> None:
    await _returns(runner, "JavaScript", f"const transform = () => ({{ v: {javascript} }})", type, message)
    if python is not None:
        await _returns(runner, "Python", f"{IMPORTS}def transform(r): return {{'v': {python}}}", type, message)


@pytest.mark.parametrize(
    "type", [t.ArrayType(t.JsonType()), t.MapType(t.JsonType()), t.ObjectType((t.Property("k", t.JsonType()),))]
)
@pytest.mark.parametrize("language", ["JavaScript", "Python"])
async def test_a_number_that_json_cannot_hold_fails_its_record_and_no_other(
    runner: Runner, language: Language, type: t.Type
) -> None:
    nan = "NaN" if language == "JavaScript" else "float('nan')"
    if isinstance(type, t.ArrayType):
        good, bad, place = "[1, {'k': 2}]", f"[1, {{'k': {nan}}}]", "«v[1]"
    else:
        good, bad, place = "{'k': 2}", f"{{'k': {nan}}}", '«v["k"]' if isinstance(type, t.MapType) else "«v.k"
    schema = t.ObjectType((t.Property("v", type), t.Property("bad", t.BooleanType(), read_optional=True)))
    source = (
        f"const transform = (r) => ({{ v: r.bad ? {bad} : {good} }})"
        if language == "JavaScript"
        else f"def transform(r): return {{'v': {bad} if r['bad'] else {good}}}"
    )
    records: list[Record] = [{"bad": bad} for bad in (False, True, False)]
    first, failed, last = await runner.run(function(language, source, schema), records, schema, schema)
    assert isinstance(failed, RecordError)
    assert failed.step == "OutputValidation"
    assert "must be JSON, which has neither NaN nor infinities" in failed.message
    assert failed.message.startswith(place) or (language == "JavaScript" and failed.message.startswith("«v.k"))
    assert first == last and not isinstance(first, RecordError)


@pytest.mark.parametrize(
    ("language", "source", "message"),
    [
        ("JavaScript", r"() => { throw new Error('half \ud83d of it') }", "JavaScript: Error: half \ufffd of it"),
        ("JavaScript", r"() => { throw 'half \udc00' }", "JavaScript: half \ufffd"),
        ("JavaScript", r"() => { throw new Error('whole \ud83d\ude00') }", "JavaScript: Error: whole \U0001f600"),
        ("JavaScript", r"() => ({ '\ud83d': 1 })", "«\ufffd» does not exist in the schema"),
    ],
)
async def test_the_text_of_an_error_is_kept_with_half_a_surrogate_pair(
    runner: Runner, language: Language, source: str, message: str
) -> None:
    written = function(language, f"const transform = {source}")
    [outcome] = await runner.run(written, [{}], USER, USER)
    assert isinstance(outcome, RecordError)
    assert outcome.message == message


NULL = [("JavaScript", "const transform = () => ({ v: null })"), ("Python", "def transform(r): return {'v': None}")]


@pytest.mark.parametrize(("language", "source"), NULL)
@pytest.mark.parametrize(
    ("type", "nullable", "preserve", "purpose", "expected"),
    [
        (t.StringType(), True, False, "Import", {"v": None}),
        (t.StringType(), False, False, "Import", {}),
        (t.StringType(), False, False, "Create", "«v» must not be null"),
        (t.StringType(), False, False, "Update", "«v» must not be null"),
        (t.JsonType(), True, False, "Import", {"v": None}),
        (t.JsonType(), False, False, "Create", {"v": JSON_NULL}),
        (t.JsonType(), False, True, "Import", {}),
        (t.JsonType(), True, True, "Create", {"v": None}),
    ],
)
async def test_null(
    runner: Runner, language: Language, source: str, type: t.Type, nullable: bool, preserve: bool, purpose: Any,
    expected: Any
) -> None:  # fmt: skip
    schema = one(type, nullable=nullable)
    written = function(language, source, schema, preserve_json=preserve)
    [outcome] = await runner.run(written, [{}], schema, schema, purpose=purpose)
    assert outcome == expected or (isinstance(outcome, RecordError) and outcome.message == expected)


@pytest.mark.parametrize(("language", "source"), [
    ("JavaScript", "const transform = (r) => ({ v: typeof r.v === 'string' ? r.v : 'false' })"),
    ("Python", "def transform(r): return {'v': r['v'] if type(r['v']) is str else 'false'}"),
])  # fmt: skip
async def test_preserved_json_is_text(runner: Runner, language: Language, source: str) -> None:
    schema = one(t.JsonType())
    written = function(language, source, schema, preserve_json=True)
    records: list[Record] = [{"v": Json('{"a":1.0,"a":12345678901234567890123.450}')}, {"v": JSON_NULL}]
    assert await runner.run(written, records, schema, schema) == records
    [outcome] = await runner.run(
        function(language, source.replace("r", "r"), schema, preserve_json=True), [{"v": Json("1.00")}], schema, schema
    )
    assert outcome == {"v": Json("1.00")}


@pytest.mark.parametrize(("language", "source"), [
    ("JavaScript", "const transform = () => ({ v: '{' })"), ("Python", "def transform(r): return {'v': '{'}"),
])  # fmt: skip
async def test_preserved_json_must_be_json(runner: Runner, language: Language, source: str) -> None:
    schema = one(t.JsonType())
    [outcome] = await runner.run(function(language, source, schema, preserve_json=True), [{}], schema, schema)
    assert isinstance(outcome, RecordError) and "«v» must be JSON" in outcome.message


@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@pytest.mark.parametrize(("purpose", "message"), [("Import", None), ("Create", "«a.b» is required"), ("Update", None)])
async def test_required(runner: Runner, language: Language, purpose: Any, message: str | None) -> None:
    inner = t.ObjectType((t.Property("b", t.IntType(8), create_required=True), t.Property("c", t.IntType(8))))
    schema = t.ObjectType((t.Property("a", inner),))
    written = function(language, IDENTITY[language], schema)
    [outcome] = await runner.run(written, [{"a": {"c": 1}}], schema, schema, purpose=purpose)
    assert outcome == {"a": {"c": 1}} if message is None else isinstance(outcome, RecordError)


async def test_only_the_paths_pass(runner: Runner) -> None:
    address = t.ObjectType((t.Property("city", t.StringType()), t.Property("zip", t.StringType())))
    schema = t.ObjectType(
        (t.Property("email", t.StringType()), t.Property("name", t.StringType()), t.Property("address", address))
    )
    source = "const transform = (r) => ({ name: JSON.stringify(r) })"
    written = Function("t", "JavaScript", source, in_paths=("email", "address.city"), out_paths=("name",))
    record: Record = {"email": "e", "name": "n", "address": {"city": "c", "zip": "z"}, "unknown": 1}
    outcomes = await runner.run(written, [record], schema, schema)
    assert outcomes == [{"name": '{"email":"e","address":{"city":"c"}}'}]


async def test_no_input_paths(runner: Runner) -> None:
    for language, source in (
        ("JavaScript", "const transform = (r) => ({ v: Object.keys(r).length })"),
        ("Python", "def transform(r): return {'v': len(r)}"),
    ):
        written = Function("t", language, source, out_paths=("v",))  # type: ignore[arg-type]  # a language
        assert await runner.run(written, [{"v": 1}], None, one(t.IntType(32))) == [{"v": 0}]


# --- Any schema, any record ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("preserve_json", [False, True])
@pytest.mark.parametrize("language", ["JavaScript", "Python"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_identity(runner: Runner, language: Language, preserve_json: bool, data: st.DataObject) -> None:
    schema, values = data.draw(schemas())
    records: list[Record] = data.draw(st.lists(values, min_size=1, max_size=3))
    written = function(language, IDENTITY[language], schema, preserve_json=preserve_json)
    outcomes = await runner.run(written, records, schema, schema)
    assert outcomes == records or (not preserve_json and _plain(outcomes) == _plain(records))


def _plain(value: Any) -> Any:
    """Replace JSON texts by their values, because different texts may represent the same value."""
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {key: _plain(element) for key, element in value.items()}
    return ("json", json.loads(value.text)) if isinstance(value, Json) else value


async def test_floats_of_32_bits_are_rounded(runner: Runner) -> None:
    schema = one(t.FloatType(32))
    [outcome] = await runner.run(
        function("JavaScript", "const transform = () => ({ v: 0.1 })", schema), [{}], schema, schema
    )
    assert outcome == {"v": 0.10000000149011612}
