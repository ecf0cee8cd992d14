import pytest

from headwater.schemas import InvalidType, compile_pattern
from tests.complexity import assert_linear


def test_found_anywhere() -> None:
    assert compile_pattern("b+").search("abbc")
    assert compile_pattern("^b").search("abbc") is None
    assert compile_pattern(r"^\pL+$").search("Çitta")


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "(a{1000}){1000}", "a" * 10_001, "*", r"\pL{1000}" * 100])
def test_expressions_other_than_re2_are_rejected(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidType) as caught:
        compile_pattern(pattern)
    assert caught.value.path == "pattern"
    assert "patterns.py" not in capfd.readouterr().err


def test_matching_is_linear_where_backtracking_would_be_exponential() -> None:
    pattern = compile_pattern("^(a+)+$")
    assert_linear(lambda size: pattern.search("a" * size + "b"), 1_000_000)
    assert pattern.search("a" * 1_000_000 + "b") is None
