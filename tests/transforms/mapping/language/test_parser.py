"""Valid expressions, and every kind of invalid one."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.transforms.mapping import MAX_DEPTH, MAX_LENGTH, InvalidExpression, parse
from headwater.transforms.mapping.language.parser import MAX_STEPS
from headwater.transforms.mapping.language.tree import (
    BOOLEAN,
    INT32,
    NUMBER,
    STRING,
    Call,
    Concatenation,
    Constant,
    Expression,
    PathReference,
    Step,
)
from tests.complexity import assert_linear

A, B, X = (PathReference((Step(name),)) for name in "abx")
NULL = Constant(None, None)


def text(value: str) -> Constant:
    return Constant(value, STRING)


def number(value: int) -> Constant:
    return Constant(value, INT32)


def decimal(value: str) -> Constant:
    return Constant(Decimal(value), NUMBER)


def path(*steps: str | Step) -> PathReference:
    return PathReference(tuple(Step(step) if isinstance(step, str) else step for step in steps))


@pytest.mark.parametrize(
    ("source", "tree"),
    [
        ("'a'", text("a")),
        ('"a"', text("a")),
        ("''", text("")),
        (" \t\r\n'a' \n", text("a")),
        ("'A' 'B'", text("AB")),
        ("'A''B'\"C\"", text("ABC")),
        ("5", number(5)),
        ("-5", number(-5)),
        ("007", number(7)),
        ("2147483647", number(2147483647)),
        ("2147483648", decimal("2147483648")),
        ("-2147483648", number(-2147483648)),
        ("1.5", decimal("1.5")),
        ("1.", decimal("1")),
        (".5", decimal("0.5")),
        ("-.5e1", decimal("-5")),
        ("1e3", decimal("1000")),
        ("1E-3", decimal("0.001")),
        ("true", Constant(True, BOOLEAN)),
        ("false", Constant(False, BOOLEAN)),
        ("null", NULL),
        ("truely", path("truely")),
        ("nulls", path("nulls")),
        ("True", path("True")),
        (".null", path("null")),
        (".true.false", path("true", "false")),
        ("a", A),
        (".a", A),
        ("_1", path("_1")),
        ("a.b.c", path("a", "b", "c")),
        ("a['b']", path("a", "b")),
        ('a[ "b c" ].d', path("a", "b c", "d")),
        ("a['']", path("a", "")),
        ("a.b?", path("a", Step("b", True))),
        ("a?['b']?.c", path(Step("a", True), Step("b", True), "c")),
        ("if", path("if")),
        ("a.if", path("a", "if")),
        ("f()", Call("f", ())),
        ("f ( ) ", Call("f", ())),
        ("f(a)", Call("f", (A,))),
        ("f(a, 'b' a,\n5)", Call("f", (A, Concatenation((text("b"), A)), number(5)))),
        ("f(g(a), h())", Call("f", (Call("g", (A,)), Call("h", ())))),
        ("true()", Call("true", ())),
        ("a b", Concatenation((A, B))),
        ("a .b", Concatenation((A, B))),
        ("'a'x", Concatenation((text("a"), X))),
        ("x'a'", Concatenation((X, text("a")))),
        ("5'a'", Concatenation((number(5), text("a")))),
        ("5 6", Concatenation((number(5), number(6)))),
        ("5-6", Concatenation((number(5), number(-6)))),
        ("a-6", Concatenation((A, number(-6)))),
        ("f(a)b", Concatenation((Call("f", (A,)), B))),
        ("'x' true 'y'", Concatenation((text("x"), Constant(True, BOOLEAN), text("y")))),
    ],
)
def test_reads(source: str, tree: Expression) -> None:
    assert parse(source) == tree


@pytest.mark.parametrize(
    ("source", "offset", "rule"),
    [
        ("", 0, "the expression is empty"),
        (" \n", 0, "the expression is empty"),
        ("a + b", 2, "unexpected '+'"),
        ("a&b", 1, "unexpected '&'"),
        ("$a", 0, "unexpected '$'"),
        ("!a", 0, "unexpected '!'"),
        ("a,b", 1, "unexpected ','"),
        ("(a)", 0, "unexpected '('"),
        ("a)", 1, "unexpected ')'"),
        ("é", 0, "unexpected 'é'"),
        ("a\0", 1, "unexpected U+0000"),
        ("a\x0bb", 1, "unexpected U+000B"),
        ("-", 0, "unexpected '-'"),
        ("- 5", 0, "unexpected '-'"),
        ("+5", 0, "unexpected '+'"),
        ("a.", 2, "the expression ends too early"),
        ("a..b", 2, "unexpected '.'"),
        ("a.?", 2, "unexpected '?'"),
        ("a. b", 2, "unexpected ' '"),
        ("a??", 2, "unexpected '?'"),
        ("a ?", 2, "unexpected '?'"),
        ("a.['k']", 2, "unexpected '['"),
        ("a['k'", 5, "the expression ends too early"),
        ("a[", 2, "the expression ends too early"),
        ("a['k')", 5, "unexpected ')'"),
        ("a[k]", 2, "a key in brackets must be a string: elements have no index"),
        ("a[0]", 2, "a key in brackets must be a string: elements have no index"),
        ("a ['k']", 2, "unexpected '['"),
        (".", 1, "the expression ends too early"),
        (".5a", 2, "a number must not be followed directly by a letter, digit, underscore or point"),
        ("f(a,)", 4, "unexpected ')'"),
        ("f(,a)", 2, "unexpected ','"),
        ("f(a b", 5, "the expression ends too early"),
        ("f(", 2, "the expression ends too early"),
        ("f(a;b)", 3, "unexpected ';'"),
        (".f(a)", 2, "unexpected '('"),
        ("a.f(b)", 3, "unexpected '('"),
        ("true.a", 4, "true is a constant: write .true for the property of that name"),
        ("null?", 4, "null is a constant: write .null for the property of that name"),
        ("false['a']", 5, "false is a constant: write .false for the property of that name"),
        ("'abc", 0, "a string has no closing quote"),
    ],
)
def test_rejects_with_the_position(source: str, offset: int, rule: str) -> None:
    with pytest.raises(InvalidExpression) as raised:
        parse(source)
    assert (raised.value.offset, raised.value.rule) == (offset, rule)
    assert raised.value.message == f"{rule}, at character {offset + 1}"


def test_remembers_where_parts_stand() -> None:
    tree = parse(" f( a.b ,'x')")
    assert isinstance(tree, Call)
    assert tree.offset == 1
    assert [argument.offset for argument in tree.arguments] == [4, 9]
    assert isinstance(tree.arguments[0], PathReference)
    assert [step.offset for step in tree.arguments[0].steps] == [4, 5]


def test_has_a_longest_expression() -> None:
    assert parse("'" + "x" * (MAX_LENGTH - 2) + "'") == text("x" * (MAX_LENGTH - 2))
    with pytest.raises(InvalidExpression, match="at most 50000 characters"):
        parse("'" + "x" * (MAX_LENGTH - 1) + "'")


def test_has_a_deepest_expression() -> None:
    assert isinstance(parse("f(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH), Call)
    with pytest.raises(InvalidExpression, match=f"deeper than {MAX_DEPTH} levels") as raised:
        parse("f(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1))
    assert raised.value.offset == 2 * MAX_DEPTH


def test_has_a_longest_path() -> None:
    assert parse(".".join("a" * MAX_STEPS))
    with pytest.raises(InvalidExpression, match=f"at most {MAX_STEPS} steps"):
        parse(".".join("a" * (MAX_STEPS + 1)))


@pytest.mark.parametrize(
    "source",
    [
        lambda n: "(" * n,
        lambda n: "f(" * (n // 2),
        lambda n: "a." * (n // 2),
        lambda n: "a b " * (n // 4),
        lambda n: "''" * (n // 2),
        lambda n: "f(" + "a," * (n // 2 - 1),
        lambda n: "1" * n,
        lambda n: "1e" + "9" * (n - 2),
        lambda n: "0." + "0" * (n - 3) + "1",
        lambda n: "'" + "\\u0301" * (n // 6 - 1) + "'",
        lambda n: "'" + "\u0327\u0301" * (n // 2 - 1) + "'",
        lambda n: "a" * n,
        lambda n: " " * n,
        lambda n: "a['" + "\\" * (n - 3),
        lambda n: "- " * (n // 2),
    ],
)
def test_its_work_grows_with_the_text_and_no_faster(source: Callable[[int], str]) -> None:
    def parsed(length: int) -> None:
        text = source(length)
        assert len(text) <= length
        try:
            parse(text)
        except InvalidExpression as error:
            assert len(error.message) < 300

    assert_linear(parsed, MAX_LENGTH)


@given(st.text() | st.text("ab.[]()?,'\"\\ u0163-e\n"))
@example("a\ud800")
def test_any_text_is_a_tree_or_an_error(source: str) -> None:
    try:
        parse(source)
    except InvalidExpression as error:
        assert 0 <= error.offset <= len(source)
