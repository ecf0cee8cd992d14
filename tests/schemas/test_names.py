import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import is_property_name, suggest_property_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("id", "id"),
        ("_", "_"),
        ("a__b", "a__b"),
        ("Città di nascita", "Citta_di_nascita"),
        ("e-mail  address", "e_mail_address"),
        ("price €", "price_"),
        (" zip", "zip"),
        ("2nd", "_nd"),
        ("7", None),
        ("Age (years)", "Age_years_"),
        ("e\u0301te\u0301", "ete"),
        ("имя", None),
        ("ØKO", None),
        ("$$", None),
        ("", None),
        ("   ", None),
        ("ß", None),
        ("日本", None),
        ("a\0b", "a_b"),
    ],
)
def test_column_headings(text: str, name: str | None) -> None:
    assert suggest_property_name(text) == name


@given(st.text())
def test_a_suggested_name_is_valid_and_stable(text: str) -> None:
    name = suggest_property_name(text)
    if name is not None:
        assert is_property_name(name)
        assert suggest_property_name(name) == name
