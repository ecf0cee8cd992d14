"""Paths, concatenations, and the errors of expressions that cannot work."""

from collections.abc import Callable
from typing import Any

import pytest

from headwater.schemas import JSON_NULL, Json
from headwater.schemas import types as t
from headwater.transforms.mapping import FUNCTIONS, MAX_DEPTH, InvalidExpression, InvalidMapping, TransformationError
from headwater.transforms.mapping.compiler import compile_expression
from headwater.transforms.mapping.evaluation import Input
from tests.complexity import assert_linear
from tests.transforms.mapping.examples import INT32, JSON, RECORD, SCHEMA, TEXT, evaluate


def test_there_are_18_functions() -> None:
    assert sorted(FUNCTIONS) == [
        "and", "array", "coalesce", "eq", "if", "initcap", "json_parse", "len", "lower",
        "ltrim", "map", "ne", "not", "or", "rtrim", "substring", "trim", "upper",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "type", "value"),
    [
        ("first", TEXT, "Ada"),
        ("address.street", TEXT, "Via Roma"),
        ("address['street']", TEXT, "Via Roma"),
        ("address.geo.lat", TEXT, "45.5"),
        ("prefs.a", INT32, 1),
        ("prefs['k k']", INT32, 3),
        ("prefs.zz", INT32, None),
        ("places.home.street", TEXT, "Here"),
        ("places.away.street", TEXT, None),
        ("gone", TEXT, None),
        ("unknown", TEXT, None),
        ("address.zip", TEXT, None),
        ("address.zip", JSON, None),  # null, and no JSON null
        ("missing.geo.lat", TEXT, None),
        ("missing.geo", JSON, None),
        ("missing.street", TEXT, None),
        (".null", JSON, JSON_NULL),
        (".null", TEXT, None),
        ("doc.a", JSON, Json("5")),
        ("doc.a", INT32, 5),
        ("doc.q", JSON, None),
        ("doc.q.r.s", JSON, None),
        ("doc.a.x?", JSON, None),
        ("doc.a.x?.y", JSON, None),
        ("doc.b.c", JSON, JSON_NULL),
        ("doc[\"b\"]['c']", JSON, JSON_NULL),
        ("doc.b.c.d?", JSON, None),
        ("doc.l.x?", JSON, None),
        ("doc['']['k k']", JSON, Json("7")),
        ("doc.n", TEXT, "1.50"),
        ("address", JSON, Json('{"street":"Via Roma","zip":null,"geo":{"lat":45.5,"lon":9}}')),
    ],
)
def test_follows_paths(expression: str, type: t.Type, value: Any) -> None:
    assert evaluate(expression, type) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("doc.a.x", "doc.a is not a JSON object"),
        ("doc.l.x", "doc.l is not a JSON object"),
        ("doc.b.c.d", "doc.b.c is not a JSON object"),
        ("doc.a?.x", "doc.a? is not a JSON object"),
        (".null.x", ".null is not a JSON object"),
        ("doc['']['k k'].x", "doc['']['k k'] is not a JSON object"),
    ],
)
def test_asks_only_objects_for_keys(expression: str, reason: str) -> None:
    with pytest.raises(TransformationError) as failed:
        evaluate(expression)
    assert failed.value.reason == reason


def test_a_member_with_half_a_surrogate_is_an_error() -> None:
    with pytest.raises(TransformationError, match="lone surrogate"):
        evaluate("doc.a", record={"doc": Json('{"\\ud800":1}')})


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("frist", "frist does not exist, at character 1"),
        ("address.city.x", "address.city does not exist, at character 8"),
        ("address['a b']", "address['a b'] does not exist, at character 8"),
        ("first.x", "first is string and has no properties or keys, at character 6"),
        ("tags.x", "tags is array(string) and has no properties or keys"),
        ("prefs.a.b", "prefs.a is int(32) and has no properties or keys"),
        ("first?", "? is allowed only after a key inside a json value, at character 1"),
        ("doc?", "? is allowed only after a key inside a json value"),
        ("address.street?", "? is allowed only after a key inside a json value, at character 8"),
        ("prefs.a?", "? is allowed only after a key inside a json value"),
        ("lowr(first)", "there is no function lowr; did you mean lower?, at character 1"),
        ("now()", "there is no function now"),
        ("first tags", "array(string) cannot be converted to string, at character 7"),
        ("'a' map()", "map(json) cannot be converted to string, at character 5"),
        ("lower(first", "the expression ends too early, at character 12"),
    ],
)
def test_refuses(expression: str, reason: str) -> None:
    with pytest.raises(InvalidMapping) as raised:
        evaluate(expression, TEXT)
    assert reason in raised.value.message


