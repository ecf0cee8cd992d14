"""Ids of persons are found as a whole in JSON, forms and messages."""

import pytest

from headwater.base.mentions import Mentions

FOUND = [
    ("jane-4711", b'{"userId":"jane-4711"}'),
    ("jane-4711", b"unknown user jane-4711, try again"),
    ("jane-4711", b"[jane-4711]"),
    ("jane@example.com", b"email=jane%40example.com&x=1"),
    ("4711", b'{"userId":4711}'),
    ("7", b'{"userId":"7"}'),
    ("Jürgen", '{"userId":"Jürgen"}'.encode()),
    ("Jürgen", b'{"userId":"J\\u00fcrgen"}'),
    ('a"b', b'{"userId":"a\\"b"}'),
    ("a/b/c", b'{"userId":"a\\/b\\/c"}'),
]
NOT_FOUND = [
    ("jane", b'{"userId":"janet"}'),
    ("jane-4711", b'{"userId":"jane-47110"}'),
    ("7", b'{"userId":"17","n":70,"t":"7 days"}'),
    ("", b'{"userId":""}'),
    (" ", b'{"userId":" "}'),
    ("jane-4711", b""),
]


@pytest.mark.parametrize(("value", "data"), FOUND)
def test_it_finds(value: str, data: bytes) -> None:
    assert Mentions([value, "other value"]).are_in(data)
    assert Mentions([value]).are_in_text(data.decode())


@pytest.mark.parametrize(("value", "data"), NOT_FOUND)
def test_it_does_not_find(value: str, data: bytes) -> None:
    assert not Mentions([value, "other value"]).are_in(data)


def test_many_values_are_found_as_json() -> None:
    mentions = Mentions(f"user-{number}" for number in range(5_000))
    assert mentions.are_in(b'{"userId":"user-4999"}')
    assert not mentions.are_in(b'{"userId":"user-5000"}')


def test_nothing_is_in_nothing() -> None:
    assert not Mentions([])
    assert not Mentions([]).are_in(b'""')
