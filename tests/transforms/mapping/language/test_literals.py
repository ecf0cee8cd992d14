"""Constants: texts of strings and numbers."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.transforms.mapping import InvalidExpression
from headwater.transforms.mapping.language.literals import (
    MAX_MARKS,
    read_number,
    read_string,
    write_number,
    write_string,
)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (r"'\a\b\f\n\r\t\v'", "\a\b\f\n\r\t\v"),
        (r"""'\\\'\"'""", "\\'\""),
        ("""'"'""", '"'),
        ('''"'"''', "'"),
        (r"'\u00e9'", "é"),
        (r"'\u0001\ud7ff\ue000\U0010ffff'", "\x01\ud7ff\ue000\U0010ffff"),  # the limits of the ranges
        (r"'\u00E9x'", "éx"),
        (r"'\U0001F600'", "😀"),
        ("'two\nlines'", "two\nlines"),
        ("'e\u0301'", "é"),  # normalized, like all input
        (r"'e\u0301'", "e\u0301"),  # escapes are not normalized
        (r"'\\u0041'", r"\u0041"),
    ],
)
def test_reads_strings(source: str, value: str) -> None:
    assert read_string(source, 0) == (value, len(source))


@pytest.mark.parametrize(
    ("source", "offset"),
    [
        ("'abc", 0),
        ("'abc\"", 0),
        ("'abc\\", 4),
        ("'abc\\'", 0),
        ("'a\0'", 2),
        ("'a\ud800'", 2),
        (r"'\x41'", 1),
        (r"'\u12'", 1),
        (r"'\u12g4'", 1),
        (r"'\U0000004'", 1),
        (r"'\u0000'", 1),
        (r"'\U00000000'", 1),
        (r"'\ud800'", 1),
        (r"'\udfff'", 1),
        (r"'\U00110000'", 1),
        (r"'\é'", 1),
    ],
)
def test_rejects_strings(source: str, offset: int) -> None:
    with pytest.raises(InvalidExpression) as raised:
        read_string(source, 0)
    assert raised.value.offset == offset


def test_bounds_combining_marks() -> None:
    assert read_string("'e" + "\u0327" * MAX_MARKS + "'", 0)
    assert read_string("'" + "\u0327" * MAX_MARKS + "'", 0)
    with pytest.raises(InvalidExpression, match="combining marks"):
        read_string("'e" + "\u0327" * (MAX_MARKS + 1) + "'", 0)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_written_string_is_read_as_itself(value: str) -> None:
    source = write_string(value)
    assert read_string(source, 0) == (value, len(source))


def test_printed_strings_are_readable() -> None:
    assert write_string("Grüße, 'Ada'\n") == "\"Grüße, 'Ada'\\n\""
    assert write_string("say \"hi\" and 'hi'") == r"""'say "hi" and \'hi\''"""
    assert write_string("e\u0301\x7f") == r"'e\u0301\u007f'"


@pytest.mark.parametrize("source", ["1_000", "0x1F", "3e", "2kg", "1.2.3", "1..", "1e5e", "1e5.", "3_"])
def test_rejects_characters_directly_after_a_number(source: str) -> None:
    with pytest.raises(InvalidExpression, match="must not be followed directly"):
        read_number(source, 0)


@pytest.mark.parametrize("source", ["1e40", "1e-38", "1" * 40, "1e99999999999999999999", "-1e-99999999999999999999"])
def test_rejects_numbers_that_no_decimal_holds(source: str) -> None:
    with pytest.raises(InvalidExpression, match="39 digits before the point and 37 behind"):
        read_number(source, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        (-5, "-5"),
        (Decimal(5), "5.0"),
        (Decimal("-5.5"), "-5.5"),
        (Decimal("1e20"), "100000000000000000000"),
        (Decimal("1e-7"), "0.0000001"),
        (Decimal(2**31), "2147483648"),
        (Decimal(-(2**31)), "-2147483648.0"),
    ],
)
def test_writes_numbers(value: int | Decimal, text: str) -> None:
    assert write_number(value) == text
    read = read_number(text, 0)
    assert read is not None
    assert (read[0].value, read[0].value.__class__) == (value, value.__class__)
