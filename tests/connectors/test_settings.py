"""Settings: valid values, defaults, errors that name the value and the rule, forms, and secrets."""

from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import Unprocessable
from headwater.connectors.klaviyo.settings import KlaviyoSettings
from headwater.connectors.settings import (
    REDACTED,
    VISIBLE,
    Choice,
    Flag,
    FormField,
    Group,
    List,
    Number,
    Settings,
    Text,
    describe,
    setting,
)
from tests.connectors.invalid import invalid_settings


class Inner(Settings, frozen=True, kw_only=True):
    t: Annotated[str, Text(2, 4)]


class Simple(Settings, frozen=True, kw_only=True):
    REQUIRED: ClassVar = False

    t: Annotated[str, Text(2, 4)] = "ab"
    empty: Annotated[str, Text(0, 4)] = ""
    two: Annotated[str, Text(2, 2)] = "ab"
    n: Annotated[int, Number(1, 5)] = 3
    f: Annotated[bool, Flag()] = False
    c: Annotated[Literal["a", "b"], Choice()] = "a"
    g: Annotated[Inner | None, Group()] = None
    h: Annotated[tuple[Inner, ...], List()] = ()
    distinct: Annotated[tuple[Inner, ...], List(distinct="t")] = ()


class Strict(Settings, frozen=True, kw_only=True):
    t: Annotated[str, Text(2, 4)]
    n: Annotated[int, Number(1, 5)]
    c: Annotated[Literal["a", "b"], Choice()]
    g: Annotated[Inner, Group()]
    h: Annotated[tuple[Inner, ...], List(minimum=1)]


STRICT = {"t": "ab", "n": 1, "c": "a", "g": {"t": "ab"}, "h": [{"t": "ab"}]}
DEFAULTS = {"t": "ab", "empty": "", "two": "ab", "n": 3, "f": False, "c": "a", "h": [], "distinct": []}


@pytest.mark.parametrize(
    ("member", "given", "read"),
    [
        ("t", "abc", "abc"),
        ("t", "\N{GRINNING FACE}", "\N{GRINNING FACE}"),
        ("empty", "", ""),
        ("n", 1, 1),
        ("n", 5.0, 5),
        ("f", True, True),
        ("c", "b", "b"),
        ("g", {"t": "ab", "more": 1}, {"t": "ab"}),
        ("h", [{"t": "ab"}, {"t": "cd", "more": 1}], [{"t": "ab"}, {"t": "cd"}]),
    ],
)
def test_valid_values_are_read(member: str, given: object, read: object) -> None:
    assert Simple.read({member: given, "unknown": object}).document() == {**DEFAULTS, member: read}


@pytest.mark.parametrize("given", [{}, dict.fromkeys(("t", "empty", "two", "n", "f", "c", "g", "h", "distinct"))])
def test_absent_and_null_members_have_their_defaults(given: dict[str, object]) -> None:
    assert Simple.read(given) == Simple()
    assert Simple.read(given).document() == DEFAULTS


@pytest.mark.parametrize(
    ("member", "given", "path", "rule"),
    [
        ("t", 5, "t", "must be a string"),
        ("t", ["ab"], "t", "must be a string"),
        ("t", "a", "t", "must have 2 to 4 bytes"),
        ("t", "abcde", "t", "must have 2 to 4 bytes"),
        ("t", "äöü", "t", "must have 2 to 4 bytes"),
        ("t", "a\0b", "t", "contains the NUL character"),
        ("t", "a\ud800", "t", "contains a lone surrogate"),
        ("two", "abc", "two", "must have 2 bytes"),
        ("n", "1", "n", "must be a whole number"),
        ("n", True, "n", "must be a whole number"),
        ("n", 1.5, "n", "must be a whole number"),
        ("n", float("nan"), "n", "must be a whole number"),
        ("n", float("inf"), "n", "must be a whole number"),
        ("n", 0, "n", "must be in the range from 1 to 5"),
        ("n", 6, "n", "must be in the range from 1 to 5"),
        ("f", 1, "f", "must be true or false"),
        ("f", "true", "f", "must be true or false"),
        ("c", "A", "c", "must be one of a, b"),
        ("c", ["a"], "c", "must be one of a, b"),
        ("g", "x", "g", "must be an object"),
        ("g", {}, "g.t", "is required"),
        ("h", {}, "h", "must be an array"),
        ("h", [{"t": "ab"}, 5], "h[1]", "must be an object"),
        ("h", [{"t": "ab"}, {"t": 5}], "h[1].t", "must be a string"),
        ("distinct", [{"t": "ab"}, {"t": "ab"}], "distinct[1].t", "is repeated"),
    ],
)
def test_invalid_values_are_rejected_by_name(member: str, given: object, path: str, rule: str) -> None:
    with invalid_settings(f"settings.{path}", rule):
        Simple.read({member: given})


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("AbC123", "must be pk_ and letters and digits"),
        ("pk_012", "must have 37 to 255 bytes"),
        ("AbC123" * 50, "must have 37 to 255 bytes"),
    ],
)
def test_the_format_of_a_short_text_is_named_before_its_size(key: str, rule: str) -> None:
    with invalid_settings("settings.privateAPIKey", rule):
        KlaviyoSettings.read({"privateAPIKey": key})


@pytest.mark.parametrize(
    ("member", "rule"),
    [
        ("t", "is required"),
        ("n", "is required"),
        ("c", "is required"),
        ("g", "is required"),
        ("h", "must have at least 1 element"),
    ],
)
def test_missing_required_members_are_rejected(member: str, rule: str) -> None:
    assert Strict.read(STRICT).document() == STRICT
    absent = {name: value for name, value in STRICT.items() if name != member}
    for incomplete in (absent, {**STRICT, member: None}):
        with invalid_settings(f"settings.{member}", rule):
            Strict.read(incomplete)


