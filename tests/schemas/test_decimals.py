from decimal import Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import decimal_text, parse_decimal
from headwater.schemas.decimals import fits, from_float, plain

WIDE = Context(prec=1000)


@pytest.mark.parametrize(
    ("text", "precision", "scale", "number"),
    [
        ("12.340", 4, 2, "12.34"),
        (".5", 3, 1, "0.5"),
        ("6800.", 4, 0, "6800"),
        ("-0", 1, 0, "0"),
        ("+1", 1, 0, "1"),
        ("1e2", 3, 0, "100"),
        ("1.5E-1", 3, 2, "0.15"),
        ("100000e-5", 1, 0, "1"),
        ("0e99999", 1, 0, "0"),
        ("9" * 76, 76, 0, "9" * 76),
        ("0." + "0" * 36 + "1", 76, 37, "0." + "0" * 36 + "1"),
        ("1." + "0" * 500, 1, 0, "1"),
    ],
)
def test_texts(text: str, precision: int, scale: int, number: str) -> None:
    assert decimal_text(parse_decimal(text, precision, scale)) == number


@pytest.mark.parametrize(
    "text",
    ["12.345", "999", "100", "0.001", "1e99999999999999999999", "-1e-99999999999999999999", "1." + "0" * 300 + "1"],
)
def test_numbers_that_do_not_fit_exactly(text: str) -> None:
    with pytest.raises(
        ValueError, match="must be a decimal number of at most 2 digits before the point and 1 behind it"
    ):
        parse_decimal(text, 3, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "00.1",
        "01",
        "1_0",
        ".",
        "-",
        "e1",
        "1e",
        "1e+",
        "NaN",
        "Infinity",
        "0x1",
        "\u0661",
        "1,5",
        "1" * 1001,
    ],
)
def test_invalid_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a decimal number$"):
        parse_decimal(text)


@pytest.mark.parametrize(
    ("value", "precision", "scale", "number"),
    [
        (23.78, 2, 0, "24"),
        (0.5, 1, 0, "1"),
        (-0.5, 1, 0, "-1"),
        (2.5, 1, 0, "3"),
        (1e-300, 1, 0, "0"),
        (2.0**100, 38, 0, str(2**100)),
    ],
)
def test_floats_are_rounded_half_away_from_zero(value: float, precision: int, scale: int, number: str) -> None:
    assert decimal_text(from_float(value, precision, scale)) == number


@pytest.mark.parametrize(
    ("value", "precision", "scale"), [(330.164, 5, 3), (1e300, 76, 37), (float("nan"), 5, 1), (float("inf"), 5, 1)]
)
def test_floats_that_do_not_fit(value: float, precision: int, scale: int) -> None:
    with pytest.raises(ValueError, match="must be a decimal number of at most"):
        from_float(value, precision, scale)


@given(st.integers(-(10**76) + 1, 10**76 - 1), st.integers(0, 37))
def test_text_and_number(digits: int, scale: int) -> None:
    number = Decimal(f"{digits}e-{scale}")
    assert fits(number, 76, scale)
    assert parse_decimal(decimal_text(number), 76, scale) == number
    assert decimal_text(plain(number)) == decimal_text(number)


@given(st.decimals(-(10**30), 10**30, allow_nan=False), st.integers(1, 30), st.integers(0, 20))
def test_fits_agrees_with_its_definition(number: Decimal, precision: int, scale: int) -> None:
    scaled = number.scaleb(scale, WIDE)
    assert fits(number, precision, scale) == (abs(scaled) < 10**precision and scaled == scaled.to_integral_value())


@given(st.decimals(), st.integers(1, 76), st.integers(0, 37))
def test_any_decimal_fits_or_does_not(number: Decimal, precision: int, scale: int) -> None:
    assert fits(number, precision, scale) in (True, False)
    assert number.is_finite() or not fits(number, precision, scale)
