"""Members of stored contexts, which have any type."""

import pytest
from msgspec import Raw

from headwater.connectors.contexts import find_context, find_text, read_object


@pytest.mark.parametrize(
    ("text", "members"),
    [
        (b"", {}),
        (b"null", {}),
        (b"[1]", {}),
        (b'{"a":{"b":1}}', {"a": {"b": 1}}),
        (b'{"a":1,"b":1e999,"c":{"d":1e999}}', {"a": 1}),
        (b'{"c":"\\ud800"}', {}),
        (b"[1e999]", {}),
    ],
)
def test_members_without_a_value_are_left_out(text: bytes, members: object) -> None:
    assert read_object(Raw(text)) == members


def test_the_context_of_an_event_is_found() -> None:
    assert find_context(b'{"context":{"ip":"x"},"type":"track"}') == {"ip": "x"}
    assert find_context(b"{}") == {}


@pytest.mark.parametrize(
    ("name", "member", "text"),
    [
        ("text", "", "a"),
        ("number", "", "1.5"),
        ("flag", "", ""),
        ("none", "", ""),
        ("missing", "", ""),
        ("object", "", ""),
        ("object", "part", "b"),
        ("object", "missing", ""),
        ("text", "part", ""),
        ("missing", "part", ""),
    ],
)
def test_texts_and_numbers_are_texts(name: str, member: str, text: str) -> None:
    context = {"text": "a", "number": 1.5, "flag": True, "none": None, "object": {"part": "b"}}
    assert find_text(context, name, member) == text