def test_an_empty_list_that_needs_elements() -> None:
    with invalid_settings("settings.h", "must have at least 1 element"):
        Strict.read({**STRICT, "h": []})


def test_the_path_can_have_another_beginning() -> None:
    with pytest.raises(Unprocessable) as caught:
        Strict.read({}, "formatSettings")
    assert (caught.value.field, caught.value.message) == ("formatSettings.t", "formatSettings.t is required")


@pytest.mark.parametrize("given", [[], "x", 5, None])
def test_settings_are_an_object(given: object) -> None:
    with invalid_settings("settings", "must be an object"):
        Simple.read(given)


@pytest.mark.parametrize(
    ("given", "fits"), [({}, False), ({"a": "x"}, True), ({"b": "x"}, True), ({"a": "x", "b": "x"}, False)]
)
def test_exactly_one_of_some_fields(given: dict[str, str], fits: bool) -> None:
    if fits:
        assert Alternatives.read(given).document() == given
    else:
        with invalid_settings("settings", "must have exactly one of a and b"):
            Alternatives.read(given)


class Alternatives(Settings, frozen=True, kw_only=True):
    ONE_OF: ClassVar = ("a", "b")

    a: Annotated[str | None, Text(1, 5)] = None
    b: Annotated[str | None, Text(1, 5)] = None


class Long(Settings, frozen=True, kw_only=True):
    class Element(Settings, frozen=True, kw_only=True):
        t: Annotated[str, Text(0, 1_000)]

    g: Annotated[tuple[Element, ...], List()] = ()


def test_all_settings_together_are_bounded() -> None:
    assert Long.read({"g": [{"t": "x" * 900}] * 10})
    with invalid_settings("settings", "must not be longer than 10000 characters"):
        Long.read({"g": [{"t": "x" * 990}] * 10})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["t", "n", "x"]), inner, max_size=3),
)


@given(given=st.dictionaries(st.sampled_from(["t", "n", "f", "c", "g", "h"]), JSON))
def test_any_value_is_read_or_rejected(given: Any) -> None:
    try:
        read = Simple.read(given)
    except Unprocessable as error:
        assert error.code == "InvalidSettings"
        assert error.field is not None and error.field.startswith("settings")
    else:
        assert Simple.read(read.document()) == read


class Account(Settings, frozen=True, kw_only=True):
    """One field of every kind, with secrets at every depth."""

    class Header(Settings, frozen=True, kw_only=True):
        key: Annotated[str, Text(1, 9)]
        value: Annotated[str, Text(1, 99, secret=True)]

    api_key: Annotated[str, Text(4, 99, VISIBLE, secret=True, help="From the account page.")]
    user_id: Annotated[int, Number(1, 9)] = setting("userID", 2)
    use_tls: Annotated[bool, Flag(label="Encrypt")] = setting("useTLS", True)
    region: Annotated[Literal["US", "EU"], Choice()] = "EU"
    proxy: Annotated[Header | None, Group()] = None
    headers: Annotated[tuple[Header, ...], List(minimum=0)] = ()
    password: Annotated[str, Text(0, 9, secret=True)] = ""


GIVEN = {
    "apiKey": "top-secret",
    "proxy": {"key": "a", "value": "hidden-1"},
    "headers": [{"key": "b", "value": "hidden-2"}, {"key": "c", "value": "hidden-3"}],
}


def test_a_form_describes_every_field() -> None:
    inner = (
        FormField(name="key", label="Key", kind="Text", required=True, minimum=1, maximum=9),
        FormField(name="value", label="Value", kind="Text", required=True, secret=True, minimum=1, maximum=99),
    )
    assert describe(Account) == (
        FormField(
            name="apiKey",
            label="API key",
            help="From the account page.",
            kind="Text",
            secret=True,
            required=True,
            minimum=4,
            maximum=99,
            rule=VISIBLE.rule,
        ),
        FormField(name="userID", label="User ID", kind="Number", default=2, minimum=1, maximum=9),
        FormField(name="useTLS", label="Encrypt", kind="Flag", default=True),
        FormField(name="region", label="Region", kind="Choice", default="EU", options=("US", "EU")),
        FormField(name="proxy", label="Proxy", kind="Group", fields=inner),
        FormField(name="headers", label="Headers", kind="List", minimum=0, fields=inner),
        FormField(name="password", label="Password", kind="Text", secret=True, default="", minimum=0, maximum=9),
    )
    assert {field.name: field.one_of for field in describe(Alternatives)} == {"a": ("a", "b"), "b": ("a", "b")}


def test_secrets_are_stored_and_never_shown() -> None:
    account = Account.read(GIVEN)
    assert account.secrets() == ("top-secret", "hidden-1", "hidden-2", "hidden-3")
    assert Account.read(account.document()) == account
    shown = account.public_document()
    assert shown["apiKey"] == shown["headers"][1]["value"] == REDACTED
    assert (shown["password"], shown["headers"][0]["key"]) == ("", "b")
    for text in (repr(account), str(account), f"{account}", repr([account]), str(shown)):
        assert not any(secret in text for secret in account.secrets())


def test_a_field_needs_one_declaration_and_one_type() -> None:
    class Bare(Settings, frozen=True, kw_only=True):
        a: str

    class Ambiguous(Settings, frozen=True, kw_only=True):
        a: Annotated[str | int, Text(0, 1)]

    for declared, rule in ((Bare, "one declaration"), (Ambiguous, "one type")):
        with pytest.raises(TypeError, match=rule):
            describe(declared)
