import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import TEXT_EXPONENT, float_text, to_float32


@pytest.mark.parametrize(
    ("value", "in_json", "in_text"),
    [
        (0.0, "0", "0"), (-0.0, "-0", "-0"), (1.0, "1", "1"), (767.5, "767.5", "767.5"), (100000.0, "100000", "100000"),
        (1234567.0, "1234567", "1.234567e+06"), (1e6, "1000000", "1e+06"), (0.0001, "0.0001", "0.0001"),
        (0.00001, "1e-05", "1e-05"), (1e20, "100000000000000000000", "1e+20"), (1e21, "1e+21", "1e+21"),
        (-1.5e300, "-1.5e+300", "-1.5e+300"), (5e-324, "5e-324", "5e-324"),
        (7928301735.5, "7928301735.5", "7.9283017355e+09"),
    ],
)  # fmt: skip
def test_texts(value: float, in_json: str, in_text: str) -> None:
    assert float_text(value) == in_json
    assert float_text(value, exponent_from=TEXT_EXPONENT) == in_text


def test_fewest_digits_of_32_bits() -> None:
    assert float_text(to_float32(0.1), 32) == "0.1"
    assert float_text(to_float32(16777216.0), 32) == "16777216"


def test_beyond_32_bits() -> None:
    assert to_float32(1e39) == math.inf
    assert to_float32(-1e39) == -math.inf
    assert math.isnan(to_float32(math.nan))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_gives_the_same_number(value: float) -> None:
    for limit in (6, 21):
        text = float_text(value, exponent_from=limit)
        assert float(text) == value
        assert float(json.loads(text)) == value
        assert len(text.strip("-")) <= 27


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_text_gives_the_same_number_of_32_bits(value: float) -> None:
    assert to_float32(float(float_text(value, 32))) == value