@pytest.mark.parametrize(
    ("expression", "type", "reason"),
    [
        ("'abc'", INT32, "'abc' cannot be converted to int(32): it must be the digits of an integer, at character 1"),
        ("''", INT32, "'' cannot be converted to int(32), at character 1"),
        ("''", t.StringType(values=("a",)), "'' cannot be converted to string, at character 1"),
        ("''", t.StringType(pattern="x"), "'' cannot be converted to string"),
        ("'b'", t.StringType(values=("a",)), "'b' cannot be converted to string: it must be one of \"a\""),
        ("300", t.IntType(8), "300 cannot be converted to int(8): it must be an integer in the range -128 to 127"),
        ("true", INT32, "boolean cannot be converted to int(32)"),
        ("2024", t.DateType(), "int(32) cannot be converted to date"),
        ("day", INT32, "date cannot be converted to int(32), at character 1"),
        ("'" + "x" * 100 + "'", INT32, "'" + "x" * 59 + "… cannot be converted"),
        ("'a' n", t.DateType(), None),
        ("'a'", t.MapType(TEXT), "string cannot be converted to map(string)"),
    ],
)
def test_converts_constants_at_once(expression: str, type: t.Type, reason: str | None) -> None:
    if reason is None:
        compile_expression(expression, SCHEMA, type)
        return
    with pytest.raises(InvalidExpression) as raised:
        compile_expression(expression, SCHEMA, type)
    assert raised.value.message.startswith(reason)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("first ' #' n", "Ada #3"),
        ("'[' gone ']'", "[]"),
        ("'[' null ']'", "[]"),
        ("day '/' 1.50", "2024-01-02/1.5"),
        ("'x' true", "xtrue"),
        ("'x' vip", "xtrue"),
        ("'x' maybe", "x"),
        ("at ' ' clock ' ' born", "2024-03-05T10:00:00.5Z 10:20:30.25 1815"),
        ("id '@' ip", "7f3a1c52-9f3d-4c1b-8d2e-0a1b2c3d4e5f@10.0.0.1"),
        ("score ' ' small ' ' price ' ' big", "767.5 0.1 12.5 9007199254740993"),
        ("1e21 ''", "1000000000000000000000"),
        ("doc.s '-' doc.n '-' doc.t '-' doc.b.c '-' doc.q", "Text-1.50-true-null-"),
        ("'a' lower(first) 'b'", "aadab"),
        ("gone unknown", ""),
    ],
)
def test_concatenates(expression: str, value: str) -> None:
    assert evaluate(expression, TEXT) == value


def test_a_concatenation_is_a_text_of_the_record() -> None:
    assert evaluate("n '0'", INT32) == 30
    assert evaluate("gone unknown", INT32) is None


@pytest.mark.parametrize("expression", ["'k=' doc.l", "'k=' doc"])
def test_concatenates_no_structures(expression: str) -> None:
    with pytest.raises(TransformationError, match=r"doc(\.l)? must be a JSON string, number or boolean"):
        evaluate(expression, TEXT)


def test_reports_the_properties_that_are_read() -> None:
    def paths(expression: str) -> list[str]:
        return sorted(compile_expression(expression, SCHEMA, JSON)[1])

    assert paths("1") == []
    assert paths("doc.a.b?.c") == ["doc"]
    assert paths("prefs['k k']") == ["prefs"]
    assert paths("places.home.geo.lat") == ["places.geo.lat"]
    assert paths("if(vip, map('a', address.zip), coalesce(first, 'x' n))") == ["address.zip", "first", "n", "vip"]


def test_without_properties_there_are_constants() -> None:
    evaluator, paths = compile_expression("upper('a' 1)", None, TEXT)
    assert (evaluator(Input({}, {})), paths) == ("A1", frozenset())
    with pytest.raises(InvalidExpression, match="there are no properties, so a does not exist"):
        compile_expression("a.b", None, TEXT)


@pytest.mark.parametrize("function", ["lower", "not", "coalesce", "array", "len", "json_parse", "trim"])
def test_the_deepest_expressions_compile_and_run(function: str) -> None:
    def compiled_and_run(levels: int) -> None:
        evaluate_, _ = compile_expression(f"{function}(" * levels + "first" + ")" * levels, SCHEMA, JSON)
        try:
            evaluate_(Input(RECORD, {}))
        except Exception as error:
            assert not isinstance(error, RecursionError)

    assert_linear(compiled_and_run, MAX_DEPTH)


def _chain(size: int) -> str:
    chain = "n"
    for _ in range(size // 100):
        chain = f"if(eq({chain}, 1), first, coalesce(n, first))"
    return f"len({chain})"


def _wide(size: int) -> str:
    return "coalesce(" + ", ".join(["n", "first"] * size) + ")"


@pytest.mark.parametrize(
    "source",
    [
        _chain,
        lambda size: f"len({_wide(size)})",
        lambda size: "len(" * 90 + _wide(size) + ")" * 90,
        lambda size: "coalesce(" * 90 + _wide(size) + ")" * 90,
    ],
)
def test_the_work_for_wide_expressions_grows_with_them_and_no_faster(source: Callable[[int], str]) -> None:
    assert_linear(lambda size: compile_expression(source(size), SCHEMA, TEXT), 4_000)


def test_schemas_may_have_thousands_of_properties() -> None:
    def compiled(size: int) -> None:
        schema = t.ObjectType(tuple(t.Property(f"p{index}", TEXT) for index in range(size)))
        for index in range(0, size, 10):
            compile_expression(f"upper(p{index})", schema, TEXT)
        entries = ", ".join(f"'k{index}', p{index}" for index in range(0, size, 3))
        compile_expression(f"map({entries})", schema, JSON)

    assert_linear(compiled, 5_000)
