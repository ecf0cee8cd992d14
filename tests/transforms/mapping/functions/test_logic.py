"""and, or, not, eq, ne, if, coalesce: arguments and results."""

from typing import Any

import pytest

from headwater.schemas import (
    JSON_NULL,
    BooleanType,
    DateTimeType,
    IntType,
    Json,
    StringType,
    Type,
)
from headwater.transforms.mapping import InvalidMapping, TransformationError, ValidationError
from tests.transforms.mapping.examples import INT32, JSON, RECORD, TEXT, evaluate

FLAG = BooleanType()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("and(true, true)", True),
        ("and(true, false)", False),
        ("and(true, null)", None),
        ("and(null, false)", False),
        ("and(null, true, true)", None),
        ("and(vip, 'yes', tiny)", True),
        ("and(vip, maybe)", None),
        ("and(false, doc.a.x)", False),  # irrelevant operands are not evaluated
        ("or(false, false)", False),
        ("or(false, true)", True),
        ("or(null, 'yes')", True),
        ("or(false, null)", None),
        ("or(maybe, vip)", True),
        ("or(true, doc.a.x)", True),
        ("or(doc.t, false)", True),
        ("not(true)", False),
        ("not('no')", True),
        ("not(null)", None),
        ("not(maybe)", None),
        ("not(empty)", None),  # an empty text is null
    ],
)
def test_logical_functions(expression: str, value: bool | None) -> None:
    assert evaluate(expression, FLAG) is value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("eq(12, '12')", True),
        ("eq('12', 12)", True),
        ("eq('012', 12)", True),
        ("eq(12, '012')", False),
        ("ne('x', 3)", True),
        ("eq('x', 3)", False),
        ("eq(first, 'Ada')", True),
        ("eq(first, 'ada')", False),
        ("ne(first, 'ada')", True),
        ("eq(plan, 'pro')", True),
        ("eq('gold', plan)", False),
        ("eq(n, tiny)", False),
        ("eq(n, 3.0)", True),
        ("eq(score, 767.5)", True),
        ("eq(small, 0.1)", True),
        ("eq(0.1, small)", True),
        ("eq(small, score)", False),
        ("eq(n, 2.6)", False),  # 2.6 is not rounded
        ("eq(2.6, n)", False),
        ("eq(big, 9007199254740992.0)", False),
        ("eq(born, 1815)", True),
        ("eq(at, day)", False),
        ("eq(at, '2024-03-05T10:00:00.500Z')", False),  # the text form of the date differs
        ("eq('2024-03-05T10:00:00.500Z', at)", True),
        ("eq(vip, 'true')", True),
        ("eq('yes', vip)", True),
        ("eq(empty, n)", False),
        ("eq(null, 1)", None),
        ("eq(1, null)", None),
        ("ne(gone, 1)", None),
        ("ne(gone, gone)", None),
        ("eq(doc.a, 5)", True),
        ("eq(doc.n, 1.5)", True),
        ("eq(5, doc.a)", True),
        ("eq(doc.s, 'Text')", True),
        ("eq(doc.l, 'Text')", False),
        ("eq(doc.b.c, first)", False),  # JSON null is a value
        ("eq(coalesce(doc.b.c, 'x'), first)", False),
        ("eq(json_parse('{\"a\":1,\"b\":[1.50]}'), json_parse('{\"b\":[15e-1],\"a\":1.0}'))", True),
        ("eq(json_parse('{\"a\":1}'), json_parse('{\"a\":1,\"b\":null}'))", False),
        ("eq(json_parse('[1,2]'), json_parse('[2,1]'))", False),
        ("eq(doc.b.c, null)", None),
        ("eq(json_parse('null'), json_parse('null'))", True),
        ("eq(json_parse('true'), json_parse('1'))", False),
        ("eq(json_parse('1e99999999999999999999'), json_parse('1'))", False),
        ("eq(tags, array('vip', 'new'))", True),
        ("eq(array('vip'), tags)", False),
        ("eq(prefs, map('a', 1, 'b', 2, 'k k', 3))", True),
        ("eq(address, address)", True),
    ],
)  # fmt: skip
def test_equality(expression: str, value: bool | None) -> None:
    assert evaluate(expression, FLAG) is value


@pytest.mark.parametrize(("big", "equal"), [(2**53, True), (2**53 + 1, False)])
def test_integers_are_compared_with_floats_exactly(big: int, equal: bool) -> None:
    assert evaluate("eq(big, score)", FLAG, RECORD | {"big": big, "score": 2.0**53}) is equal


