"""Validation of functions before they run."""

import pytest

from headwater.base.errors import BadRequest
from headwater.schemas import ArrayType, ObjectType, Property, StringType
from headwater.transforms.functions import MAX_SOURCE_LENGTH, Function, FunctionFailed

ITEM = ObjectType((Property("sku", StringType()),))
SCHEMA = ObjectType((Property("email", StringType()), Property("items", ArrayType(ITEM)), Property("address", ITEM)))


@pytest.mark.parametrize(
    ("source", "message"),
    [("", "empty"), ("a\0", "NUL"), ("\ud800", "surrogates"), ("x" * (MAX_SOURCE_LENGTH + 1), "50000")],
)
def test_a_source_that_breaks_a_rule_is_rejected(source: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Function("t", "Python", source)


def test_the_longest_source_is_accepted() -> None:
    assert len(Function("t", "Python", "é" * MAX_SOURCE_LENGTH).source) == MAX_SOURCE_LENGTH


def test_languages() -> None:
    with pytest.raises(BadRequest, match="language must be one of JavaScript, Python"):
        Function("t", "Ruby", "x")  # type: ignore[arg-type]  # the case


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("email", "email"), "twice"),
        (("address", "address.sku"), "both address and address.sku"),
        (("address.sku", "address"), "both address and address.sku"),
        (("a..b",), "path"),
    ],
)
def test_paths_do_not_overlap(paths: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Function("t", "Python", "x", in_paths=paths)
    with pytest.raises(BadRequest, match=message):
        Function("t", "Python", "x", out_paths=paths)


@pytest.mark.parametrize("path", ["name", "items.sku", "address.zip"])
def test_paths_lead_to_properties_through_objects(path: str) -> None:
    with pytest.raises(BadRequest, match="is none") as caught:
        Function("t", "Python", "x", in_paths=("email", path)).check_paths(SCHEMA, SCHEMA)
    assert caught.value.field == "inPaths[1]"
    Function("t", "Python", "x", in_paths=("email", "address.sku", "items")).check_paths(SCHEMA, None)


def test_a_failure_tells_its_line() -> None:
    assert FunctionFailed("JavaScript: no", line=3).details == {"line": "3"}
    assert (FunctionFailed("x").code, FunctionFailed("x").status) == ("TransformationFailed", 422)
