"""The difference of two profile schemas, with renames and replacements."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import BadRequest, HeadwaterError, Unprocessable
from headwater.catalog import Rename, Renaming
from headwater.management.profiles.differences import check_re_paths, find_difference
from headwater.schemas import Schema, walk_objects
from tests.management.profiles.schemas import profile

Pairs = list[tuple[str, str | None]]
FULL = profile(a="string", b="string", n="int", o=profile(x="string", y="int"), t="array", m="map")


@pytest.mark.parametrize(
    ("old", "new", "re_paths", "renames", "added"),
    [
        (None, profile(a="string"), {}, [], ["a"]),
        (None, profile(a="string"), {"a": None}, [], ["a"]),
        (FULL, FULL, {}, [], []),
        # The order of properties means nothing.
        (profile(a="string", b="int"), profile(b="int", a="string"), {}, [], []),
        (profile(a="string"), profile(a="string", b="int"), {}, [], ["b"]),
        (profile(a="string", b="int"), profile(a="string"), {}, [("b", None)], []),
        # Renames: one, a swap, a ring.
        (profile(a="string"), profile(b="string"), {"b": "a"}, [("a", "b")], []),
        (profile(a="int", b="int"), profile(a="int", b="int"), {"a": "b", "b": "a"}, [("b", "a"), ("a", "b")], []),
        # The types of a swap go along.
        (
            profile(a="int", b="string"),
            profile(a="string", b="int"),
            {"a": "b", "b": "a"},
            [("b", "a"), ("a", "b")],
            [],
        ),
        # Without rePaths, another name is a removal and an addition.
        (profile(a="string"), profile(b="string"), {}, [("a", None)], ["b"]),
        # Replaced: the new one is not the old one, whatever its type.
        (profile(a="string"), profile(a="int"), {"a": None}, [("a", None)], ["a"]),
        (profile(a="string"), profile(a="string"), {"a": None}, [("a", None)], ["a"]),
        (profile(a="string"), profile(a="int", b="string"), {"b": "a", "a": None}, [("a", "b")], ["a"]),
        # Onto the place of a property that is removed.
        (profile(a="string", b="int"), profile(b="string"), {"b": "a"}, [("a", "b"), ("b", None)], []),
        # Only the letter case changes.
        (profile(email="string"), profile(Email="string"), {"Email": "email"}, [("email", "Email")], []),
        # Inside objects.
        (profile(o=profile(x="int")), profile(o=profile(y="int")), {"o.y": "o.x"}, [("o.x", "o.y")], []),
        (profile(o=profile(x="int", y="int")), profile(o=profile(x="int")), {}, [("o.y", None)], []),
        (profile(o=profile(x="int")), profile(o=profile(x="int", z="int")), {}, [], ["o.z"]),
        # A whole object is renamed, removed or replaced.
        (profile(o=profile(x="int")), profile(p=profile(x="int")), {"p": "o"}, [("o", "p")], []),
        (profile(a="int", o=profile(x="int")), profile(a="int"), {}, [("o", None)], []),
        (profile(o=profile(x="int")), profile(o="string"), {"o": None}, [("o", None)], ["o"]),
        (profile(o="string"), profile(o=profile(x="int")), {"o": None, "o.x": None}, [("o", None)], ["o"]),
    ],
)
def test_the_difference(old: Schema | None, new: Schema, re_paths: Any, renames: Pairs, added: list[str]) -> None:
    found = find_difference(old, new, check_re_paths(new, re_paths))
    assert [(each.old, each.new) for each in found.renames] == renames
    assert list(found.added) == added


@pytest.mark.parametrize(
    ("old", "new", "re_paths", "field", "text"),
    [
        (profile(a="string"), profile(a="int"), {}, "schema.a", "was string and is now int(32)"),
        (profile(a="string"), profile(a="short"), {}, "schema.a", "maxLength was not set and is now 20"),
        (profile(a="decimal"), profile(a="whole"), {}, "schema.a", "scale"),
        (profile(a="string"), profile(a=profile(x="int")), {}, "schema.a", "rePaths"),
        (profile(o=profile(x="int")), profile(o=profile(x="string")), {}, "schema.o.x", "was int(32)"),
        (profile(a="array"), profile(a="map"), {}, "schema.a", "was array"),
        # Renames that cannot be.
        (profile(a="string"), profile(b="string"), {"b": "c"}, "rePaths.b", "property c does not exist"),
        (None, profile(b="string"), {"b": "c"}, "rePaths.b", "property c does not exist"),
        (profile(a="string"), profile(b="int"), {"b": "a"}, "rePaths.b", "was string and is now int(32)"),
        (profile(a="int"), profile(a="int", b="int"), {"b": "a"}, "schema.b", "would become both a and b"),
        (profile(a="int"), profile(b="int", c="int"), {"b": "a", "c": "a"}, "schema.c", "both b and c"),
        # An object is renamed or changed, not both.
        (
            profile(o=profile(x="int")),
            profile(p=profile(y="int")),
            {"p": "o", "p.y": "p.x"},
            "rePaths.p",
            "renamed and changed together",
        ),
        (profile(o=profile(x="int")), profile(p=profile(x="int", y="int")), {"p": "o"}, "rePaths.p", "o.y"),
        (profile(o=profile(x="int", y="int")), profile(p=profile(x="int")), {"p": "o"}, "rePaths.p", "o.y"),
        (
            profile(o=profile(x="int")),
            profile(o=profile(y="int")),
            {"o": None, "o.y": "o.x"},
            "rePaths.o.y",
            "o is new",
        ),
    ],
)
def test_schemas_that_cannot_become_another(
    old: Schema | None, new: Schema, re_paths: Any, field: str, text: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        find_difference(old, new, check_re_paths(new, re_paths))
    assert (caught.value.code, caught.value.field) == ("InvalidAlterSchema", field)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("re_paths", "field", "text"),
    [
        ({"": "a"}, "rePaths", "is not the path"),
        ({"a b": "a"}, "rePaths", "is not the path"),
        ({"a.": "a"}, "rePaths", "is not the path"),
        ({"zzz": "a"}, "rePaths.zzz", "does not exist in schema"),
        ({"m.k": "a"}, "rePaths.m.k", "does not exist in schema"),
        ({"a": ""}, "rePaths.a", "null or the path"),
        ({"a": 5.0}, "rePaths.a", "null or the path"),
        ({"a": True}, "rePaths.a", "null or the path"),
        ({"a": {}}, "rePaths.a", "null or the path"),
        ({"a": ["b"]}, "rePaths.a", "null or the path"),
        ({"a": "a"}, "rePaths.a", "another path than a"),
        ({"a": "o.x"}, "rePaths.a", "below the same parent"),
        ({"o.x": "x"}, "rePaths.o.x", "below the same parent"),
        ({"o.x": "p.x"}, "rePaths.o.x", "below the same parent"),
    ],
)
def test_malformed_re_paths(re_paths: dict[str, object], field: str, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_re_paths(FULL, re_paths)
    assert caught.value.field == field
    assert text in caught.value.message


NAMES = st.sampled_from(["a", "b", "c", "d"])
SCHEMAS = st.lists(NAMES, min_size=1, unique=True).map(lambda names: profile(**dict.fromkeys(names, "string")))


@given(old=SCHEMAS, new=SCHEMAS, data=st.data())
def test_every_property_before_ends_in_one_way(old: Schema, new: Schema, data: st.DataObject) -> None:
    """Each property stays, is renamed or is removed, and each one afterwards comes from at most one before."""
    re_paths = data.draw(st.dictionaries(NAMES, st.none() | NAMES))
    try:
        found = find_difference(old, new, check_re_paths(new, re_paths))
    except HeadwaterError:
        return
    renaming = Renaming(found.renames)
    before = [path for path, _ in walk_objects(old)]
    after = [path for path in map(renaming.new_path, before) if path is not None]
    assert sorted([*after, *found.added]) == sorted(path for path, _ in walk_objects(new))


@pytest.mark.parametrize(
    ("renames", "paths"),
    [
        ([], {"a": "a"}),
        ([("a", "b")], {"a": "b", "a.x": "b.x", "ab": "ab", "b": "b", "x.a": "x.a"}),
        ([("a", "b"), ("b", "a")], {"a": "b", "b": "a"}),
        ([("o.x", "o.y")], {"o": "o", "o.x": "o.y", "o.x.z": "o.y.z", "o.xx": "o.xx"}),
        ([("o", None)], {"o": None, "o.x": None, "oo": "oo"}),
        ([("a", "b"), ("b", None)], {"a": "b", "b": None}),
    ],
)
def test_renames_apply_together(renames: Pairs, paths: dict[str, str | None]) -> None:
    renaming = Renaming(Rename(old=old, new=new) for old, new in renames)
    assert bool(renaming) == bool(renames)
    assert {path: renaming.new_path(path) for path in paths} == paths
