"""The depth of JSON: equal to that of a parser, at a cost that grows linearly with the text."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.base.json_depth import is_deeper
from tests.complexity import assert_linear
from tests.jsontexts import json_text, json_values


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(st.data(), json_values)
def test_depth_is_what_a_parser_finds(data: st.DataObject, value: object) -> None:
    text = json_text(value, data.draw)
    for levels in range(8):
        assert is_deeper(text, levels) == is_deeper(Raw(text.encode()), levels) == (_depth(value) > levels)


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        (r'["[[[\"[[[\\", {"[[[":"\"{{{"}]', 2),
        (r'["\\", [[]]]', 3),
        (r'["\\\"[[", [[]]]', 3),
        (r'["\n\\", "[", [[]]]', 3),
        (r'["\\\\", [[]]]', 3),
        ('["[[\ud800", [[]]]', 3),
        ("[],[],[[]]", 2),
    ],
)
def test_brackets_and_quotes_in_strings_do_not_count(text: str, depth: int) -> None:
    assert is_deeper(text, depth - 1)
    assert not is_deeper(text, depth)


@pytest.mark.parametrize("end", ["", "]" * 5, '"', '"[', r'"\"', "\\", "nul", "]" * 50])
def test_what_is_no_json_is_as_deep_as_a_decoder_would_follow_it(end: str) -> None:
    assert is_deeper("[" * 5 + end, 4)


LARGE: dict[str, Callable[[int], str]] = {
    "one chain": lambda size: "[" * size,
    "side by side": lambda size: "[" + "[]," * size + "0]",
    "many chains": lambda size: "[" + ("[" * 90 + "]" * 90 + ",") * (size // 60) + "0]",
    "brackets in strings": lambda size: "[" + '"[",' * size + "0]",
    "a string that never ends": lambda size: "[]" * 101 + '"' + r"\"" * size,
    "backslashes": lambda size: "[]" * 101 + '"' + "\\" * size,
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_the_work_grows_with_the_text_and_no_faster(text: Callable[[int], str]) -> None:
    texts = {size: text(size) for size in (100_000, 400_000)}
    assert_linear(lambda size: is_deeper(texts[size], 100), 400_000)
