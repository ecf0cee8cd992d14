"""Work on JSON text that changes no value."""

import pytest
from msgspec import Raw

from headwater.events.raw import (
    ABSENT,
    change_members,
    is_absent,
    is_array,
    is_object,
    is_string,
    join,
    members,
    merge,
    repeated_member,
)


@pytest.mark.parametrize(
    ("text", "absent", "object_", "string"),
    [
        (b"", True, False, False),
        (b"null", True, False, False),
        (b'"null"', False, False, True),
        (b"{}", False, True, False),
        (b"[]", False, False, False),
        (b"0", False, False, False),
        (b"false", False, False, False),
        (b'""', False, False, True),
    ],
)
def test_looks_at_a_text(text: bytes, absent: bool, object_: bool, string: bool) -> None:
    assert (is_absent(Raw(text)), is_object(Raw(text)), is_string(Raw(text))) == (absent, object_, string)


@pytest.mark.parametrize(("text", "array"), [(b"", False), (b"[]", True), (b'"["', False), (b"{}", False)])
def test_knows_an_array(text: bytes, array: bool) -> None:
    assert is_array(Raw(text)) == array


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        (b"{}", None),
        (b'{"a":1,"b":2}', None),
        (b'{"a":1,"b":2,"a":1}', "a"),
        (b'{"a":1,"\\u0061":2}', "a"),
        (b'{"c":1,"c":2,"b":1,"b":2}', "b"),
        (b'{"c":1,"c":2}', None),
        (b'{"a":{"b":1},"b":{"a":1}}', None),
    ],
)
def test_finds_the_first_repeated_member_of_those_that_matter(text: bytes, repeated: str | None) -> None:
    assert repeated_member(Raw(text), frozenset("ab")) == repeated


def test_members_are_texts_as_they_were_sent() -> None:
    assert members(Raw(b'{ "a" : 1.0 , "b":[ 1], "a":2e0 }')) == {"a": Raw(b"2e0"), "b": Raw(b"[ 1]")}
    assert members(ABSENT) == members(Raw(b"null")) == {}


def test_join_puts_members_together() -> None:
    assert bytes(join({"a": Raw(b"1.0"), 'ü"': Raw(b"[ ]")})) == '{"a":1.0,"ü\\"":[ ]}'.encode()


@pytest.mark.parametrize(
    ("defaults", "own", "merged"),
    [
        (b"", b"", b""),
        (b"null", b"", b""),
        (b"", b"null", b"null"),
        (b"", b'{ "a": 1 }', b'{ "a": 1 }'),
        (b'{"a":1}', b"", b'{"a":1}'),
        (b'{"a":1}', b"null", b'{"a":1}'),
        (b'{"a":1.0,"b":2}', b'{"b":3,"c":4}', b'{"a":1.0,"b":3,"c":4}'),
        (b'{"os":{"name":"x","version":"1"}}', b'{"os":{"version":"2"}}', b'{"os":{"name":"x","version":"2"}}'),
        (b'{"os":{"name":"x"}}', b'{"os":null}', b'{"os":null}'),
        (b'{"os":"x"}', b'{"os":{"name":"y"}}', b'{"os":{"name":"y"}}'),
    ],
)
def test_merge_keeps_what_is_own(defaults: bytes, own: bytes, merged: bytes) -> None:
    assert bytes(merge(Raw(defaults), Raw(own))) == merged


# --- change_members ------------------------------------------------------------------------------------------------

OBJECT = b'{ "a" : 1.0 , "b":[ 1 ]}'


@pytest.mark.parametrize(
    ("text", "replaced", "added", "result"),
    [
        (OBJECT, {}, {}, OBJECT),
        (OBJECT, {}, {"c": b"2"}, b'{ "a" : 1.0 , "b":[ 1 ],"c":2}'),
        (OBJECT, {"a": b"2"}, {}, b'{"a":2,"b":[ 1 ]}'),
        (OBJECT, {"a": b""}, {}, b'{"b":[ 1 ]}'),
        (OBJECT, {"a": b"", "b": b""}, {}, b"{}"),
        (OBJECT, {"a": b"", "b": b""}, {"c": b"2"}, b'{"c":2}'),
        (b"{ }", {}, {"c": b"2", "d": b"3"}, b'{"c":2,"d":3}'),
        (b'{"a":"{" }', {}, {"c": b"2"}, b'{"a":"{","c":2}'),
        (b"", {}, {"c": b"2"}, b'{"c":2}'),
        (b"null", {}, {"c": b"2"}, b'{"c":2}'),
        (b"null", {}, {}, b"null"),
    ],
)
def test_changed(text: bytes, replaced: dict[str, bytes], added: dict[str, bytes], result: bytes) -> None:
    given = [{name: Raw(value) for name, value in members.items()} for members in (replaced, added)]
    assert bytes(change_members(Raw(text), *given)) == result
