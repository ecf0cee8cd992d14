"""The canonical text of expressions."""

import pytest
from hypothesis import given

from headwater.transforms.mapping import parse, print_expression
from headwater.transforms.mapping.language.tree import Expression
from tests.schemas.strategies import names
from tests.transforms.mapping import strategies


@pytest.mark.parametrize(
    ("source", "canonical"),
    [
        ("  first   ' '\tlast ", "first ' ' last"),
        ('a["b"]["c d"]?', "a.b['c d']?"),
        (".a.b", "a.b"),
        (".null", ".null"),
        ("a.null", "a.null"),
        ("'A' \"B\"", "'AB'"),
        ("1.50", "1.5"),
        ("1.", "1.0"),
        ("if( eq(a,1),'x' )", "if(eq(a, 1), 'x')"),
        ("'x'true null", "'x' true null"),
    ],
)
def test_is_canonical(source: str, canonical: str) -> None:
    assert print_expression(parse(source)) == canonical


@given(strategies.expressions(strategies.paths, names))
def test_is_read_as_the_same_tree(expression: Expression) -> None:
    assert parse(print_expression(expression)) == expression