@pytest.mark.parametrize(
    ("expression", "type", "value"),
    [
        ("if(eq(n, 3), 'three')", TEXT, "three"),
        ("if(eq(n, 4), 'three')", TEXT, None),
        ("if(vip, first, 'x')", TEXT, "Ada"),
        ("if(maybe, first, 'x')", TEXT, "x"),
        ("if(null, 'x')", TEXT, None),
        ("if('yes', 1, doc.a.x)", INT32, 1),
        ("if(true, n, score)", TEXT, "3"),
        ("if(false, n, score)", INT32, 768),
        ("if(true, empty, 1)", INT32, None),
        ("if(true, null, 1)", INT32, None),
        ("len(if(true, first, n))", INT32, 3),
        ("len(if(false, n))", INT32, 0),
        ("len(if(true, null))", INT32, 0),
        ("coalesce(gone, 'n/a')", TEXT, "n/a"),
        ("coalesce(gone, unknown)", TEXT, None),
        ("coalesce(first)", TEXT, "Ada"),
        ("coalesce(null, doc.b.c, 'x')", TEXT, None),  # JSON null is a value
        ("coalesce(doc.b.c, 'x')", JSON, JSON_NULL),
        ("coalesce(gone, n, doc.a.x)", TEXT, "3"),
        ("coalesce(empty, 5)", INT32, None),
        ("len(coalesce(gone, n))", INT32, 1),
        ("len(coalesce(tags, n))", INT32, 2),
        ("len(coalesce(null))", INT32, 0),
        ("coalesce(null, null)", TEXT, None),
        ("lower(coalesce(gone, if(vip, first, n)))", TEXT, "ada"),
    ],
)
def test_choice(expression: str, type: Type, value: Any) -> None:
    assert evaluate(expression, type) == value


@pytest.mark.parametrize(
    ("expression", "type", "reason"),
    [
        ("and(true)", FLAG, "and takes 2 or more arguments, and has 1, at character 1"),
        ("not()", FLAG, "not takes 1 argument, and has 0"),
        ("not(true, true)", FLAG, "not takes 1 argument, and has 2"),
        ("eq(1)", FLAG, "eq takes 2 arguments, and has 1"),
        ("if(true)", FLAG, "if takes 2 to 3 arguments, and has 1"),
        ("if(true, 1, 2, 3)", FLAG, "if takes 2 to 3 arguments, and has 4"),
        ("coalesce()", FLAG, "coalesce takes 1 or more arguments, and has 0"),
        ("and(true, 'maybe')", FLAG, "'maybe' cannot be converted to boolean: it must be one of true, True"),
        ("and(true, n)", FLAG, "int(32) cannot be converted to boolean, at character 11"),
        ("or(true, '')", FLAG, "'' cannot be converted to boolean, at character 10"),
        ("eq(day, n)", FLAG, "eq cannot compare its arguments: date cannot be converted to int(32)"),
        ("eq(at, clock)", FLAG, "time cannot be converted to datetime"),
        ("if(true, day, 'x')", INT32, "date cannot be converted to int(32), at character 10"),
        ("if(true, 1, 'x')", INT32, "'x' cannot be converted to int(32): it must be the digits of an integer, at"),
        ("if(false, '', 1)", INT32, "'' cannot be converted to int(32), at character 11"),
        ("coalesce(gone, day)", INT32, "date cannot be converted to int(32), at character 16"),
        ("not(vip)", DateTimeType(), "boolean cannot be converted to datetime, at character 1"),
    ],
)
def test_refuses(expression: str, type: Type, reason: str) -> None:
    with pytest.raises(InvalidMapping) as raised:
        evaluate(expression, type)
    assert reason in raised.value.message


def test_an_argument_that_cannot_be_converted_is_no_fault_of_the_result() -> None:
    with pytest.raises(TransformationError, match="argument 2 of and must be true or false in JSON"):
        evaluate("and(vip, doc.a)", FLAG)
    with pytest.raises(TransformationError, match="argument 1 of not must be true or false in JSON"):
        evaluate("not(doc.a)", FLAG)
    with pytest.raises(ValidationError, match="must be the digits of an integer"):
        evaluate("if(vip, first)", INT32)
    with pytest.raises(TransformationError, match="argument 2 of substring must be the digits"):
        evaluate("substring('x', if(vip, first))", TEXT)


def test_the_result_keeps_the_limits_of_its_type() -> None:
    with pytest.raises(ValidationError, match="at most 2 characters"):
        evaluate("if(vip, first)", StringType(max_length=2))
    with pytest.raises(ValidationError):
        evaluate("coalesce(n)", IntType(8, maximum=2))
    assert evaluate("coalesce(doc)") == evaluate("doc") != Json("{}")
