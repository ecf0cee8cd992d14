"""Checks of expressions before they are saved."""

import pytest

from headwater.schemas import InvalidType, Property, Type
from headwater.transforms.mapping import InvalidExpression, list_properties, validate_expression
from tests.transforms.mapping.examples import INT32, JSON, SCHEMA, TEXT

PROPERTIES = (Property("email", TEXT), Property("traits", JSON))


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("lower(email)", ""),
        ("traits.a?.b", ""),
        ("'a'", ""),
        ("", "the expression is empty, at character 1"),
        ("name", "name does not exist, at character 1"),
        ("lower(email", "the expression ends too early, at character 12"),
        ("array()", "array(json) cannot be converted to string, at character 1"),
    ],
)
def test_validates(expression: str, reason: str) -> None:
    assert validate_expression(expression, PROPERTIES, TEXT) == reason


def test_validates_without_properties() -> None:
    assert validate_expression("5", [], INT32) == ""
    assert validate_expression("a", [], INT32).startswith("there are no properties")


def test_properties_must_have_different_names() -> None:
    with pytest.raises(InvalidType):
        validate_expression("a", [Property("a", TEXT), Property("a", TEXT)], TEXT)


def test_lists_properties() -> None:
    expressions: list[tuple[str, Type]] = [
        ("first ' ' n", TEXT),
        ("doc.x.y", JSON),
        ("n", INT32),
        ("places.k.zip", TEXT),
        ("1", TEXT),
    ]
    assert list_properties(expressions, SCHEMA) == ["doc", "first", "n", "places.zip"]
    assert list_properties([], SCHEMA) == []
    assert list_properties([("1", TEXT)], None) == []


def test_lists_properties_of_valid_expressions_only() -> None:
    with pytest.raises(InvalidExpression, match="first is string and has no"):
        list_properties([("n", TEXT), ("first.x", TEXT)], SCHEMA)
