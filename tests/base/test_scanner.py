import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.scanner import Scanner, escape, read_string
from tests.complexity import assert_linear

SPACE = re.compile(r"\s*")
WORD = re.compile(r"[a-z]+")


class Broken(Exception):
    def __init__(self, rule: str, offset: int) -> None:
        super().__init__(rule)
        self.offset = offset


def test_tokens_follow_each_other() -> None:
    scanner = Scanner("ab , cd", SPACE)
    assert scanner.take(WORD) == "ab"
    assert scanner.take(WORD) is None
    scanner.skip_space()
    assert scanner.peek() == ","
    assert scanner.skip(",") and not scanner.skip(",")
    scanner.skip_space()
    assert scanner.take(WORD) == "cd"
    assert scanner.at_end() and scanner.peek() == "" and not scanner.skip(",")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('""', ""),
        ("'a\"b'", 'a"b'),
        (r'"\a\b\f\n\r\t\v\\\'\""', "\a\b\f\n\r\t\v\\'\""),
        (r'"\u00e9\U0001F600"', "é😀"),
    ],
)
def test_strings(text: str, value: str) -> None:
    assert read_string(f"-{text}-", 1, name="a value", error=Broken) == (value, len(text) + 1)


@pytest.mark.parametrize(
    ("text", "offset", "rule"),
    [
        ('"a', 0, "a value has no closing quote"),
        (r'"a\"', 0, "a value has no closing quote"),
        ('"a\0"', 2, "a value cannot contain NUL or lone surrogates"),
        ('"a\ud800"', 2, "a value cannot contain NUL or lone surrogates"),
        (r'"a\q"', 2, "a backslash must be followed by one of"),
        (r'"a\u12"', 2, "a backslash must be followed by one of"),
        (r'"a\u0000"', 2, "the escape is NUL or not a Unicode character"),
        (r'"a\udfff"', 2, "the escape is NUL or not a Unicode character"),
        (r'"a\U00110000"', 2, "the escape is NUL or not a Unicode character"),
    ],
)
def test_invalid_strings(text: str, offset: int, rule: str) -> None:
    with pytest.raises(Broken, match=rule) as raised:
        read_string(text, 0, name="a value", error=Broken)
    assert raised.value.offset == offset


def test_only_unescaped_characters_are_converted() -> None:
    def upper(run: str, offset: int) -> str:
        return f"{run.upper()}{offset}"

    assert read_string(r'"ab\ncd"', 0, name="a value", error=Broken, convert=upper)[0] == "AB1\nCD5"


@given(st.characters(codec="utf-8", exclude_characters="\0"))
def test_an_escape_is_read_as_its_character(character: str) -> None:
    assert read_string(f'"{escape(character)}"', 0, name="a value", error=Broken)[0] == character


def test_reading_is_linear_in_the_length() -> None:
    def read(size: int) -> None:
        read_string('"' + r"\n" * size + '"', 0, name="a value", error=Broken)

    assert_linear(read, 40_000)
