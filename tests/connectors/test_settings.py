"""Settings: every kind of field with what it takes, what it makes of nothing, and how it refuses the rest by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unprocessable
from headwater.connectors.settings import Choice, Field, Flag, Group, Groups, Number, SettingsRules, Text
from tests.connectors.refusals import refused_settings

TEXT = Text("t", 2, 4)
NUMBER = Number("n", 1, 5)


@pytest.mark.parametrize(
    ("field", "given", "read"),
    [
        (TEXT, "ab", "ab"),
        (TEXT, "\N{GRINNING FACE}", "\N{GRINNING FACE}"),
        (Text("t", 0, 4), None, ""),
        (NUMBER, 1, 1),
        (NUMBER, 5.0, 5),
        (Number("n", 0, 5, default=3), None, 3),
        (Flag("f"), True, True),
        (Flag("f"), None, False),
        (Choice("c", ("a", "b")), "b", "b"),
        (Groups("g", (TEXT,)), [{"t": "ab"}, {"t": "cd", "more": 1}], [{"t": "ab"}, {"t": "cd"}]),
        (Groups("g", (TEXT,)), None, []),
        (Group("g", (TEXT,)), {"t": "ab"}, {"t": "ab"}),
    ],
)
def test_what_fits_is_read(field: Field, given: object, read: object) -> None:
    rules = SettingsRules((field,))
    assert rules.read({field.name: given, "unknown": object}) == {field.name: read}
    if given is None:
        assert rules.read({}) == {field.name: read}


@pytest.mark.parametrize(
    ("field", "given", "path", "rule"),
    [
        (TEXT, None, "t", "is required"),
        (TEXT, 5, "t", "must be a string"),
        (TEXT, ["ab"], "t", "must be a string"),
        (TEXT, "a", "t", "must have 2 to 4 bytes"),
        (TEXT, "abcde", "t", "must have 2 to 4 bytes"),
        (TEXT, "äöü", "t", "must have 2 to 4 bytes"),
        (TEXT, "a\0b", "t", "contains the NUL character"),
        (TEXT, "a\ud800", "t", "contains a lone surrogate"),
        (Text("t", 2, 2), "abc", "t", "must have 2 bytes"),
        (NUMBER, None, "n", "is required"),
        (NUMBER, "1", "n", "must be a whole number"),
        (NUMBER, True, "n", "must be a whole number"),
        (NUMBER, 1.5, "n", "must be a whole number"),
        (NUMBER, float("nan"), "n", "must be a whole number"),
        (NUMBER, float("inf"), "n", "must be a whole number"),
        (NUMBER, 0, "n", "must be in the range from 1 to 5"),
        (NUMBER, 6, "n", "must be in the range from 1 to 5"),
        (Flag("f"), 1, "f", "must be true or false"),
        (Flag("f"), "true", "f", "must be true or false"),
        (Choice("c", ("a", "b")), "A", "c", "must be one of a, b"),
        (Choice("c", ("a", "b")), ["a"], "c", "must be one of a, b"),
        (Choice("c", ("a", "b")), None, "c", "is required"),
        (Group("g", (TEXT,)), None, "g", "is required"),
        (Group("g", (TEXT,)), "x", "g", "must be an object"),
        (Group("g", (TEXT,)), {}, "g.t", "is required"),
        (Groups("g", (TEXT,)), {}, "g", "must be an array"),
        (Groups("g", (TEXT,)), [{"t": "ab"}, 5], "g[1]", "must be an object"),
        (Groups("g", (TEXT,)), [{"t": "ab"}, {"t": 5}], "g[1].t", "must be a string"),
        (Groups("g", (TEXT,), least=1), [], "g", "must have at least 1 element"),
        (Groups("g", (TEXT,), distinct="t"), [{"t": "ab"}, {"t": "ab"}], "g[1].t", "is repeated"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(field: Field, given: object, path: str, rule: str) -> None:
    with refused_settings(f"settings.{path}", rule):
        SettingsRules((field,)).read({field.name: given})


@pytest.mark.parametrize("given", [[], "x", 5, None])
def test_settings_are_an_object(given: object) -> None:
    with refused_settings("settings", "must be an object"):
        SettingsRules(()).read(given)


@pytest.mark.parametrize(
    ("given", "fits"), [({}, False), ({"a": "x"}, True), ({"b": "x"}, True), ({"a": "x", "b": "x"}, False)]
)
def test_exactly_one_of_some_fields(given: dict[str, str], fits: bool) -> None:
    rules = SettingsRules((Text("a", 1, 5, optional=True), Text("b", 1, 5, optional=True)), one_of=("a", "b"))
    if fits:
        assert rules.read(given) == given
    else:
        with refused_settings("settings", "must have exactly one of a and b"):
            rules.read(given)


def test_all_settings_together_are_bounded() -> None:
    rules = SettingsRules((Groups("g", (Text("t", 0, 1_000),)),))
    assert rules.read({"g": [{"t": "x" * 900}] * 10})
    with refused_settings("settings", "must not be longer than 10000 characters"):
        rules.read({"g": [{"t": "x" * 990}] * 10})


ALL_KINDS = SettingsRules(
    (TEXT, NUMBER, Flag("f"), Choice("c", ("a",)), Group("g", (TEXT,)), Groups("h", (NUMBER,), distinct="n"))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["t", "n", "x"]), inner, max_size=3),
)


@given(given=st.dictionaries(st.sampled_from(["t", "n", "f", "c", "g", "h"]), JSON))
def test_whatever_is_given_is_read_or_refused(given: Any) -> None:
    try:
        read = ALL_KINDS.read(given)
    except Unprocessable as error:
        assert error.code == "InvalidSettings"
        assert error.field is not None and error.field.startswith("settings")
    else:
        assert ALL_KINDS.read(read) == read
